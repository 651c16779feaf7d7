// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math"
	"sort"
	"strings"
	"time"
)

// A tally is what one table's cases came to in one run.
type tally struct {
	Counts
	run     int
	reasons map[string]int // why cases did not run
	lat     []time.Duration
}

// tallies gives a tally for each table and run in which anything was planned, tables first.
func (r *Report) tallies() map[string][]*tally {
	all := make(map[string][]*tally, len(r.Tables))
	for _, t := range r.Tables {
		all[t.ID] = make([]*tally, len(r.Runs))
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		for j := range c.Results {
			res := &c.Results[j]
			t := all[c.Table][res.Run]
			if t == nil {
				t = &tally{run: res.Run, reasons: map[string]int{}}
				all[c.Table][res.Run] = t
			}
			t.Add(res)
			if res.Status == NotRun {
				t.reasons[res.Why]++
			}
			if res.Latency > 0 {
				t.lat = append(t.lat, res.Latency)
			}
		}
	}
	for _, ts := range all {
		for _, t := range ts {
			if t != nil {
				sort.Slice(t.lat, func(i, j int) bool { return t.lat[i] < t.lat[j] })
			}
		}
	}
	return all
}

// A grid is a picture of a table in some runs: some dimensions down, some across, the others folded into the cells.
type grid struct {
	table      *Table
	rows, cols []int // indexes of dimensions
	rowLabels  [][]string
	colLabels  [][]string
	cells      [][]cell
}

// A cell holds what all cases came to that share its row and column.
type cell struct {
	Counts
	outcomes map[Outcome]int
}

// gridOf folds a table into the dimensions of rows and cols, over the given runs (nil: all).
func (r *Report) gridOf(t *Table, rows, cols []int, runs []int) *grid {
	g := &grid{table: t, rows: rows, cols: cols, rowLabels: labels(t, rows), colLabels: labels(t, cols)}
	g.cells = make([][]cell, len(g.rowLabels))
	for i := range g.cells {
		g.cells[i] = make([]cell, len(g.colLabels))
	}
	wanted := map[int]bool{}
	for _, run := range runs {
		wanted[run] = true
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		if c.Table != t.ID {
			continue
		}
		at := &g.cells[position(t, rows, c.Values)][position(t, cols, c.Values)]
		for j := range c.Results {
			res := &c.Results[j]
			if runs != nil && !wanted[res.Run] {
				continue
			}
			at.Add(res)
			if res.Status == NotRun {
				continue
			}
			if at.outcomes == nil {
				at.outcomes = map[Outcome]int{}
			}
			at.outcomes[res.Observed.Outcome]++
		}
	}
	return g
}

// labels enumerates the combinations of the dimensions' values, the last dimension turning fastest.
func labels(t *Table, dims []int) [][]string {
	all := [][]string{{}}
	for _, d := range dims {
		var next [][]string
		for _, head := range all {
			for _, v := range t.Dimensions[d].Values {
				next = append(next, append(append([]string{}, head...), v))
			}
		}
		all = next
	}
	return all
}

func position(t *Table, dims []int, values []uint16) int {
	p := 0
	for _, d := range dims {
		p = p*len(t.Dimensions[d].Values) + int(values[d])
	}
	return p
}

// picture chooses the dimensions for a small picture: those the table's view names, as far as they fit, else those that
// decide most. The picture has at most maxRows rows (one dimension alone: five times as many) and maxCols columns.
func (r *Report) picture(t *Table, maxRows, maxCols int) (rows, cols []int) {
	index := map[string]int{}
	for i, d := range t.Dimensions {
		index[d.Name] = i
	}
	var wantRows, wantCols []int
	if t.View != nil {
		wantRows, wantCols = indexes(index, t.View.Rows), indexes(index, t.View.Columns)
	}
	if len(wantRows)+len(wantCols) == 0 {
		ranked := r.rankDimensions(t)
		for _, d := range ranked { // across goes the one that decides most among those that fit
			if n := len(t.Dimensions[d].Values); n > 1 && n <= maxCols {
				wantCols = []int{d}
				break
			}
		}
		for _, d := range ranked {
			if (len(wantCols) == 0 || d != wantCols[0]) && len(t.Dimensions[d].Values) > 1 && len(wantRows) < 3 {
				wantRows = append(wantRows, d)
			}
		}
	}
	return fitting(t, wantRows, maxRows, 5*maxRows), fitting(t, wantCols, maxCols, maxCols)
}

func indexes(index map[string]int, names []string) []int {
	var out []int
	for _, n := range names {
		if i, ok := index[n]; ok {
			out = append(out, i)
		}
	}
	return out
}

// fitting keeps the dimensions whose product is at most limit. One alone may be larger, up to most: a long list of one
// thing is easy to read.
func fitting(t *Table, dims []int, limit, most int) []int {
	product := 1
	var kept []int
	for _, d := range dims {
		if n := len(t.Dimensions[d].Values); product*n <= limit || len(kept) == 0 && n <= most {
			product *= n
			kept = append(kept, d)
		}
	}
	return kept
}

// rankDimensions orders a table's dimensions by how much of the expected outcome they decide, which is their mutual
// information with it; equals stay in the table's order.
func (r *Report) rankDimensions(t *Table) []int {
	order := make([]int, len(t.Dimensions))
	gain := make([]float64, len(t.Dimensions))
	counts := make([][]map[Outcome]int, len(t.Dimensions))
	for i, d := range t.Dimensions {
		order[i] = i
		counts[i] = make([]map[Outcome]int, len(d.Values))
		for j := range counts[i] {
			counts[i][j] = map[Outcome]int{}
		}
	}
	for i := range r.Cases {
		if c := &r.Cases[i]; c.Table == t.ID {
			for d, v := range c.Values {
				counts[d][v][c.Expected.Outcome]++
			}
		}
	}
	for d := range counts {
		gain[d] = -conditionalEntropy(counts[d])
	}
	sort.SliceStable(order, func(i, j int) bool { return gain[order[i]] > gain[order[j]]+1e-9 })
	return order
}

// conditionalEntropy is how unsure the outcome still is when the value is known, in bits.
func conditionalEntropy(counts []map[Outcome]int) float64 {
	var total, sum float64
	for _, c := range counts {
		var n float64
		for _, o := range Outcomes {
			n += float64(c[o])
		}
		total += n
		for _, o := range Outcomes { // in a fixed order: sums of floats depend on it
			if k := float64(c[o]); k > 0 {
				sum -= k * math.Log2(k/n)
			}
		}
	}
	if total == 0 {
		return 0
	}
	return sum / total
}

// dimensionNames joins the names of dimensions: policy × ns-label.
func dimensionNames(t *Table, dims []int, sep string) string {
	var names []string
	for _, d := range dims {
		names = append(names, t.Dimensions[d].Name)
	}
	return strings.Join(names, sep)
}

// mainTable is the table to show when there is room for one only: the one with most failures, then most cases.
func (r *Report) mainTable() *Table {
	bad, size := map[string]int{}, map[string]int{}
	for i := range r.Cases {
		c := &r.Cases[i]
		size[c.Table]++
		for j := range c.Results {
			if c.Results[j].Status.Bad() {
				bad[c.Table]++
			}
		}
	}
	var main *Table
	for i := range r.Tables {
		t := &r.Tables[i]
		if main == nil || bad[t.ID] > bad[main.ID] || bad[t.ID] == bad[main.ID] && size[t.ID] > size[main.ID] {
			main = t
		}
	}
	return main
}
