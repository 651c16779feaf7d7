// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestBuilderRefuses(t *testing.T) {
	table := faultTable()
	good := CaseResult{ID: "webhook/faults/fault=none,failure-policy=Fail", Table: table.ID, Values: []string{"none", "Fail"},
		Rule: "no-fault", Expected: Expected{Outcome: Injected}, Result: Result{Status: Pass, Observed: Observed{Outcome: Injected}}}
	for _, c := range []struct {
		name   string
		change func(*CaseResult)
		want   string
	}{
		{"an unknown table", func(c *CaseResult) { c.Table = "x/y" }, `no table "x/y"`},
		{"an ID of another table", func(c *CaseResult) { c.ID = "x/y/z" }, "must begin with the table's"},
		{"a value too few", func(c *CaseResult) { c.Values = c.Values[:1] }, "1 value for the 2 dimensions"},
		{"an unknown value", func(c *CaseResult) { c.Values = []string{"none", "Never"} }, `failure-policy of table webhook/faults has no value "Never"`},
		{"an unknown rule", func(c *CaseResult) { c.Rule = "x" }, `no rule "x"`},
		{"an unknown status", func(c *CaseResult) { c.Result.Status = "passed" }, `unknown status "passed"`},
		{"an unknown outcome", func(c *CaseResult) { c.Result.Observed.Outcome = "x" }, `unknown observed outcome "x"`},
		{"a negative latency", func(c *CaseResult) { c.Result.Latency = -time.Second }, "negative"},
		{"a case twice", func(*CaseResult) {}, "it is there already"},
	} {
		b, err := NewBuilder(Run{Lane: "l", Target: TargetInfo{Name: "t"}}, []Table{table})
		if err != nil {
			t.Fatal(err)
		}
		if c.name == "a case twice" {
			if err := b.Add(good); err != nil {
				t.Fatal(err)
			}
		}
		bad := good
		c.change(&bad)
		if err := b.Add(bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// Whatever the order of the results, and from however many goroutines: the same report.
func TestBuilderIsConcurrentAndStable(t *testing.T) {
	var texts []string
	for _, workers := range []int{1, 7} {
		table := decisionTable(1)
		b, err := NewBuilder(Run{Lane: "l", Kubernetes: "1", Target: TargetInfo{Name: "t"}}, []Table{table, faultTable()})
		if err != nil {
			t.Fatal(err)
		}
		work := make(chan CaseResult)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for c := range work {
					if err := b.Add(c); err != nil {
						t.Error(err)
					}
				}
			})
		}
		var all []CaseResult
		product(&table, func(id string, values []string, by map[string]string) {
			rule, want := decide(by)
			all = append(all, CaseResult{ID: id, Table: table.ID, Values: values, Rule: rule, Expected: Expected{Outcome: want},
				Result: Result{Status: Pass, Observed: Observed{Outcome: want}, Latency: 1234567}})
		})
		for i := range all {
			work <- all[(i*89)%len(all)] // 89 is prime to 216: another order
		}
		close(work)
		wg.Wait()
		r := b.Finish()
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		if r.Cases[0].Results[0].Latency != 1235*time.Microsecond {
			t.Errorf("latency is %v, not rounded to microseconds", r.Cases[0].Results[0].Latency)
		}
		var buf bytes.Buffer
		if err := Encode(&buf, r); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, buf.String())
	}
	if texts[0] != texts[1] {
		t.Error("two orders of the same results give two reports")
	}
}

func TestJoin(t *testing.T) {
	pass := Result{Status: Pass, Latency: 2, Observed: Observed{Outcome: Injected}}
	fail := Result{Status: Fail, Latency: 5, Why: "no sidecar", Patch: "[]", Observed: Observed{Outcome: Untouched}}
	broken := Result{Status: Error, Why: "etcd is gone"}
	notRun := Result{Status: NotRun, Why: "no nodes"}
	for _, c := range []struct {
		name  string
		tries []Result
		want  Status
		why   string
	}{
		{"passes", []Result{pass, pass}, Pass, ""},
		{"failures", []Result{fail, fail}, Fail, "no sidecar"},
		{"a pass after a failure", []Result{fail, pass}, Flaky, "passed 1 and failed 1 of 2 tries: no sidecar"},
		{"a failure after passes", []Result{pass, pass, fail}, Flaky, "passed 2 and failed 1 of 3 tries: no sidecar"},
		{"flaky with a pass", []Result{{Status: Flaky, Tries: 2}, pass}, Flaky, "passed 2 and failed 1 of 3 tries:"},
		{"an error hides no failure", []Result{broken, fail}, Fail, "no sidecar"},
		{"a pass hides no error", []Result{pass, broken}, Error, "etcd is gone"},
		{"not run", []Result{notRun}, NotRun, "no nodes"},
	} {
		got, err := Join(c.tries...)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != c.want || got.Why != c.why {
			t.Errorf("%s: %s %q, want %s %q", c.name, got.Status, got.Why, c.want, c.why)
		}
	}
	got, _ := Join(pass, fail)
	if got.Tries != 2 || got.Latency != 5 || got.Patch != "[]" || got.Observed.Outcome != Untouched {
		t.Errorf("the details are not those of the failure: %+v", got)
	}
	made := func(digest string) Result { return Result{Status: Pass, Observed: Observed{Digest: digest}} }
	for want, tries := range map[string][]Result{"": {pass, pass}, "a": {made("a"), made("a"), pass}, Varying: {made("a"), made("b"), made("b")}} {
		if got, _ := Join(tries...); got.Observed.Digest != want {
			t.Errorf("digest %q, want %q", got.Observed.Digest, want)
		}
	}
	if _, err := Join(); err == nil {
		t.Error("no tries are joined")
	}
}

func TestVerdict(t *testing.T) {
	expired := []QuarantineEntry{{Case: "*", Owner: "o", Issue: "i", Expires: "2026-01-01", Expired: true}}
	for _, c := range []struct {
		name   string
		change func(r *Report)
		want   Conclusion
		exit   int
		words  string
	}{
		{"good", func(*Report) {}, Conformant, 0, "226 cases held"},
		{"a failure", func(r *Report) { r.Cases[3].Results[0].Status = Fail }, NotConformant, 1, "of 226 cases 1 failed"},
		{"flaky is not good", func(r *Report) { r.Cases[3].Results[0].Status = Flaky }, NotConformant, 1, "1 flaky"},
		{"an error", func(r *Report) { r.Cases[3].Results[0].Status = Error }, InfrastructureLost, 3, "1 case could not be judged"},
		{"an error and a failure", func(r *Report) {
			r.Cases[3].Results[0].Status, r.Cases[4].Results[0].Status = Error, Fail
		}, NotConformant, 1, "1 failed, 1 could not be judged"},
		{"quarantined", func(r *Report) {
			r.Cases[3].Results[0].Status, r.Cases[3].Results[0].Quarantined = Fail, true
		}, Conformant, 0, "225 cases held, 1 in quarantine"},
		{"an error is never forgiven", func(r *Report) {
			r.Cases[3].Results[0].Status, r.Cases[3].Results[0].Quarantined = Error, true
		}, InfrastructureLost, 3, "1 case could not be judged"},
		{"nor are nothing but errors", func(r *Report) {
			for i := range r.Cases {
				r.Cases[i].Results[0].Status, r.Cases[i].Results[0].Quarantined = Error, true
			}
		}, InfrastructureLost, 3, "226 cases could not be judged"},
		{"quarantine expired", func(r *Report) { r.Quarantine = expired }, NotConformant, 1, "expired on 2026-01-01"},
		{"budget broken", func(r *Report) {
			r.Runs[0].Budgets = []Budget{{Quantile: 0.99, Limit: time.Millisecond, Observed: 2 * time.Millisecond}}
		}, NotConformant, 1, "p99 of all tables is 2ms, over 1ms"},
		{"budget held", func(r *Report) {
			r.Runs[0].Budgets = []Budget{{Quantile: 0.99, Limit: time.Second, Observed: 2 * time.Millisecond}}
		}, Conformant, 0, ""},
		{"budget of nothing that ran", func(r *Report) {
			r.Runs[0].Budgets = []Budget{{Quantile: 0.99, Limit: time.Second}}
		}, Incomplete, 3, "there is a latency budget of all tables, and no case of it ran"},
		{"budget of another shard's table", func(r *Report) {
			r.Runs[0].Budgets, r.Runs[0].Shards = []Budget{{Quantile: 0.99, Limit: time.Second}}, []Shard{{1, 3}}
		}, Conformant, 0, ""},
		{"stopped", func(r *Report) {
			r.Runs[0].Ended, r.Cases[3].Results[0].Status = Interrupted, Fail
		}, InterruptedRun, 3, "stopped before its end after 226 of 226 cases"},
		{"broke", func(r *Report) {
			r.Runs[0].Ended, r.Runs[0].Problem = Infrastructure, "the disk is full"
		}, InfrastructureLost, 3, "the disk is full"},
		{"too few", func(r *Report) { r.Cases = r.Cases[:200] }, Incomplete, 3, "planned 226 cases and has results for 200 only"},
		{"nothing", func(r *Report) { r.Cases, r.Runs[0].Planned = nil, 0 }, Incomplete, 3, "no case ran"},
		{"nothing could run", func(r *Report) {
			for i := range r.Cases {
				r.Cases[i].Results[0] = Result{Status: NotRun, Why: "the lane has no nodes"}
			}
		}, Incomplete, 3, "no case ran"},
		{"in one of two runs nothing could run", func(r *Report) {
			second := r.Runs[0]
			second.ID += "-again"
			r.Runs = append(r.Runs, second)
			for i := range r.Cases {
				r.Cases[i].Results = append(r.Cases[i].Results, Result{Run: 1, Status: NotRun, Why: "the lane has no nodes"})
			}
		}, Incomplete, 3, "-again ran"},
		{"some could not run", func(r *Report) { r.Cases[0].Results[0] = Result{Status: NotRun, Why: "the lane has no nodes"} },
			Conformant, 0, "225 cases held, 1 not run (the lane has no nodes)"},
		{"a shard alone", func(r *Report) { r.Runs[0].Shards = []Shard{{1, 3}} }, Conformant, 0, ""},
		{"a shard missing after a merge", func(r *Report) {
			r.Merged, r.Runs[0].Shards = true, []Shard{{1, 3}, {3, 3}}
		}, Incomplete, 3, "lacks 1 of its 3 shards (2)"},
	} {
		r := sample{}.report(t)
		c.change(r)
		if v := r.Judge(); v.Conclusion != c.want || v.Exit != c.exit || !strings.Contains(v.Because, c.words) {
			t.Errorf("%s: %s (%d) %q, want %s (%d) with %q", c.name, v.Conclusion, v.Exit, v.Because, c.want, c.exit, c.words)
		}
	}
}

func TestBudgetIsMeasured(t *testing.T) {
	b := sample{}.builder(t)
	b.Update(func(r *Run) {
		r.Budgets = []Budget{{Table: "webhook/faults", Quantile: 0.5, Limit: 1}, {Quantile: 1, Limit: time.Hour}}
	})
	r := b.Finish()
	var longest time.Duration
	for _, c := range r.Cases {
		longest = max(longest, c.Results[0].Latency)
	}
	if got := r.Runs[0].Budgets; got[1].Observed != longest || !got[0].Broken() || got[1].Broken() {
		t.Errorf("%+v, the longest is %v", got, longest)
	}
	if r.Verdict.Conclusion != NotConformant {
		t.Errorf("a broken budget is %s", r.Verdict.Conclusion)
	}
}

// An injector that gets everything wrong must not fill the memory with its patches.
func TestBuilderBoundsWhatItKeeps(t *testing.T) {
	tab := decisionTable(1)
	b, err := NewBuilder(Run{Lane: "l", Target: TargetInfo{Name: "t"}}, []Table{tab})
	if err != nil {
		t.Fatal(err)
	}
	patch := strings.Repeat("x", 1<<20)
	product(&tab, func(id string, values []string, by map[string]string) {
		rule, want := decide(by)
		if err := b.Add(CaseResult{ID: id, Table: tab.ID, Values: values, Rule: rule, Expected: Expected{Outcome: want},
			Result: Result{Status: Fail, Patch: patch}}); err != nil {
			t.Fatal(err)
		}
	})
	r, kept := b.Finish(), 0
	for i := range r.Cases {
		kept += len(r.Cases[i].Results[0].Patch)
	}
	if kept != maxDetailBytes || r.Runs[0].LeftOut != 216-64 {
		t.Errorf("%d bytes kept, %d left out", kept, r.Runs[0].LeftOut)
	}
}

func TestQuantile(t *testing.T) {
	var l []time.Duration
	for i := range 100 {
		l = append(l, time.Duration(i+1))
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 50}, {0.99, 99}, {0.999, 100}, {1, 100}, {0.001, 1}} {
		if got := quantile(l, c.q); got != c.want {
			t.Errorf("p%v of 1..100 is %d, not %d", c.q*100, got, c.want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("a quantile of nothing")
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{thousands(0), "0"}, {thousands(999), "999"}, {thousands(1000), "1,000"}, {thousands(1234567), "1,234,567"}, {thousands(-1000), "-1,000"},
		{plural(1, "case"), "1 case"}, {plural(35640, "case"), "35,640 cases"},
		{short(1234 * time.Microsecond), "1.23ms"}, {short(90 * time.Second), "1m30s"}, {short(0), "0"},
		{quantileName(0.99), "99"}, {quantileName(0.999), "99.9"}, {quantileName(0.5), "50"},
		{shellQuote("a'b c"), `'a'\''b c'`},
		{printable("a\x1b[31mb\nc\u202ed\xff"), "a?[31mb c?d?"},
		{mdText("<b>|`*@me"), "&lt;b&gt;\\|\\`\\*@\u200bme"},
		{mdCode("a`b|c"), "`` a`b\\|c ``"},
		{fmt.Sprint(Term{"policy", []string{"a", "b"}}), "policy=(a|b)"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// What a digest stands for is kept once, and a target that makes every pod another does not fill the memory with them.
func TestBuilderKeepsEachEffectOnce(t *testing.T) {
	b, err := NewBuilder(Run{Lane: "l", Target: TargetInfo{Name: "t"}}, []Table{decisionTable(1)})
	if err != nil {
		t.Fatal(err)
	}
	b.Effect("none", "")
	for range 2 {
		b.Effect("b", "webhook\n/spec/x = {\"a\":1}\n/spec/y goes\n")
	}
	b.Effect("a", "webhook\n/spec/x goes\n")
	large := strings.Repeat("x", 1<<20)
	for i := range 8 {
		b.Effect(fmt.Sprint("large", i), large)
	}
	r := b.Finish()
	if len(r.Effects) != 2+3 { // the two count too, so the fourth large one does not find room
		t.Fatalf("%d effects are kept", len(r.Effects))
	}
	if got := fmt.Sprint(r.Effects[:2]); got != `[{a [webhook /spec/x goes]} {b [webhook /spec/x = {"a":1} /spec/y goes]}]` {
		t.Error(got)
	}
}
