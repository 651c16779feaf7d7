// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	markdownCases = 50 // failing cases, or changes of a kind, that are named
	markdownMaxR  = 24 // rows of a picture
	markdownMaxC  = 12 // and columns

	// StepSummaryBytes is how much GitHub takes for the summary of one step; beyond it the whole summary is dropped.
	StepSummaryBytes = 1024 * 1024
)

// A markdown document is made of sections, the more important first, so that a document over its limit can be cut
// between two of them.
type markdown struct {
	limit   int
	out     strings.Builder
	dropped int
}

const dropNotice = "\n_%d further sections are left out, because the document would become too large. The JSON report has everything._\n"

func (m *markdown) section(write func(b *strings.Builder)) {
	var b strings.Builder
	write(&b)
	if m.dropped > 0 || m.limit > 0 && m.out.Len()+b.Len()+len(dropNotice)+20 > m.limit {
		m.dropped++
		return
	}
	m.out.WriteString(b.String())
}

func (m *markdown) writeTo(w io.Writer) error {
	if m.dropped > 0 {
		fmt.Fprintf(&m.out, dropNotice, m.dropped)
	}
	if _, err := io.WriteString(w, m.out.String()); err != nil {
		return fmt.Errorf("write Markdown: %w", err)
	}
	return nil
}

// Markdown writes the verdict, a line for each table and run, what fails in the fewest words, pictures of the tables, the
// failing cases, coverage and quarantine, as GitHub and GitLab show it. With o.MaxBytes it is cut between sections.
func Markdown(w io.Writer, r *Report, o Options) error {
	m := &markdown{limit: o.MaxBytes}
	m.head(r)
	m.summary(r)
	found := o.findings(r)
	m.descriptions(r, found.descriptions())
	m.differences(r, found.differences())
	if o.Baseline != nil {
		c := Compare(o.Baseline, r, CompareOptions{})
		m.section(func(b *strings.Builder) {
			fmt.Fprintf(b, "## Since the baseline: %s\n\n%s\n\n", mark(c.Exit == 0), mdText(c.Because))
		})
		m.comparison(c)
	}
	m.notRun(r)
	m.failures(r)
	for i := range r.Tables {
		m.picture(r, &r.Tables[i])
	}
	m.recoveries(r)
	m.coverage(r)
	m.quarantine(r)
	m.runs(r)
	return m.writeTo(w)
}

func mark(good bool) string {
	if good {
		return "✅"
	}
	return "❌"
}

func (m *markdown) head(r *Report) {
	m.section(func(b *strings.Builder) {
		v := r.Verdict
		fmt.Fprintf(b, "# Outrigger: %s %s\n\n%s (exit %d)\n\n", mark(v.Exit == 0), v.Conclusion, mdText(v.Because), v.Exit)
	})
}

func (m *markdown) summary(r *Report) {
	m.section(func(b *strings.Builder) {
		b.WriteString("| table | run | cases | pass | fail | flaky | error | not run | quarantined | time | p50 | p99 |\n")
		b.WriteString("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
		all := r.tallies()
		for _, t := range r.Tables {
			for i, n := range all[t.ID] {
				if n == nil {
					continue
				}
				fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", mdCode(t.ID), mdCode(r.Runs[i].ID),
					thousands(n.Total), thousands(n.Pass), bold(n.Fail), bold(n.Flaky), bold(n.Error), thousands(n.NotRun),
					thousands(n.Quarantined), r.Runs[i].timeOf(t.ID), latencyText(n.lat, 0.5), latencyText(n.lat, 0.99))
			}
		}
		b.WriteString("\n")
	})
}

func bold(n int) string {
	if n == 0 {
		return "0"
	}
	return "**" + thousands(n) + "**"
}

func (m *markdown) descriptions(r *Report, all []sharedDescription) {
	if len(all) == 0 {
		return
	}
	m.section(func(b *strings.Builder) {
		b.WriteString("## What fails\n\n")
		for _, d := range all {
			fmt.Fprintf(b, "- %s in %s %s (%s of %s)", mdCode(d.Table), mdText(d.where(r)), mdTerms(d.String()),
				thousands(d.Failing), plural(d.Ran, "case"))
			if d.Mismatch != "" {
				b.WriteString(": " + mdText(d.Mismatch))
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	})
}

func (m *markdown) differences(r *Report, all []Difference) {
	if len(all) == 0 {
		return
	}
	m.section(func(b *strings.Builder) {
		b.WriteString("## What differs between runs\n\n")
		for _, d := range all {
			fmt.Fprintf(b, "- %s of %s: %s\n", plural(d.Cases, "case"), mdCode(d.Table), mdText(d.sentence(r)))
		}
		b.WriteString("\n")
	})
}

func (m *markdown) notRun(r *Report) {
	if r.Verdict.Counts.NotRun == 0 {
		return
	}
	m.section(func(b *strings.Builder) {
		b.WriteString("## What did not run\n\n")
		all := r.tallies()
		for _, t := range r.Tables {
			for i, n := range all[t.ID] {
				if n != nil && n.NotRun > 0 {
					fmt.Fprintf(b, "- %s of %s in %s: %s\n", thousands(n.NotRun), mdCode(t.ID), mdCode(r.Runs[i].ID),
						mdText(strings.Join(topReasons(n.reasons, 5), "; ")))
				}
			}
		}
		b.WriteString("\n")
	})
}

func (m *markdown) failures(r *Report) {
	n := r.Verdict.Counts
	total := n.Fail + n.Flaky + n.Error
	if total == 0 {
		return
	}
	m.section(func(b *strings.Builder) {
		fmt.Fprintf(b, "## Failing cases\n\n<details><summary>%s of %s</summary>\n\n", thousands(min(total, markdownCases)), thousands(total))
		shown := 0
	cases:
		for i := range r.Cases {
			c := &r.Cases[i]
			for j := range c.Results {
				res := &c.Results[j]
				if !res.Status.Bad() || res.Forgiven() {
					continue
				}
				if shown++; shown > markdownCases {
					break cases
				}
				name, e := c.Expectation(res)
				what, why := whatAndWhy(e, res)
				fmt.Fprintf(b, "- **%s** %s in %s: %s", res.Status, mdCode(c.ID), mdCode(r.Runs[res.Run].ID), mdText(what))
				if why != "" {
					b.WriteString(". " + mdText(why))
				}
				if rule := r.Table(c.Table).Rule(name); rule != nil && rule.Because != "" {
					fmt.Fprintf(b, ". Rule %s: %s", mdCode(rule.Name), mdText(rule.Because))
				}
				b.WriteString("\n")
				if cmd := r.RerunCommand(c, res); cmd != "" {
					fmt.Fprintf(b, "  - again: %s\n", mdCode(cmd))
				}
				if where := res.evidence(); where != "" {
					fmt.Fprintf(b, "  - artefacts: %s\n", mdCode(where))
				}
			}
		}
		b.WriteString("\n</details>\n\n")
	})
}

func (m *markdown) picture(r *Report, t *Table) {
	rows, cols := r.picture(t, markdownMaxR, markdownMaxC)
	if len(rows)+len(cols) == 0 {
		return
	}
	m.section(func(b *strings.Builder) {
		g := r.gridOf(t, rows, cols, nil)
		fmt.Fprintf(b, "## %s\n\n", mdCode(t.ID))
		if t.Title != "" {
			b.WriteString(mdText(t.Title) + ". ")
		}
		if len(cols) > 0 {
			fmt.Fprintf(b, "Across: %s. ", mdCode(dimensionNames(t, cols, " × ")))
		}
		if folded := len(t.Dimensions) - len(rows) - len(cols); folded > 0 {
			fmt.Fprintf(b, "Folded over %s. ", plural(folded, "other dimension"))
		}
		tt := &terminal{gl: unicodeGlyphs}
		tt.gl.notRun = "–"
		b.WriteString(tt.gl.legend(g, ", ") + ".\n\n|")
		for _, d := range rows {
			b.WriteString(" " + mdText(t.Dimensions[d].Name) + " |")
		}
		for _, l := range g.colLabels {
			b.WriteString(" " + mdText(strings.Join(l, ", ")) + " |")
		}
		b.WriteString("\n|" + strings.Repeat("---|", len(rows)) + strings.Repeat(":-:|", len(g.colLabels)) + "\n")
		for i, l := range g.rowLabels {
			b.WriteString("|")
			for _, v := range l {
				b.WriteString(" " + mdText(v) + " |")
			}
			for j := range g.colLabels {
				b.WriteString(" " + tt.glyph(&g.cells[i][j]) + " |")
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	})
}

func (m *markdown) recoveries(r *Report) {
	m.times("## Recovery times\n\nFrom the cure until there was a pod again, where one had been refused; what the harness "+
		"itself does in between, its writes and marker requests, is part of it.\n\n", "recovery", r, r.Recoveries())
	m.times("## Changes\n\nFrom asking for a change until it held for every client that created pods meanwhile.\n\n", "change",
		r, r.Changes())
}

func (m *markdown) times(heading, of string, r *Report, all []Recovery) {
	if len(all) == 0 {
		return
	}
	m.section(func(b *strings.Builder) {
		b.WriteString(heading +
			"| " + of + " | table | run | cases | median | max |\n|---|---|---|--:|--:|--:|\n")
		for _, x := range all {
			where := x.Where()
			if x.Table != "" {
				where = mdCode(where)
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", mdCode(x.What()), where, mdCode(r.Runs[x.Run].ID),
				thousands(x.Cases), short(x.Median), short(x.Max))
		}
		b.WriteString("\n")
	})
}

func (m *markdown) coverage(r *Report) {
	var rows []string
	for _, t := range []int{2, 3} {
		for _, c := range r.Cover(t) {
			note := ""
			if !c.Sure {
				note = " (at most; the table is too large to tell)"
			}
			missing := ""
			if len(c.Missing) > 0 {
				var words []string
				for _, term := range c.Missing[0] {
					words = append(words, term.String())
				}
				missing = "for example " + mdCode(strings.Join(words, ", "))
			}
			percent := "–"
			if c.Possible > 0 { // rounded down: 100 % is said of nothing less
				percent = fmt.Sprintf("%d.%d %%", c.Touched*100/c.Possible, c.Touched*1000/c.Possible%10)
			}
			rows = append(rows, fmt.Sprintf("| %s | %s | %d | %s | %s%s | %s | %s |\n", mdCode(c.Table), mdCode(r.Runs[c.Run].ID), c.T,
				thousands(c.Touched), thousands(c.Possible), note, percent, missing))
		}
	}
	if len(rows) == 0 {
		return
	}
	m.section(func(b *strings.Builder) {
		b.WriteString("## Coverage\n\nCombinations of the values of any t dimensions that the run touched.\n\n" +
			"| table | run | t | touched | possible | | untouched |\n|---|---|--:|--:|--:|--:|---|\n")
		b.WriteString(strings.Join(rows, ""))
		b.WriteString("\n")
	})
}

func (m *markdown) quarantine(r *Report) {
	if len(r.Quarantine) == 0 {
		return
	}
	m.section(func(b *strings.Builder) {
		b.WriteString("## Quarantine\n\n| cases | runs | owner | issue | until | because |\n|---|---|---|---|---|---|\n")
		for _, q := range r.Quarantine {
			until := mdText(q.Expires)
			if q.Expired {
				until = "**expired** " + until
			}
			run := q.Run
			if run == "" {
				run = "*"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", mdCode(q.Case), mdCode(run), mdText(q.Owner), mdText(q.Issue), until, mdText(q.Because))
		}
		b.WriteString("\n")
	})
}

func (m *markdown) runs(r *Report) {
	m.section(func(b *strings.Builder) {
		b.WriteString("## Runs\n\n| run | lane | provider | Kubernetes | target | selection | took | phases |\n|---|---|---|---|---|---|--:|---|\n")
		for _, run := range r.Runs {
			selection := run.Selection
			if len(run.Shards) > 0 {
				selection = strings.TrimSpace(selection + " shards " + shardNames(run.Shards))
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", mdCode(run.ID), mdText(run.Lane), mdText(run.Provider),
				mdText(run.Kubernetes), mdText(targetName(run.Target)), mdText(selection), short(run.Duration), mdText(run.phaseText()))
		}
	})
}

// mdText makes s plain text in Markdown, also inside a table: nothing in it is markup, HTML, a mention or a link.
func mdText(s string) string {
	var b strings.Builder
	for _, c := range printable(s) {
		switch c {
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '&':
			b.WriteString("&amp;")
		case '\\', '`', '*', '_', '[', ']', '|', '#', '~', '!':
			b.WriteByte('\\')
			b.WriteRune(c)
		case '@': // else GitHub notifies whoever bears the name
			b.WriteString("@\u200b")
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// mdCode makes s code in Markdown, also inside a table, whatever is in it.
func mdCode(s string) string {
	s = printable(s)
	if s == "" {
		return ""
	}
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	s = strings.ReplaceAll(s, "|", `\|`)
	if len(fence) > 1 {
		return fence + " " + s + " " + fence
	}
	return fence + s + fence
}

// mdTerms sets the sentence of a description, whose values come from anywhere.
func mdTerms(s string) string { return "**" + mdText(s) + "**" }

// StepSummary appends Markdown (of a report, or of a comparison) to the file that $GITHUB_STEP_SUMMARY names, within what
// GitHub's limit leaves beside that which the step has written there already, and within half of the limit: a comparison may
// follow a report. Where the variable is not set it does nothing and says so with false.
func StepSummary(render func(io.Writer, Options) error, o Options) (written bool, err error) {
	path := os.Getenv("GITHUB_STEP_SUMMARY")
	if path == "" {
		return false, nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return false, fmt.Errorf("append to the step summary: %w", err)
	}
	defer func() {
		if cerr := f.Close(); cerr != nil && err == nil {
			written, err = false, fmt.Errorf("append to the step summary %s: %w", path, cerr)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("append to the step summary %s: %w", path, err)
	}
	room := min(StepSummaryBytes-int(info.Size()), StepSummaryBytes/2)
	if o.MaxBytes == 0 || o.MaxBytes > room {
		o.MaxBytes = room
	}
	if o.MaxBytes < 1024 { // not even the verdict has room; writing more would lose what is there
		return false, nil
	}
	if err := render(f, o); err != nil {
		return false, fmt.Errorf("append to the step summary %s: %w", path, err)
	}
	return true, nil
}
