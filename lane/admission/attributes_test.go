// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/table"
)

func labelled(kind, value string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind}}
	u.SetName("x")
	u.SetLabels(map[string]string{"a": value, "old": "yes"})
	return u
}

// What the plugins are told of a request is what the API server's handlers would tell them.
func TestAttributes(t *testing.T) {
	patch := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "new", "old": nil}}}}
	pods := corev1.SchemeGroupVersion.WithResource("pods")
	c := &chain{stored: map[storedKey]*unstructured.Unstructured{
		{pods, "ns", "x"}:     labelled("Pod", "stored"),
		{namespaces, "", "x"}: labelled("Namespace", "stored"),
	}}
	for _, row := range []struct {
		name                 string
		at                   probe.Attempt
		kind, namespace, old string // old: value of its label
		object               string
	}{
		{"update", probe.Attempt{Namespace: "ns", Operation: table.Update, Resource: pods, Object: patch}, "Pod", "ns", "stored", "new"},
		{"delete", probe.Attempt{Namespace: "ns", Operation: table.Delete, Resource: pods}, "Pod", "ns", "stored", ""},
		{"connect", probe.Attempt{Namespace: "ns", Operation: table.Connect, Resource: pods, Subresource: "exec", Object: labelled("PodExecOptions", "sent")}, "PodExecOptions", "ns", "", "sent"},
		{"create", probe.Attempt{Namespace: "ns", Resource: pods, Subresource: "binding", Object: labelled("Binding", "sent")}, "Binding", "ns", "", "sent"},
		{"create a namespace", probe.Attempt{Resource: namespaces, Object: labelled("Namespace", "sent")}, "Namespace", "x", "", "sent"},
		{"update a namespace", probe.Attempt{Operation: table.Update, Resource: namespaces, Object: patch}, "Namespace", "x", "stored", "new"},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.at.Key = "x"
			a, err := c.attributes(&row.at)
			if err != nil {
				t.Fatal(err)
			}
			if a.GetName() != "x" || a.GetNamespace() != row.namespace || a.GetKind().Kind != row.kind || a.GetSubresource() != row.at.Subresource {
				t.Errorf("%s %s/%s, subresource %q", a.GetKind(), a.GetNamespace(), a.GetName(), a.GetSubresource())
			}
			for what, is := range map[string]struct {
				object any
				want   string
			}{"object": {a.GetObject(), row.object}, "old object": {a.GetOldObject(), row.old}} {
				got := ""
				if u, ok := is.object.(*unstructured.Unstructured); ok {
					got = u.GetLabels()["a"]
					if is.want == "new" && u.GetLabels()["old"] != "" {
						t.Errorf("the patch has not taken a label away: %v", u.GetLabels())
					}
				}
				if got != is.want {
					t.Errorf("%s is %q, expected %q", what, got, is.want)
				}
			}
		})
	}
	if _, err := c.attributes(&probe.Attempt{Key: "y", Operation: table.Delete, Resource: pods}); err == nil {
		t.Error("a deletion of nothing has attributes")
	}
}
