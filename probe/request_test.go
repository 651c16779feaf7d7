// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/outrigger-k8s/outrigger/table"
)

// What a request sends, and what must be there for it, as JSON with KEY and NS for the case's key and namespace.
func TestAttemptOfRequest(t *testing.T) {
	const storedPod = `v1 pods NS {"apiVersion":"v1","kind":"Pod","metadata":{"name":"KEY"},"spec":{"containers":[{"image":"i","name":"app"}]}}`
	for _, row := range []struct {
		name, base     string
		sent           string
		object, stored string
		dryRun         bool
	}{
		{"an update of the pod", `{request: {operation: UPDATE, object: {metadata: {labels: {a: b}}}}}`,
			"UPDATE v1 pods  NS", `{"metadata":{"labels":{"a":"b"}}}`, storedPod, true},
		{"an update of a pod that is stored otherwise", `{request: {operation: UPDATE, object: {x: y}, remove: [/metadata/labels/a~1b, /x], stored: {spec: {nodeName: n}}}}`,
			"UPDATE v1 pods  NS", `{"metadata":{"labels":{"a/b":null}},"x":null}`, `v1 pods NS {"apiVersion":"v1","kind":"Pod","metadata":{"name":"KEY"},"spec":{"containers":[{"image":"i","name":"app"}],"nodeName":"n"}}`, true},
		{"a deletion, carried out", `{request: {operation: DELETE, dryRun: false}}`,
			"DELETE v1 pods  NS", `null`, storedPod, false},
		{"a connection is always carried out", `{request: {operation: CONNECT, subresource: exec, object: {kind: PodExecOptions}}}`,
			"CONNECT v1 pods exec NS", `{"kind":"PodExecOptions"}`, storedPod, false},
		{"the creation of a subresource", `{request: {subresource: eviction, object: {kind: Eviction}}}`,
			"CREATE v1 pods eviction NS", `{"kind":"Eviction","metadata":{"name":"KEY"}}`, storedPod, true},
		{"the creation of something else", `{request: {resource: apps/v1/deployments, object: {kind: Deployment}}}`,
			"CREATE apps/v1 deployments  NS", `{"kind":"Deployment","metadata":{"name":"KEY"}}`, "", true},
		{"of what has no namespace", `{request: {operation: UPDATE, resource: v1/nodes, scope: Cluster, object: {a: b}, stored: {kind: Node}}}`,
			"UPDATE v1 nodes  ", `{"a":"b"}`, `v1 nodes  {"kind":"Node","metadata":{"name":"KEY"}}`, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, p := arrangementOf(t, row.base)
			fill := strings.NewReplacer("KEY", p.Key, "NS", p.Namespace)
			at, err := newForms(p.Case.Table).attempt(p)
			if err != nil {
				t.Fatal(err)
			}
			if sent, want := fmt.Sprint(at.Operation, " ", at.Resource.GroupVersion(), " ", at.Resource.Resource, " ", at.Subresource, " ", at.Namespace), fill.Replace(row.sent); sent != want {
				t.Errorf("%q, expected %q", sent, want)
			}
			if got := jsonOf(t, at.Object); got != fill.Replace(row.object) {
				t.Errorf("sends %s, expected %s", got, fill.Replace(row.object))
			}
			if at.DryRun != row.dryRun || at.Key != p.Key {
				t.Errorf("dry run %v, key %s", at.DryRun, at.Key)
			}
			list, err := a.stored()
			if err != nil {
				t.Fatal(err)
			}
			stored := ""
			for _, s := range list {
				stored += fmt.Sprint(s.Resource.GroupVersion(), " ", s.Resource.Resource, " ", s.Namespace, " ", jsonOf(t, s.Object))
			}
			if stored != fill.Replace(row.stored) {
				t.Errorf("stored is %s\nexpected %s", stored, fill.Replace(row.stored))
			}
		})
	}
}

func TestRequestRefused(t *testing.T) {
	for _, row := range []struct{ name, base, want string }{
		{"a creation of nothing", `{request: {resource: v1/configmaps}}`, "object needs its apiVersion and kind"},
		{"a generated name", `{request: {resource: v1/configmaps, generateName: true, object: {kind: ConfigMap}}}`, "generateName goes with the creation of a pod"},
		{"nothing that an update could be of", `{request: {resource: v1/nodes, operation: UPDATE}}`, "stored needs its apiVersion and kind"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, p := arrangementOf(t, row.base)
			_, err := newForms(p.Case.Table).attempt(p)
			if err == nil {
				_, err = a.stored()
			}
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, expected one with %q", err, row.want)
			}
		})
	}
}

func arrangementOf(t *testing.T, base string) (*PlannedArrangement, *Planned) {
	t.Helper()
	tb := loaded(t, "base: "+base+"\ndimensions: [{dimension: d, values: [{value: v}]}]\nrules: [{rule: r, then: untouched, because: b}]\n")
	plan, err := NewPlan([]*table.Table{tb}, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Arrangements[0], plan.Arrangements[0].Cases[0]
}

func jsonOf(t *testing.T, object runtime.Object) string {
	t.Helper()
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// What there is besides is made once for each namespace of the cases, with its witness there.
func TestObjects(t *testing.T) {
	a, p := arrangementOf(t, `{objects: {
		quota: {resource: v1/resourcequotas, object: {kind: ResourceQuota}, until: {object: {kind: Pod}, refused: exceeded}},
		crd: {resource: apiextensions.k8s.io/v1/customresourcedefinitions, scope: Cluster, object: {kind: CustomResourceDefinition}}}}`)
	list, err := a.stored()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || !list[0].Shared || !list[1].Shared {
		t.Fatalf("%+v", list)
	}
	crd, quota := list[0], list[1]
	if crd.Namespace != "" || crd.Object.GetName() != "crd" || crd.Until != nil || crd.Resource.Group != "apiextensions.k8s.io" {
		t.Errorf("%+v", crd)
	}
	if quota.Namespace != p.Namespace || quota.Object.GetName() != "quota" || quota.Until == nil || quota.Until.Namespace != p.Namespace || quota.Until.Resource.Resource != "pods" {
		t.Errorf("%+v", quota)
	}
}

func TestWitnessSeen(t *testing.T) {
	refused, answered := &Witness{Refused: "exceeded"}, &Witness{Answer: map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "b"}}}}
	labelled := map[string]any{"metadata": map[string]any{"name": "x", "labels": map[string]any{"a": "b"}}}
	for _, row := range []struct {
		name    string
		witness *Witness
		object  map[string]any
		refusal string
		want    bool
	}{
		{"refused as it should be", refused, nil, "pods is forbidden: exceeded quota", true},
		{"refused for another reason", refused, nil, "not found", false},
		{"admitted, though it should not be", refused, labelled, "", false},
		{"answered as it should be", answered, labelled, "", true},
		{"answered without", answered, map[string]any{}, "", false},
		{"refused, though it should not be", answered, labelled, "exceeded", false},
	} {
		if got := row.witness.Seen(row.object, row.refusal); got != row.want {
			t.Errorf("%s: seen is %v", row.name, got)
		}
	}
}
