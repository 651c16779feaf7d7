// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4" // what the API server applies merge patches with

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kadmission "k8s.io/apiserver/pkg/admission"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/table"
)

var (
	podKind     = corev1.SchemeGroupVersion.WithKind("Pod")
	podResource = corev1.SchemeGroupVersion.WithResource("pods")
	namespaces  = corev1.SchemeGroupVersion.WithResource("namespaces")
)

// storedKey finds what a request is about.
type storedKey struct {
	resource        schema.GroupVersionResource
	namespace, name string
}

// attributes are what the API server's handlers make of the request for its admission plugins.
// Source: k8s.io/apiserver pkg/endpoints/handlers: create.go, patch.go, delete.go, rest.go.
func (c *chain) attributes(at *probe.Attempt) (kadmission.Attributes, error) {
	if pod, ok := at.Object.(*corev1.Pod); ok {
		pod.Namespace = at.Namespace
		return kadmission.NewAttributesRecord(pod, nil, podKind, at.Namespace, pod.Name,
			podResource, "", kadmission.Create, &metav1.CreateOptions{DryRun: dryRun(at)}, at.DryRun, requester), nil
	}
	namespace := at.Namespace
	var object runtime.Object
	var kind schema.GroupVersionKind
	if sent, ok := at.Object.(*unstructured.Unstructured); ok {
		object, kind = sent, sent.GroupVersionKind()
		if at.Operation != table.Connect {
			sent.SetNamespace(namespace)
		}
	}
	record := func(old runtime.Object, operation kadmission.Operation, options runtime.Object) kadmission.Attributes {
		return kadmission.NewAttributesRecord(object, old, kind, namespace, at.Key, at.Resource, at.Subresource, operation,
			options, at.DryRun, requester)
	}
	switch at.Operation {
	case "", table.Create:
		if at.Resource == namespaces {
			namespace = at.Key // it lies in itself
		}
		return record(nil, kadmission.Create, &metav1.CreateOptions{DryRun: dryRun(at)}), nil
	case table.Connect:
		return record(nil, kadmission.Connect, nil), nil
	}

	if at.Resource == namespaces {
		namespace = at.Key
	}
	old := c.stored[storedKey{at.Resource, at.Namespace, at.Key}]
	if old == nil {
		return nil, fmt.Errorf("nothing is stored that the %s could be of", at.Operation)
	}
	old = old.DeepCopy()
	old.SetNamespace(at.Namespace)
	kind = old.GroupVersionKind()
	if at.Operation == table.Delete {
		return record(old, kadmission.Delete, &metav1.DeleteOptions{DryRun: dryRun(at)}), nil
	}
	patched, err := patched(old, at.Object)
	if err != nil {
		return nil, err
	}
	object = patched
	return record(old, kadmission.Update, &metav1.PatchOptions{DryRun: dryRun(at)}), nil
}

// patched is a copy of old with a merge patch applied.
func patched(old *unstructured.Unstructured, patch any) (*unstructured.Unstructured, error) {
	before, err := old.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("write what is stored: %w", err)
	}
	raw, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("write the patch: %w", err)
	}
	after, err := jsonpatch.MergePatch(before, raw)
	if err != nil {
		return nil, fmt.Errorf("apply the patch: %w", err)
	}
	out := &unstructured.Unstructured{}
	return out, out.UnmarshalJSON(after)
}

func dryRun(at *probe.Attempt) []string {
	if at.DryRun {
		return []string{metav1.DryRunAll}
	}
	return nil
}
