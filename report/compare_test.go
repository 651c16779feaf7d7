// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// changeCase gives a report with one case's result changed; the case is one that is injected.
func changeCase(t *testing.T, change func(c *Case, res *Result)) *Report {
	t.Helper()
	r := sample{}.report(t)
	for i := range r.Cases {
		if r.Cases[i].Expected.Outcome == Injected {
			change(&r.Cases[i], &r.Cases[i].Results[0])
			r.Judge()
			return r
		}
	}
	t.Fatal("no injected case")
	return nil
}

func status(s Status, o Outcome) func(*Case, *Result) {
	return func(_ *Case, r *Result) { r.Status, r.Observed.Outcome = s, o }
}

func nothing(*Case, *Result) {}

func TestCompareKinds(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new func(*Case, *Result)
		want     ChangeKind
		exit     int
		words    string
	}{
		{"nothing", nothing, nothing, "", 0, ""},
		{"times", nothing, func(_ *Case, r *Result) { r.Latency *= 9 }, "", 0, ""},
		{"messages", nothing, func(_ *Case, r *Result) { r.Observed.Message = "port 4711" }, "", 0, ""},
		{"pass to fail", nothing, status(Fail, Untouched), Regression, 10, "expected injected, observed untouched; the outcome was injected, is untouched"},
		{"pass to flaky", nothing, status(Flaky, Untouched), Regression, 10, "flaky: "},
		{"pass to error", nothing, status(Error, ""), InfrastructureError, 3, "could not be judged"},
		{"pass to not run", nothing, status(NotRun, ""), MissingCase, 12, "it ran before and does not now"},
		{"fail to not run", status(Fail, Untouched), status(NotRun, ""), MissingCase, 12, ""},
		{"fail to pass", status(Fail, Untouched), nothing, Fixed, 0, ""},
		{"flaky to pass", status(Flaky, Untouched), nothing, Fixed, 0, ""},
		{"still failing", status(Fail, Untouched), status(Fail, Untouched), "", 0, ""},
		{"fail to flaky", status(Fail, Untouched), status(Flaky, Untouched), ChangedObservation, 13, "the status was fail, is flaky"},
		{"flaky to fail", status(Flaky, Untouched), status(Fail, Altered), ChangedObservation, 13,
			"the status was flaky, is fail; the outcome was untouched, is altered"},
		{"failing otherwise", status(Fail, Untouched), status(Fail, Altered), ChangedObservation, 13, "was untouched, is altered"},
		{"not run to pass", status(NotRun, ""), nothing, NewCase, 0, ""},
		{"not run to fail", status(NotRun, ""), status(Fail, Untouched), NewFailure, 11, ""},
		{"error to fail", status(Error, ""), status(Fail, Untouched), NewFailure, 11, ""},
		{"not run to not run", status(NotRun, ""), status(NotRun, ""), "", 0, ""},
		{"calls received", nothing, func(_ *Case, r *Result) { r.Received = 2 }, ChangedObservation, 13, "calls received was 1, is 2"},
		{"calls unknown", nothing, func(_ *Case, r *Result) { r.Received = -1 }, "", 0, ""},
		{"code", nothing, func(_ *Case, r *Result) { r.Observed.Code = 403 }, ChangedObservation, 13, "the code was 0, is 403"},
		{"reason", nothing, func(_ *Case, r *Result) { r.Observed.Reason = "x" }, ChangedObservation, 13, "the reason was none, is x"},
		{"failed open", nothing, func(_ *Case, r *Result) { r.Observed.FailedOpen = true }, ChangedObservation, 13, ""},
		{"the change to the pod", func(_ *Case, r *Result) { r.Observed.Digest = "a" }, func(_ *Case, r *Result) { r.Observed.Digest = "b" },
			ChangedObservation, 13, "the change to the pod was a, is b"},
		{"a digest that is new", nothing, func(_ *Case, r *Result) { r.Observed.Digest = "b" }, "", 0, ""},
		{"what is expected", nothing, func(c *Case, r *Result) { c.Expected.Outcome, r.Status = Untouched, Fail }, Regression, 10,
			"the table said injected before"},
	} {
		cmp := Compare(changeCase(t, c.old), changeCase(t, c.new), CompareOptions{})
		if cmp.Exit != c.exit {
			t.Errorf("%s: %s, want exit %d", c.name, cmp.Verdict(), c.exit)
		}
		if c.want == "" {
			if len(cmp.Changes) > 0 {
				t.Errorf("%s: %+v", c.name, cmp.Changes)
			}
			continue
		}
		if len(cmp.Changes) != 1 || cmp.Changes[0].Kind != c.want || !strings.Contains(cmp.Changes[0].Sentence, c.words) {
			t.Errorf("%s: %+v, want one %s with %q", c.name, cmp.Changes, c.want, c.words)
		}
	}
}

// A rule changed in the injector: exactly the cases that it decides are named, and described in one sentence.
func TestCompareNamesExactlyWhatChanged(t *testing.T) {
	old, new := sample{}.report(t), sample{version: "0.2.0", bug: emptyIsTrue}.report(t)
	c := Compare(AsBaseline(old), new, CompareOptions{})
	var want, got []string
	for i := range new.Cases {
		if new.Cases[i].Results[0].Status == Fail {
			want = append(want, new.Cases[i].ID)
		}
	}
	for _, ch := range c.Changes {
		if ch.Kind == Regression {
			got = append(got, ch.Case)
		}
	}
	if !slices.Equal(got, want) || len(want) != 2 || len(c.Changes) != 2 {
		t.Errorf("named %v, changed %v", got, want)
	}
	if c.Exit != ExitRegression || c.Pairs[0] != (RunPair{"admission/1.37.2/reference@0.1.0", "admission/1.37.2/reference@0.2.0"}) {
		t.Errorf("%s, %v", c.Verdict(), c.Pairs)
	}
	if w := c.Groups[0].Whenever; w != "whenever host-network=false and policy=disabled and ns-label=enabled and annotation=empty" {
		t.Error(w)
	}
}

func TestCompareRuns(t *testing.T) {
	v36, v37, kind := sample{kubernetes: "1.36.3"}.report(t), sample{}.report(t), sample{lane: "kind"}.report(t)
	both := merge2(t, v36, v37)
	stopped := sample{}.report(t)
	stopped.Runs[0].Ended, stopped.Runs[0].Planned = Interrupted, 226
	stopped.Cases = slices.Clone(stopped.Cases[:200])
	stopped.Judge()
	failingNew := merge2(t, v37, sample{kubernetes: "1.36.3", bug: emptyIsTrue}.report(t))
	stoppedAndBad := sample{bug: emptyIsTrue}.report(t)
	stoppedAndBad.Cases = slices.Clone(stoppedAndBad.Cases[:200])
	stoppedAndBad.Judge()
	lost := sample{}.report(t)
	for i := range lost.Cases {
		lost.Cases[i].Results[0] = Result{Status: Error}
	}
	only := func(table string) *Report {
		r := sample{}.report(t)
		r.Cases = slices.DeleteFunc(slices.Clone(r.Cases), func(c Case) bool { return c.Table != table })
		r.Runs[0].Planned = len(r.Cases)
		r.Judge()
		return r
	}
	slow := sample{}.report(t)
	slow.Runs[0].Budgets = []Budget{{Quantile: 0.99, Limit: time.Millisecond, Observed: time.Second}}
	late := sample{}.report(t)
	late.Quarantine = []QuarantineEntry{{Case: "*", Owner: "o", Issue: "i", Expires: "2020-01-01", Expired: true}}
	for _, c := range []struct {
		name     string
		old, new *Report
		exit     int
		words    string
	}{
		{"a version is gone", both, v37, 12, "1 missing-run"},
		{"a version is new", v37, both, 0, "1 new-run; 226 unchanged"},
		{"a version is new and fails", v37, failingNew, 11, "2 new-failure, 1 new-run"},
		{"the lane is another", v37, kind, 12, "1 missing-run, 1 new-run"},
		{"Kubernetes is newer", v36, v37, 0, "nothing changed; 226 unchanged"},
		{"which of two is the newer is not to be told", v36, merge2(t, v37, sample{kubernetes: "1.38.0"}.report(t)), 12, "1 missing-run, 2 new-run"},
		{"the run was stopped", v37, stopped, 3, "26 missing-case, 1 infrastructure"},
		{"the old run was stopped", stopped, v37, 3, "1 infrastructure, 26 new-case"},
		{"the old baseline was stopped", AsBaseline(stopped), v37, 3, "1 infrastructure, 26 new-case"},
		{"the old run was short, and bad besides", stoppedAndBad, v37, 3, "1 infrastructure"},
		{"nothing ran in the old run", lost, v37, 3, "1 infrastructure, 226 new-case"},
		{"no case in common", only("webhook/faults"), only("istio-classic/decision"), 3, "no case in common, so nothing was compared: take reports of the same tables and the same selection; 10 missing-case, 1 infrastructure, 216 new-case"},
		{"a budget is broken", v37, slow, 14, "1 budget"},
		{"a quarantine expired", v37, late, 15, "1 expired-quarantine"},
	} {
		got := Compare(c.old, c.new, CompareOptions{})
		if got.Exit != c.exit || !strings.Contains(got.Because, c.words) {
			t.Errorf("%s: %s, want exit %d with %q", c.name, got.Verdict(), c.exit, c.words)
		}
	}
	if got := Compare(both, v37, CompareOptions{Allow: []ChangeKind{MissingRun}}); got.Exit != 0 {
		t.Errorf("allowed: %s", got.Verdict())
	}
	before := [][]byte{encode(t, both), encode(t, stopped)}
	Compare(both, stopped, CompareOptions{})
	if !bytes.Equal(before[0], encode(t, both)) || !bytes.Equal(before[1], encode(t, stopped)) {
		t.Error("comparing changed a report")
	}
}

func TestEveryKindIsListedOnceWithItsExitCode(t *testing.T) {
	seen := map[ChangeKind]bool{}
	for _, k := range ChangeKinds {
		if seen[k.Kind] || k.About == "" {
			t.Errorf("%s is there twice, or not explained", k.Kind)
		}
		seen[k.Kind] = true
	}
	if len(seen) != 11 {
		t.Errorf("%d kinds", len(seen))
	}
}

func TestQuarantine(t *testing.T) {
	now := time.Date(2026, 11, 22, 23, 59, 0, 0, time.UTC)
	entry := QuarantineEntry{Case: "istio-classic/decision/*annotation=empty*", Owner: "@anna", Issue: "#7", Expires: "2026-11-22"}
	quarantine := func(e QuarantineEntry) *Quarantine {
		q, err := NewQuarantine([]QuarantineEntry{e})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	elsewhere := entry
	elsewhere.Run = "kind/*"
	for _, c := range []struct {
		name  string
		entry QuarantineEntry
		now   time.Time
		want  Conclusion
		n     int
	}{
		{"on its last day", entry, now, Conformant, 2},
		{"the day after", entry, now.Add(time.Minute), NotConformant, 0},
		{"of another run", elsewhere, now, NotConformant, 0},
	} {
		r := sample{bug: emptyIsTrue}.report(t)
		quarantine(c.entry).Apply(r, c.now)
		if r.Verdict.Conclusion != c.want || r.Verdict.Counts.Quarantined != c.n {
			t.Errorf("%s: %+v", c.name, r.Verdict)
		}
		if len(r.Describe()) != 1 {
			t.Errorf("%s: quarantined cases are not shown", c.name)
		}
	}
	good := sample{}.report(t)
	quarantine(entry).Apply(good, now.AddDate(0, 0, 1))
	if good.Verdict.Exit != 1 || !strings.Contains(good.Verdict.Because, "expired on 2026-11-22 (owner @anna, issue #7)") {
		t.Errorf("an expired entry that nothing needs: %+v", good.Verdict)
	}
	old, bad := sample{}.report(t), sample{bug: emptyIsTrue}.report(t)
	quarantine(entry).Apply(bad, now)
	if c := Compare(old, bad, CompareOptions{}); c.Exit != 0 || c.Quarantined != 2 || len(c.Changes) != 2 {
		t.Errorf("a quarantined regression: %s", c.Verdict())
	}
	lost := sample{}.report(t)
	for i := range lost.Cases {
		lost.Cases[i].Results[0].Status = Error
	}
	quarantine(QuarantineEntry{Case: "*", Owner: "@anna", Issue: "#7", Expires: "2026-11-22"}).Apply(lost, now)
	if v := lost.Verdict; v.Exit != 3 || v.Counts.Quarantined != 0 || v.Counts.Error != 226 {
		t.Errorf("a quarantine forgives that nothing could be judged: %+v", v)
	}
	if c := Compare(old, lost, CompareOptions{}); c.Exit != 3 || c.Quarantined != 0 {
		t.Errorf("a comparison does: %s", c.Verdict())
	}
}

func TestBuilderQuarantines(t *testing.T) {
	q, err := NewQuarantine([]QuarantineEntry{{Case: "*fault=timeout*", Owner: "o", Issue: "i", Expires: "2026-12-31"}})
	if err != nil {
		t.Fatal(err)
	}
	tab := faultTable()
	b, err := NewBuilder(Run{Lane: "l", Target: TargetInfo{Name: "t"}}, []Table{tab})
	if err != nil {
		t.Fatal(err)
	}
	b.Quarantine(q, time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))
	product(&tab, func(id string, values []string, by map[string]string) {
		s := Pass
		switch {
		case by["fault"] == "timeout" && by["failure-policy"] == "Ignore":
			s = Error
		case by["fault"] == "timeout":
			s = Fail
		}
		if err := b.Add(CaseResult{ID: id, Table: tab.ID, Values: values, Rule: "fails", Expected: Expected{Outcome: Failed}, Result: Result{Status: s}}); err != nil {
			t.Fatal(err)
		}
	})
	if r := b.Finish(); r.Verdict.Exit != 3 || r.Verdict.Counts.Quarantined != 1 || r.Verdict.Counts.Error != 1 || len(r.Quarantine) != 1 {
		t.Errorf("%+v", r.Verdict)
	}
}

const goodQuarantine = `
quarantine:
- case: istio-classic/decision/*annotation=empty*
  owner: "@anna"
  issue: https://example.com/issues/7
  expires: 2026-12-31
`

func TestQuarantineFiles(t *testing.T) {
	q, err := ParseQuarantine([]byte(goodQuarantine))
	if err != nil || len(q.Entries) != 1 || q.Entries[0].Expires != "2026-12-31" || q.Entries[0].Owner != "@anna" {
		t.Errorf("%+v, %v", q, err)
	}
	if q, err := ParseQuarantine(nil); err != nil || len(q.Entries) != 0 {
		t.Errorf("an empty file: %v", err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"no owner", `owner: "@anna"`, `owner: ""`, "entry 1 (istio-classic/decision/*annotation=empty*): it has no owner"},
		{"no issue", "  issue: https://example.com/issues/7\n", "", "it has no issue"},
		{"no date", "  expires: 2026-12-31\n", "", "it has no expires"},
		{"no case", "case: istio-classic/decision/*annotation=empty*", `case: " "`, "it has no case"},
		{"a day that is none", "2026-12-31", "2026-02-30", `expires is "2026-02-30", not a date`},
		{"forever", "2026-12-31", "never", "not a date"},
		{"an unknown field", "owner:", "ovner:", "ovner"},
		{"no YAML", "quarantine:", "quarantine: [", ""},
		{"a list only", "quarantine:", "", ""},
	} {
		bad := strings.Replace(goodQuarantine, c.old, c.new, 1)
		if bad == goodQuarantine {
			t.Fatalf("%s: nothing was replaced", c.name)
		}
		if _, err := ParseQuarantine([]byte(bad)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func FuzzParseQuarantine(f *testing.F) {
	f.Add([]byte(goodQuarantine), "istio-classic/decision/annotation=empty")
	f.Add([]byte("quarantine:\n- {case: '*', owner: a, issue: b, expires: 2026-12-31}"), "x")
	f.Fuzz(func(t *testing.T, data []byte, id string) {
		q, err := ParseQuarantine(data)
		if err != nil {
			return
		}
		for _, e := range q.Entries {
			if e.Owner == "" || e.Issue == "" || e.Expires == "" {
				t.Fatalf("an entry without everything is accepted: %+v", e)
			}
		}
		if q.covers(id, "run", time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)) && len(q.Entries) == 0 {
			t.Fatal("nothing covers something")
		}
	})
}

func TestComparisonRenderings(t *testing.T) {
	r, baseline := threeRuns(t)
	c := Compare(baseline, r, CompareOptions{})
	for _, rd := range ComparisonRenderers {
		var b bytes.Buffer
		if err := rd.Render(&b, c, Options{}); err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/comparison."+rd.Name, b.Bytes())
	}
	if _, err := ComparisonRendererFor("pdf"); err == nil || !strings.Contains(err.Error(), "terminal, markdown, json") {
		t.Error(err)
	}
	if rd, err := ComparisonRendererFor("json"); err != nil || rd.Name != "json" {
		t.Error(err)
	}
}
