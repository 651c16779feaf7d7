// SPDX-License-Identifier: Apache-2.0

package report

import (
	"slices"
	"sort"
	"strconv"
	"strings"
)

// A Difference is a set of cases of one table that came out alike among themselves, and differently in different runs.
// Lanes must agree, so one between lanes is a bug of the harness or of a lane; one between versions of Kubernetes or of
// the target may be meant, and is where the rules expect it.
type Difference struct {
	Table    string
	Cases    int
	Whenever string      // which cases, in the fewest words: "whenever policy=disabled"
	Seen     []SeenInRun // what was observed where, by outcome and then by run
	Expected bool        // the rules expect these outcomes in these runs
}

// SeenInRun is an outcome and the runs (indexes) in which it was observed.
type SeenInRun struct {
	Outcome Outcome
	Runs    []int
}

// Differences gives what came out differently in different runs, the largest sets of each table first.
func (r *Report) Differences() []Difference {
	var all []Difference
	if len(r.Runs) < 2 {
		return nil
	}
	for i := range r.Tables {
		all = append(all, r.differencesOf(&r.Tables[i])...)
	}
	return all
}

func (r *Report) differencesOf(t *Table) []Difference {
	type set struct {
		key   string
		cases []int
	}
	sets := map[string]*set{}
	var order []*set
	sp := newSpace(t)
	var others []subject // of the cases that came out alike everywhere
	subjectOf := func(c *Case) subject {
		s := sp.subject(c, &c.Results[0])
		s[len(s)-2], s[len(s)-1] = 0, 0 // expectation and rule may differ by run; they describe no case here
		return s
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		if c.Table != t.ID {
			continue
		}
		var key strings.Builder
		first, differs, expected := Outcome("-"), false, true
		for j := range c.Results {
			res := &c.Results[j]
			if !ran(res) {
				continue
			}
			o := res.Observed.Outcome
			differs = differs || first != "-" && o != first
			if first == "-" {
				first = o
			}
			_, e := c.Expectation(res)
			expected = expected && e.Outcome == o
			key.WriteString(strconv.Itoa(res.Run) + string(o) + ";")
		}
		if !differs {
			others = append(others, subjectOf(c))
			continue
		}
		if expected {
			key.WriteString("expected")
		}
		k := key.String()
		if sets[k] == nil {
			sets[k] = &set{key: k}
			order = append(order, sets[k])
		}
		sets[k].cases = append(sets[k].cases, i)
	}
	sort.SliceStable(order, func(i, j int) bool { return len(order[i].cases) > len(order[j].cases) })
	var out []Difference
	for _, s := range order {
		d := Difference{Table: t.ID, Cases: len(s.cases), Expected: strings.HasSuffix(s.key, "expected")}
		c := &r.Cases[s.cases[0]]
		for _, o := range Outcomes {
			seen := SeenInRun{Outcome: o}
			for j := range c.Results {
				if res := &c.Results[j]; ran(res) && res.Observed.Outcome == o {
					seen.Runs = append(seen.Runs, res.Run)
				}
			}
			if len(seen.Runs) > 0 {
				d.Seen = append(d.Seen, seen)
			}
		}
		in, rest := []subject{}, slices.Clone(others)
		for _, other := range order {
			for _, i := range other.cases {
				if other == s {
					in = append(in, subjectOf(&r.Cases[i]))
				} else {
					rest = append(rest, subjectOf(&r.Cases[i]))
				}
			}
		}
		d.Whenever = sp.account(in, rest).whenever()
		out = append(out, d)
		if len(out) == maxDifferences {
			break
		}
	}
	return out
}

const maxDifferences = 10 // of each table; more tell no more

// sentence puts a difference into words: injected in A and B, untouched in C, whenever policy=disabled.
func (d Difference) sentence(r *Report) string {
	var parts []string
	for _, s := range d.Seen {
		var names []string
		for _, run := range s.Runs {
			names = append(names, r.Runs[run].ID)
		}
		o := string(s.Outcome)
		if o == "" {
			o = "nothing observed"
		}
		parts = append(parts, o+" in "+strings.Join(names, ", "))
	}
	s := strings.Join(parts, "; ") + "; " + d.Whenever
	if d.Expected {
		return s + " (as the rules expect)"
	}
	return s
}

// A shared description is one that holds in several runs.
type sharedDescription struct {
	Description
	runs []int
}

// sharedDescriptions joins the equal descriptions of different runs: a bug shows in every column.
func (r *Report) sharedDescriptions() []sharedDescription {
	var all []sharedDescription
	index := map[string]int{}
	for _, d := range r.Describe() {
		key := d.Table + "\x00" + d.String() + "\x00" + d.Mismatch
		if i, ok := index[key]; ok {
			all[i].runs = append(all[i].runs, d.Run)
			continue
		}
		index[key] = len(all)
		all = append(all, sharedDescription{Description: d, runs: []int{d.Run}})
	}
	return all
}

// where names the runs of a shared description; all of them by "every run".
func (d sharedDescription) where(r *Report) string {
	if len(d.runs) == len(r.Runs) && len(d.runs) > 1 {
		return "every run"
	}
	var names []string
	for _, run := range d.runs {
		names = append(names, r.Runs[run].ID)
	}
	return strings.Join(names, ", ")
}
