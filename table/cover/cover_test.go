// SPDX-License-Identifier: Apache-2.0

package cover

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
)

// tuplesOf writes every combination of strength values of row down, by its columns: another way than the package's own.
func tuplesOf(row []int, strength int) []string {
	var list []string
	for mask := range 1 << len(row) {
		tuple, n := "", 0
		for c, v := range row {
			if mask&(1<<c) != 0 {
				tuple += fmt.Sprintf("%d=%d ", c, v)
				n++
			}
		}
		if n == min(strength, len(row)) {
			list = append(list, tuple)
		}
	}
	return list
}

// lowerBound is a number of rows that no selection can be smaller than: each row has one combination of values for any
// strength columns, so there are at least as many rows as there are combinations for the columns with most of them.
func lowerBound(sizes []int, rows [][]int, strength int) int {
	t := newTuples(sizes, strength)
	for _, row := range rows {
		t.add(row, 1)
	}
	bound := 0
	for i, start := range t.starts {
		end := len(t.count)
		if i+1 < len(t.starts) {
			end = t.starts[i+1]
		}
		n := 0
		for _, count := range t.count[start:end] {
			if count > 0 {
				n++
			}
		}
		bound = max(bound, n)
	}
	return bound
}

// missing is the first combination of rows that does not occur among the chosen, "" if all do.
func missing(rows [][]int, chosen []int, strength int) string {
	have := map[string]bool{}
	for _, n := range chosen {
		for _, tuple := range tuplesOf(rows[n], strength) {
			have[tuple] = true
		}
	}
	for _, row := range rows {
		for _, tuple := range tuplesOf(row, strength) {
			if !have[tuple] {
				return tuple
			}
		}
	}
	return ""
}

// Whatever the sizes and whatever is excluded, no combination that is left is missing.
func TestNoTripleIsMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 5), 1, 6).Draw(t, "sizes")
		excluded := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(-2, 4), len(sizes), len(sizes)), 0, 4).Draw(t, "excluded")
		var rows [][]int
		total := 1
		for _, n := range sizes {
			total *= n
		}
		for n := range total {
			row := make([]int, len(sizes))
			for c, size := range sizes {
				row[c] = n % size
				n /= size
			}
			bars := func(x []int) bool { // negative: any value
				for c, v := range x {
					if v >= 0 && v != row[c] {
						return false
					}
				}
				return true
			}
			if !slices.ContainsFunc(excluded, bars) {
				rows = append(rows, row)
			}
		}
		var always []int
		if len(rows) > 0 {
			always = rapid.SliceOfN(rapid.IntRange(0, len(rows)-1), 0, 5).Draw(t, "always")
		}
		var groups []int // none, or each row's
		if rapid.Bool().Draw(t, "grouped") {
			groups = rapid.SliceOfN(rapid.IntRange(0, 3), len(rows), len(rows)).Draw(t, "groups")
		}
		chosen := Rows(sizes, rows, Strength, always, groups)
		if tuple := missing(rows, chosen, Strength); tuple != "" {
			t.Fatalf("%s is in a row, and in none of those chosen", tuple)
		}
		for _, n := range always {
			if !slices.Contains(chosen, n) {
				t.Fatalf("row %d was to be chosen whatever it adds", n)
			}
		}
		if !slices.IsSorted(chosen) || len(slices.Compact(slices.Clone(chosen))) != len(chosen) {
			t.Fatalf("not ascending, or a row twice: %v", chosen)
		}
		if again := Rows(sizes, rows, Strength, always, groups); !slices.Equal(again, chosen) {
			t.Fatalf("another selection the second time: %v, then %v", chosen, again)
		}
	})
}

// rowsOf are the rows of those of a table's cases that among wants (nil: all), and each one's index by the case's number.
func rowsOf(t *table.Table, among func(table.Case) bool) (sizes []int, rows [][]int, index map[int]int) {
	for _, d := range t.Dimensions {
		sizes = append(sizes, len(d.Values))
	}
	index = map[int]int{}
	for c := range t.Cases() {
		if among != nil && !among(c) {
			continue
		}
		row := make([]int, len(sizes))
		for d := range row {
			row[d] = c.Index(d)
		}
		index[c.Number()] = len(rows)
		rows = append(rows, row)
	}
	return sizes, rows, index
}

// missing itself notices a row that is left out.
func TestMissingIsNoticed(t *testing.T) {
	rows := [][]int{{0, 0, 0, 0}, {0, 1, 0, 1}, {1, 0, 1, 0}, {1, 1, 1, 1}}
	if tuple := missing(rows, []int{0, 1, 3}, 3); tuple == "" {
		t.Error("a row whose combinations occur nowhere else was left out, and nothing is missing")
	}
}

// Of each real table no triple is missing, the size is within twice the lower bound, and the picture is complete.
func TestRealTables(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, tab := range set.Tables {
		t.Run(tab.ID(), func(t *testing.T) {
			sizes, rows, number := rowsOf(tab, nil)
			bound := lowerBound(sizes, rows, Strength)
			if chosen := Rows(sizes, rows, Strength, nil, nil); len(chosen) > 2*bound || len(chosen) < bound {
				t.Errorf("%d rows where no selection can have less than %d: more than twice as many", len(chosen), bound)
			} else {
				t.Logf("%d of %d rows, lower bound %d", len(chosen), len(rows), bound)
			}
			picture := 0
			for c := range tab.Cases() {
				if inPicture(tab, c) {
					picture++
				}
			}
			for name, group := range map[string]func(table.Case) string{"cases": nil, "arrangements": probe.Arranged} {
				var chosen []int
				in := map[int]bool{}
				for _, c := range Cases(tab, nil, group) {
					chosen = append(chosen, number[c.Number()])
					in[c.Number()] = true
				}
				if t.Logf("few %s: %d with the picture of %d", name, len(chosen), picture); len(chosen) > 2*bound+picture {
					t.Errorf("few %s: %d cases run where no selection can have less than %d, and the picture %d", name, len(chosen), bound, picture)
				}
				if tuple := missing(rows, chosen, Strength); tuple != "" {
					t.Errorf("few %s: %s is missing", name, tuple)
				}
				for c := range tab.Cases() {
					if inPicture(tab, c) && !in[c.Number()] {
						t.Errorf("few %s: %s is in the picture, and not chosen", name, c.ID())
					}
				}
			}
		})
	}
}

// What takes long to arrange is arranged more rarely where it is said which cases share it.
func TestFewGroups(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(set.Tables, func(t *table.Table) bool { return t.ID() == "istio-classic/decision" })
	if i < 0 {
		t.Fatal("there is no table istio-classic/decision")
	}
	cost := func(cases []table.Case) (groups, all int) {
		open := map[string]bool{}
		for _, c := range cases {
			open[probe.Arranged(c)] = true
		}
		return len(open), len(cases) + opening*len(open)
	}
	few, fewCost := cost(Cases(set.Tables[i], nil, nil))
	grouped, groupedCost := cost(Cases(set.Tables[i], nil, probe.Arranged))
	if 2*grouped > few || groupedCost >= fewCost {
		t.Errorf("%d groups at a cost of %d, without a look at them %d at %d: want half as many, and a lower cost", grouped, groupedCost, few, fewCost)
	}
}

// Of the cases that a lane can run no triple is missing either: those that it cannot run vouch for nothing.
func TestAmongThoseThatRun(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, tab := range set.Tables {
		runs := func(c table.Case) bool { return len(c.Needs()) == len(tab.Needs) } // whatever a value needs there is not
		_, rows, number := rowsOf(tab, runs)
		left += tab.Len() - len(rows)
		var chosen []int
		for _, c := range Cases(tab, runs, nil) {
			n, ok := number[c.Number()]
			if !ok {
				t.Errorf("%s cannot be run, and was chosen", c.ID())
				continue
			}
			chosen = append(chosen, n)
		}
		if tuple := missing(rows, chosen, Strength); tuple != "" {
			t.Errorf("%s: %s is missing", tab.ID(), tuple)
		}
	}
	if left == 0 {
		t.Error("no table has a value that needs something: nothing was tested")
	}
}

func inPicture(t *table.Table, c table.Case) bool {
	for d, dimension := range t.Dimensions {
		if c.Index(d) != 0 && !slices.Contains(slices.Concat(t.View.Rows, t.View.Columns), dimension.Name) {
			return false
		}
	}
	return true
}

// A table's own picture of the decision is among what is always run: the user's three controls, all else neutral.
func TestDecisionIsAlwaysInFull(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]bool{}
	for _, tab := range set.Tables {
		for _, c := range Cases(tab, nil, nil) {
			in[c.ID()] = true
		}
	}
	n := 0
	for _, policy := range []string{"enabled", "disabled", "unknown"} {
		for _, label := range []string{"absent", "enabled", "disabled", "true", "empty"} {
			for _, annotation := range []string{"absent", "empty", "true", "True", "yes", "y", "on", "false", "no", "off", "random"} {
				id := fmt.Sprintf("istio-classic/decision/policy=%s,ns-label=%s,annotation=%s,host-network=no,namespace=ordinary,never=none,always=none", policy, label, annotation)
				if n++; !in[id] {
					t.Errorf("%s is not chosen", id)
				}
			}
		}
	}
	if n != 165 {
		t.Errorf("%d combinations", n)
	}
}
