// SPDX-License-Identifier: Apache-2.0

package run

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-k8s/outrigger/report"
)

// A clock shares the time of a run among its tables. Arrangements follow each other, but tables share some of them, and
// the cases of one are under way together: each moment counts for the table whose case is the next to end, so nothing is
// counted twice and nothing is left out. What comes after an arrangement's last case is still that table's. A table that is
// made aside so has little time of its own: others' cases end meanwhile.
type clock struct {
	mu    sync.Mutex
	since time.Time // up to here all time is shared out
	table string    // whose case ended last
	spent map[string]time.Duration
}

// start begins to count: what was before is no table's time.
func (c *clock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since, c.table = now(), ""
}

// ended is told of the end of a case of the table.
func (c *clock) ended(table string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.table = table
	c.share()
}

// next is told that an arrangement is over.
func (c *clock) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table != "" {
		c.share()
	}
}

func (c *clock) share() {
	if c.spent == nil {
		c.spent = map[string]time.Duration{}
	}
	t := now()
	c.spent[c.table] += t.Sub(c.since)
	c.since = t
}

// times are how long the run was busy with each table.
func (c *clock) times() []report.TableTime {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []report.TableTime
	for _, id := range slices.SortedFunc(maps.Keys(c.spent), cmp.Compare[string]) {
		list = append(list, report.TableTime{Table: id, Duration: c.spent[id].Round(time.Microsecond)})
	}
	return list
}
