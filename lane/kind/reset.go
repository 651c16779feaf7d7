// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/kind/pkg/cluster/nodes"

	"github.com/outrigger-k8s/outrigger/injector/deploy"
)

// ours are the namespaces that every kind cluster has; all others are of earlier runs.
var ours = []string{
	"default", metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease, "local-path-storage",
}

// What is put on the node beside the API server's objects, named so that it can be found again.
const (
	// Manifests is where the kubelet of a kind node looks for static pods; the names of those that are put there begin
	// with ManifestPrefix.
	Manifests      = "/etc/kubernetes/manifests"
	ManifestPrefix = "outrigger-"
	// CutTable is the nftables table (family inet) that cuts the network to the injector.
	CutTable = "outrigger_cut"
)

// bars are the kinds of objects that judge requests: what an earlier run has left of them may stand in the way of all
// else, DNS among it. A kind cluster has none of its own. Bindings come before what they bind.
var bars = []schema.GroupVersionResource{
	{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingadmissionpolicybindings"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingadmissionpolicies"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"},
}

// definitions go as a whole too, and what they define with them.
var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// unblock takes away what earlier runs may have left in the way of a kept cluster's becoming ready. It waits for the API
// server itself, which may still be starting.
func (c *Cluster) unblock(ctx context.Context) error {
	client, err := c.metadata()
	if err != nil {
		return err
	}
	var last error
	err = await(ctx, "the API server takes away what judges requests", func(ctx context.Context) (bool, error) {
		if last = deleteAll(ctx, client, bars); last == nil { // first: it may be in the way of what follows
			last = c.unlabelOurs(ctx) // by Pod Security's labels pods are refused too
		}
		if last == nil {
			last = sweepObjects(ctx, c.client.Discovery(), client, c.Name()) // quotas among them
		}
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	// It goes by a copy of its own, which lags behind.
	err = await(ctx, "pods can be created in "+metav1.NamespaceSystem, func(ctx context.Context) (bool, error) {
		last = c.tryPod(ctx)
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return c.nudge(ctx)
}

// deleteAll deletes all objects of the resources. A resource that the API server does not know has none.
func deleteAll(ctx context.Context, client metadata.Interface, resources []schema.GroupVersionResource) error {
	for _, r := range resources {
		err := client.Resource(r).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete all %s: %w", r.Resource, err)
		}
	}
	return nil
}

// tryPod tells whether a pod of kube-system could be created, by dry run.
func (c *Cluster) tryPod(ctx context.Context) error {
	_, err := c.client.CoreV1().Pods(metav1.NamespaceSystem).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "outrigger-trial-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "trial", Image: "trial"}}},
	}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// nudge has the controllers of kube-proxy and DNS look at once. After refusals they wait, up to 17 minutes; a change of
// what they control ends that.
func (c *Cluster) nudge(ctx context.Context) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{
		"outrigger.dev/nudge": time.Now().Format(time.RFC3339Nano),
	}}})
	if err != nil {
		return err
	}
	apps := c.client.AppsV1()
	sets, err := apps.ReplicaSets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the ReplicaSets in %s: %w", metav1.NamespaceSystem, err)
	}
	for _, set := range sets.Items {
		if _, err := apps.ReplicaSets(set.Namespace).Patch(ctx, set.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("nudge ReplicaSet %s: %w", set.Name, err)
		}
	}
	daemons, err := apps.DaemonSets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the DaemonSets in %s: %w", metav1.NamespaceSystem, err)
	}
	for _, set := range daemons.Items {
		if _, err := apps.DaemonSets(set.Namespace).Patch(ctx, set.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("nudge DaemonSet %s: %w", set.Name, err)
		}
	}
	return nil
}

// reset takes away what else earlier runs left in a kept cluster, however they ended: what they put on the node, custom
// resources, and namespaces with all that is in them.
func (c *Cluster) reset(ctx context.Context) error {
	if err := sweepNode(ctx, c.plane); err != nil {
		return err
	}
	client, err := c.metadata()
	if err != nil {
		return err
	}
	if err := deleteAll(ctx, client, []schema.GroupVersionResource{definitions}); err != nil {
		return err
	}
	namespaces := c.client.CoreV1().Namespaces()
	return await(ctx, "the namespaces of earlier runs are gone", func(ctx context.Context) (bool, error) {
		list, err := namespaces.List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, fmt.Errorf("list the namespaces: %w", err)
		}
		gone := true
		for _, ns := range list.Items {
			if slices.Contains(ours, ns.Name) {
				continue
			}
			gone = false
			if ns.DeletionTimestamp == nil {
				if err := namespaces.Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
					return false, fmt.Errorf("delete namespace %s: %w", ns.Name, err)
				}
			}
		}
		return gone, nil
	})
}

// sweepNode takes away what is named after the harness on the node itself: static pods, and what cuts the network.
func sweepNode(ctx context.Context, node nodes.Node) error {
	script := fmt.Sprintf("rm -f %s/%s*.yaml\n"+
		"! nft list table inet %[3]s >/dev/null 2>&1 || nft delete table inet %[3]s\n", Manifests, ManifestPrefix, CutTable)
	if err := node.CommandContext(ctx, "sh", "-euc", script).Run(); err != nil {
		return fmt.Errorf("take away what earlier runs left on node %s: %w", node, err)
	}
	return nil
}

func (c *Cluster) metadata() (metadata.Interface, error) {
	client, err := metadata.NewForConfig(rest.CopyConfig(c.config))
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return client, nil
}

// keyName is what cases call their objects: their key, and what controllers append to it.
var keyName = regexp.MustCompile(`^or-[a-z2-7]+(-|$)`)

// leftBehind tells by its metadata whether an object among those that a cluster has of its own was made by the harness.
func leftBehind(object *metav1.PartialObjectMetadata, cluster string) bool {
	switch name := object.Name; {
	case object.Labels[deploy.Label] == deploy.LabelValue, keyName.MatchString(name):
		return true
	case strings.HasPrefix(name, cluster), strings.HasPrefix(name, "outrigger-node-image"):
		return false // of the nodes, which are called after the cluster, and of the image that they are made from
	default:
		return strings.HasPrefix(name, "outrigger-")
	}
}

// sweepObjects deletes what the harness has made of any kind, but for namespaces and what lies in those of earlier runs:
// it goes with them.
func sweepObjects(ctx context.Context, server discovery.DiscoveryInterface, client metadata.Interface, cluster string) error {
	lists, err := server.ServerPreferredResources()
	if err != nil && len(lists) == 0 {
		return fmt.Errorf("ask the API server which kinds of objects there are: %w", err)
	}
	// Of a group whose own server does not answer (an APIService of an earlier run) nothing can be known, nor be in the way.
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return fmt.Errorf("read the kinds of objects: %w", err)
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "delete") || r.Name == "namespaces" || r.Name == "events" {
				continue
			}
			if err := sweepResource(ctx, client, version.WithResource(r.Name), cluster); err != nil {
				return err
			}
		}
	}
	return nil
}

func sweepResource(ctx context.Context, client metadata.Interface, r schema.GroupVersionResource, cluster string) error {
	objects, err := client.Resource(r).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
		return nil // a definition that has gone in between
	}
	if err != nil {
		return fmt.Errorf("list all %s: %w", r.Resource, err)
	}
	now, background := int64(0), metav1.DeletePropagationBackground
	for _, o := range objects.Items {
		if o.Namespace != "" && !slices.Contains(ours, o.Namespace) || !leftBehind(&o, cluster) {
			continue
		}
		var in metadata.ResourceInterface = client.Resource(r)
		if o.Namespace != "" {
			in = client.Resource(r).Namespace(o.Namespace)
		}
		err := in.Delete(ctx, o.Name, metav1.DeleteOptions{GracePeriodSeconds: &now, PropagationPolicy: &background})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s %s/%s, which an earlier run has left: %w", r.Resource, o.Namespace, o.Name, err)
		}
	}
	return nil
}

// unlabelOurs takes off the cluster's own namespaces the labels that runs have put there and had no time to take off.
func (c *Cluster) unlabelOurs(ctx context.Context) error {
	for _, name := range ours {
		ns, err := c.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue // not every image has every one
		}
		if err != nil {
			return fmt.Errorf("look at namespace %s: %w", name, err)
		}
		if err := c.unlabel(ctx, ns); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) unlabel(ctx context.Context, ns *corev1.Namespace) error {
	changed := false
	for label := range ns.Labels {
		if strings.HasSuffix(label, "kubernetes.io/metadata.name") {
			continue
		}
		delete(ns.Labels, label)
		changed = true
	}
	if !changed {
		return nil
	}
	_, err := c.client.CoreV1().Namespaces().Update(ctx, ns, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("take the labels off namespace %s: %w", ns.Name, err)
	}
	return nil
}
