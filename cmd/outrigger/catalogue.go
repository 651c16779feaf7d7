// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/outrigger-k8s/outrigger/lane/kind/proof"
	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
)

// listCatalogue prints every row of the failure catalogue, and under it each rule that names it, with the number of
// combinations that it decides, each proof that does, and what of it none shows; then the rows that nothing names.
func listCatalogue(out io.Writer, tables []*table.Table, proofs []*proof.Proof) error {
	failures, err := scenarios.Catalogue()
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	var unnamed []int
	for _, f := range failures {
		fmt.Fprintf(w, "%2d  %s", f.Row, f.What)
		if f.Reports != "" {
			fmt.Fprintf(w, " [%s]", f.Reports)
		}
		fmt.Fprintln(w)
		named := false
		for _, t := range tables {
			for i, r := range t.Rules {
				if slices.Contains(r.Catalogue, f.Row) {
					named = true
					fmt.Fprintf(w, "      %s, rule %s: %s (%s:%d)\n", t.ID(), r.Name, cases(t.Decides(i)), t.File, r.Line)
				}
			}
		}
		for _, p := range proofs {
			if slices.Contains(p.Catalogue, f.Row) {
				named = true
				fmt.Fprintf(w, "      %s, in a cluster: %s\n", p.ID(), p.Title)
			}
		}
		if f.Unshown != "" {
			fmt.Fprintf(w, "      not shown: %s\n", f.Unshown)
		}
		if !named {
			unnamed = append(unnamed, f.Row)
			fmt.Fprintf(w, "      no case: %s\n", cmp.Or(f.Otherwise, "no rule names it"))
		}
	}
	fmt.Fprintf(w, "\n%d of %d rows are named by a rule or a proof", len(failures)-len(unnamed), len(failures))
	if len(unnamed) > 0 {
		fmt.Fprintf(w, "; by none: %v", unnamed)
	}
	fmt.Fprintln(w)
	return w.Flush()
}

func cases(n int) string {
	if n == 1 {
		return "1 case"
	}
	return fmt.Sprintf("%d cases", n)
}
