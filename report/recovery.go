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
	Table  string        `json:"table"`
	Run    int           `json:"run"`
	Kind   string        `json:"kind"` // value of the dimension recovery, cure or change; "" where the table has none
	Cases  int           `json:"cases"`
	Median time.Duration `json:"medianNanos"`
	Max    time.Duration `json:"maxNanos"`
}

// Recoveries are the recovery times, by table, run, and the kinds of recovery in the table's order.
func (r *Report) Recoveries() []Recovery {
	return r.timesBy(recoveryDimensions, func(res *Result) time.Duration { return res.Recovery })
}

// Changes are the times that changes took to hold, while pods were being created, by table, run, and the kinds of change.
func (r *Report) Changes() []Recovery {
	return r.timesBy(changeDimensions, func(res *Result) time.Duration { return res.Held })
}

// timesBy are the times of results that have one, by table, run, and the values of one of the dimensions.
func (r *Report) timesBy(dimensions []string, of func(*Result) time.Duration) []Recovery {
	times := map[string]map[int]map[string][]time.Duration{}
	for i := range r.Cases {
		c := &r.Cases[i]
		for j := range c.Results {
			res := &c.Results[j]
			if of(res) == 0 || res.Status.Bad() {
				continue
			}
			t := r.Table(c.Table)
			kind := ""
			if d := slices.IndexFunc(t.Dimensions, func(d Dimension) bool { return slices.Contains(dimensions, d.Name) }); d >= 0 {
				kind = t.Dimensions[d].Values[c.Values[d]]
			}
			if times[c.Table] == nil {
				times[c.Table] = map[int]map[string][]time.Duration{}
			}
			if times[c.Table][res.Run] == nil {
				times[c.Table][res.Run] = map[string][]time.Duration{}
			}
			times[c.Table][res.Run][kind] = append(times[c.Table][res.Run][kind], of(res))
		}
	}
	var list []Recovery
	for i := range r.Tables {
		t := &r.Tables[i]
		for run := range r.Runs {
			for _, kind := range t.kinds(dimensions) {
				all := times[t.ID][run][kind]
				if len(all) == 0 {
					continue
				}
				slices.Sort(all)
				list = append(list, Recovery{t.ID, run, kind, len(all), quantile(all, 0.5), all[len(all)-1]})
			}
		}
	}
	return list
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
