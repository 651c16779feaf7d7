// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"io"
	"regexp"

	"github.com/onsi/ginkgo/v2/formatter"
)

// withoutDots keeps the dot that Ginkgo writes for each spec that passed, and the S for each that a filter left out, off
// the terminal: there are tens of thousands, and the runner's progress line says more.
func withoutDots() { formatter.ColorableStdOut = dotless{formatter.ColorableStdOut} }

type dotless struct{ w io.Writer }

var dot = regexp.MustCompile(`^(\x1b\[[0-9;]*m)*[•+S](\x1b\[[0-9;]*m)*\n?$`)

func (d dotless) Write(p []byte) (int, error) {
	if dot.Match(p) {
		return len(p), nil
	}
	return d.w.Write(p)
}
