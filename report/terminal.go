// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

const (
	terminalWidth    = 100
	terminalFailures = 10 // failing cases that are named
	matrixRows       = 16
	matrixColumns    = 12
)

// ColourFor says whether colours may be written to f: only to a terminal, and never where NO_COLOR is set or TERM is
// dumb.
func ColourFor(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// ASCIIFor says whether only ASCII should be written, judged by the locale in the environment: LC_ALL, LC_CTYPE, LANG.
func ASCIIFor(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(v)
			return !strings.Contains(v, "utf-8") && !strings.Contains(v, "utf8")
		}
	}
	return false // nothing said: everything written in this decade copes
}

// glyphs are the marks of a picture's cells.
type glyphs struct{ injected, none, some, wrong, other, unjudged, notRun, times, dash string }

var (
	unicodeGlyphs = glyphs{"●", "·", "◐", "✗", "○", "?", "-", "×", "–"}
	asciiGlyphs   = glyphs{"#", ".", "+", "X", "o", "?", "-", "x", "-"}
)

type terminal struct {
	w  *bufio.Writer
	r  *Report
	o  Options
	gl glyphs
}

// Terminal writes a summary for people: what ran, a line for each table and run, a small picture of the main table, the
// first failing cases and the smallest description of all of them, and the verdict as the last line.
func Terminal(w io.Writer, r *Report, o Options) error {
	if o.Width <= 0 {
		o.Width = terminalWidth
	}
	t := &terminal{w: bufio.NewWriter(w), r: r, o: o, gl: unicodeGlyphs}
	if o.ASCII {
		t.gl = asciiGlyphs
	}
	t.runs()
	t.tables()
	t.recoveries()
	if main := r.mainTable(); main != nil {
		t.matrix(main)
	}
	t.failures()
	t.quarantine()
	if o.Baseline != nil {
		t.comparison(Compare(o.Baseline, r, CompareOptions{}))
	}
	t.verdict()
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}

func (t *terminal) line(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if t.o.ASCII {
		s = toASCII(s)
	}
	fmt.Fprintln(t.w, s) // bufio keeps the first error for Flush
}

func (t *terminal) paint(c text.Color, s string) string {
	if !t.o.Colour {
		return s
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", int(c), s)
}

func (t *terminal) runs() {
	for _, run := range t.r.Runs {
		parts := []string{"Kubernetes " + printable(run.Kubernetes), "target " + printable(targetName(run.Target))}
		if run.Provider != "" {
			parts = append(parts, printable(run.Provider))
		}
		if run.Selection != "" && run.Selection != "full" {
			parts = append(parts, "selection "+printable(run.Selection))
		}
		if len(run.Shards) > 0 {
			parts = append(parts, "shards "+shardNames(run.Shards))
		}
		if run.Duration > 0 {
			parts = append(parts, "in "+short(run.Duration))
		}
		t.line("%s lane, %s", printable(run.Lane), strings.Join(parts, ", "))
		if len(run.Artefacts) > 0 {
			t.line("     collected: %s", printable(strings.Join(run.Artefacts, ", ")))
		}
		if phases := run.phaseText(); phases != "" {
			t.line("     %s", printable(phases))
		}
	}
	t.line("")
}

// in names a run where there are several.
func (t *terminal) in(run string) string {
	if len(t.r.Runs) == 1 {
		return ""
	}
	return " in " + printable(run)
}

func targetName(i TargetInfo) string {
	if i.Version == "" {
		return i.Name
	}
	return i.Name + " " + i.Version
}

func shardNames(shards []Shard) string {
	var names []string
	for _, s := range shards {
		names = append(names, fmt.Sprintf("%d/%d", s.Index, s.Of))
	}
	return strings.Join(names, " ")
}

func (t *terminal) tables() {
	tw := t.newTable()
	tw.AppendHeader(pretty.Row{"table", "run", "cases", "pass", "fail", "not run", "time", "p50", "p99", ""})
	all := t.r.tallies()
	var reasons []string
	for _, tab := range t.r.Tables {
		for i, n := range all[tab.ID] {
			if n == nil {
				continue
			}
			fail := thousands(n.Fail)
			if n.Fail > 0 {
				fail = t.paint(text.FgRed, fail)
			}
			var notes []string
			for _, x := range []struct {
				n    int
				name string
			}{{n.Flaky, "flaky"}, {n.Error, "errors"}, {n.Quarantined, "quarantined"}} {
				if x.n > 0 {
					notes = append(notes, thousands(x.n)+" "+x.name)
				}
			}
			tw.AppendRow(pretty.Row{printable(tab.ID), printable(t.r.Runs[i].ID), thousands(n.Total), thousands(n.Pass), fail,
				thousands(n.NotRun), t.r.Runs[i].timeOf(tab.ID), latencyText(n.lat, 0.5), latencyText(n.lat, 0.99), strings.Join(notes, ", ")})
			if n.NotRun > 0 {
				reasons = append(reasons, fmt.Sprintf("%s%s: %s not run: %s", printable(tab.ID), t.in(t.r.Runs[i].ID),
					plural(n.NotRun, "case"), printable(strings.Join(topReasons(n.reasons, 3), "; "))))
			}
		}
	}
	columns := []pretty.ColumnConfig{{Number: 2, Hidden: len(t.r.Runs) == 1}}
	for i := 3; i <= 9; i++ {
		columns = append(columns, pretty.ColumnConfig{Number: i, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	tw.SetColumnConfigs(columns)
	t.line("%s", trimLines(tw.Render()))
	for i, why := range reasons {
		if i == 10 {
			t.line("%s", plural(len(reasons)-i, "further line")+" of cases not run")
			break
		}
		t.line("%s", why)
	}
	t.line("")
}

// recoveries is a line for each kind of recovery, and of change. The times are a harness's: what it writes, its marker
// requests and other cases of the same arrangement lie between the cure and the pod.
func (t *terminal) recoveries() {
	t.times("pods back after", t.r.Recoveries())
	t.times("holds after change", t.r.Changes())
}

func (t *terminal) times(of string, all []Recovery) {
	if len(all) == 0 {
		return
	}
	tw := t.newTable()
	tw.AppendHeader(pretty.Row{of, "run", "table", "cases", "median", "max"})
	for _, x := range all {
		tw.AppendRow(pretty.Row{printable(x.What()), printable(t.r.Runs[x.Run].ID), printable(x.Where()), thousands(x.Cases), short(x.Median), short(x.Max)})
	}
	columns := []pretty.ColumnConfig{{Number: 2, Hidden: len(t.r.Runs) == 1}}
	for i := 4; i <= 6; i++ {
		columns = append(columns, pretty.ColumnConfig{Number: i, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	tw.SetColumnConfigs(columns)
	t.line("%s", trimLines(tw.Render()))
	t.line("")
}

func latencyText(sorted []time.Duration, q float64) string {
	if len(sorted) == 0 {
		return "-"
	}
	return short(quantile(sorted, q))
}

func (t *terminal) newTable() pretty.Writer {
	tw := pretty.NewWriter()
	tw.SetStyle(pretty.StyleDefault)
	tw.Style().Options = pretty.OptionsNoBordersAndSeparators
	tw.Style().Format.Header = text.FormatDefault
	tw.Style().Box.PaddingLeft = ""
	tw.Style().Box.PaddingRight = "  "
	return tw
}

// trimLines takes the blanks off the lines' ends, which go-pretty pads.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func (t *terminal) matrix(tab *Table) {
	rows, cols := t.r.picture(tab, matrixRows, matrixColumns)
	if len(rows) == 0 && len(cols) == 0 {
		return
	}
	g := t.r.gridOf(tab, rows, cols, nil)
	folded := len(tab.Dimensions) - len(rows) - len(cols)
	var axes []string
	if len(rows) > 0 {
		axes = append(axes, printable(dimensionNames(tab, rows, " "+t.gl.times+" ")))
	}
	if len(cols) > 0 {
		axes = append(axes, "across "+printable(dimensionNames(tab, cols, " "+t.gl.times+" ")))
	}
	if folded > 0 {
		axes = append(axes, "folded over "+plural(folded, "other dimension"))
	}
	t.line("%s: %s", printable(tab.ID), strings.Join(axes, ", "))
	tw := t.newTable()
	header := pretty.Row{}
	for _, d := range rows {
		header = append(header, printable(tab.Dimensions[d].Name))
	}
	for _, l := range g.colLabels {
		header = append(header, printable(strings.Join(l, ",")))
	}
	tw.AppendHeader(header)
	var configs []pretty.ColumnConfig
	for i := range g.colLabels {
		configs = append(configs, pretty.ColumnConfig{Number: len(rows) + 1 + i, Align: text.AlignCenter, AlignHeader: text.AlignCenter})
	}
	tw.SetColumnConfigs(configs)
	for i, l := range g.rowLabels {
		row := pretty.Row{}
		for _, v := range l {
			row = append(row, printable(v))
		}
		for j := range g.colLabels {
			row = append(row, t.glyph(&g.cells[i][j]))
		}
		tw.AppendRow(row)
	}
	t.line("%s", trimLines(tw.Render()))
	t.line("%s", t.gl.legend(g, "  "))
	t.line("")
}

// legend says what the glyphs of a picture stand for.
func (gl *glyphs) legend(g *grid, separator string) string {
	parts := []string{
		gl.injected + " all injected", gl.none + " none", gl.some + " depends on the rest", gl.other + " refused",
		gl.wrong + " disagrees with the table", gl.notRun + " not run",
	}
	for _, row := range g.cells {
		if slices.ContainsFunc(row, func(c cell) bool { return c.Error > 0 }) {
			parts = append(parts, gl.unjudged+" could not be judged")
			break
		}
	}
	return strings.Join(parts, separator)
}

func (t *terminal) glyph(c *cell) string {
	switch bad := c.Fail + c.Flaky + c.Quarantined; {
	case bad > 0:
		return t.paint(text.FgRed, t.gl.wrong)
	case c.Error > 0:
		return t.paint(text.FgRed, t.gl.unjudged)
	case c.Ran() == 0:
		return t.gl.notRun
	case c.outcomes[Injected] == c.Ran():
		return t.paint(text.FgGreen, t.gl.injected)
	case c.outcomes[Untouched] == c.Ran():
		return t.gl.none
	case c.outcomes[Injected]+c.outcomes[Untouched] > 0:
		return t.paint(text.FgCyan, t.gl.some)
	default:
		return t.gl.other
	}
}

func (t *terminal) failures() {
	shown, total, kept := 0, 0, 0
	for i := range t.r.Cases {
		c := &t.r.Cases[i]
		for j := range c.Results {
			res := &c.Results[j]
			if !res.Status.Bad() || res.Forgiven() {
				continue
			}
			if len(res.Artefacts) > 0 {
				kept++
			}
			if total++; shown == terminalFailures {
				continue
			}
			shown++
			t.line("%s %s", t.paint(text.FgRed, strings.ToUpper(string(res.Status))), printable(c.ID))
			_, e := c.Expectation(res)
			what, why := whatAndWhy(e, res)
			t.line("     %s%s", printable(what), t.in(t.r.Runs[res.Run].ID))
			if why != "" {
				t.line("     %s", printable(why))
			}
			if cmd := t.r.RerunCommand(c, res); cmd != "" {
				t.line("     again: %s", printable(cmd))
			}
			if where := res.evidence(); where != "" {
				t.line("     artefacts: %s", printable(where))
			}
		}
	}
	if total > shown {
		t.line("%s more; the report has them all", thousands(total-shown))
	}
	if kept > 0 {
		t.line("artefacts of %s (objects, calls, logs): their folders are in the report", plural(kept, "case"))
	}
	found := t.o.findings(t.r)
	descriptions := found.descriptions()
	for i, d := range descriptions {
		if i == terminalFailures {
			t.line("%s more", plural(len(descriptions)-i, "description"))
			break
		}
		t.line("%s%s %s (%s of %s)", printable(d.Table), t.in(d.where(t.r)), printable(d.String()),
			thousands(d.Failing), plural(d.Ran, "case"))
		if d.Mismatch != "" {
			t.line("     %s", d.Mismatch)
		}
	}
	differences := found.differences()
	for i, d := range differences {
		if i == terminalFailures {
			t.line("%s more", plural(len(differences)-i, "difference"))
			break
		}
		t.line("runs differ in %s of %s: %s", plural(d.Cases, "case"), printable(d.Table), printable(d.sentence(t.r)))
	}
	if total+len(descriptions)+len(differences) > 0 {
		t.line("")
	}
}

// whatAndWhy is how an observation differs from what was expected, and what more is to say; empty where that is all.
func whatAndWhy(e Expected, res *Result) (what, why string) {
	what, why = mismatchOf(e, res.Observed), res.Why
	if strings.HasPrefix(why, what) { // it says the same, and more
		what, why = why, ""
	}
	return what, why
}

func (t *terminal) quarantine() {
	for _, q := range t.r.Quarantine {
		state := "until " + q.Expires
		if q.Expired {
			state = t.paint(text.FgRed, "EXPIRED on "+q.Expires)
		}
		t.line("quarantine: %s %s, owner %s, issue %s", printable(q.Case), state, printable(q.Owner), printable(q.Issue))
	}
}

func (t *terminal) verdict() {
	v := t.r.Verdict
	colour := text.FgRed
	if v.Exit == 0 {
		colour = text.FgGreen
	}
	took := ""
	for _, run := range t.r.Runs {
		if len(t.r.Runs) == 1 && run.Duration > 0 {
			took = " in " + short(run.Duration)
		}
	}
	t.line("%s (exit %d): %s%s", t.paint(colour, "verdict: "+string(v.Conclusion)), v.Exit, printable(v.Because), took)
}

// printable takes out what could steer a terminal, or break a line: values of a report come from anywhere.
func printable(s string) string {
	clean := true
	for _, c := range s {
		if c < 0x20 || c == 0x7f || c >= 0x80 && c < 0xa0 || c == utf8.RuneError || isBidi(c) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || c == '\t' || c == '\r':
			return ' '
		case c < 0x20 || c == 0x7f || c >= 0x80 && c < 0xa0 || isBidi(c):
			return '?'
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
}

// isBidi is true of the characters that change the direction of text, with which a line can be made to lie.
func isBidi(c rune) bool {
	return c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 || c == 0x200e || c == 0x200f
}

func toASCII(s string) string {
	return strings.Map(func(c rune) rune {
		if c > 0x7e {
			return '?'
		}
		return c
	}, s)
}
