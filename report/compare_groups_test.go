// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
	"testing"
)

// How many cases of which table came or went is said even where no words tell them from the others: a summary for a
// commit message would else name the first of a thousand.
func TestComparisonCountsByTable(t *testing.T) {
	full := sample{}.report(t)
	none := sample{}.report(t)
	none.Cases = nil
	n := 0
	for i := range full.Cases {
		if full.Cases[i].Table == "istio-classic/decision" {
			n++
		}
	}
	count := fmt.Sprintf("(%d cases)", n)
	for _, c := range []struct {
		name     string
		old, new *Report
		want     string
	}{
		{"new", none, full, "istio-classic/decision"},
		{"missing", full, none, "istio-classic/decision"},
	} {
		comparison := Compare(c.old, c.new, CompareOptions{Allow: []ChangeKind{InfrastructureError}})
		for name, render := range map[string]func(*strings.Builder) error{
			"terminal": func(b *strings.Builder) error { return ComparisonTerminal(b, comparison, Options{}) },
			"markdown": func(b *strings.Builder) error { return ComparisonMarkdown(b, comparison, Options{}) },
		} {
			var b strings.Builder
			if err := render(&b); err != nil {
				t.Fatal(err)
			}
			found := false
			for line := range strings.Lines(b.String()) {
				found = found || strings.Contains(line, c.want) && strings.Contains(line, count)
			}
			if !found {
				t.Errorf("%s, %s: no line has %q and %q\n%.2000s", c.name, name, c.want, count, b.String())
			}
		}
	}
}
