// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"fmt"
	"testing"

	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/table"
)

// What the kind lane runs without FULL=1 has every combination of three values of its cases that it can run: those that it
// lacks a feature for vouch for none.
func TestSelectionCoversWhatRuns(t *testing.T) {
	t.Parallel()
	o := run.Options{Lane: "kind"}
	facts, err := o.Facts()
	if err != nil {
		t.Fatal(err)
	}
	tables, selects, err := o.Tables()
	if err != nil {
		t.Fatal(err)
	}
	lacking := 0
	for _, tab := range tables {
		run, chosen := map[string]bool{}, map[string]bool{}
		for c := range tab.Cases() {
			if c.Missing(facts) != "" {
				lacking++
				continue
			}
			triples(c, run)
			if selects(c) {
				triples(c, chosen)
			}
		}
		for triple := range run {
			if !chosen[triple] {
				t.Errorf("%s: %s is in a case that can be run, and in none that is", tab.ID(), triple)
				break
			}
		}
	}
	if lacking == 0 {
		t.Error("the lane can run every case: nothing was tested")
	}
}

// triples notes every combination of three values of the case, of fewer where it has fewer dimensions.
func triples(c table.Case, in map[string]bool) {
	n := len(c.Table.Dimensions)
	for i := range n {
		for j := i + 1; j < n; j++ {
			in[fmt.Sprint(i, "=", c.Index(i), " ", j, "=", c.Index(j))] = true
			for k := j + 1; k < n; k++ {
				in[fmt.Sprint(i, "=", c.Index(i), " ", j, "=", c.Index(j), " ", k, "=", c.Index(k))] = true
			}
		}
	}
}
