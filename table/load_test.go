// SPDX-License-Identifier: Apache-2.0

package table_test

import (
	"testing"

	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
)

func TestEmbeddedTablesLoad(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for _, tb := range set.Tables {
		n := 0
		for c := range tb.Cases() {
			n++
			if other, ok := keys[c.Key()]; ok {
				t.Fatalf("%s and %s have one key", other, c.ID())
			}
			keys[c.Key()] = c.ID()
			if c.Rule(table.Facts{}) == nil {
				t.Fatalf("%s: no rule", c.ID())
			}
		}
		if n != tb.Len() {
			t.Errorf("%s: Len %d, enumerated %d", tb.ID(), tb.Len(), n)
		}
		t.Logf("%s: %d cases, %d rules", tb.ID(), n, len(tb.Rules))
	}
}
