// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Disagreement is one case that two runs saw differently, although the same is expected of it in both.
type Disagreement struct {
	Case     string
	Table    string
	Runs     [2]string // IDs
	Sentence string    // what differs
}

// An Agreement says whether the columns of one report saw the same in every case that ran in more than one of them.
// Lanes must agree: what they do not is a bug of the harness or of a lane, whoever of them is right about the target.
type Agreement struct {
	Runs          []string // IDs of the columns
	Compared      int      // cases that ran in at least two runs of which the same is expected
	Alone         int      // cases that ran in one run only, because the other lanes cannot run them or were not asked to
	Apart         int      // cases of which the rules expect different things in different runs
	Disagreements []Disagreement
	Exit          int
	Because       string
}

// Agree compares the columns of a report with each other; make one of several by [Merge]. Cases that a lane cannot run
// are no disagreement. A report that is incomplete or broke, or in which no case ran twice, says nothing, and that is
// the infrastructure's exit code.
func Agree(r *Report) *Agreement {
	a := &Agreement{}
	for _, run := range r.Runs {
		a.Runs = append(a.Runs, run.ID)
	}
	for i := range r.Cases {
		a.one(r, &r.Cases[i])
	}
	v := r.judgement()
	switch {
	case v.Exit == ExitInfrastructure:
		a.Exit, a.Because = ExitInfrastructure, fmt.Sprintf("the report is %s: %s", v.Conclusion, v.Because)
	case len(a.Disagreements) > 0:
		a.Exit = ExitNotConformant
		a.Because = fmt.Sprintf("the runs disagree on %s of %s", thousands(a.cases()), plural(a.Compared, "case"))
	case a.Compared == 0:
		a.Exit = ExitInfrastructure
		a.Because = fmt.Sprintf("no case ran in two of the %s, so there is nothing to agree on", plural(len(r.Runs), "run"))
	default:
		a.Because = fmt.Sprintf("%s agree on every case of the %s that more than one of them ran", plural(len(r.Runs), "run"), thousands(a.Compared))
		if a.Alone > 0 {
			a.Because += fmt.Sprintf("; %s ran in one only", thousands(a.Alone))
		}
		if a.Apart > 0 {
			a.Because += fmt.Sprintf("; of %s the rules expect different things", thousands(a.Apart))
		}
	}
	return a
}

// one compares the results of a case with those of the first run that expects the same.
func (a *Agreement) one(r *Report, c *Case) {
	type group struct {
		expected Expected
		results  []*Result
	}
	var groups []group
	for i := range c.Results {
		res := &c.Results[i]
		if !ran(res) {
			continue
		}
		_, e := c.Expectation(res)
		at := slices.IndexFunc(groups, func(g group) bool { return g.expected == e })
		if at < 0 {
			at = len(groups)
			groups = append(groups, group{expected: e})
		}
		groups[at].results = append(groups[at].results, res)
	}
	switch {
	case len(groups) == 0:
		return
	case len(groups) > 1:
		a.Apart++
	case len(groups[0].results) == 1:
		a.Alone++
	}
	compared := false
	for _, g := range groups {
		first := g.results[0]
		for _, res := range g.results[1:] {
			compared = true
			var parts []string
			if first.Status != res.Status {
				parts = append(parts, fmt.Sprintf("%s in one, %s in the other", first.Status, res.Status))
			}
			if d := difference(first, res, betweenColumns); d != "" {
				parts = append(parts, d)
			}
			if len(parts) > 0 {
				a.Disagreements = append(a.Disagreements, Disagreement{Case: c.ID, Table: c.Table,
					Runs: [2]string{r.Runs[first.Run].ID, r.Runs[res.Run].ID}, Sentence: strings.Join(parts, "; ")})
			}
		}
	}
	if compared {
		a.Compared++
	}
}

func (a *Agreement) cases() int {
	ids := map[string]bool{}
	for _, d := range a.Disagreements {
		ids[d.Case] = true
	}
	return len(ids)
}

// Verdict is the agreement in one line.
func (a *Agreement) Verdict() string { return fmt.Sprintf("agree (exit %d): %s", a.Exit, a.Because) }

// Terminal writes the runs, how many cases of each table and pair of runs disagree with the first of them, and the
// verdict as the last line.
func (a *Agreement) Terminal(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, id := range a.Runs {
		fmt.Fprintf(b, "run: %s\n", printable(id))
	}
	list := slices.Clone(a.Disagreements)
	slices.SortStableFunc(list, func(x, y Disagreement) int {
		return cmp.Or(cmp.Compare(x.Table, y.Table), slices.Compare(x.Runs[:], y.Runs[:]), cmp.Compare(x.Case, y.Case))
	})
	for len(list) > 0 {
		n := slices.IndexFunc(list, func(d Disagreement) bool { return d.Table != list[0].Table || d.Runs != list[0].Runs })
		if n < 0 {
			n = len(list)
		}
		fmt.Fprintf(b, "\n%s of %s, in %s and in %s:\n", plural(n, "case"), printable(list[0].Table), printable(list[0].Runs[0]), printable(list[0].Runs[1]))
		for _, d := range list[:min(n, shownChanges)] {
			fmt.Fprintf(b, "  %s\n    %s\n", printable(d.Case), printable(d.Sentence))
		}
		if n > shownChanges {
			fmt.Fprintf(b, "  and %s more\n", thousands(n-shownChanges))
		}
		list = list[n:]
	}
	fmt.Fprintln(b, printable(a.Verdict()))
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write how far the runs agree: %w", err)
	}
	return nil
}
