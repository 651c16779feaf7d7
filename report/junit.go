// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// JUnit writes JUnit XML as the usual CI systems group it: a test suite for each table and run, the table and what tells
// the run from others as class, the combination as name. What did not run is skipped with the missing feature; what is quarantined is skipped with its
// observation; flaky is a failure of that type; infrastructure is an error.
//
// Every case has its rule and what was observed as properties. What a case that passed has in its name already (the ID,
// each dimension's value), or has by passing (what was expected), is not said once more: CI systems bound the size of
// the file, GitLab to 30 MB, and passes are nearly all of it.
func JUnit(w io.Writer, r *Report, _ Options) error {
	j := &junit{w: bufio.NewWriterSize(w, 1<<16), columns: junitColumns(r.Runs)}
	n := r.Verdict.Counts
	whole := wholeFailure(r.Verdict)
	switch whole {
	case "failure":
		n.Total, n.Fail = n.Total+1, n.Fail+1
	case "error":
		n.Total, n.Error = n.Total+1, n.Error+1
	}
	j.raw(xml.Header)
	j.open("testsuites", "name", "outrigger", "tests", strconv.Itoa(n.Total), "failures", strconv.Itoa(n.Fail+n.Flaky),
		"errors", strconv.Itoa(n.Error), "skipped", strconv.Itoa(n.NotRun+n.Quarantined))
	all := r.tallies()
	for ti := range r.Tables {
		t := &r.Tables[ti]
		for run, n := range all[t.ID] {
			if n != nil {
				j.suite(r, t, run, n)
			}
		}
	}
	j.verdict(r.Verdict, whole)
	j.raw("</testsuites>\n")
	if err := j.w.Flush(); err != nil {
		return fmt.Errorf("write JUnit XML: %w", err)
	}
	return nil
}

type junit struct {
	w       *bufio.Writer
	columns []string // for each run what its classes end with
}

// junitColumns gives each run a name for classes of test cases, because CI systems tell test cases apart by class and
// name alone: its lane, and where several runs share that, what else they differ in.
func junitColumns(runs []Run) []string {
	parts := []func(Run) string{
		func(r Run) string { return r.Lane },
		func(r Run) string { return r.Kubernetes },
		func(r Run) string { return r.Routing },
		func(r Run) string { return r.Target.Name },
		func(r Run) string { return r.Target.Version },
		func(r Run) string { return r.ID }, // of which no two have the same
	}
	clean := strings.NewReplacer("/", "_", " ", "-", ".", "_") // dots part a class into packages
	names := make([]string, len(runs))
	for k, part := range parts {
		again := map[string][]int{} // runs that have the same name so far
		for i := range names {
			again[names[i]] = append(again[names[i]], i)
		}
		for _, same := range again {
			differ := slices.ContainsFunc(same, func(i int) bool { return part(runs[i]) != part(runs[same[0]]) })
			for _, i := range same {
				if s := part(runs[i]); k == 0 || differ && s != "" {
					names[i] += "." + clean.Replace(s)
				}
			}
		}
	}
	return names
}

func (j *junit) raw(s string) { _, _ = j.w.WriteString(s) } // bufio keeps the first error for Flush

// open writes a start tag with its attributes, given as name and value in turn.
func (j *junit) open(name string, attrs ...string) { j.tag(name, ">\n", attrs) }

// empty writes an element that has nothing but attributes.
func (j *junit) empty(name string, attrs ...string) { j.tag(name, "/>\n", attrs) }

func (j *junit) tag(name, end string, attrs []string) {
	j.raw("<" + name)
	for i := 0; i+1 < len(attrs); i += 2 {
		j.raw(" " + attrs[i] + `="`)
		_ = xml.EscapeText(j.w, []byte(attrs[i+1]))
		j.raw(`"`)
	}
	j.raw(end)
}

func (j *junit) element(name, content string, attrs ...string) {
	j.open(name, attrs...)
	_ = xml.EscapeText(j.w, []byte(content))
	j.raw("</" + name + ">\n")
}

func (j *junit) property(name, value string) {
	if value != "" {
		j.empty("property", "name", name, "value", value)
	}
}

func (j *junit) suite(r *Report, t *Table, run int, n *tally) {
	rn := &r.Runs[run]
	var sum time.Duration
	for _, d := range n.lat {
		sum += d
	}
	attrs := []string{"name", t.ID + " [" + rn.ID + "]", "tests", strconv.Itoa(n.Total),
		"failures", strconv.Itoa(n.Fail + n.Flaky), "errors", strconv.Itoa(n.Error),
		"skipped", strconv.Itoa(n.NotRun + n.Quarantined), "time", seconds(sum)}
	if !rn.Started.IsZero() {
		attrs = append(attrs, "timestamp", rn.Started.UTC().Format("2006-01-02T15:04:05"))
	}
	j.open("testsuite", attrs...)
	j.raw("<properties>\n")
	for _, p := range [][2]string{{"lane", rn.Lane}, {"provider", rn.Provider}, {"kubernetes", rn.Kubernetes},
		{"routing", rn.Routing}, {"target", rn.Target.Name}, {"target.version", rn.Target.Version},
		{"target.digest", rn.Target.Digest}, {"outrigger", rn.Outrigger}, {"selection", rn.Selection},
		{"table.title", t.Title}, {"table.digest", t.Digest}} {
		j.property(p[0], p[1])
	}
	j.raw("</properties>\n")
	for i := range r.Cases {
		if c := &r.Cases[i]; c.Table == t.ID {
			if res := c.Result(run); res != nil {
				j.testcase(r, t, c, res)
			}
		}
	}
	j.raw("</testsuite>\n")
}

func (j *junit) testcase(r *Report, t *Table, c *Case, res *Result) {
	rule, e := c.Expectation(res)
	class := strings.ReplaceAll(t.ID, "/", ".") + j.columns[res.Run]
	j.open("testcase", "classname", class, "name", c.Combination(), "time", seconds(res.Latency))
	j.raw("<properties>\n")
	if res.Status.Bad() {
		j.property("id", c.ID)
		for d, v := range c.Values {
			j.property("dimension."+t.Dimensions[d].Name, t.Dimensions[d].Values[v])
		}
	}
	j.property("rule", rule)
	if res.Status != Pass {
		j.property("expected", string(e.Outcome))
	}
	j.property("observed", string(res.Observed.Outcome))
	if res.Status.Bad() {
		j.property("attempted", strconv.Itoa(res.Attempted))
		j.property("received", strconv.Itoa(res.Received))
	}
	if res.Tries > 1 {
		j.property("tries", strconv.Itoa(res.Tries))
	}
	if res.Recovery > 0 {
		j.property("recovery", seconds(res.Recovery))
	}
	for _, a := range res.Artefacts {
		j.property("artefact", a)
	}
	j.raw("</properties>\n")
	message := mismatchOf(e, res.Observed)
	if res.Why != "" {
		message = res.Why
	}
	switch {
	case res.Forgiven():
		j.empty("skipped", "message", "quarantined "+string(res.Status)+": "+message)
	case res.Status == NotRun:
		j.empty("skipped", "message", orUnknown(res.Why))
	case res.Status == Error:
		j.element("error", j.details(r, t, c, res), "type", "infrastructure", "message", message)
	case res.Status == Fail || res.Status == Flaky:
		j.element("failure", j.details(r, t, c, res), "type", string(res.Status), "message", message)
	}
	j.raw("</testcase>\n")
}

func (j *junit) details(r *Report, t *Table, c *Case, res *Result) string {
	name, e := c.Expectation(res)
	var b strings.Builder
	fmt.Fprintf(&b, "case: %s\n%s\n", c.ID, mismatchOf(e, res.Observed))
	if rule := t.Rule(name); rule != nil {
		fmt.Fprintf(&b, "rule: %s (%s) %s\n", rule.Name, rule.Because, rule.Source)
	}
	if o := res.Observed; o.Code != 0 || o.Message != "" {
		fmt.Fprintf(&b, "observed: %d %s %s\n", o.Code, o.Reason, o.Message)
	}
	if cmd := r.RerunCommand(c, res); cmd != "" {
		fmt.Fprintf(&b, "again: %s\n", cmd)
	}
	return b.String()
}

// wholeFailure is the kind of JUnit element for what no case shows, such as a shard that is missing or a budget that is
// broken; empty where the cases show it all.
func wholeFailure(v Verdict) string {
	switch {
	case v.Exit == ExitConformant, v.Conclusion == NotConformant && v.Counts.Fail+v.Counts.Flaky > 0:
		return ""
	case v.Exit == ExitNotConformant:
		return "failure"
	}
	return "error"
}

// verdict adds a test case for such a thing: else a CI system that reads only this file would show nothing but passes.
func (j *junit) verdict(v Verdict, kind string) {
	if kind == "" {
		return
	}
	failures, errs := "0", "1"
	if kind == "failure" {
		failures, errs = "1", "0"
	}
	j.open("testsuite", "name", "verdict", "tests", "1", "failures", failures, "errors", errs, "skipped", "0", "time", "0")
	j.open("testcase", "classname", "outrigger.verdict", "name", string(v.Conclusion), "time", "0")
	j.element(kind, v.Because, "type", string(v.Conclusion), "message", v.Because)
	j.raw("</testcase>\n</testsuite>\n")
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 6, 64) }
