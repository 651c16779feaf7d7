// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/table"
)

// planned has dimensions of every kind: settings, an ordinary namespace, one whose name is given, the webhook, a need.
const planned = `
dimensions:
  - dimension: policy
    values: [{value: on, settings: {policy: enabled}}, {value: off, settings: {policy: disabled}}, {value: same, settings: {policy: enabled}}]
  - dimension: ns
    values:
      - {value: bare}
      - {value: labelled, namespace: {metadata: {labels: {l: "1"}}}}
      - {value: system, namespace: {metadata: {name: kube-system}}}
      - {value: system-labelled, namespace: {metadata: {name: kube-system, labels: {l: "1"}}}}
  - dimension: hook
    values: [{value: fail}, {value: ignore, webhook: {failurePolicy: Ignore}}]
  - dimension: made-by
    values: [{value: hand}, {value: controller, needs: [controllers]}]
rules:
  - {rule: first, when: {policy: on}, then: injected, because: b}
  - {rule: rest, then: untouched, because: b}
`

func planOf(t *testing.T, facts Facts, selects Selects) *Plan {
	t.Helper()
	plan, err := NewPlan([]*table.Table{loaded(t, planned)}, facts, selects)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// Every case is planned once or named as not run; nothing is left out in silence.
func TestPlanLeavesNothingOut(t *testing.T) {
	for _, row := range []struct {
		name        string
		features    []string
		run, notRun int
	}{
		{"a lane that lacks a feature", nil, 24, 24},
		{"a lane that has it", []string{FeatureControllers}, 48, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			plan := planOf(t, Facts{Features: row.features}, nil)
			if plan.Len() != row.run || len(plan.NotRun) != row.notRun {
				t.Errorf("%d to run, %d not; expected %d and %d", plan.Len(), len(plan.NotRun), row.run, row.notRun)
			}
			seen := map[string]bool{}
			for _, a := range plan.Arrangements {
				for _, p := range a.Cases {
					if seen[p.Case.ID()] {
						t.Errorf("%s is planned twice", p.Case.ID())
					}
					seen[p.Case.ID()] = true
					if p.Key != p.Case.Key() || p.Rule == nil || (p.Rule.Name == "first") != strings.Contains(p.Case.ID(), "policy=on,") {
						t.Errorf("%s: key %s, rule %v", p.Case.ID(), p.Key, p.Rule)
					}
				}
			}
			for _, n := range plan.NotRun {
				if n.Missing != FeatureControllers || n.Rule == nil || !strings.Contains(n.Case.ID(), "made-by=controller") {
					t.Errorf("%s: missing %q, rule %v", n.Case.ID(), n.Missing, n.Rule)
				}
			}
		})
	}
}

// Each case finds its namespace as it must be, its webhooks and its settings in its arrangement.
func TestPlanArranges(t *testing.T) {
	plan := planOf(t, Facts{}, nil)
	if n := len(plan.Arrangements); n != 4 {
		t.Errorf("%d arrangements, expected two states of the webhook by two of kube-system", n)
	}
	names := map[string]bool{}
	for _, a := range plan.Arrangements {
		if names[a.Name] {
			t.Errorf("two arrangements are called %s", a.Name)
		}
		names[a.Name] = true
		if !slices.IsSortedFunc(a.Namespaces, func(x, y *corev1.Namespace) int { return strings.Compare(x.Name, y.Name) }) {
			t.Errorf("%s: the namespaces are not sorted", a.Name)
		}
		if len(a.Webhooks) != 2 || a.Webhooks[0].Name != "a-configuration" || a.Webhooks[1].Name != "b-configuration" {
			t.Fatalf("%s: %v", a.Name, a.Webhooks)
		}
		for _, p := range a.Cases {
			id := p.Case.ID()
			ns := slices.IndexFunc(a.Namespaces, func(n *corev1.Namespace) bool { return n.Name == p.Namespace })
			if ns < 0 {
				t.Errorf("%s: its namespace %s is not arranged", id, p.Namespace)
				continue
			}
			if got, want := a.Namespaces[ns].Labels["l"] == "1", strings.Contains(id, "labelled"); got != want {
				t.Errorf("%s: namespace %s is labelled: %v", id, p.Namespace, got)
			}
			if got, want := p.Namespace == "kube-system", strings.Contains(id, "ns=system"); got != want {
				t.Errorf("%s: namespace %s", id, p.Namespace)
			}
			if got, want := string(*a.Webhooks[1].Webhooks[0].FailurePolicy), map[bool]string{true: "Ignore", false: "Fail"}[strings.Contains(id, "hook=ignore")]; got != want {
				t.Errorf("%s: failurePolicy %s, expected %s", id, got, want)
			}
			if got, want := p.Settings.Document["policy"], map[bool]string{true: "disabled", false: "enabled"}[strings.Contains(id, "policy=off")]; got != want {
				t.Errorf("%s: policy %v, expected %s", id, got, want)
			}
		}
		for i, n := range a.Namespaces {
			if i > 0 && n.Name == a.Namespaces[i-1].Name {
				t.Errorf("%s: namespace %s stands twice in it", a.Name, n.Name)
			}
		}
	}
}

// Equal settings are one instance of the injector, whatever the values are called.
func TestPlanSharesSettings(t *testing.T) {
	plan := planOf(t, Facts{}, nil)
	cases := map[*Settings]int{}
	for _, a := range plan.Arrangements {
		for _, p := range a.Cases {
			cases[p.Settings]++
		}
	}
	if len(cases) != 2 {
		t.Errorf("%d settings, expected enabled and disabled", len(cases))
	}
	for s, n := range cases {
		if s.Cases != n {
			t.Errorf("settings %v: say %d cases, have %d", s.Document, s.Cases, n)
		}
	}
}

func TestPlanSelects(t *testing.T) {
	plan := planOf(t, Facts{}, func(c table.Case) bool { return strings.Contains(c.ID(), "policy=off,ns=bare") })
	if plan.Len() != 2 || len(plan.NotRun) != 2 {
		t.Errorf("%d to run, %d not; the selection has 2 and 2", plan.Len(), len(plan.NotRun))
	}
	if s := plan.Arrangements[0].Cases[0].Settings; s.Cases != 2 {
		t.Errorf("the settings count %d cases", s.Cases)
	}
}

// Two plans of the same are the same, down to the order.
func TestPlanIsDeterministic(t *testing.T) {
	show := func(p *Plan) string {
		var b strings.Builder
		for _, a := range p.Arrangements {
			fmt.Fprintln(&b, a.Name)
			for _, n := range a.Namespaces {
				fmt.Fprintln(&b, n.Name, n.Labels)
			}
			for _, c := range a.Cases {
				fmt.Fprintln(&b, c.Case.ID(), c.Namespace)
			}
		}
		return b.String()
	}
	first := show(planOf(t, Facts{}, nil))
	for range 5 {
		if again := show(planOf(t, Facts{}, nil)); again != first {
			t.Fatalf("first\n%s\nthen\n%s", first, again)
		}
	}
}

// A namespace without a name is called after its contents: tables that need the same one agree.
func TestNamespacesAreNamedAfterTheirContents(t *testing.T) {
	names := map[string]string{}
	for _, a := range planOf(t, Facts{}, nil).Arrangements {
		for _, n := range a.Namespaces {
			content := fmt.Sprint(n.Labels)
			if n.Name == "kube-system" {
				continue
			}
			if !strings.HasPrefix(n.Name, "outrigger-") {
				t.Errorf("%s: a run could not tell it for its own", n.Name)
			}
			if other, known := names[content]; known && other != n.Name {
				t.Errorf("%s and %s are the same", other, n.Name)
			}
			names[content] = n.Name
		}
	}
	if len(names) != 2 || names["map[]"] == names["map[l:1]"] {
		t.Errorf("%v", names)
	}
}

// Two values that lay the same over the namespace get one: a second of its name could not be created.
func TestNamespacesOfTheSameContentsAreOne(t *testing.T) {
	plan, err := NewPlan([]*table.Table{loaded(t, `
dimensions:
  - dimension: ns
    values: [{value: one, namespace: {metadata: {labels: {l: "1"}}}}, {value: same, namespace: {metadata: {labels: {l: "1"}}}}, {value: bare}]
rules: [{rule: r, then: untouched, because: b}]
`)}, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(plan.Arrangements[0].Namespaces); n != 2 {
		t.Errorf("%d namespaces for two states of one", n)
	}
	if cases := plan.Arrangements[0].Cases; cases[0].Namespace != cases[1].Namespace || cases[0].Namespace == cases[2].Namespace {
		t.Errorf("namespaces %s, %s and %s", cases[0].Namespace, cases[1].Namespace, cases[2].Namespace)
	}
}

// A rule whose given does not hold in the lane is passed over.
func TestPlanLooksAtTheFacts(t *testing.T) {
	tb := loaded(t, `
dimensions: [{dimension: d, values: [{value: v}]}]
rules:
  - {rule: new, given: {kubernetes: ">= 1.36"}, then: injected, because: b}
  - {rule: lacking, given: {lacks: defaulting}, then: denied, because: b}
  - {rule: rest, then: untouched, because: b}
`)
	for _, row := range []struct {
		facts Facts
		want  table.Word
	}{
		{Facts{Kubernetes: "1.37.2"}, "new"}, {Facts{Kubernetes: "1.35.9"}, "lacking"},
		{Facts{Kubernetes: "1.35.9", Features: []string{FeatureDefaulting}}, "rest"}, {Facts{}, "lacking"},
	} {
		plan, err := NewPlan([]*table.Table{tb}, row.facts, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := plan.Arrangements[0].Cases[0].Rule.Name; got != row.want {
			t.Errorf("%+v: rule %s, expected %s", row.facts, got, row.want)
		}
	}
}

// Whatever a plan is made of another, each step of a course has the cases of its arrangement.
func TestPlansOfPlans(t *testing.T) {
	plan, err := NewPlan([]*table.Table{loaded(t, `
course: [{step: before}, {step: change, does: change}, {step: after}]
dimensions:
  - {dimension: policy, values: [{value: a, settings: {policy: a}}, {value: b, settings: {policy: b}}]}
  - {dimension: n, values: [{value: one}, {value: two}, {value: three}]}
rules: [{rule: r, then: {before: untouched, change: accepted, after: untouched}, because: b}]
`)}, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	few := func(p *Planned) bool { return strings.HasSuffix(p.Case.Combination(), "=two") }
	for name, made := range map[string]struct {
		*Plan
		cases int
	}{"by settings": {plan.BySettings(), 6}, "only some": {plan.Only(few), 2}, "only some, by settings": {plan.BySettings().Only(few), 2}} {
		if n := made.Len(); n != made.cases {
			t.Errorf("%s: %d cases, want %d", name, n, made.cases)
		}
		for _, a := range made.Arrangements {
			if len(a.Course) != 3 {
				t.Fatalf("%s: %s has a course of %d steps", name, a.Name, len(a.Course))
			}
			for k, stage := range a.Course {
				var at []*Planned
				for _, p := range a.Cases {
					at = append(at, p.Course[k])
				}
				if !slices.Equal(stage.Cases, at) {
					t.Errorf("%s: %s has the cases %v, want %v", name, stage.Name, stage.Cases, at)
				}
			}
			for _, p := range a.Cases[1:] {
				if p.Settings != a.Cases[0].Settings {
					t.Errorf("%s: %s wants several settings", name, a.Name)
				}
			}
		}
	}
}
