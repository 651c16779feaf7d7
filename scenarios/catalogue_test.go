// SPDX-License-Identifier: Apache-2.0

package scenarios_test

import (
	"testing"

	"github.com/outrigger-k8s/outrigger/scenarios"
)

func TestRulesNameRowsOfTheCatalogue(t *testing.T) {
	failures, err := scenarios.Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range set.Tables {
		for _, rule := range table.Rules {
			for _, row := range rule.Catalogue {
				if row < 1 || row > len(failures) {
					t.Errorf("%s:%d: rule %s names row %d of the failure catalogue, which has %d", table.File, rule.Line, rule.Name, row, len(failures))
				}
			}
		}
	}
}
