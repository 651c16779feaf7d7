// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/table"
)

// aboutSelectors is a table about namespaceSelectors, of which one webhook has none.
const aboutSelectors = `
dimensions:
  - dimension: selector
    values: [{value: none}, {value: some, webhook: {namespaceSelector: {matchLabels: {l: "1"}}}}]
rules: [{rule: once, then: {outcome: untouched, calls: 1}, because: b}]
`

// asidePlan has what waits, what does not, and what is about namespaceSelectors.
func asidePlan(t *testing.T) *Plan {
	t.Helper()
	tables := []*table.Table{
		loadedAs(t, "selectors", aboutSelectors),
		loadedAs(t, "wait", "isolate: true\nwaits: true"+calledOnce),
		loadedAs(t, "work", calledOnce),
	}
	plan, err := NewPlan(tables, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if plan, err = plan.Together(); err != nil {
		t.Fatal(err)
	}
	return plan
}

// What waits is made aside by the lane for that, and waits for nobody; what is about namespaceSelectors comes when nothing is
// aside any more. Only while something is do webhooks leave it out.
func TestAside(t *testing.T) {
	plan := asidePlan(t)
	var mu sync.Mutex
	var order []string // of cases of the lane that is not aside, once each table
	working := 0
	worked := make(chan struct{}) // closed once all that goes on beside is done
	sparing := func(a *Arrangement) bool {
		s := metav1.FormatLabelSelector(a.Webhooks[1].Webhooks[0].NamespaceSelector)
		return strings.Contains(s, "!"+AsideLabel)
	}
	observed := func(at *Attempt) *Observation {
		return &Observation{Pod: at.Object.(*corev1.Pod), Attempts: tried(1, false)}
	}
	over := false // what is aside
	lane, aside := &fakeLane{}, &fakeLane{t: t}
	lane.arranged = func(a *Arrangement) error {
		if len(a.Webhooks) == 0 { // whatever was there before
			return nil
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(a.Name, "p/"), "/")
		mu.Lock()
		defer mu.Unlock()
		if len(order) == 0 || order[len(order)-1] != name {
			order = append(order, name)
		}
		if want := name == "work"; sparing(a) != want {
			t.Errorf("%s: it leaves out what is aside: %t, want %t", a.Name, sparing(a), want)
		}
		if name == "selectors" && !over {
			t.Errorf("%s is arranged while something is aside", a.Name)
		}
		return nil
	}
	lane.probed = func(_ context.Context, at *Attempt, call func()) (*Observation, error) {
		call()
		mu.Lock()
		defer mu.Unlock()
		if working++; working == 20 {
			close(worked)
		}
		return observed(at), nil
	}
	aside.arranged = func(a *Arrangement) error {
		mu.Lock()
		defer mu.Unlock()
		if over = len(a.Webhooks) == 0; over {
			return nil
		}
		for _, c := range a.Webhooks {
			if !strings.HasPrefix(c.Name, AsidePrefix) {
				t.Errorf("%s: configuration %s is not called like one that is aside", a.Name, c.Name)
			}
		}
		for _, ns := range a.Namespaces {
			if ns.Labels[AsideLabel] == "" {
				t.Errorf("%s: namespace %s has the labels %v", a.Name, ns.Name, ns.Labels)
			}
		}
		if sparing(a) {
			t.Errorf("%s: its own webhooks leave it out", a.Name)
		}
		return nil
	}
	aside.probed = func(ctx context.Context, at *Attempt, call func()) (*Observation, error) {
		call()
		select {
		case <-worked:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		return observed(at), nil
	}
	r, _ := bench(t, lane)
	r.Aside, r.Timeout = aside, 10*time.Second
	judged, err := run(t, t.Context(), r, plan)
	if err != nil || len(judged) != plan.Len() {
		t.Fatalf("%d judged of %d, error %v", len(judged), plan.Len(), err)
	}
	for _, j := range judged {
		if !j.Holds() {
			t.Errorf("%s: %v %v", j.Planned.Case.ID(), j.Err, j.Why)
		}
	}
	if lane.arranging[0] != "nothing beside" {
		t.Errorf("%s is arranged first, and webhooks from before may be asked about what is aside", lane.arranging[0])
	}
	if got := strings.Join(order, " "); got != "work selectors" {
		t.Errorf("the order is %s, want work selectors", got)
	}
	if !over {
		t.Error("what was aside is still there")
	}
}

// What others made aside would change, or would be changed by, comes when there are none.
func TestApart(t *testing.T) {
	tables := map[string]string{
		"selectors": aboutSelectors,
		"events": `
needs: [controllers]
dimensions: [{dimension: kind, values: [{value: job, workload: {apiVersion: batch/v1, kind: Job}}]}]
rules: [{rule: refused, then: {outcome: failed, events: EOF}, because: b}]
`,
		"settings": `
course: [{step: before}, {step: change, does: change, settings: {policy: disabled}}, {step: after}]
dimensions: [{dimension: d, values: [{value: v}]}]
rules: [{rule: all, then: {before: untouched, change: accepted, after: untouched}, because: b}]
`,
		"work": calledOnce,
		"wait": "isolate: true\nwaits: true" + calledOnce,
	}
	for name, want := range map[string]bool{"selectors": true, "events": true, "settings": true, "work": false, "wait": false} {
		plan, err := NewPlan([]*table.Table{loadedAs(t, name, tables[name])}, Facts{Features: []string{FeatureControllers}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if plan, err = plan.Together(); err != nil {
			t.Fatal(err)
		}
		apart := apart(plan.Arrangements)
		for _, a := range plan.Arrangements {
			if apart[a] != want {
				t.Errorf("%s: apart %t, want %t", a.Name, apart[a], want)
			}
		}
	}
}

// What waits is made aside where nothing else is to be done too: its configurations are the other lane's.
func TestAllAside(t *testing.T) {
	plan := asidePlan(t).Only(func(p *Planned) bool { return p.Case.Table.Waits })
	lane, aside := &fakeLane{}, &fakeLane{t: t}
	r, _ := bench(t, lane)
	r.Aside = aside
	if judged, err := run(t, t.Context(), r, plan); err != nil || len(judged) != 20 {
		t.Fatalf("%d judged of 20, error %v", len(judged), err)
	}
	if lane.most.Load() != 0 || aside.most.Load() == 0 {
		t.Errorf("%d were under way in the one lane, %d aside", lane.most.Load(), aside.most.Load())
	}
}

// Where there is no lane for it, what waits has its turn like all others.
func TestNothingAside(t *testing.T) {
	plan := asidePlan(t)
	lane := &fakeLane{}
	r, _ := bench(t, lane)
	if judged, err := run(t, t.Context(), r, plan); err != nil || len(judged) != plan.Len() {
		t.Fatalf("%d judged of %d, error %v", len(judged), plan.Len(), err)
	}
	if got := strings.Join(lane.arranging, " "); !strings.Contains(got, "p/selectors") || !strings.Contains(got, "p/wait") || !strings.Contains(got, "p/work") {
		t.Errorf("arranged are %s", got)
	}
}

// An error on either side ends the other.
func TestAsideFails(t *testing.T) {
	for _, fails := range []string{"lane", "aside"} {
		t.Run(fails, func(t *testing.T) {
			lanes := map[string]*fakeLane{"lane": {t: t}, "aside": {t: t}}
			for name, l := range lanes {
				if name == fails {
					l.arranged = func(a *Arrangement) error {
						if len(a.Webhooks) == 0 {
							return nil
						}
						return context.DeadlineExceeded
					}
					continue
				}
				l.probed = func(ctx context.Context, at *Attempt, _ func()) (*Observation, error) {
					<-ctx.Done()
					return nil, context.Cause(ctx)
				}
			}
			r, injector := bench(t, lanes["lane"])
			r.Aside = lanes["aside"]
			if _, err := run(t, t.Context(), r, asidePlan(t)); err == nil || !strings.HasPrefix(err.Error(), "arrange p/") {
				t.Errorf("error %v", err)
			}
			if n := injector.held.Load(); n != 0 {
				t.Errorf("the target is still held %d times", n)
			}
		})
	}
}
