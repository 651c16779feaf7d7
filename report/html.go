// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed page
var pageFiles embed.FS

// pageScripts are the parts of the page's one script, in the order in which they build on each other.
var pageScripts = []string{"dom.js", "data.js", "state.js", "filter.js", "matrix.js", "detail.js", "charts.js", "main.js"}

const staticCases = 100 // failing cases in the part of the page that needs no script

// HTML writes the page that people look at: one file that works from disk, without a network. Its data is in it,
// compressed; what a reader without scripts needs (verdict, summary, what fails) is plain HTML. Everything that comes
// from the report is escaped by html/template or set as text by the script, and a content security policy lets nothing
// but the page's own script run.
func HTML(w io.Writer, r *Report, o Options) error {
	if err := writePage(w, r, o); err != nil {
		return fmt.Errorf("write the HTML page: %w", err)
	}
	return nil
}

func writePage(w io.Writer, r *Report, o Options) error {
	style, err := pageFiles.ReadFile("page/page.css")
	if err != nil {
		return err
	}
	script, err := pageScript()
	if err != nil {
		return err
	}
	tmpl, err := template.New("page").Funcs(template.FuncMap{"thousands": thousands, "short": short, "target": targetName,
		"phases": func(r Run) string { return r.phaseText() }}).
		ParseFS(pageFiles, "page/*.html")
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 1<<16)
	csp := "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src " + sourceHash(style) +
		"; script-src " + sourceHash(script)
	found := o.findings(r)
	static := staticPage(r, found)
	var comparison *Comparison
	if o.Baseline != nil {
		comparison = Compare(o.Baseline, r, CompareOptions{})
		static.Changed = staticComparison(comparison)
	}
	static.CSP = csp
	if err := tmpl.ExecuteTemplate(b, "head.html", static); err != nil {
		return err
	}
	write(b, "<style>", string(style), "</style>\n")
	if err := tmpl.ExecuteTemplate(b, "body.html", static); err != nil {
		return err
	}
	write(b, `<script type="application/gzip+base64" id="data">`)
	b64 := base64.NewEncoder(base64.StdEncoding, b)
	z, err := gzip.NewWriterLevel(b64, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(z).Encode(newPageData(r, o.Baseline, comparison, found.descriptions())); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := b64.Close(); err != nil {
		return err
	}
	write(b, "</script>\n<script>", string(script), "</script>\n</body>\n</html>\n")
	return b.Flush()
}

// pageScript joins the parts into one script with a scope of its own.
func pageScript() ([]byte, error) {
	var s strings.Builder
	s.WriteString("\"use strict\";\n(() => {\n")
	for _, name := range pageScripts {
		part, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			return nil, err
		}
		s.Write(part)
	}
	s.WriteString("})();\n")
	return []byte(s.String()), nil
}

func write(b *bufio.Writer, parts ...string) {
	for _, p := range parts {
		_, _ = b.WriteString(p) // bufio keeps the first error for Flush
	}
}

func sourceHash(text []byte) string {
	sum := sha256.Sum256(text)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// A static page is what is there without a script.
type static struct {
	CSP          string
	Report       *Report
	Good         bool
	Tables       []staticTable
	Descriptions []staticDescription
	Differences  []staticDifference
	Changed      *staticChanges // since the baseline; nil without one
	Recoveries   []staticTime
	Changes      []staticTime
	Failing      []staticCase
	More         int
}

type staticTable struct {
	ID, Title, Run string
	Counts
	Time, P50, P99 string
}

type staticDescription struct {
	Table, Where, Sentence, Mismatch, Count string
	Runs                                    []int // indexes, for the script
}

type staticDifference struct{ Table, Count, Sentence string }

// staticChanges are what changed since the baseline, the gravest first: whole runs and the like, and cases in the fewest
// words.
type staticChanges struct {
	Because string
	Kinds   []staticKind
}

type staticKind struct {
	Kind, About, Count string
	Bad                bool
	Lines              []string // of what concerns no single case
	Groups             []staticGroup
}

type staticGroup struct{ Table, Run, Count, Whenever string }

func staticComparison(c *Comparison) *staticChanges {
	s := &staticChanges{Because: c.Because}
	for _, k := range ChangeKinds {
		changes := c.of(k.Kind)
		if len(changes) == 0 {
			continue
		}
		kind := staticKind{Kind: string(k.Kind), About: k.About, Count: thousands(len(changes)), Bad: k.Exit != 0}
		for _, ch := range changes {
			if ch.Case == "" {
				kind.Lines = append(kind.Lines, ch.Sentence)
			}
		}
		for _, g := range c.Groups {
			if g.Kind == k.Kind {
				kind.Groups = append(kind.Groups, staticGroup{g.Table, g.Run, plural(g.Cases, "case"), g.Whenever})
			}
		}
		s.Kinds = append(s.Kinds, kind)
	}
	return s
}

// A staticTime is how long one kind of cure, or of change, took in a run.
type staticTime struct{ Kind, Table, Run, Cases, Median, Max string }

func staticTimes(r *Report, all []Recovery) (list []staticTime) {
	for _, x := range all {
		list = append(list, staticTime{x.What(), x.Where(), r.Runs[x.Run].ID, thousands(x.Cases), short(x.Median), short(x.Max)})
	}
	return list
}

type staticCase struct{ ID, Run, Status, Mismatch, Why string }

func staticPage(r *Report, found *Findings) *static {
	s := &static{Report: r, Good: r.Verdict.Exit == ExitConformant}
	all := r.tallies()
	for _, t := range r.Tables {
		for i, n := range all[t.ID] {
			if n != nil {
				s.Tables = append(s.Tables, staticTable{t.ID, t.Title, r.Runs[i].ID, n.Counts, r.Runs[i].timeOf(t.ID), latencyText(n.lat, 0.5), latencyText(n.lat, 0.99)})
			}
		}
	}
	for _, d := range found.descriptions() {
		s.Descriptions = append(s.Descriptions, staticDescription{Table: d.Table, Where: d.where(r), Sentence: d.String(),
			Mismatch: d.Mismatch, Count: fmt.Sprintf("%s of %s", thousands(d.Failing), plural(d.Ran, "case")), Runs: d.runs})
	}
	s.Recoveries, s.Changes = staticTimes(r, r.Recoveries()), staticTimes(r, r.Changes())
	for _, d := range found.differences() {
		s.Differences = append(s.Differences, staticDifference{d.Table, plural(d.Cases, "case"), d.sentence(r)})
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		for j := range c.Results {
			res := &c.Results[j]
			if !res.Status.Bad() {
				continue
			}
			if len(s.Failing) == staticCases {
				s.More++
				continue
			}
			_, e := c.Expectation(res)
			s.Failing = append(s.Failing, staticCase{c.ID, r.Runs[res.Run].ID, string(res.Status), mismatchOf(e, res.Observed), res.Why})
		}
	}
	return s
}
