// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// A ComparisonRenderer makes one form of a comparison.
type ComparisonRenderer struct {
	Name   string
	About  string
	Render func(w io.Writer, c *Comparison, o Options) error
}

// ComparisonRenderers are all forms of a comparison.
var ComparisonRenderers = []ComparisonRenderer{
	{"terminal", "a summary for people at a terminal", ComparisonTerminal},
	{"markdown", "Markdown, for a pull request or a commit message", ComparisonMarkdown},
	{"json", "every change, for programs", ComparisonJSON},
}

// ComparisonRendererFor gives the renderer of that name. Its error lists the names there are.
func ComparisonRendererFor(name string) (ComparisonRenderer, error) {
	var names []string
	for _, r := range ComparisonRenderers {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return ComparisonRenderer{}, fmt.Errorf("render a comparison as %q: there is no such format; take one of %s", name,
		strings.Join(names, ", "))
}

// ComparisonJSON writes every change as JSON.
func ComparisonJSON(w io.Writer, c *Comparison, _ Options) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	if err := e.Encode(c); err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	return nil
}

const shownChanges = 10 // of each kind

// ComparisonTerminal writes what was compared with what, the changes of each kind in the fewest words and the first of
// them by name, and the verdict as the last line.
func ComparisonTerminal(w io.Writer, c *Comparison, o Options) error {
	t := &terminal{w: bufio.NewWriter(w), o: o, gl: unicodeGlyphs}
	if o.ASCII {
		t.gl = asciiGlyphs
	}
	t.comparison(c)
	colour := text.FgGreen
	if c.Exit != 0 {
		colour = text.FgRed
	}
	t.line("%s", t.paint(colour, printable(c.Verdict())))
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("write the comparison: %w", err)
	}
	return nil
}

func (t *terminal) comparison(c *Comparison) {
	for _, p := range c.Pairs {
		if p.Old == p.New {
			t.line("compared: %s", printable(p.New))
		} else {
			t.line("compared: %s with %s before", printable(p.New), printable(p.Old))
		}
	}
	if len(c.Tables) > 0 {
		t.line("tables that changed: %s", printable(strings.Join(c.Tables, ", ")))
	}
	for _, k := range ChangeKinds {
		changes := c.of(k.Kind)
		if len(changes) == 0 {
			continue
		}
		t.line("")
		head := fmt.Sprintf("%s: %s (%s)", strings.ToUpper(string(k.Kind)), thousands(len(changes)), k.About)
		if k.Exit != 0 {
			head = t.paint(text.FgRed, head)
		}
		t.line("%s", head)
		for _, g := range c.Groups {
			if g.Kind == k.Kind {
				t.line("  %s in %s (%s)", strings.TrimSpace(printable(g.Table)+" "+printable(g.Whenever)), printable(g.Run), plural(g.Cases, "case"))
			}
		}
		for i, ch := range changes {
			if i == shownChanges {
				t.line("  and %s more; --format json has them all", thousands(len(changes)-i))
				break
			}
			what := printable(ch.Sentence)
			if ch.Case != "" {
				what = printable(ch.Case) + "\n    " + what
			} else if ch.Run != "" && ch.Kind == BudgetBroken {
				what = printable(ch.Run) + ": " + what
			}
			if ch.Quarantined {
				what += " (in quarantine)"
			}
			t.line("  %s", what)
		}
	}
	t.line("")
}

func (c *Comparison) of(k ChangeKind) []Change {
	var of []Change
	for _, ch := range c.Changes {
		if ch.Kind == k {
			of = append(of, ch)
		}
	}
	return of
}

// ComparisonMarkdown writes the same for a pull request.
func ComparisonMarkdown(w io.Writer, c *Comparison, o Options) error {
	m := &markdown{limit: o.MaxBytes}
	m.section(func(b *strings.Builder) {
		fmt.Fprintf(b, "## Comparison: %s\n\n%s (exit %d)\n\n", mark(c.Exit == 0), mdText(c.Because), c.Exit)
	})
	m.comparison(c)
	return m.writeTo(w)
}

func (m *markdown) comparison(c *Comparison) {
	if len(c.Pairs) > 0 {
		m.section(func(b *strings.Builder) {
			b.WriteString("| before | after |\n|---|---|\n")
			for _, p := range c.Pairs {
				fmt.Fprintf(b, "| %s | %s |\n", mdCode(p.Old), mdCode(p.New))
			}
			b.WriteString("\n")
		})
	}
	for _, k := range ChangeKinds {
		changes := c.of(k.Kind)
		if len(changes) == 0 {
			continue
		}
		m.section(func(b *strings.Builder) {
			fmt.Fprintf(b, "### %s: %s\n\n%s.\n\n", k.Kind, thousands(len(changes)), mdText(k.About))
			for _, g := range c.Groups {
				if g.Kind != k.Kind {
					continue
				}
				which := mdCode(g.Table)
				if g.Whenever != "" {
					which += " " + mdTerms(g.Whenever)
				}
				fmt.Fprintf(b, "- %s in %s (%s)\n", which, mdCode(g.Run), plural(g.Cases, "case"))
			}
			fmt.Fprintf(b, "\n<details><summary>%s</summary>\n\n", plural(min(len(changes), markdownCases), "change"))
			for i, ch := range changes {
				if i == markdownCases {
					fmt.Fprintf(b, "- and %s more\n", thousands(len(changes)-i))
					break
				}
				subject := ch.Case
				if subject == "" {
					subject = ch.Run
				}
				if subject != "" {
					fmt.Fprintf(b, "- %s: %s", mdCode(subject), mdText(ch.Sentence))
				} else {
					fmt.Fprintf(b, "- %s", mdText(ch.Sentence))
				}
				if ch.Quarantined {
					b.WriteString(" (in quarantine)")
				}
				b.WriteString("\n")
			}
			b.WriteString("\n</details>\n\n")
		})
	}
}
