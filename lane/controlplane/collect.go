// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/outrigger-k8s/outrigger/probe"
)

var _ probe.Collector = (*Lane)(nil)

const (
	collectLog     = 64 << 10  // bytes of each log's end
	collectCluster = 256 << 10 // bytes of objects
)

// Collect tells what the cluster holds of an attempt: the webhook configurations and the namespace as they are, and of an
// attempt that was no dry run the objects that are called after it, with all events about them. The ends of the
// components' logs come with it.
func (l *Lane) Collect(ctx context.Context, at *probe.Attempt) []probe.Finding {
	admission, core := l.client.AdmissionregistrationV1().RESTClient(), l.rest()
	apps, batch := l.client.AppsV1().RESTClient(), l.client.BatchV1().RESTClient()
	whole := func(*unstructured.Unstructured) bool { return true }
	named := func(o *unstructured.Unstructured) bool { return strings.HasPrefix(o.GetName(), at.Key) }
	about := func(o *unstructured.Unstructured) bool {
		name, _, _ := unstructured.NestedString(o.Object, "involvedObject", "name")
		return strings.HasPrefix(name, at.Key)
	}
	asked := func(o *unstructured.Unstructured) bool { return o.GetName() == at.Namespace }

	type list struct {
		client    rest.Interface
		resource  string
		namespace string
		wanted    func(*unstructured.Unstructured) bool
	}
	lists := []list{
		{admission, "mutatingwebhookconfigurations", "", whole},
		{admission, "validatingwebhookconfigurations", "", whole},
		{core, "namespaces", "", asked},
	}
	if !at.DryRun && at.Namespace != "" {
		lists = append(lists,
			list{apps, "deployments", at.Namespace, named}, list{apps, "replicasets", at.Namespace, named},
			list{apps, "statefulsets", at.Namespace, named}, list{apps, "daemonsets", at.Namespace, named},
			list{batch, "cronjobs", at.Namespace, named}, list{batch, "jobs", at.Namespace, named},
			list{core, "replicationcontrollers", at.Namespace, named}, list{core, "pods", at.Namespace, named},
			list{core, "events", at.Namespace, about})
	}
	var out bytes.Buffer
	for _, x := range lists {
		if err := dump(ctx, &out, x.client, x.resource, x.namespace, x.wanted); err != nil {
			fmt.Fprintf(&out, "# %s: %v\n", x.resource, err)
		}
		if out.Len() > collectCluster {
			out.Truncate(collectCluster)
			fmt.Fprintf(&out, "\n# cut off after %d KiB\n", collectCluster>>10)
			break
		}
	}
	found := []probe.Finding{{Name: "cluster.yaml", Data: out.Bytes()}}
	if l.cluster.Logs != nil {
		found = append(found, l.cluster.Logs(collectLog)...)
	}
	return found
}

// dump writes the objects of a resource that are wanted, a YAML document each.
func dump(
	ctx context.Context, out *bytes.Buffer, client rest.Interface, resource, namespace string, wanted func(*unstructured.Unstructured) bool,
) error {
	data, err := client.Get().NamespaceIfScoped(namespace, namespace != "").Resource(resource).SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil {
		return err
	}
	var objects struct {
		metav1.TypeMeta
		Items []map[string]any `json:"items"`
	}
	if err := json.Unmarshal(data, &objects); err != nil {
		return err
	}
	for _, o := range objects.Items {
		object := &unstructured.Unstructured{Object: o}
		if !wanted(object) {
			continue
		}
		object.SetAPIVersion(objects.APIVersion)
		object.SetKind(strings.TrimSuffix(objects.Kind, "List"))
		object.SetManagedFields(nil)
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			return err
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	return nil
}
