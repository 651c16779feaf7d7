// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// Merge makes one report of several: different runs become columns side by side, shards of one run become one column.
// The order of the arguments does not matter, nor whether some were merged before. It is an error when two reports hold
// the same case of the same run, when they disagree on what a table is, or on what a run was. The arguments stay as they
// are; the result shares strings with them.
func Merge(reports ...*Report) (*Report, error) {
	if len(reports) == 0 {
		return nil, errors.New("merge reports: there are none")
	}
	out := &Report{Schema: SchemaVersion, Merged: true, Baseline: reports[0].Baseline, Tables: []Table{}, Cases: []Case{}}
	for _, r := range reports {
		if r.Baseline != out.Baseline {
			return nil, errors.New("merge reports: some are baselines, without times, and some are not; " +
				"merge the reports first and make one baseline of the result")
		}
	}
	if err := mergeTables(out, reports); err != nil {
		return nil, fmt.Errorf("merge reports: %w", err)
	}
	if err := mergeRuns(out, reports); err != nil {
		return nil, fmt.Errorf("merge reports: %w", err)
	}
	if err := mergeCases(out, reports); err != nil {
		return nil, fmt.Errorf("merge reports: %w", err)
	}
	mergeQuarantine(out, reports)
	mergeEffects(out, reports)
	if !out.Baseline {
		out.measureBudgets()
	}
	out.Judge()
	return out, nil
}

func mergeTables(out *Report, reports []*Report) error {
	have := map[string]*Table{}
	for _, r := range reports {
		for i := range r.Tables {
			t := &r.Tables[i]
			other := have[t.ID]
			if other == nil {
				have[t.ID] = t
				continue
			}
			if d := tableDifference(other, t); d != "" {
				return fmt.Errorf("two of them hold different tables %s (%s); they come from different versions of the "+
					"tables: compare them instead, or run both again", t.ID, d)
			}
		}
	}
	for _, t := range have {
		out.Tables = append(out.Tables, *t)
	}
	out.sort()
	return nil
}

// tableDifference says in what two tables of one ID differ; empty for not at all.
func tableDifference(a, b *Table) string {
	switch {
	case a.Digest != b.Digest:
		return fmt.Sprintf("digests %s and %s", orNone(a.Digest), orNone(b.Digest))
	case !reflect.DeepEqual(a.Dimensions, b.Dimensions):
		return "their dimensions differ"
	case !reflect.DeepEqual(a.Rules, b.Rules):
		return "their rules differ"
	case a.Total != b.Total:
		return fmt.Sprintf("%d and %d cases", a.Total, b.Total)
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func mergeRuns(out *Report, reports []*Report) error {
	byID := map[string]Run{}
	for _, r := range reports {
		for _, run := range r.Runs {
			have, ok := byID[run.ID]
			if !ok {
				run.Shards, run.Phases, run.Budgets = slices.Clone(run.Shards), slices.Clone(run.Phases), slices.Clone(run.Budgets)
				run.Times = slices.Clone(run.Times)
				byID[run.ID] = run
				continue
			}
			joined, err := joinShards(have, run)
			if err != nil {
				return err
			}
			byID[run.ID] = joined
		}
	}
	for _, run := range byID {
		out.Runs = append(out.Runs, run)
	}
	sort.Slice(out.Runs, func(i, j int) bool { return out.Runs[i].ID < out.Runs[j].ID })
	return nil
}

// joinShards makes one run of two that hold different shards of it. Every choice it makes is one that gives the same
// result in any order of joining.
func joinShards(a, b Run) (Run, error) {
	if len(a.Shards) == 0 || len(b.Shards) == 0 {
		return Run{}, fmt.Errorf("two of them hold the run %s, and not as shards of it; every case would be doubled: "+
			"leave one out", a.ID)
	}
	if a.Shards[0].Of != b.Shards[0].Of {
		return Run{}, fmt.Errorf("the run %s was cut into %d shards in one and %d in another", a.ID, a.Shards[0].Of, b.Shards[0].Of)
	}
	for _, f := range []struct{ name, a, b string }{
		{"lane", a.Lane, b.Lane}, {"provider", a.Provider, b.Provider}, {"kubernetes", a.Kubernetes, b.Kubernetes},
		{"routing", a.Routing, b.Routing}, {"target", targetName(a.Target), targetName(b.Target)},
		{"target digest", a.Target.Digest, b.Target.Digest}, {"selection", a.Selection, b.Selection},
		{"harness", a.Outrigger, b.Outrigger}, {"features", strings.Join(a.Features, " "), strings.Join(b.Features, " ")},
	} {
		if f.a != f.b {
			return Run{}, fmt.Errorf("the shards of %s differ in their %s: %s and %s", a.ID, f.name, orNone(f.a), orNone(f.b))
		}
	}
	j := a
	j.Shards = append(slices.Clone(a.Shards), b.Shards...)
	sort.Slice(j.Shards, func(x, y int) bool { return j.Shards[x].Index < j.Shards[y].Index })
	for i := 1; i < len(j.Shards); i++ {
		if j.Shards[i] == j.Shards[i-1] {
			return Run{}, fmt.Errorf("shard %d/%d of %s is there twice: leave one out", j.Shards[i].Index, j.Shards[i].Of, a.ID)
		}
	}
	if !b.Started.IsZero() && (a.Started.IsZero() || b.Started.Before(a.Started)) {
		j.Started = b.Started
	}
	j.Duration, j.Planned, j.LeftOut = max(a.Duration, b.Duration), a.Planned+b.Planned, a.LeftOut+b.LeftOut
	j.NoEvidence = a.NoEvidence + b.NoEvidence
	j.Artefacts = append(slices.Clone(a.Artefacts), b.Artefacts...)
	slices.Sort(j.Artefacts)
	j.Artefacts = slices.Compact(j.Artefacts)
	j.Phases = slices.Clone(a.Phases)
	for _, p := range b.Phases {
		if i := slices.IndexFunc(j.Phases, func(q Phase) bool { return q.Name == p.Name }); i >= 0 {
			q := &j.Phases[i]
			q.Duration, q.At = max(q.Duration, p.Duration), min(q.At, p.At)
		} else {
			j.Phases = append(j.Phases, p)
		}
	}
	// What every shard did in one order has its earliest beginnings in that order, whichever shards are joined first.
	slices.SortFunc(j.Phases, func(x, y Phase) int { return cmp.Or(cmp.Compare(x.At, y.At), cmp.Compare(x.Name, y.Name)) })
	j.Times = slices.Clone(a.Times)
	for _, t := range b.Times {
		if i := slices.IndexFunc(j.Times, func(q TableTime) bool { return q.Table == t.Table }); i >= 0 {
			j.Times[i].Duration = max(j.Times[i].Duration, t.Duration)
		} else {
			j.Times = append(j.Times, t)
		}
	}
	slices.SortFunc(j.Times, func(x, y TableTime) int { return cmp.Compare(x.Table, y.Table) })
	if a.Host != b.Host {
		j.Host = Host{}
	}
	if a.Seed != b.Seed {
		j.Seed = 0
	}
	j.Rerun = min(a.Rerun, b.Rerun)
	rank := map[Ended]int{Complete: 0, Interrupted: 1, Infrastructure: 2}
	if rank[b.Ended] > rank[a.Ended] || rank[b.Ended] == rank[a.Ended] && b.Problem < a.Problem {
		j.Ended, j.Problem = b.Ended, b.Problem
	}
	j.Budgets = append(slices.Clone(a.Budgets), b.Budgets...)
	slices.SortFunc(j.Budgets, func(x, y Budget) int {
		return cmp.Or(cmp.Compare(x.Table, y.Table), cmp.Compare(x.Quantile, y.Quantile), cmp.Compare(x.Limit, y.Limit),
			cmp.Compare(y.Observed, x.Observed))
	})
	j.Budgets = slices.CompactFunc(j.Budgets, func(x, y Budget) bool {
		return x.Table == y.Table && x.Quantile == y.Quantile && x.Limit == y.Limit
	})
	return j, nil
}

func mergeCases(out *Report, reports []*Report) error {
	runIndex := map[string]int{}
	for i, run := range out.Runs {
		runIndex[run.ID] = i
	}
	total := 0
	for _, r := range reports {
		total += len(r.Cases)
	}
	byID := make(map[string]int, total/len(reports))
	var doubled []string
	for _, r := range reports {
		for i := range r.Cases {
			c := &r.Cases[i]
			at, ok := byID[c.ID]
			if !ok {
				at = len(out.Cases)
				byID[c.ID] = at
				out.Cases = append(out.Cases, Case{ID: c.ID, Table: c.Table, Values: c.Values})
			}
			m := &out.Cases[at]
			if !slices.Equal(m.Values, c.Values) || m.Table != c.Table {
				return fmt.Errorf("two of them hold different cases of the ID %s", c.ID)
			}
			for j := range c.Results {
				res := c.Results[j]
				rule, e := c.Expectation(&res)
				res.Run = runIndex[r.Runs[res.Run].ID]
				if m.Result(res.Run) != nil {
					doubled = append(doubled, c.ID+" in "+out.Runs[res.Run].ID)
					continue
				}
				res.Rule, res.Expected = rule, &e
				m.Results = append(m.Results, res)
			}
		}
	}
	if len(doubled) > 0 {
		sort.Strings(doubled)
		n := len(doubled)
		return fmt.Errorf("%s in more than one of them, for example %s; shards must not overlap",
			plural(n, "case")+" with a result", strings.Join(doubled[:min(n, 3)], "; "))
	}
	out.sort()
	for i := range out.Cases {
		out.Cases[i].settle()
	}
	return nil
}

// settle sorts a case's results and makes what the first of them expects the case's own expectation; the others keep
// theirs only where it differs.
func (c *Case) settle() {
	slices.SortFunc(c.Results, func(a, b Result) int { return cmp.Compare(a.Run, b.Run) })
	first := &c.Results[0]
	rule, e := c.Expectation(first)
	for i := range c.Results {
		r := &c.Results[i]
		has, exp := c.Expectation(r)
		r.Rule, r.Expected = "", nil
		if has != rule {
			r.Rule = has
		}
		if exp != e {
			r.Expected = &exp
		}
	}
	c.Rule, c.Expected = rule, e
}

func mergeEffects(out *Report, reports []*Report) {
	have := map[string][]string{}
	for _, r := range reports {
		for _, e := range r.Effects {
			have[e.Digest] = e.Changes // equal digests are of equal texts
		}
	}
	out.Effects = sortedEffects(have)
}

func mergeQuarantine(out *Report, reports []*Report) {
	type key struct{ c, run, owner, issue, expires, because string }
	have := map[key]QuarantineEntry{}
	for _, r := range reports {
		for _, q := range r.Quarantine {
			k := key{q.Case, q.Run, q.Owner, q.Issue, q.Expires, q.Because}
			q.Expired = q.Expired || have[k].Expired
			have[k] = q
		}
	}
	for _, q := range have {
		out.Quarantine = append(out.Quarantine, q)
	}
	slices.SortFunc(out.Quarantine, func(a, b QuarantineEntry) int {
		return cmp.Or(cmp.Compare(a.Case, b.Case), cmp.Compare(a.Run, b.Run), cmp.Compare(a.Owner, b.Owner),
			cmp.Compare(a.Issue, b.Issue), cmp.Compare(a.Expires, b.Expires), cmp.Compare(a.Because, b.Because))
	})
}

// AsBaseline gives the report without what differs between two runs of the same thing: times, seeds, the host, and
// whatever was kept of single cases. Two baselines of equal observations are equal, so one can be kept in a repository.
func AsBaseline(r *Report) *Report {
	b := &Report{Schema: SchemaVersion, Baseline: true, Merged: r.Merged, Tables: r.Tables, Quarantine: r.Quarantine, Effects: r.Effects,
		Runs: slices.Clone(r.Runs), Cases: slices.Clone(r.Cases)}
	for i := range b.Runs {
		run := &b.Runs[i]
		*run = Run{ID: run.ID, Lane: run.Lane, Provider: run.Provider, Kubernetes: run.Kubernetes, Routing: run.Routing,
			Features: run.Features, Target: run.Target, Selection: run.Selection, Shards: run.Shards, Planned: run.Planned,
			Ended: run.Ended, Problem: run.Problem}
	}
	for i := range b.Cases {
		c := &b.Cases[i]
		c.Results = slices.Clone(c.Results)
		for j := range c.Results {
			res := &c.Results[j]
			o := res.Observed
			o.Message = "" // names ports, addresses and UIDs
			*res = Result{Run: res.Run, Status: res.Status, Rule: res.Rule, Expected: res.Expected, Observed: o,
				Attempted: res.Attempted, Received: res.Received, Quarantined: res.Quarantined}
			if res.Status == NotRun { // which feature is missing does not vary
				res.Why = r.Cases[i].Results[j].Why
			}
		}
	}
	b.Judge()
	return b
}
