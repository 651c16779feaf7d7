// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// A Conclusion is a verdict in one word.
type Conclusion string

const (
	Conformant         Conclusion = "conformant"     // everything that ran is as the tables say
	NotConformant      Conclusion = "not-conformant" // something is not, or was not always
	Incomplete         Conclusion = "incomplete"     // planned cases have no result, or nothing ran at all
	InfrastructureLost Conclusion = "infrastructure" // the run itself broke
	InterruptedRun     Conclusion = "interrupted"    // somebody stopped the run
)

// Exit codes of a run. 2 is for usage and never a verdict.
const (
	ExitConformant     = 0
	ExitNotConformant  = 1
	ExitUsage          = 2
	ExitInfrastructure = 3
)

// A Verdict is the judgement on a whole report.
type Verdict struct {
	Conclusion Conclusion `json:"conclusion" jsonschema:"enum=conformant,enum=not-conformant,enum=incomplete,enum=infrastructure,enum=interrupted"`
	Exit       int        `json:"exit" jsonschema:"enum=0,enum=1,enum=3" jsonschema_description:"Exit code: 0 conformant, 1 not conformant, 3 infrastructure, interrupted or incomplete."`
	Because    string     `json:"because" jsonschema_description:"One sentence."`
	Counts     Counts     `json:"counts"`
}

// Counts are numbers of results by status. Quarantined results are in Quarantined and in no other number; those of
// cases that could not be judged are none.
type Counts struct {
	Total       int `json:"total"`
	Pass        int `json:"pass"`
	Fail        int `json:"fail"`
	Flaky       int `json:"flaky"`
	Error       int `json:"error"`
	NotRun      int `json:"notRun"`
	Quarantined int `json:"quarantined"`
}

// Add counts one result.
func (n *Counts) Add(r *Result) {
	n.Total++
	if r.Forgiven() {
		n.Quarantined++
		return
	}
	switch r.Status {
	case Pass:
		n.Pass++
	case Fail:
		n.Fail++
	case Flaky:
		n.Flaky++
	case Error:
		n.Error++
	case NotRun:
		n.NotRun++
	}
}

// Ran is how many results say something about the target.
func (n Counts) Ran() int { return n.Total - n.NotRun - n.Error }

// Judge computes the verdict of the whole from its parts, and stores it in the report.
func (r *Report) Judge() Verdict {
	r.Verdict = r.judgement()
	return r.Verdict
}

// judgement looks first at what weighs most: a run that broke or was stopped says little about the target, whatever
// failed in it; then at what was seen to be wrong; then at what was not seen at all.
func (r *Report) judgement() Verdict {
	var n Counts
	perRun, ran := make([]int, len(r.Runs)), make([]int, len(r.Runs))
	for i := range r.Cases {
		for j := range r.Cases[i].Results {
			res := &r.Cases[i].Results[j]
			n.Add(res)
			perRun[res.Run]++
			if res.Ran() {
				ran[res.Run]++
			}
		}
	}
	v := Verdict{Counts: n}
	set := func(c Conclusion, exit int, format string, args ...any) {
		v.Conclusion, v.Exit, v.Because = c, exit, fmt.Sprintf(format, args...)
	}
	switch {
	case r.endedAs(Infrastructure) != nil:
		run := r.endedAs(Infrastructure)
		set(InfrastructureLost, ExitInfrastructure, "the run %s broke: %s", run.ID, orUnknown(run.Problem))
	case r.endedAs(Interrupted) != nil:
		run := r.endedAs(Interrupted)
		set(InterruptedRun, ExitInfrastructure, "the run %s was stopped before its end after %s of %s cases", run.ID,
			thousands(perRun[indexOfRun(r.Runs, run.ID)]), thousands(run.Planned))
	case n.Fail+n.Flaky > 0:
		set(NotConformant, ExitNotConformant, "%s", badSentence(n))
	case r.expired() != nil:
		q := r.expired()
		set(NotConformant, ExitNotConformant, "the quarantine of %s expired on %s (owner %s, issue %s): "+
			"mend the case or renew the entry", q.Case, q.Expires, q.Owner, q.Issue)
	case r.brokenBudget() != nil:
		b := r.brokenBudget()
		where := b.Table
		if where == "" {
			where = "all tables"
		}
		set(NotConformant, ExitNotConformant, "latency budget broken: p%s of %s is %s, over %s",
			quantileName(b.Quantile), where, short(b.Observed), short(b.Limit))
	case n.Error > 0:
		set(InfrastructureLost, ExitInfrastructure, "%s could not be judged, because the infrastructure failed",
			plural(n.Error, "case"))
	case r.missingShards() != "":
		set(Incomplete, ExitInfrastructure, "%s", r.missingShards())
	case r.shortRun(perRun) >= 0:
		i := r.shortRun(perRun)
		set(Incomplete, ExitInfrastructure, "the run %s planned %s cases and has results for %s only", r.Runs[i].ID,
			thousands(r.Runs[i].Planned), thousands(perRun[i]))
	case r.idle(ran) != "":
		set(Incomplete, ExitInfrastructure, "%s", r.idle(ran))
	case r.unmeasuredBudget() != nil:
		b := r.unmeasuredBudget()
		set(Incomplete, ExitInfrastructure, "there is a latency budget of %s, and no case of it ran", cmp.Or(b.Table, "all tables"))
	default:
		set(Conformant, ExitConformant, "%s held", plural(n.Pass, "case"))
		if n.Quarantined > 0 {
			v.Because += fmt.Sprintf(", %s in quarantine", thousands(n.Quarantined))
		}
		if n.NotRun > 0 {
			v.Because += fmt.Sprintf(", %s not run (%s)", thousands(n.NotRun), strings.Join(r.missingFeatures(3), "; "))
		}
	}
	return v
}

// lacks says for what reason a report is not the whole of what was planned, whatever its verdict; empty where it is.
func (r *Report) lacks() string {
	perRun, ran := make([]int, len(r.Runs)), make([]int, len(r.Runs))
	for i := range r.Cases {
		for j := range r.Cases[i].Results {
			res := &r.Cases[i].Results[j]
			perRun[res.Run]++
			if res.Ran() {
				ran[res.Run]++
			}
		}
	}
	if run := r.endedAs(Infrastructure); run != nil {
		return fmt.Sprintf("its run %s broke: %s", run.ID, orUnknown(run.Problem))
	}
	if run := r.endedAs(Interrupted); run != nil {
		return fmt.Sprintf("its run %s was stopped before its end", run.ID)
	}
	if missing := r.missingShards(); missing != "" {
		return missing
	}
	if i := r.shortRun(perRun); i >= 0 {
		return fmt.Sprintf("its run %s planned %s cases and has results for %s only", r.Runs[i].ID,
			thousands(r.Runs[i].Planned), thousands(perRun[i]))
	}
	return r.idle(ran)
}

// idle says that in one of the runs nothing ran, of which each ran so many cases; "" if something did in each.
func (r *Report) idle(ran []int) string {
	i := slices.Index(ran, 0)
	switch {
	case len(ran) == 0 || i == 0 && len(ran) == 1:
		return "no case ran"
	case i >= 0:
		return fmt.Sprintf("no case of the run %s ran", r.Runs[i].ID)
	}
	return ""
}

// unmeasuredBudget is a budget about nothing that ran: it is not kept. A shard's own report may be about other tables.
func (r *Report) unmeasuredBudget() *Budget {
	for i := range r.Runs {
		for j := range r.Runs[i].Budgets {
			if b := &r.Runs[i].Budgets[j]; b.Observed == 0 && (r.Merged || len(r.Runs[i].Shards) == 0) {
				return b
			}
		}
	}
	return nil
}

func badSentence(n Counts) string {
	var parts []string
	if n.Fail > 0 {
		parts = append(parts, thousands(n.Fail)+" failed")
	}
	if n.Flaky > 0 {
		parts = append(parts, thousands(n.Flaky)+" flaky")
	}
	if n.Error > 0 {
		parts = append(parts, thousands(n.Error)+" could not be judged")
	}
	return fmt.Sprintf("of %s %s", plural(n.Total-n.NotRun, "case"), strings.Join(parts, ", "))
}

func (r *Report) endedAs(e Ended) *Run {
	for i := range r.Runs {
		if r.Runs[i].Ended == e {
			return &r.Runs[i]
		}
	}
	return nil
}

func (r *Report) expired() *QuarantineEntry {
	for i := range r.Quarantine {
		if r.Quarantine[i].Expired {
			return &r.Quarantine[i]
		}
	}
	return nil
}

func (r *Report) brokenBudget() *Budget {
	for i := range r.Runs {
		for j := range r.Runs[i].Budgets {
			if r.Runs[i].Budgets[j].Broken() {
				return &r.Runs[i].Budgets[j]
			}
		}
	}
	return nil
}

// missingShards names the shards that a merged report lacks; a shard's own report stands for itself and lacks nothing.
func (r *Report) missingShards() string {
	for _, run := range r.Runs {
		if !r.Merged || len(run.Shards) == 0 || len(run.Shards) == run.Shards[0].Of {
			continue
		}
		have := map[int]bool{}
		for _, s := range run.Shards {
			have[s.Index] = true
		}
		var missing []string
		for i := 1; i <= run.Shards[0].Of && len(missing) < 10; i++ {
			if !have[i] {
				missing = append(missing, fmt.Sprint(i))
			}
		}
		return fmt.Sprintf("the run %s lacks %d of its %d shards (%s)", run.ID, run.Shards[0].Of-len(run.Shards),
			run.Shards[0].Of, strings.Join(missing, ", "))
	}
	return ""
}

func (r *Report) shortRun(perRun []int) int {
	for i := range r.Runs {
		if perRun[i] < r.Runs[i].Planned {
			return i
		}
	}
	return -1
}

// missingFeatures gives the most frequent reasons for which cases did not run, at most n of them.
func (r *Report) missingFeatures(n int) []string {
	count := map[string]int{}
	for i := range r.Cases {
		for j := range r.Cases[i].Results {
			if res := &r.Cases[i].Results[j]; res.Status == NotRun {
				count[res.Why]++
			}
		}
	}
	return topReasons(count, n)
}

func topReasons(count map[string]int, n int) []string {
	reasons := make([]string, 0, len(count))
	for why := range count {
		reasons = append(reasons, why)
	}
	sort.Slice(reasons, func(i, j int) bool {
		if count[reasons[i]] != count[reasons[j]] {
			return count[reasons[i]] > count[reasons[j]]
		}
		return reasons[i] < reasons[j]
	})
	more := 0
	if len(reasons) > n {
		more = len(reasons) - n
		reasons = reasons[:n]
	}
	for i, why := range reasons {
		if why == "" {
			reasons[i] = "no reason given"
		}
	}
	if more > 0 {
		reasons = append(reasons, plural(more, "other reason"))
	}
	return reasons
}

func indexOfRun(runs []Run, id string) int {
	for i := range runs {
		if runs[i].ID == id {
			return i
		}
	}
	return -1
}

func orUnknown(s string) string {
	if s == "" {
		return "no reason was recorded"
	}
	return s
}

// thousands writes n with commas: 35,640.
func thousands(n int) string {
	s := fmt.Sprint(n)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if neg {
		return "-" + s
	}
	return s
}

// plural writes "1 case", "2 cases".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

// short writes a duration with about three digits.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < 100*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

func quantileName(q float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", q*100), "0"), ".")
}
