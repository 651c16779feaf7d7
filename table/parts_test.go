// SPDX-License-Identifier: Apache-2.0

package table_test

import (
	"testing"

	"github.com/outrigger-k8s/outrigger/table"
)

func TestParts(t *testing.T) {
	for _, row := range []struct {
		parts table.Parts
		in    bool
	}{
		{nil, true},
		{table.Parts{"failed calling"}, true},
		{table.Parts{"failed calling", "EOF"}, true},
		{table.Parts{"EOF", "failed calling"}, true},
		{table.Parts{"failed calling", "refused"}, false},
		{table.Parts{"refused"}, false},
	} {
		if in := row.parts.In(`failed calling webhook "w": EOF`); in != row.in {
			t.Errorf("%s: in it %v, want %v", row.parts, in, row.in)
		}
	}
}
