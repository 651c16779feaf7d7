// SPDX-License-Identifier: Apache-2.0

// Package cover selects cases of a table for lanes in which the full product takes too long: few cases, among which
// every combination of any three values of different dimensions occurs at least once.
//
// The selection is deterministic: the same table gives the same cases, on any machine.
package cover

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/outrigger-k8s/outrigger/table"
)

// Strength is how many dimensions' values are combined: most faults that need a combination at all need one of two or
// three (Kuhn, Wallace, Gallo: Software Fault Interactions, 2004).
const Strength = 3

// Cases selects of a table's cases for which among is true (nil: of all): every case of its picture (the full product of the
// dimensions that its view names, with each other dimension at its first value, which is the neutral one), and with them few
// more, such that every combination of Strength values that occurs among them occurs. They are in the order of the full
// product.
//
// group says which cases share what it takes long to arrange (nil: nothing is): few groups are preferred to few cases.
func Cases(t *table.Table, among func(table.Case) bool, group func(table.Case) string) []table.Case {
	var all []table.Case
	var rows [][]int
	var picture, groups []int
	number := map[string]int{} // of a group
	sizes := make([]int, len(t.Dimensions))
	seen := make([]bool, len(t.Dimensions))
	for d, dimension := range t.Dimensions {
		sizes[d] = len(dimension.Values)
		seen[d] = slices.Contains(t.View.Rows, dimension.Name) || slices.Contains(t.View.Columns, dimension.Name)
	}
	for c := range t.Cases() {
		if among != nil && !among(c) {
			continue
		}
		row, neutral := make([]int, len(sizes)), true
		for d := range row {
			row[d] = c.Index(d)
			neutral = neutral && (seen[d] || row[d] == 0)
		}
		if neutral {
			picture = append(picture, len(rows))
		}
		if group != nil {
			g := group(c)
			if _, known := number[g]; !known {
				number[g] = len(number)
			}
			groups = append(groups, number[g])
		}
		all, rows = append(all, c), append(rows, row)
	}
	chosen := Rows(sizes, rows, Strength, picture, nil)
	if group != nil {
		// Greed is no proof: at times those that come without a look at groups cost less.
		if grouped := Rows(sizes, rows, Strength, picture, groups); costOf(grouped, groups) < costOf(chosen, groups) {
			chosen = grouped
		}
	}
	cases := make([]table.Case, len(chosen))
	for i, n := range chosen {
		cases[i] = all[n]
	}
	return cases
}

// Rows returns the indexes, ascending, of rows among which every combination of strength values that occurs in any of
// rows occurs. A row has a value for each column, the values of column c being 0 to sizes[c]-1. The rows of chosen are
// part of the selection whatever they add to it.
//
// It is the greedy algorithm for set cover: whatever row adds most for what it costs comes next. A row costs 1, and the first
// of a group (groups holds each row's; nil: there are none) opening more. What a row adds can only become less as others are
// taken, so a heap of what each added when last looked at finds the next without looking at all of them.
func Rows(sizes []int, rows [][]int, strength int, chosen, groups []int) []int {
	t := newTuples(sizes, strength)
	var taken []int
	members := map[int][]int{} // rows of the groups that are not open
	for n, g := range groups {
		members[g] = append(members[g], n)
	}
	cost := func(n int) int {
		if groups != nil && members[groups[n]] != nil {
			return 1 + opening
		}
		return 1
	}
	h := make(candidates, 0, len(rows))
	offer := func(n int) {
		if gain := t.gain(rows[n]); gain > 0 {
			heap.Push(&h, candidate{row: n, gain: gain, cost: cost(n), order: scatter(n)})
		}
	}
	take := func(n int) {
		taken = append(taken, n)
		t.add(rows[n], 1)
		if groups == nil {
			return
		}
		others := members[groups[n]]
		delete(members, groups[n])
		for _, other := range others { // they cost less from now on: what they were offered at before is out of date
			offer(other)
		}
	}
	for _, n := range chosen {
		take(n)
	}
	for n := range rows {
		offer(n)
	}
	for len(h) > 0 {
		best := &h[0]
		switch gain := t.gain(rows[best.row]); {
		case gain == 0:
			heap.Pop(&h)
		case gain < best.gain || cost(best.row) < best.cost:
			best.gain, best.cost = gain, cost(best.row)
			heap.Fix(&h, 0)
		default:
			n := best.row
			heap.Pop(&h)
			take(n)
		}
	}
	// What was taken early may have become superfluous by what came after.
	kept := slices.Clone(taken[:len(chosen)])
	for _, n := range taken[len(chosen):] {
		if t.superfluous(rows[n]) {
			t.add(rows[n], -1)
			continue
		}
		kept = append(kept, n)
	}
	slices.Sort(kept)
	return slices.Compact(kept)
}

// costOf the rows, with the groups that they open.
func costOf(chosen, groups []int) int {
	open := map[int]bool{}
	for _, n := range chosen {
		open[groups[n]] = true
	}
	return len(chosen) + opening*len(open)
}

// tuples counts how often each combination of values occurs, for each combination of columns.
type tuples struct {
	sizes   []int
	columns [][]int // every set of strength columns
	starts  []int   // of each set's combinations in count
	count   []int32
}

func newTuples(sizes []int, strength int) *tuples {
	t := &tuples{sizes: sizes}
	total := 0
	var choose func(from int, set []int)
	choose = func(from int, set []int) {
		if len(set) == min(strength, len(sizes)) {
			n := 1
			for _, c := range set {
				n *= sizes[c]
			}
			t.columns, t.starts = append(t.columns, slices.Clone(set)), append(t.starts, total)
			total += n
			return
		}
		for c := from; c < len(sizes); c++ {
			choose(c+1, append(set, c))
		}
	}
	choose(0, nil)
	t.count = make([]int32, total)
	return t
}

// at is where row's combination of the i'th set of columns is counted.
func (t *tuples) at(i int, row []int) int {
	n := 0
	for _, c := range t.columns[i] {
		n = n*t.sizes[c] + row[c]
	}
	return t.starts[i] + n
}

func (t *tuples) add(row []int, n int32) {
	for i := range t.columns {
		t.count[t.at(i, row)] += n
	}
}

// gain is how many combinations of row occur nowhere yet.
func (t *tuples) gain(row []int) int {
	n := 0
	for i := range t.columns {
		if t.count[t.at(i, row)] == 0 {
			n++
		}
	}
	return n
}

// superfluous tells whether each combination of row, which is counted, occurs in another too.
func (t *tuples) superfluous(row []int) bool {
	for i := range t.columns {
		if t.count[t.at(i, row)] < 2 {
			return false
		}
	}
	return true
}

// opening a group costs as much as so many rows: to arrange takes the kind lane some 40 ms, and a case 4.
const opening = 10

// A candidate is a row that may be taken: what it added, and cost, when it was last looked at.
type candidate struct {
	row, gain, cost int
	order           uint64 // among those that add as much for it
}

// scatter orders rows that add the same: by a fixed hash and not by number, since neighbours have most values in common
// and take combinations away from each other (SplitMix64's finalizer).
func scatter(n int) uint64 {
	x := uint64(n) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// candidates is a heap, the row that adds most on top.
type candidates []candidate

func (h candidates) Len() int { return len(h) }

func (h candidates) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[j].gain*h[i].cost, h[i].gain*h[j].cost), cmp.Compare(h[i].order, h[j].order), cmp.Compare(h[i].row, h[j].row)) < 0
}

func (h candidates) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *candidates) Push(x any) { *h = append(*h, x.(candidate)) }

func (h *candidates) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
