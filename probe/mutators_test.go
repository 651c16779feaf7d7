// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// planBased is the plan of a table of one case with this base.
func planBased(t *testing.T, base string) (*Plan, error) {
	t.Helper()
	tb := loaded(t, "base: "+base+"\ndimensions: [{dimension: d, values: [{value: v}]}]\nrules: [{rule: r, then: untouched, because: b}]\n")
	return NewPlan([]*table.Table{tb}, Facts{}, nil)
}

func TestMutatorsArePlanned(t *testing.T) {
	plan, err := planBased(t, `{webhooks: {other: {m.example.com: {}}}, mutators: {m.example.com: [{op: add, path: /metadata/labels, value: {a: b}}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	got := plan.Arrangements[0].Cases[0].Mutators
	if len(got) != 1 || string(got["m.example.com"]) != `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]` {
		t.Errorf("mutators %s", got)
	}
	if _, err := planBased(t, `{mutators: {m.example.com: []}}`); err == nil || !strings.Contains(err.Error(), "mutator m.example.com is no webhook of the case") {
		t.Errorf("a mutator that is no webhook: %v", err)
	}
}

// What a mutator does to a pod is none of the target's doing, whatever it does.
func TestMutatorsAreNotTheTarget(t *testing.T) {
	plan, err := planBased(t, `{webhooks: {other: {m.example.com: {}}}, mutators: {m.example.com: []}}`)
	if err != nil {
		t.Fatal(err)
	}
	p := plan.Arrangements[0].Cases[0]
	labelled := call(plainPod, `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`)
	labelled.Webhook = "m.example.com"
	o := &Observation{Pod: podOf(t, plainPod), Attempts: []WebhookAttempt{{Webhook: "m.example.com", Mutated: true}}}
	if j := Judge(p, o, []tap.Call{labelled}); !j.Holds() || j.Observed != table.Untouched {
		t.Errorf("observed %s: %q", j.Observed, j.Why)
	}
	p.Mutators = nil
	if j := Judge(p, o, []tap.Call{labelled}); j.Holds() || j.Observed != table.Altered {
		t.Errorf("of the target: observed %s: %q", j.Observed, j.Why)
	}
}

func TestApply(t *testing.T) {
	plan, err := planBased(t, `{apply: {webhooks: {b: {name: second}, a: {name: first, timeoutSeconds: 0}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	p := plan.Arrangements[0].Cases[0]
	at, err := newForms(p.Case.Table).attempt(p)
	if err != nil {
		t.Fatal(err)
	}
	object, ok := at.Object.(*unstructured.Unstructured)
	if !ok || !at.DryRun || at.Pods || at.Namespace != "" {
		t.Fatalf("the attempt is %+v", at)
	}
	raw, err := json.Marshal(object.Object)
	if want := `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration","metadata":{"name":"` + p.Key + `"},"webhooks":[{"name":"first","timeoutSeconds":0},{"name":"second"}]}`; err != nil || string(raw) != want {
		t.Errorf("%s (%v)\nexpected %s", raw, err, want)
	}
}

func TestAppliedObjectIsJudged(t *testing.T) {
	plan, err := planBased(t, `{apply: {webhooks: {a: {name: first}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	p := plan.Arrangements[0].Cases[0]
	rule := *p.Rule
	rule.Then.Object = table.Overlay{"webhooks": []any{map[string]any{"name": "first", "timeoutSeconds": int64(10)}}}
	p.Rule = &rule
	stored := func(seconds int64) *Observation {
		return &Observation{Object: map[string]any{"webhooks": []any{map[string]any{"name": "first", "timeoutSeconds": seconds}}}}
	}
	if j := Judge(p, stored(10), nil); !j.Holds() {
		t.Errorf("as expected: %q", j.Why)
	}
	if j := Judge(p, stored(9), nil); len(j.Why) != 1 || j.Why[0] != "expected 10 at /webhooks/first/timeoutSeconds, observed 9" {
		t.Errorf("not as expected: %q", j.Why)
	}
}
