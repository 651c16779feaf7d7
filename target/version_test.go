// SPDX-License-Identifier: Apache-2.0

package target

import (
	"io"
	"strings"
	"testing"
)

// Whatever a program writes, as much is kept as was asked for, by whichever of its methods io.Copy takes.
func TestFirstBytes(t *testing.T) {
	b := &firstBytes{limit: 10}
	n, err := io.Copy(b, strings.NewReader(strings.Repeat("0123456789", 1000)))
	if n != 10_000 || err != nil || b.kept.String() != "0123456789" {
		t.Errorf("kept %q of %d bytes, error %v", b.kept.String(), n, err)
	}
}
