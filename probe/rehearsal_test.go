// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/table"
)

const rehearsed = `
dimensions: [{dimension: d, values: [{value: v, request: {dryRun: false, rehearsed: true}}]}]
rules: [{rule: r, then: {outcome: untouched, calls: 1}, because: b}]
`

// remembering is a lane that says what is left.
type remembering struct {
	*fakeLane
	left []string
}

func (l remembering) Left(context.Context, *Attempt) ([]string, error) { return l.left, nil }

func TestRehearsal(t *testing.T) {
	for _, row := range []struct {
		name    string
		dry     func(*corev1.Pod) // does to the answer to the dry run
		silent  bool              // the webhook is not called on the dry run
		refused bool              // the dry run is refused
		left    []string
		want    string // the fault, "" if the case holds
	}{
		{name: "the same", dry: func(p *corev1.Pod) { p.UID, p.ResourceVersion = "another", "7" }},
		{name: "another object", dry: func(p *corev1.Pod) { p.Spec.NodeName = "n" }, want: "answered differently: /pod/spec/nodeName"},
		{name: "refused", refused: true, want: "answered differently: /pod"},
		{name: "not called", silent: true, want: "the tap received 0 calls of the dry run, 1 of the real request"},
		{name: "something is left", left: []string{"or-1"}, want: "the dry run has left or-1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			lane := &fakeLane{}
			var dryRuns []bool
			lane.probed = func(_ context.Context, at *Attempt, call func()) (*Observation, error) {
				dryRuns = append(dryRuns, at.DryRun)
				if !at.Rehearsed {
					t.Error("the lane is not told that both must be the same request")
				}
				if !at.DryRun || !row.silent {
					call()
				}
				pod := at.Object.(*corev1.Pod)
				o := &Observation{Pod: pod, Attempts: tried(1, false)}
				if at.DryRun && row.dry != nil {
					row.dry(pod)
				}
				if at.DryRun && row.refused {
					o.Pod, o.Refused = nil, refused(400, "BadRequest", "no")
				}
				return o, nil
			}
			r, _ := bench(t, lane)
			r.Lane = remembering{lane, row.left}
			plan, err := NewPlan([]*table.Table{loaded(t, rehearsed)}, Facts{Features: []string{FeatureDryRun}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			judged, err := run(t, t.Context(), r, plan)
			if err != nil || len(judged) != 1 {
				t.Fatalf("%d judged, error %v", len(judged), err)
			}
			if len(dryRuns) != 2 || !dryRuns[0] || dryRuns[1] {
				t.Errorf("dry runs: %v, expected one and then none", dryRuns)
			}
			for _, j := range judged {
				if why := strings.Join(j.Why, "; "); j.Err != nil || row.want == "" && why != "" || !strings.Contains(why, row.want) {
					t.Errorf("faults %q, error %v; expected %q", why, j.Err, row.want)
				}
			}
		})
	}
}
