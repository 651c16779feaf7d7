// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// Options of a rendering. The zero value is good: no colour, no baseline, every limit at its default.
type Options struct {
	Baseline *Report // what to compare with; nil for none
	Colour   bool    // terminal: ANSI colours (see ColourFor)
	ASCII    bool    // terminal: no characters beyond ASCII
	Width    int     // terminal: columns; 0 is 100
	MaxBytes int     // markdown: cut at whole sections to stay below; 0 is no limit
	// Findings of the very report that is rendered, where several renderings share them; nil finds out anew.
	Findings *Findings
}

// Findings are what takes long to find out about a report, found out once, when it is first asked for: what fails in the
// fewest words, and what differs between runs.
type Findings struct {
	descriptions func() []sharedDescription
	differences  func() []Difference
}

// Findings of the report, which must not change from now on.
func (r *Report) Findings() *Findings {
	return &Findings{sync.OnceValue(r.sharedDescriptions), sync.OnceValue(r.Differences)}
}

func (o Options) findings(r *Report) *Findings {
	if o.Findings != nil {
		return o.Findings
	}
	return r.Findings()
}

// A Renderer makes one form of a report. The same report and options give the same bytes.
type Renderer struct {
	Name      string // for --format
	Extension string // of a file of it, with the dot
	About     string // one line
	Render    func(w io.Writer, r *Report, o Options) error
}

// Renderers are all forms, in the order in which help lists them.
var Renderers = []Renderer{
	{"terminal", ".txt", "a summary for people at a terminal", Terminal},
	{"json", ".json", "the report itself, the source of truth", func(w io.Writer, r *Report, _ Options) error { return Encode(w, r) }},
	{"html", ".html", "the page that people look at: one file, works offline", HTML},
	{"markdown", ".md", "Markdown, for a pull request or a wiki", Markdown},
	{"junit", ".xml", "JUnit XML, a test suite for each table and run", JUnit},
}

// RendererFor gives the renderer of that name. Its error lists the names there are.
func RendererFor(name string) (Renderer, error) {
	var names []string
	for _, r := range Renderers {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return Renderer{}, fmt.Errorf("render a report as %q: there is no such format; take one of %s", name, strings.Join(names, ", "))
}
