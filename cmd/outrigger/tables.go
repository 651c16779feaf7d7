// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/table"
)

// listTables prints how many of each table's cases there are, and how many each lane can run when it is asked for all; of
// those that it cannot, what they need. What the needs mean stands below.
func listTables(out io.Writer, o *run.Options, tables []*table.Table, selects probe.Selects) error {
	var lanes []table.Facts
	for _, lane := range run.Lanes() {
		asked := *o
		asked.Lane, asked.Full = lane, true
		facts, err := asked.Facts()
		if err != nil {
			return err
		}
		lanes = append(lanes, facts)
	}
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "%-32s %7s", "table", "cases")
	for _, facts := range lanes {
		fmt.Fprintf(w, " %12s", facts.Lane)
	}
	fmt.Fprintln(w, "  needed, and lacking in some lane")
	lacking := map[string]map[string]bool{} // feature: lanes
	total := 0
	for _, t := range tables {
		n, runs, needed := 0, make([]int, len(lanes)), map[string]bool{}
		for c := range t.Cases() {
			if selects != nil && !selects(c) {
				continue
			}
			n++
			for i, facts := range lanes {
				missing := c.Missing(facts)
				if missing == "" {
					runs[i]++
					continue
				}
				needed[missing] = true
				if lacking[missing] == nil {
					lacking[missing] = map[string]bool{}
				}
				lacking[missing][facts.Lane] = true
			}
		}
		if n == 0 {
			continue
		}
		total += n
		fmt.Fprintf(w, "%-32s %7d", t.ID(), n)
		for _, ran := range runs {
			fmt.Fprintf(w, " %12d", ran)
		}
		fmt.Fprintln(w, strings.TrimRight("  "+strings.Join(slices.Sorted(maps.Keys(needed)), ", "), " "))
	}
	if total == 0 {
		return run.NoCase(o)
	}
	fmt.Fprintln(w)
	for _, feature := range slices.Sorted(maps.Keys(lacking)) {
		fmt.Fprintf(w, "%-26s %s; not in %s\n", feature, probe.Means(feature), strings.Join(slices.Sorted(maps.Keys(lacking[feature])), ", "))
	}
	return w.Flush()
}
