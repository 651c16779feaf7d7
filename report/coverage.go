// SPDX-License-Identifier: Apache-2.0

package report

// A Coverage says how many of the combinations of T values, of T different dimensions, a run touched in a table.
type Coverage struct {
	Table    string   `json:"table"`
	Run      int      `json:"run"` // index into Runs
	T        int      `json:"t"`
	Possible int      `json:"possible"` // combinations that occur in at least one case that is not excluded
	Touched  int      `json:"touched"`  // of those, in at least one case that ran
	Missing  [][]Term `json:"missing,omitempty"`
	Sure     bool     `json:"sure"` // false: the table is too large to tell which combinations are possible
}

const (
	maxMissing = 10      // untouched combinations that are named
	maxProduct = 4 << 20 // cases of a full product that are walked through
	maxSet     = 1 << 24 // combinations of the values of some dimensions that are counted; beyond it they are left out
)

// Cover counts, for each table and run, the touched combinations of every t values. What did not run touches nothing.
func (r *Report) Cover(t int) []Coverage {
	var all []Coverage
	for i := range r.Tables {
		tab := &r.Tables[i]
		if t > len(tab.Dimensions) || t < 1 {
			continue
		}
		possible, sure := possibleTuples(tab, t)
		touched := make([]*tuples, len(r.Runs))
		for ci := range r.Cases {
			c := &r.Cases[ci]
			if c.Table != tab.ID {
				continue
			}
			for j := range c.Results {
				if res := &c.Results[j]; res.Status != NotRun && res.Status != Error {
					if touched[res.Run] == nil {
						touched[res.Run] = newTuples(tab, t)
					}
					touched[res.Run].mark(c.Values)
				} else if touched[res.Run] == nil {
					touched[res.Run] = newTuples(tab, t)
				}
			}
		}
		for run, seen := range touched {
			if seen == nil {
				continue // the run did not plan the table
			}
			cov := Coverage{Table: tab.ID, Run: run, T: t, Possible: possible.count(), Sure: sure && !possible.leftOut}
			for k, set := range seen.sets {
				for p := range set.product {
					switch {
					case !possible.sets[k].seen.has(p):
					case set.seen.has(p):
						cov.Touched++
					case len(cov.Missing) < maxMissing:
						cov.Missing = append(cov.Missing, set.terms(tab, p))
					}
				}
			}
			all = append(all, cov)
		}
	}
	return all
}

// tuples are the combinations of the values of every t dimensions, as bits.
type tuples struct {
	sets    []tupleSet
	leftOut bool // some dimensions have more combinations than are counted
}

type tupleSet struct {
	dims    []int
	sizes   []int
	product int
	seen    bitset
}

func newTuples(tab *Table, t int) *tuples {
	ts := &tuples{}
	combinations(len(tab.Dimensions), t, func(ds []int) {
		s := tupleSet{dims: append([]int{}, ds...), product: 1}
		for _, d := range ds {
			s.sizes = append(s.sizes, len(tab.Dimensions[d].Values))
			s.product *= len(tab.Dimensions[d].Values)
			if s.product > maxSet {
				ts.leftOut = true
				return
			}
		}
		s.seen = newBitset(s.product)
		ts.sets = append(ts.sets, s)
	})
	return ts
}

func (ts *tuples) mark(values []uint16) {
	for i := range ts.sets {
		s := &ts.sets[i]
		p := 0
		for k, d := range s.dims {
			p = p*s.sizes[k] + int(values[d])
		}
		s.seen.set(p)
	}
}

func (ts *tuples) count() int {
	n := 0
	for i := range ts.sets {
		n += ts.sets[i].seen.len()
	}
	return n
}

func (s *tupleSet) terms(tab *Table, p int) []Term {
	terms := make([]Term, len(s.dims))
	for k := len(s.dims) - 1; k >= 0; k-- {
		d := tab.Dimensions[s.dims[k]]
		terms[k] = Term{Dimension: d.Name, Values: []string{d.Values[p%s.sizes[k]]}}
		p /= s.sizes[k]
	}
	return terms
}

// possibleTuples walks the full product less what is excluded. Without exclusions every combination is possible; with
// too large a product, all that no single exclusion rules out by itself is taken to be.
func possibleTuples(tab *Table, t int) (*tuples, bool) {
	ts := newTuples(tab, t)
	product := 1
	for _, d := range tab.Dimensions {
		product = min(product*len(d.Values), maxProduct+1)
	}
	if len(tab.Excluded) == 0 || product > maxProduct {
		for i := range ts.sets {
			ts.sets[i].seen.fill(ts.sets[i].product)
		}
		return ts, len(tab.Excluded) == 0
	}
	excluded := make([]cube, 0, len(tab.Excluded))
	for _, x := range tab.Excluded {
		if q, ok := cubeOf(tab, x.When); ok {
			excluded = append(excluded, q)
		}
	}
	values := make([]uint16, len(tab.Dimensions))
	for {
		out := false
		for _, q := range excluded {
			if q.holds(values) {
				out = true
				break
			}
		}
		if !out {
			ts.mark(values)
		}
		d := len(values) - 1
		for ; d >= 0; d-- {
			if values[d]++; int(values[d]) < len(tab.Dimensions[d].Values) {
				break
			}
			values[d] = 0
		}
		if d < 0 {
			return ts, true
		}
	}
}

// cubeOf turns terms into a cube; false when they name what the table does not have.
func cubeOf(tab *Table, terms []Term) (cube, bool) {
	q := make(cube, len(tab.Dimensions))
	for _, term := range terms {
		found := false
		for d := range tab.Dimensions {
			if tab.Dimensions[d].Name != term.Dimension {
				continue
			}
			found = true
			q[d] = []uint16{}
			for i, v := range tab.Dimensions[d].Values {
				for _, w := range term.Values {
					if v == w {
						q[d] = append(q[d], uint16(i))
					}
				}
			}
		}
		if !found {
			return nil, false
		}
	}
	return q, len(terms) > 0
}
