// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/lane/kind/proof"
	"github.com/outrigger-k8s/outrigger/scenarios"
)

// Every row of the failure catalogue is answered: by a rule, by a proof, or by why it can be neither; and what is shown is
// not said to be impossible.
func TestEveryRowOfTheCatalogueIsAnswered(t *testing.T) {
	failures, err := scenarios.Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	named := map[int]bool{}
	for _, table := range set.Tables {
		for _, rule := range table.Rules {
			for _, row := range rule.Catalogue {
				named[row] = true
			}
		}
	}
	for _, p := range proof.All {
		for _, row := range p.Catalogue {
			named[row] = true
			if row < 1 || row > len(failures) {
				t.Errorf("%s names row %d of the failure catalogue, which has %d", p.ID(), row, len(failures))
			}
		}
	}
	for _, f := range failures {
		switch {
		case !named[f.Row] && f.Otherwise == "":
			t.Errorf("row %d of the failure catalogue (%s) is named by no rule and no proof, and does not say why not", f.Row, f.What)
		case named[f.Row] && f.Otherwise != "":
			t.Errorf("row %d of the failure catalogue (%s) is named, and says that it cannot be", f.Row, f.What)
		case !named[f.Row] && f.Unshown != "":
			t.Errorf("row %d of the failure catalogue (%s) is named by nothing, and says that a part of it is not shown", f.Row, f.What)
		}
	}
}

func TestListCatalogue(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := listCatalogue(&out, set.Tables, proof.All); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	under := func(row string) string {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, row) })
		j := i + 1
		for j < len(lines) && strings.HasPrefix(lines[j], "      ") {
			j++
		}
		return strings.Join(lines[i:j], "\n")
	}
	for row, want := range map[string]string{
		" 1  ": "webhook/failures-workloads, rule refused: 6 cases (scenarios/webhook/failures-workloads.yaml:",
		"11  ": "not shown: the cure: ",
		"29  ": "no case: the API server has filled in the namespace",
		"33  ": "kind/runtime/proof=job, in a cluster: a Job with an ordinary sidecar does its work",
	} {
		if got := under(row); !strings.Contains(got, want) {
			t.Errorf("row %s is listed without %q:\n%s", row, want, got)
		}
	}
}
