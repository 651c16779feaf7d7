// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/outrigger-k8s/outrigger/lane/kind/proof"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/table"
)

// describe builds the tree: a container for each table, a spec for each case. Cases that the lane cannot run have no
// spec, since a skipped spec reads as a pass in most CI systems; they are counted in what is returned, a line for each
// table and missing feature, and stand in the report as not run.
func describe() (lacking string, err error) {
	tables, selects, err := options.Tables()
	if err != nil {
		return "", err
	}
	facts, err := options.Facts()
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for _, t := range tables {
		missing := map[string]int{}
		Describe(t.ID(), Label(string(t.Profile), "table="+string(t.Name), "lane="+facts.Lane), func() {
			labels := valueLabels(t)
			for c := range t.Cases() {
				if selects != nil && !selects(c) {
					continue
				}
				if feature := c.Missing(facts); feature != "" {
					missing[feature]++
					continue
				}
				It(c.Combination(), labelsOf(c, labels), func(ctx SpecContext) {
					judgement, err := board.await(ctx, c.ID())
					Expect(err).NotTo(HaveOccurred())
					if judgement.NotRun != "" { // a target whose settings are fixed: only the run finds out
						Skip(judgement.NotRun)
					}
					enough(judgement)
					Expect(judgement).To(Hold())
				})
			}
		})
		for _, feature := range slices.Sorted(maps.Keys(missing)) {
			fmt.Fprintf(&lines, "%s: %d cases are not run in lane %s: %s\n", t.ID(), missing[feature], facts.Lane, run.NotRunReason(probe.NotRun{Missing: feature}))
		}
	}
	return lines.String(), describeProofs()
}

// describeProofs adds what is shown beside the tables' cases: a spec for each proof.
func describeProofs() error {
	list, err := options.Proofs()
	if err != nil || len(list) == 0 {
		return err
	}
	Describe(proof.TableID, Label(proof.Profile, "table="+proof.Table, "lane="+options.Lane), func() {
		for _, p := range list {
			It(proof.Dimension+"="+p.Name, Label(proof.Dimension+"="+p.Name), func(ctx SpecContext) {
				result, err := proofs.await(ctx, p.ID())
				Expect(err).NotTo(HaveOccurred())
				Expect(result.Err).NotTo(HaveOccurred(), "%s: %s", p.Title, p.Because)
			})
		}
	})
	return nil
}

// failures counts the specs that failed; Ginkgo runs them one after another.
var failures int

// enough ends the specs, not the run, once more failed than anybody reads: what they have in common, the summary says.
func enough(j *probe.Judgement) {
	if j.Holds() {
		return
	}
	if failures++; shown > 0 && failures > shown {
		AbortSuite(fmt.Sprintf("%d specs failed and were shown; the report has every case, and what the failing ones have in common", shown))
	}
}

// valueLabels are the labels of a table's values, made once: tens of thousands of specs share them.
func valueLabels(t *table.Table) [][]string {
	labels := make([][]string, len(t.Dimensions))
	for d, dimension := range t.Dimensions {
		for _, slug := range dimension.Slugs() {
			labels[d] = append(labels[d], string(dimension.Name)+"="+slug)
		}
	}
	return labels
}

func labelsOf(c table.Case, labels [][]string) Labels {
	list := make(Labels, len(labels))
	for d := range labels {
		list[d] = labels[d][c.Index(d)]
	}
	return list
}
