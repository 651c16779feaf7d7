// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/outrigger-k8s/outrigger/table"
)

// isolating has four arrangements: two failure policies in two settings.
const isolating = `
isolate: true
dimensions:
  - dimension: policy
    values: [{value: on, settings: {policy: enabled}}, {value: off, settings: {policy: disabled}}]
  - dimension: ns
    values: [{value: bare}, {value: labelled, namespace: {metadata: {labels: {l: "1"}}}}]
  - dimension: hook
    values:
      - {value: fail, webhook: {namespaceSelector: {matchLabels: {l: "1"}}}}
      - {value: ignore, webhook: {failurePolicy: Ignore}}
rules:
  - {rule: all, then: untouched, because: b}
`

func togetherOf(t *testing.T, text string, single bool) *Plan {
	t.Helper()
	plan, err := NewPlan([]*table.Table{loaded(t, text)}, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if single {
		plan = plan.BySettings()
	}
	if plan, err = plan.Together(); err != nil {
		t.Fatal(err)
	}
	return plan
}

// shape of a plan: of each arrangement the cases of its parts.
func shape(p *Plan) string {
	var list []string
	for _, a := range p.Arrangements {
		var parts []string
		for _, part := range a.Parts {
			parts = append(parts, fmt.Sprint(len(part.Cases)))
		}
		list = append(list, fmt.Sprintf("%d(%s)", len(a.Cases), strings.Join(parts, "+")))
	}
	return strings.Join(list, " ")
}

func TestTogether(t *testing.T) {
	for _, row := range []struct {
		name, table string
		single      bool
		want        string
	}{
		{"side by side", isolating, false, "8(4+4)"},
		{"of one injector each settings by themselves", isolating, true, "4(2+2) 4(2+2)"},
		{"not where the table does not isolate", strings.Replace(isolating, "isolate: true", "", 1), false, "4() 4()"},
		{
			"not with Services", strings.Replace(isolating, "{value: ignore, webhook",
				"{value: ignore, services: {s: {metadata: {namespace: n}, spec: {ports: [{port: 443}]}}}, webhook", 1), false, "4(4) 4()",
		},
		{
			"not with other objects beside them", strings.Replace(isolating, "{value: ignore, webhook",
				"{value: ignore, objects: {o: {resource: v1/nodes, scope: Cluster, object: {apiVersion: v1, kind: Node}}}, webhook", 1), false, "4(4) 4(4)",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := shape(togetherOf(t, row.table, row.single)); got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
		})
	}
}

// Each part has namespaces of its own, and its cases are in them.
func TestPartsShareNoNamespace(t *testing.T) {
	plan := togetherOf(t, isolating, false)
	partOf := map[string]int{}
	for n, part := range plan.Arrangements[0].Parts {
		own := map[string]bool{}
		for _, ns := range part.Namespaces {
			if other, there := partOf[ns.Name]; there {
				t.Errorf("namespace %s is of parts %d and %d", ns.Name, other, n)
			}
			partOf[ns.Name], own[ns.Name] = n, true
			if ns.Labels[partLabel] != fmt.Sprint(n) {
				t.Errorf("namespace %s of part %d has the labels %v", ns.Name, n, ns.Labels)
			}
		}
		for _, p := range part.Cases {
			if !own[p.Namespace] {
				t.Errorf("%s is in namespace %s, which is not its part's", p.Case.ID(), p.Namespace)
			}
		}
	}
	if len(partOf) != 4 {
		t.Errorf("%d namespaces, want 2 in each of 2 parts", len(partOf))
	}
}

// What is every part's, a namespace that has a name or an object outside namespaces, a table that isolates must not be about.
func TestNothingIsEveryParts(t *testing.T) {
	for was, is := range map[string]struct{ instead, want string }{
		`labels: {l: "1"}}}}`:                        {"name: kube-system}}}", "its namespace has a name"},
		`namespace: {metadata: {labels: {l: "1"}}}}`: {"request: {resource: v1/nodes, scope: Cluster, object: {apiVersion: v1, kind: Node}}}", "outside namespaces"},
	} {
		plan, err := NewPlan([]*table.Table{loaded(t, strings.Replace(isolating, was, is.instead, 1))}, Facts{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plan.Together(); err == nil || !strings.Contains(err.Error(), "ns=labelled") || !strings.Contains(err.Error(), is.want) {
			t.Errorf("error %v, want one about ns=labelled: %s", err, is.want)
		}
	}
}

// Of a plan with parts, one with fewer cases has no others in its parts, and no empty ones.
func TestPartsOfAPlanWithLess(t *testing.T) {
	plan := togetherOf(t, isolating, false)
	less := plan.Only(func(p *Planned) bool {
		return strings.Contains(p.Case.ID(), "hook=ignore") && strings.Contains(p.Case.ID(), "policy=on")
	})
	if got := shape(less); got != "2(2)" {
		t.Errorf("%s, want 2(2)", got)
	}
	// The webhooks of the one that is left ask about its namespaces, not about those of the one that was first.
	r, _ := bench(t, &fakeLane{})
	whole, err := r.complete(t.Context(), less.Arrangements[0])
	if err != nil {
		t.Fatal(err)
	}
	asks, is := whole.Webhooks[0].Webhooks[0].NamespaceSelector.MatchLabels[partLabel], whole.Namespaces[0].Labels[partLabel]
	if asks != "1" || is != "1" {
		t.Errorf("the webhooks ask about part %s, the namespace is of part %s: want 1", asks, is)
	}
	if got := shape(plan); got != "8(4+4)" {
		t.Errorf("the plan itself is now %s", got)
	}
}

// A course is joined step by step.
func TestCoursesTogether(t *testing.T) {
	const cured = `
isolate: true
course:
  - {step: before}
  - {step: cure, does: change}
  - {step: after}
dimensions:
  - dimension: cure
    values:
      - {value: ignore, at: {cure: {webhook: {failurePolicy: Ignore}}}}
      - {value: delete, at: {cure: {webhooks: {b-configuration: null}}}}
rules:
  - {rule: all, then: {before: untouched, cure: accepted, after: untouched}, because: b}
`
	plan := togetherOf(t, cured, false)
	if got := shape(plan); got != "2(1+1)" {
		t.Fatalf("%s, want 2(1+1)", got)
	}
	for k, stage := range plan.Arrangements[0].Course {
		if len(stage.Parts) != 2 || len(stage.Cases) != 2 {
			t.Errorf("step %d has %d parts and %d cases", k+1, len(stage.Parts), len(stage.Cases))
		}
		for n, part := range stage.Parts {
			if p := plan.Arrangements[0].Cases[n]; part.Cases[0] != p.Course[k] || part.Cases[0].Namespace != part.Namespaces[0].Name {
				t.Errorf("step %d of part %d: case %s in namespace %s of %s", k+1, n, part.Cases[0].Case.ID(), part.Cases[0].Namespace, part.Namespaces[0].Name)
			}
		}
	}
	if n := len(plan.Arrangements[0].Course[2].Parts[1].Webhooks); n != 1 {
		t.Errorf("after it was deleted in part 1 alone, that has %d configurations, want 1", n)
	}
}

// What controllers are refused pods in stands by itself, aside.
func TestControllersByThemselves(t *testing.T) {
	const refused = `
needs: [controllers]
isolate: true
course:
  - {step: during}
  - {step: after, does: await, of: during}
dimensions:
  - dimension: seconds
    values:
      - {value: "1", webhook: {timeoutSeconds: 1}}
      - {value: "2", webhook: {timeoutSeconds: 2}}
      - {value: "3", webhook: {timeoutSeconds: 3}}
rules:
  - {rule: all, then: {during: untouched, after: untouched}, because: b}
`
	plan, err := NewPlan([]*table.Table{loaded(t, refused)}, Facts{Features: []string{FeatureControllers, table.FeatureFollow}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if plan, err = plan.Together(); err != nil {
		t.Fatal(err)
	}
	if got := shape(plan); got != "1(1) 1(1) 1(1)" {
		t.Errorf("%s, want 1(1) 1(1) 1(1)", got)
	}
	for _, a := range plan.Arrangements {
		if !a.Aside || !a.Course[0].Parts[0].id.aside {
			t.Errorf("%s is not made aside", a.Name)
		}
	}
}

// One that takes its course alone stands by itself, and may be aside.
func TestAloneAside(t *testing.T) {
	const alone = `
alone: true
isolate: true
waits: true
course: [{step: before}, {step: after}]
dimensions: [{dimension: d, values: [{value: v}, {value: w}]}]
rules: [{rule: all, then: {before: untouched, after: untouched}, because: b}]
`
	plan := togetherOf(t, alone, false)
	if got := shape(plan); got != "1(1) 1(1)" || !plan.Arrangements[1].Aside {
		t.Errorf("%s, want 1(1) 1(1), aside", got)
	}
}

// The webhooks of each part ask about namespaces of its own alone, whatever they asked about before, and are called in the
// order in which they were.
func TestSideBySide(t *testing.T) {
	hook := func(selector *metav1.LabelSelector) []admissionregistrationv1.MutatingWebhook {
		return []admissionregistrationv1.MutatingWebhook{{Name: "h", NamespaceSelector: selector}}
	}
	shared := &metav1.LabelSelector{MatchLabels: map[string]string{"l": "1"}}
	crd := &Stored{Object: &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "crd"}}}, Shared: true}
	part := func(namespace string) *Arrangement {
		return &Arrangement{
			Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: namespace}}},
			Stored:     []*Stored{crd},
			Webhooks: []*admissionregistrationv1.MutatingWebhookConfiguration{
				{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Webhooks: hook(nil)},
				{ObjectMeta: metav1.ObjectMeta{Name: "a-b"}, Webhooks: hook(shared)},
			},
			Validating: []*admissionregistrationv1.ValidatingWebhookConfiguration{
				{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Webhooks: []admissionregistrationv1.ValidatingWebhook{{Name: "h"}}},
			},
		}
	}
	whole := sideBySide("all", []*Arrangement{part("x"), part("y")}, []partID{{n: 0}, {n: 1}})
	if len(whole.Stored) != 1 {
		t.Errorf("what both have is stored %d times, want once", len(whole.Stored))
	}
	if whole.For("y") != whole.Parts[1] || whole.For("x") != whole.Parts[0] || whole.For("z") != whole {
		t.Error("a namespace is of another part, or one that is of none is")
	}
	var names []string
	for _, c := range whole.Webhooks {
		names = append(names, c.Name+" "+metav1.FormatLabelSelector(c.Webhooks[0].NamespaceSelector))
	}
	for _, c := range whole.Validating {
		names = append(names, c.Name+" "+metav1.FormatLabelSelector(c.Webhooks[0].NamespaceSelector))
	}
	want := `00.a outrigger.dev/part=0
00.a-b l=1,outrigger.dev/part=0
01.a outrigger.dev/part=1
01.a-b l=1,outrigger.dev/part=1
00.v outrigger.dev/part=0
01.v outrigger.dev/part=1`
	if got := strings.Join(names, "\n"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if len(shared.MatchLabels) != 1 {
		t.Errorf("the selector that was given is now %v", shared.MatchLabels)
	}
}
