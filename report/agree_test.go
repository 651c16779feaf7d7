// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strings"
	"testing"
)

func TestAgree(t *testing.T) {
	lanes := func(change func(c *Case, a, b *Result)) *Report {
		r, err := Merge(sample{lane: "admission"}.report(t), sample{lane: "controlplane"}.report(t))
		if err != nil {
			t.Fatal(err)
		}
		for i := range r.Cases {
			if r.Cases[i].Expected.Outcome == Injected {
				change(&r.Cases[i], &r.Cases[i].Results[0], &r.Cases[i].Results[1])
				break
			}
		}
		r.Judge()
		return r
	}
	total := len(sample{}.report(t).Cases)
	for _, c := range []struct {
		name                         string
		change                       func(c *Case, a, b *Result)
		exit, compared, alone, apart int
		words                        string
	}{
		{"alike", func(*Case, *Result, *Result) {}, 0, total, 0, 0, ""},
		{"other times", func(_ *Case, a, b *Result) { b.Latency += 7 }, 0, total, 0, 0, ""},
		{"both fail alike", func(_ *Case, a, b *Result) {
			a.Status, a.Observed.Outcome, b.Status, b.Observed.Outcome = Fail, Untouched, Fail, Untouched
		}, 0, total, 0, 0, ""},
		{"not run in one", func(_ *Case, a, b *Result) { *b = Result{Run: b.Run, Status: NotRun, Why: "x"} }, 0, total - 1, 1, 0, ""},
		{"one fails", func(_ *Case, a, b *Result) { b.Status, b.Observed.Outcome = Fail, Untouched }, 1, total, 0, 0,
			"pass in one, fail in the other; the outcome is injected in one, in the other untouched"},
		{"another code", func(_ *Case, a, b *Result) { b.Observed.Code = 500 }, 1, total, 0, 0, "the code is 0 in one, in the other 500"},
		{"another count of calls", func(_ *Case, a, b *Result) { b.Received = 2 }, 1, total, 0, 0, "calls received"},
		{"calls that a lane cannot count", func(_ *Case, a, b *Result) { b.Attempted = -1 }, 0, total, 0, 0, ""},
		{"flaky in one", func(_ *Case, a, b *Result) { b.Status = Flaky }, 1, total, 0, 0, "pass in one, flaky in the other"},
		{"meant to differ", func(c *Case, a, b *Result) {
			e := c.Expected
			e.Outcome = Untouched
			b.Expected, b.Observed.Outcome = &e, Untouched
		}, 0, total - 1, 0, 1, ""},
		{"an error", func(_ *Case, a, b *Result) { *b = Result{Run: b.Run, Status: Error, Why: "x"} }, 3, total - 1, 1, 0, ""},
	} {
		a := Agree(lanes(c.change))
		if a.Exit != c.exit || a.Compared != c.compared || a.Alone != c.alone || a.Apart != c.apart {
			t.Errorf("%s: %s (compared %d, alone %d, apart %d); want exit %d, %d, %d, %d", c.name, a.Verdict(),
				a.Compared, a.Alone, a.Apart, c.exit, c.compared, c.alone, c.apart)
		}
		var out strings.Builder
		if err := a.Terminal(&out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), c.words) || !strings.HasSuffix(out.String(), a.Verdict()+"\n") {
			t.Errorf("%s: %q is not in\n%s", c.name, c.words, out.String())
		}
	}
}

// One lane has nobody to agree with, and a run that was cut short has not agreed.
func TestAgreeOnNothing(t *testing.T) {
	if a := Agree(sample{}.report(t)); a.Exit != ExitInfrastructure || a.Compared != 0 {
		t.Errorf("one run: %s", a.Verdict())
	}
	r, err := Merge(sample{lane: "admission"}.report(t), sample{lane: "controlplane"}.report(t))
	if err != nil {
		t.Fatal(err)
	}
	r.Runs[1].Ended = Interrupted
	if a := Agree(r); a.Exit != ExitInfrastructure {
		t.Errorf("interrupted: %s", a.Verdict())
	}
}
