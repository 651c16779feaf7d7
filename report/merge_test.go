// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

func merge2(t *testing.T, reports ...*Report) *Report {
	t.Helper()
	m, err := Merge(reports...)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Fatalf("the merged report is not sound: %v", err)
	}
	return m
}

func TestMergeIsAssociativeAndCommutative(t *testing.T) {
	parts := []*Report{
		sample{shard: Shard{1, 3}, bug: emptyIsTrue}.report(t), sample{shard: Shard{2, 3}}.report(t), sample{shard: Shard{3, 3}}.report(t),
		sample{kubernetes: "1.36.3"}.report(t), sample{lane: "controlplane"}.report(t),
	}
	parts[0].Runs[0].Host.CPUs, parts[2].Runs[0].Duration = 4, 1
	parts[0].Runs[0].Budgets = []Budget{{Quantile: 0.9, Limit: 5e9}}
	parts[2].Runs[0].Phases = append(parts[2].Runs[0].Phases, Phase{Name: "extra", Duration: 3, At: 9e9})
	parts[1].Runs[0].Times[0].Duration = 7 * time.Second
	parts[3].Quarantine = []QuarantineEntry{{Case: "b", Owner: "o", Issue: "i", Expires: "2099-01-01"}}
	parts[4].Quarantine = []QuarantineEntry{{Case: "a", Owner: "o", Issue: "i", Expires: "2099-01-01"}}
	parts[0].Runs[0].Artefacts, parts[2].Runs[0].Artefacts = []string{"kind/pods.json", "x"}, []string{"kind/pods.json", "a"}
	parts[0].Effects = []Effect{{"d1", []string{"w", "/a goes"}}, {"d3", []string{"w", "/c goes"}}}
	parts[4].Effects = []Effect{{"d1", []string{"w", "/a goes"}}, {"d2", []string{"w", "/b goes"}}}
	a, b, c, d, e := parts[0], parts[1], parts[2], parts[3], parts[4]
	want := encode(t, merge2(t, a, b, c, d, e))
	for name, got := range map[string]*Report{
		"reversed":     merge2(t, e, d, c, b, a),
		"left":         merge2(t, merge2(t, merge2(t, merge2(t, a, b), c), d), e),
		"right":        merge2(t, a, merge2(t, b, merge2(t, c, merge2(t, d, e)))),
		"in the midst": merge2(t, merge2(t, c, a), merge2(t, e, b, d)),
	} {
		if !bytes.Equal(want, encode(t, got)) {
			t.Errorf("merged %s gives another report", name)
		}
	}
	all := merge2(t, a, b, c, d, e)
	run := &all.Runs[1]
	if got := run.phaseText(); got != "start 700ms, matrix 8.61s" || run.Phases[2].Name != "extra" {
		t.Errorf("phases are not in the order in which they were: %s, %+v", got, run.Phases)
	}
	run.Phases = append([]Phase{{Name: "DNS", Duration: 8e9, Beside: true}}, run.Phases...)
	if got := run.phaseText(); got != "start 700ms, matrix 8.61s; beside them DNS 8s" {
		t.Errorf("a phase beside others: %s", got)
	}
	if got := run.timeOf(all.Tables[0].ID) + ", " + run.timeOf(all.Tables[1].ID); got != "7s, 2.61s" {
		t.Errorf("the tables' times are not those of the slowest shard: %s", got)
	}
	if got := strings.Join(run.Artefacts, " "); got != "a kind/pods.json x" {
		t.Errorf("what was collected of the run was merged to %s", got)
	}
	if fmt.Sprint(all.Effects) != "[{d1 [w /a goes]} {d2 [w /b goes]} {d3 [w /c goes]}]" {
		t.Errorf("what digests stand for was merged to %v", all.Effects)
	}
	if len(all.Runs) != 3 || all.Verdict.Counts.Total != 3*226 || len(all.Cases) != 226 {
		t.Errorf("%d runs, %d cases, %+v", len(all.Runs), len(all.Cases), all.Verdict)
	}
	if part := merge2(t, a, c, d); part.Verdict.Conclusion == Conformant {
		t.Error("two of three shards are conformant")
	}
	if err := Validate(want); err != nil {
		t.Error(err)
	}
}

// Expectations that differ by run, because rules ask for a version, stay with their results.
func TestMergeKeepsWhatEachRunExpects(t *testing.T) {
	a, b := sample{kubernetes: "1.36.3"}.report(t), sample{kubernetes: "1.37.2"}.report(t)
	c := &b.Cases[0]
	c.Rule, c.Expected, c.Results[0].Observed.Outcome = "policy-enabled", Expected{Outcome: Injected}, Injected
	m := merge2(t, b, a)
	got := &m.Cases[0]
	for run, want := range []Outcome{Untouched, Injected} {
		rule, e := got.Expectation(got.Result(run))
		if e.Outcome != want || (rule == "policy-enabled") != (want == Injected) {
			t.Errorf("run %s: %s by %s", m.Runs[run].ID, e.Outcome, rule)
		}
	}
	if got.Results[0].Expected != nil || got.Results[1].Expected == nil || m.Cases[1].Results[1].Expected != nil {
		t.Error("expectations are written where they need not, or not where they must")
	}
	d := m.Differences()
	if len(d) != 1 || !d[0].Expected || d[0].Cases != 1 {
		t.Errorf("differences: %+v", d)
	}
}

func TestMergeRefuses(t *testing.T) {
	a := sample{}.report(t)
	for _, c := range []struct {
		name string
		with func() []*Report
		want string
	}{
		{"nothing", func() []*Report { return nil }, "there are none"},
		{"a run twice", func() []*Report { return []*Report{a, sample{}.report(t)} }, "every case would be doubled"},
		{"a shard twice", func() []*Report {
			return []*Report{sample{shard: Shard{1, 2}}.report(t), sample{shard: Shard{1, 2}}.report(t)}
		}, "shard 1/2 of admission/1.37.2/reference@0.1.0 is there twice"},
		{"different cuts", func() []*Report {
			return []*Report{sample{shard: Shard{1, 2}}.report(t), sample{shard: Shard{2, 3}}.report(t)}
		}, "into 2 shards in one and 3"},
		{"overlapping shards", func() []*Report {
			b := sample{shard: Shard{1, 2}}.report(t)
			b.Runs[0].Shards[0].Index = 2
			return []*Report{sample{shard: Shard{1, 2}}.report(t), b}
		}, "must not overlap"},
		{"shards of different targets", func() []*Report {
			b := sample{shard: Shard{2, 2}}.report(t)
			b.Runs[0].Target.Digest = "sha256:0"
			return []*Report{sample{shard: Shard{1, 2}}.report(t), b}
		}, "differ in their target digest"},
		{"different tables", func() []*Report {
			b := sample{kubernetes: "1.36.3"}.report(t)
			b.Tables[0].Digest = "sha256:other"
			return []*Report{a, b}
		}, "different tables istio-classic/decision (digests sha256:decision and sha256:other)"},
		{"different dimensions", func() []*Report {
			return []*Report{a, sample{kubernetes: "1.36.3", size: 2}.report(t)}
		}, "their dimensions differ"},
		{"a baseline with a run", func() []*Report { return []*Report{a, AsBaseline(sample{lane: "kind"}.report(t))} }, "some are baselines"},
	} {
		if _, err := Merge(c.with()...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// A baseline is the same whenever and wherever it was made, and as good to compare with.
func TestBaseline(t *testing.T) {
	a, b := sample{}.report(t), sample{}.report(t)
	b.Runs[0].Started, b.Runs[0].Duration, b.Runs[0].Seed, b.Runs[0].Host = b.Runs[0].Started.AddDate(0, 0, 1), 5, 9, Host{OS: "plan9"}
	for i := range b.Cases {
		b.Cases[i].Results[0].Latency *= 2
		b.Cases[i].Results[0].Observed.Message += "on port 4711"
	}
	if !bytes.Equal(encode(t, AsBaseline(a)), encode(t, AsBaseline(b))) {
		t.Error("two baselines of equal observations differ")
	}
	if bytes.Contains(encode(t, AsBaseline(a)), []byte("Nanos")) {
		t.Error("a baseline holds times")
	}
	if c := Compare(AsBaseline(a), b, CompareOptions{}); c.Exit != 0 || c.Unchanged != 226 {
		t.Errorf("compared with its own baseline: %s", c.Verdict())
	}
	if a.Runs[0].Duration == 0 || a.Cases[0].Results[0].Latency == 0 {
		t.Error("making a baseline changed the report")
	}
}

// A report that is written elsewhere still names its artefacts from there.
func TestRebase(t *testing.T) {
	for _, row := range []struct{ from, to, want string }{
		{"a", "a", "cases/1/pod.yaml"}, {"a/1.36.3", "a", "1.36.3/cases/1/pod.yaml"}, {"shard-1", "all", "../shard-1/cases/1/pod.yaml"},
		{"/x", "relative", "cases/1/pod.yaml"}, // there is no way from there
	} {
		r := small(t)
		r.Runs[0].Artefacts = []string{"cases/1/pod.yaml"}
		r.Rebase(row.from, row.to)
		if got := r.Runs[0].Artefacts[0]; got != row.want {
			t.Errorf("from %s to %s, of the run: %s, expected %s", row.from, row.to, got, row.want)
		}
		n := 0
		for i := range r.Cases {
			for _, name := range r.Cases[i].Results[0].Artefacts {
				if n++; name != row.want {
					t.Errorf("from %s to %s: %s, expected %s", row.from, row.to, name, row.want)
				}
			}
		}
		if n == 0 {
			t.Error("there are no artefacts")
		}
	}
}
