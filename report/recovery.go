// SPDX-License-Identifier: Apache-2.0

package report

import (
	"slices"
	"time"
)

// What the kinds of recovery, and of change, are called where a table tells them apart.
var (
	recoveryDimensions = []string{"recovery", "cure", "change"}
	changeDimensions   = []string{"change"}
)

// A Recovery is how long pods took to come back after one kind of cure, over all cases of a run in which something was
// refused before it and admitted after.
type Recovery struct {
	Table  string        `json:"table,omitempty"` // "": of all tables together
	Run    int           `json:"run"`
	Kind   string        `json:"kind"`             // value of the dimension recovery, cure or change; "" where the table has none
	Nudged bool          `json:"nudged,omitempty"` // the times are of controllers that were nudged
	Cases  int           `json:"cases"`
	Median time.Duration `json:"medianNanos"`
	Max    time.Duration `json:"maxNanos"`
}

// What the recovery is of, in words.
func (r *Recovery) What() string {
	if r.Nudged {
		return r.Kind + ", nudged"
	}
	return r.Kind
}

// Where the recovery was seen, in words.
func (r *Recovery) Where() string {
	if r.Table == "" {
		return "all tables"
	}
	return r.Table
}

// Recoveries are the recovery times, by table, run, and the kinds of recovery in the table's order: those of the controllers
// that were left alone, then of those that were nudged. Kinds that several tables have come once more, over all tables,
// before the tables.
func (r *Report) Recoveries() []Recovery {
	return r.timesBy(recoveryDimensions, func(res *Result) (own, nudged time.Duration) { return res.Recovery, res.Nudged })
}

// Changes are the times that changes took to hold, while pods were being created, by table, run, and the kinds of change,
// kinds of several tables over all of them first.
func (r *Report) Changes() []Recovery {
	return r.timesBy(changeDimensions, func(res *Result) (own, nudged time.Duration) { return res.Held, 0 })
}

// cause is what times are told apart by.
type cause struct {
	table  string // "": all
	run    int
	kind   string
	nudged bool
}

// timesBy are the times of results that have one, by table, run, and the values of one of the dimensions.
func (r *Report) timesBy(dimensions []string, of func(*Result) (own, nudged time.Duration)) []Recovery {
	times := map[cause][]time.Duration{}
	for i := range r.Cases {
		c := &r.Cases[i]
		for j := range c.Results {
			res := &c.Results[j]
			if res.Status.Bad() {
				continue
			}
			t := r.Table(c.Table)
			kind := ""
			if d := slices.IndexFunc(t.Dimensions, func(d Dimension) bool { return slices.Contains(dimensions, d.Name) }); d >= 0 {
				kind = t.Dimensions[d].Values[c.Values[d]]
			}
			note := func(took time.Duration, nudged bool) {
				if took == 0 {
					return
				}
				for _, table := range []string{"", c.Table} {
					by := cause{table, res.Run, kind, nudged}
					times[by] = append(times[by], took)
				}
			}
			own, nudged := of(res)
			note(own, false)
			note(nudged, true)
		}
	}
	var all, each []Recovery // over all tables; of each
	known := map[cause]int{} // in how many tables
	for i := range r.Tables {
		t := &r.Tables[i]
		for run := range r.Runs {
			for _, kind := range t.kinds(dimensions) {
				for _, nudged := range []bool{false, true} {
					own := recovery(cause{t.ID, run, kind, nudged}, times)
					if own == nil {
						continue
					}
					each = append(each, *own)
					together := cause{"", run, kind, nudged}
					if known[together]++; known[together] == 2 && kind != "" {
						all = append(all, *recovery(together, times))
					}
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Recovery) int { return a.Run - b.Run })
	return append(all, each...)
}

// recovery is what came of this cause; nil if nothing did.
func recovery(by cause, times map[cause][]time.Duration) *Recovery {
	all := times[by]
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	return &Recovery{by.table, by.run, by.kind, by.nudged, len(all), quantile(all, 0.5), all[len(all)-1]}
}

// kinds are those that the table tells apart.
func (t *Table) kinds(dimensions []string) []string {
	for _, d := range t.Dimensions {
		if slices.Contains(dimensions, d.Name) {
			return d.Values
		}
	}
	return []string{""}
}
