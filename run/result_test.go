// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"errors"
	"testing"
	"testing/fstest"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/table"
)

// Only what was judged and held is a pass. An error of the probe is neither a skip nor a failure of the target, and a
// fault outweighs nothing else.
func TestResultOfAJudgement(t *testing.T) {
	set, err := table.Load(fstest.MapFS{
		"p/profile.yaml": {Data: []byte("schema: outrigger.dev/profile/v1alpha1\nprofile: p\ntitle: t\nsource: s\nsidecar: {containers: [proxy]}\nwebhooks: [{name: w, webhooks: [{name: w.example.com}]}]\n")},
		"p/t.yaml":       {Data: []byte("schema: outrigger.dev/table/v1alpha1\nprofile: p\ntable: t\ntitle: t\nsource: s\ndimensions: [{dimension: d, values: [{value: v}]}]\nrules: [{rule: r, then: {outcome: injected, calls: 1}, because: b}]\n")},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := probe.NewPlan(set.Tables, probe.Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := plan.Arrangements[0].Cases[0]
	for _, row := range []struct {
		name string
		j    probe.Judgement
		want report.Status
		why  string
	}{
		{"holds", probe.Judgement{Observed: table.Injected, Attempted: 1, Received: 1}, report.Pass, ""},
		{"faults", probe.Judgement{Observed: table.Untouched, Why: []string{"one", "two"}}, report.Fail, "one; two"},
		{"an error", probe.Judgement{Err: errors.New("the lane broke")}, report.Error, "the lane broke"},
		{"an error beside a fault", probe.Judgement{Err: errors.New("the lane broke"), Why: []string{"one"}}, report.Error, "the lane broke"},
		{"not run", probe.Judgement{NotRun: "fixed settings"}, report.NotRun, "fixed settings"},
	} {
		row.j.Planned = p
		c := run.Result(&row.j)
		if c.Result.Status != row.want || c.Result.Why != row.why {
			t.Errorf("%s: %s because %q, expected %s because %q", row.name, c.Result.Status, c.Result.Why, row.want, row.why)
		}
		if c.ID != "p/t/d=v" || c.Rule != "r" || c.Expected.Outcome != report.Injected || c.Expected.Attempted != "1" || c.Expected.Received != "1" {
			t.Errorf("%s: %+v", row.name, c)
		}
		if row.want == report.Pass && (c.Result.Observed.Outcome != report.Injected || c.Result.Attempted != 1 || c.Result.Received != 1) {
			t.Errorf("%s: %+v", row.name, c.Result)
		}
	}
}
