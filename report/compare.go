// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// A ChangeKind is what sort of thing changed between two reports.
type ChangeKind string

const (
	InfrastructureError ChangeKind = "infrastructure"      // a report cannot be relied on, or a case could not be judged
	Regression          ChangeKind = "regression"          // passed before, fails or is flaky now
	NewFailure          ChangeKind = "new-failure"         // fails now, and did not run before
	MissingRun          ChangeKind = "missing-run"         // a whole column is gone: a lane, a Kubernetes version
	MissingCase         ChangeKind = "missing-case"        // ran before, does not now
	ExpiredQuarantine   ChangeKind = "expired-quarantine"  // an entry is past its date
	BudgetBroken        ChangeKind = "budget"              // the new report breaks a latency budget of its own
	ChangedObservation  ChangeKind = "changed-observation" // as good or as bad as before, yet something else was seen
	Fixed               ChangeKind = "fixed"               // failed before, passes now
	NewCase             ChangeKind = "new-case"            // passes now, did not run before
	NewRun              ChangeKind = "new-run"             // a whole column is new
)

// ChangeKinds are all kinds, the gravest first, each with the exit code it asks for. The exit code of a comparison is
// that of the first kind in this order that occurs; a run that broke as a whole comes before all others.
var ChangeKinds = []struct {
	Kind  ChangeKind
	Exit  int
	About string
}{
	{Regression, 10, "passed before, fails or is flaky now"},
	{NewFailure, 11, "fails now, did not run before"},
	{MissingRun, 12, "a whole column (lane, Kubernetes version, target) is gone"},
	{MissingCase, 12, "ran before, does not now"},
	{InfrastructureError, 3, "a report, or a case of the new one, cannot be judged"},
	{ExpiredQuarantine, 15, "an entry of the quarantine is past its date"},
	{BudgetBroken, 14, "a latency budget is broken in the new report"},
	{ChangedObservation, 13, "as good or bad as before, yet something else was seen"},
	{Fixed, 0, "failed before, passes now"},
	{NewCase, 0, "passes now, did not run before"},
	{NewRun, 0, "a whole column is new"},
}

// Exit codes of a comparison beside 0 (nothing that matters changed), 2 (usage) and 3 (infrastructure).
const (
	ExitRegression         = 10
	ExitNewFailure         = 11
	ExitMissing            = 12
	ExitChangedObservation = 13
	ExitBudget             = 14
	ExitExpiredQuarantine  = 15
)

// A Change is one difference between two reports.
type Change struct {
	Kind        ChangeKind `json:"kind"`
	Case        string     `json:"case,omitempty"` // ID; empty for what concerns a whole run
	Table       string     `json:"table,omitempty"`
	Run         string     `json:"run,omitempty"` // ID in the new report; in the old one for what is missing
	Was         Status     `json:"was,omitempty"` // empty: no result
	Is          Status     `json:"is,omitempty"`
	WasObserved Observed   `json:"wasObserved,omitzero"`
	IsObserved  Observed   `json:"isObserved,omitzero"`
	Quarantined bool       `json:"quarantined,omitempty"` // does not count
	Whole       bool       `json:"whole,omitempty"`       // infrastructure: of a whole run
	Sentence    string     `json:"sentence"`
}

// A RunPair says which column of the old report a column of the new one was compared with.
type RunPair struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// A Group describes, in the fewest words, the cases that changed in one way in one table and run.
type Group struct {
	Kind     ChangeKind `json:"kind"`
	Table    string     `json:"table"`
	Run      string     `json:"run"`
	Cases    int        `json:"cases"`
	Whenever string     `json:"whenever"`
}

// A Comparison is what changed from one report to another. Latencies are not compared: machines differ, and a baseline
// holds none. Nor are messages, which name ports and UIDs.
type Comparison struct {
	Pairs        []RunPair          `json:"pairs"`
	Changes      []Change           `json:"changes"` // gravest first, then by case and run
	Groups       []Group            `json:"groups,omitempty"`
	Counts       map[ChangeKind]int `json:"counts"` // without the quarantined; encoding/json sorts the keys
	Quarantined  int                `json:"quarantined"`
	Unchanged    int                `json:"unchanged"`
	StillFailing int                `json:"stillFailing"`
	Tables       []string           `json:"changedTables,omitempty"` // tables that are not what they were
	Exit         int                `json:"exit"`
	Because      string             `json:"because"`
}

// CompareOptions of a comparison. The zero value is good.
type CompareOptions struct {
	Allow []ChangeKind // kinds that do not count; they are still listed
}

// Compare says what changed from the old report to the new one. Columns are paired by ID, then by what they have in
// common; cases by ID. It does not fail: what cannot be compared is a change, too.
func Compare(old, new *Report, o CompareOptions) *Comparison {
	c := &comparer{old: old, new: new, out: &Comparison{Pairs: []RunPair{}, Changes: []Change{}, Counts: map[ChangeKind]int{}}}
	c.whole()
	c.pair()
	c.cases()
	c.tables()
	order := map[ChangeKind]int{}
	for i, k := range ChangeKinds {
		order[k.Kind] = i
	}
	slices.SortStableFunc(c.out.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(order[a.Kind], order[b.Kind]), cmp.Compare(a.Case, b.Case), cmp.Compare(a.Run, b.Run))
	})
	c.describe()
	c.judge(o)
	return c.out
}

type comparer struct {
	old, new   *Report
	partner    []int // old run of each new run, or -1
	oldPartner []int // new run of each old run, or -1
	out        *Comparison
}

func (c *comparer) add(ch Change) { c.out.Changes = append(c.out.Changes, ch) }

// whole adds what concerns the reports as wholes. What an old one lacks would not be missed in the new one, so it must
// be whole even where it is known to be bad.
func (c *comparer) whole() {
	v := c.new.judgement()
	if v.Conclusion == Incomplete || v.Conclusion == InterruptedRun || c.new.endedAs(Infrastructure) != nil {
		c.add(Change{Kind: InfrastructureError, Whole: true, Sentence: "the new report is " + string(v.Conclusion) + ": " + v.Because})
	}
	if lacks := c.old.lacks(); lacks != "" {
		c.add(Change{Kind: InfrastructureError, Whole: true, Sentence: "the old report cannot be compared with: " + lacks +
			"; compare with that of a run that came to its end"})
	}
	for _, q := range c.new.Quarantine {
		if q.Expired {
			c.add(Change{Kind: ExpiredQuarantine, Sentence: fmt.Sprintf("the quarantine of %s expired on %s (owner %s, issue %s)",
				q.Case, q.Expires, q.Owner, q.Issue)})
		}
	}
	for _, run := range c.new.Runs {
		for _, b := range run.Budgets {
			if b.Broken() {
				c.add(Change{Kind: BudgetBroken, Run: run.ID, Table: b.Table, Sentence: fmt.Sprintf("p%s is %s, over its budget of %s",
					quantileName(b.Quantile), short(b.Observed), short(b.Limit))})
			}
		}
	}
}

// pair finds the old column for each new one. A new version of the target or of Kubernetes changes a column's ID, so
// what is left over is paired by what it has in common, as long as that is unique on both sides.
func (c *comparer) pair() {
	c.partner, c.oldPartner = make([]int, len(c.new.Runs)), make([]int, len(c.old.Runs))
	for i := range c.partner {
		c.partner[i] = -1
	}
	for i := range c.oldPartner {
		c.oldPartner[i] = -1
	}
	for _, key := range []func(Run) string{
		func(r Run) string { return r.ID },
		func(r Run) string {
			return strings.Join([]string{r.Lane, r.Provider, r.Kubernetes, r.Routing, r.Target.Name}, "\x00")
		},
		func(r Run) string {
			return strings.Join([]string{r.Lane, r.Kubernetes, r.Routing, r.Target.Name}, "\x00")
		},
		func(r Run) string { return strings.Join([]string{r.Lane, r.Routing, r.Target.Name}, "\x00") },
		func(r Run) string { return strings.Join([]string{r.Lane, r.Kubernetes, r.Routing}, "\x00") },
	} {
		olds, news := unpaired(c.old.Runs, c.oldPartner, key), unpaired(c.new.Runs, c.partner, key)
		for k, n := range news {
			if o := olds[k]; len(n) == 1 && len(o) == 1 {
				c.partner[n[0]], c.oldPartner[o[0]] = o[0], n[0]
			}
		}
	}
	for i, run := range c.new.Runs {
		if c.partner[i] < 0 {
			c.add(Change{Kind: NewRun, Run: run.ID, Sentence: "the run " + run.ID + " is new"})
			continue
		}
		c.out.Pairs = append(c.out.Pairs, RunPair{Old: c.old.Runs[c.partner[i]].ID, New: run.ID})
	}
	for i, run := range c.old.Runs {
		if c.oldPartner[i] < 0 {
			n := 0
			for j := range c.old.Cases {
				if res := c.old.Cases[j].Result(i); ran(res) {
					n++
				}
			}
			c.add(Change{Kind: MissingRun, Run: run.ID, Sentence: fmt.Sprintf("the run %s with its %s is not in the new report",
				run.ID, plural(n, "case"))})
		}
	}
}

func unpaired(runs []Run, partner []int, key func(Run) string) map[string][]int {
	m := map[string][]int{}
	for i, run := range runs {
		if partner[i] < 0 {
			m[key(run)] = append(m[key(run)], i)
		}
	}
	return m
}

// cases walks both sorted lists of cases at once.
func (c *comparer) cases() {
	i, j, common := 0, 0, 0
	for i < len(c.old.Cases) || j < len(c.new.Cases) {
		switch {
		case j == len(c.new.Cases) || i < len(c.old.Cases) && c.old.Cases[i].ID < c.new.Cases[j].ID:
			c.one(&c.old.Cases[i], nil)
			i++
		case i == len(c.old.Cases) || c.new.Cases[j].ID < c.old.Cases[i].ID:
			c.one(nil, &c.new.Cases[j])
			j++
		default:
			c.one(&c.old.Cases[i], &c.new.Cases[j])
			i, j, common = i+1, j+1, common+1
		}
	}
	if i > 0 && j > 0 && common == 0 {
		c.add(Change{Kind: InfrastructureError, Whole: true, Sentence: "the reports have no case in common, so nothing was " +
			"compared: take reports of the same tables and the same selection"})
	}
}

func (c *comparer) one(old, new *Case) {
	if old != nil {
		for k := range old.Results {
			was := &old.Results[k]
			to := c.oldPartner[was.Run]
			if to < 0 || new != nil && new.Result(to) != nil {
				continue // the run as a whole is missing, or the case has a result to compare with below
			}
			if ran(was) {
				c.add(Change{Kind: MissingCase, Case: old.ID, Table: old.Table, Run: c.new.Runs[to].ID, Was: was.Status,
					WasObserved: was.Observed, Sentence: "it ran before and is not in the new report"})
			}
		}
	}
	if new == nil {
		return
	}
	for k := range new.Results {
		is := &new.Results[k]
		var was *Result
		if from := c.partner[is.Run]; from >= 0 && old != nil {
			was = old.Result(from)
		}
		c.results(old, new, was, is)
	}
}

// ran says whether a result says something about the target.
func ran(r *Result) bool { return r != nil && r.Status != NotRun && r.Status != Error }

func (c *comparer) results(oldCase, newCase *Case, was, is *Result) {
	ch := Change{Case: newCase.ID, Table: newCase.Table, Run: c.new.Runs[is.Run].ID, Is: is.Status, IsObserved: is.Observed,
		Quarantined: is.Forgiven()}
	if was != nil {
		ch.Was, ch.WasObserved = was.Status, was.Observed
	}
	bad := is.Status == Fail || is.Status == Flaky
	switch {
	case is.Status == Error:
		ch.Kind, ch.Sentence = InfrastructureError, "it could not be judged: "+orUnknown(is.Why)
	case is.Status == NotRun && ran(was):
		ch.Kind, ch.Sentence = MissingCase, "it ran before and does not now: "+orUnknown(is.Why)
	case is.Status == NotRun:
		return
	case !ran(was) && bad:
		ch.Kind, ch.Sentence = NewFailure, c.sentence(oldCase, newCase, was, is)
	case !ran(was):
		if c.partner[is.Run] < 0 {
			return // the run as a whole is new, and said to be
		}
		ch.Kind, ch.Sentence = NewCase, "it passes and did not run before"
	case was.Status == Pass && bad:
		ch.Kind, ch.Sentence = Regression, c.sentence(oldCase, newCase, was, is)
	case was.Status != Pass && !bad:
		ch.Kind, ch.Sentence = Fixed, "it failed before and passes now"
	case was.Status != is.Status: // fail and flaky: neither is worse than the other
		ch.Kind, ch.Sentence = ChangedObservation, strings.TrimSuffix(fmt.Sprintf("the status was %s, is %s; %s",
			was.Status, is.Status, difference(was, is, sinceBefore)), "; ")
	case difference(was, is, sinceBefore) != "":
		ch.Kind, ch.Sentence = ChangedObservation, difference(was, is, sinceBefore)
	default:
		c.out.Unchanged++
		if bad {
			c.out.StillFailing++
		}
		return
	}
	c.add(ch)
}

func (c *comparer) sentence(oldCase, newCase *Case, was, is *Result) string {
	_, e := newCase.Expectation(is)
	s := mismatchOf(e, is.Observed)
	if is.Status == Flaky {
		s = "flaky: " + s
	}
	if ran(was) {
		if _, before := oldCase.Expectation(was); before.Outcome != e.Outcome {
			s += fmt.Sprintf("; the table said %s before", before.Outcome)
		}
		if d := difference(was, is, sinceBefore); d != "" {
			s += "; " + d
		}
	}
	return s
}

// A between is what two observations that differ are of: a format of what, of the one, and of the other.
type between string

const (
	sinceBefore    between = "%s was %s, is %s"
	betweenColumns between = "%s is %s in one, in the other %s"
)

// difference says in what two observations differ; empty for nothing. Counts of -1 are not known and differ from none.
func difference(a, b *Result, of between) string {
	var parts []string
	text := func(name, x, y string) {
		if x != y {
			parts = append(parts, fmt.Sprintf(string(of), name, orNone(x), orNone(y)))
		}
	}
	text("the outcome", string(a.Observed.Outcome), string(b.Observed.Outcome))
	text("the code", fmt.Sprint(a.Observed.Code), fmt.Sprint(b.Observed.Code))
	text("the reason", a.Observed.Reason, b.Observed.Reason)
	text("failed open", fmt.Sprint(a.Observed.FailedOpen), fmt.Sprint(b.Observed.FailedOpen))
	if a.Observed.Digest != "" && b.Observed.Digest != "" {
		text("the change to the pod", a.Observed.Digest, b.Observed.Digest)
	}
	if a.Attempted >= 0 && b.Attempted >= 0 {
		text("calls attempted", fmt.Sprint(a.Attempted), fmt.Sprint(b.Attempted))
	}
	if a.Received >= 0 && b.Received >= 0 {
		text("calls received", fmt.Sprint(a.Received), fmt.Sprint(b.Received))
	}
	return strings.Join(parts, "; ")
}

// tables names the tables that are not what they were; a table that is new is not among them.
func (c *comparer) tables() {
	for i := range c.old.Tables {
		o := &c.old.Tables[i]
		if n := c.new.Table(o.ID); n == nil || tableDifference(o, n) != "" {
			c.out.Tables = append(c.out.Tables, o.ID)
		}
	}
	sort.Strings(c.out.Tables)
}

// describe puts the cases of the new report that changed into the fewest words.
func (c *comparer) describe() {
	type key struct {
		kind       ChangeKind
		table, run string
	}
	changed := map[key]map[string]bool{}
	var keys []key
	for i := range c.out.Changes {
		ch := &c.out.Changes[i]
		if ch.Case == "" {
			continue
		}
		k := key{ch.Kind, ch.Table, ch.Run}
		if changed[k] == nil {
			changed[k] = map[string]bool{}
			keys = append(keys, k)
		}
		changed[k][ch.Case] = true
	}
	for _, k := range keys { // in the order of Changes
		g := Group{Kind: k.kind, Table: k.table, Run: k.run, Cases: len(changed[k])}
		if t := c.new.Table(k.table); t != nil {
			run := indexOfRun(c.new.Runs, k.run)
			sp := newSpace(t)
			var in, out []subject
			for i := range c.new.Cases {
				cs := &c.new.Cases[i]
				if cs.Table != k.table {
					continue
				}
				if res := cs.Result(run); res != nil {
					if changed[k][cs.ID] {
						in = append(in, sp.subject(cs, res))
					} else {
						out = append(out, sp.subject(cs, res))
					}
				}
			}
			if len(in) == len(changed[k]) { // else some are not in the new report, and words cannot tell them apart
				g.Whenever = sp.account(in, out).whenever()
			}
		}
		c.out.Groups = append(c.out.Groups, g)
	}
}

func (c *comparer) judge(o CompareOptions) {
	out := c.out
	whole := "" // why a report as a whole cannot be relied on
	for i := range out.Changes {
		if ch := &out.Changes[i]; ch.Quarantined {
			out.Quarantined++
		} else {
			out.Counts[ch.Kind]++
			if ch.Whole && whole == "" {
				whole = ch.Sentence + "; "
			}
		}
	}
	var parts []string
	for _, k := range ChangeKinds {
		n := out.Counts[k.Kind]
		if n == 0 {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %s", thousands(n), k.Kind))
		if out.Exit == 0 && !slices.Contains(o.Allow, k.Kind) {
			out.Exit = k.Exit
		}
	}
	if whole != "" && !slices.Contains(o.Allow, InfrastructureError) {
		out.Exit = ExitInfrastructure
	}
	if len(parts) == 0 {
		parts = []string{"nothing changed"}
	}
	out.Because = whole + strings.Join(parts, ", ") + "; " + thousands(out.Unchanged) + " unchanged"
	if out.StillFailing > 0 {
		out.Because += ", " + thousands(out.StillFailing) + " of them still failing"
	}
	if out.Quarantined > 0 {
		out.Because += "; " + thousands(out.Quarantined) + " in quarantine"
	}
}

// Verdict is the comparison in one line, as the last line of a log should be.
func (c *Comparison) Verdict() string { return fmt.Sprintf("compare (exit %d): %s", c.Exit, c.Because) }
