// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func render(t *testing.T, f func(io.Writer, *Report, Options) error, r *Report, o Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b, r, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// small is a report that a golden file can hold: the table of faults, with one of everything.
func small(t testing.TB) *Report {
	t.Helper()
	tab := faultTable()
	b, err := NewBuilder(Run{Lane: "controlplane", Provider: "source", Kubernetes: "1.37.2", Routing: "clusterip",
		Target: TargetInfo{Name: "reference", Version: "0.1.0"}, Duration: 2e9, Planned: 10, Rerun: "outrigger run --case {case}"}, []Table{tab})
	if err != nil {
		t.Fatal(err)
	}
	b.quar, err = NewQuarantine([]QuarantineEntry{{Case: "*fault=refused*Ignore", Owner: "@anna", Issue: "#7", Expires: "2026-12-31"}})
	if err != nil {
		t.Fatal(err)
	}
	product(&tab, func(id string, values []string, by map[string]string) {
		rule, want := "fails", Failed
		if by["fault"] == "none" {
			rule, want = "no-fault", Injected
		} else if by["failure-policy"] == "Ignore" {
			rule, want = "ignored", Untouched
		}
		res := Result{Status: Pass, Observed: Observed{Outcome: want}, Attempted: 1, Received: 1, Latency: 1500000}
		switch by["fault"] {
		case "timeout":
			res.Status, res.Observed, res.Why = Fail, Observed{Outcome: Injected}, "the sidecar is there although <the call> & \"its\" answer timed out"
			res.Artefacts = []string{"cases/1/pod.yaml"}
		case "tls-unknown-ca":
			res = Result{Status: NotRun, Why: "the lane has no TLS faults"}
		case "refused":
			res.Status, res.Tries, res.Why = Flaky, 3, "passed 2 and failed 1 of 3 tries: refused"
		case "http-500":
			if by["failure-policy"] == "Fail" {
				res = Result{Status: Error, Why: "etcd went away"}
			}
		}
		if err := b.Add(CaseResult{ID: id, Table: tab.ID, Values: values, Rule: rule, Expected: Expected{Outcome: want}, Result: res}); err != nil {
			t.Fatal(err)
		}
	})
	return b.Finish()
}

func TestGoldens(t *testing.T) {
	three, baseline := threeRuns(t)
	for _, c := range []struct {
		file string
		got  string
	}{
		{"small.junit.xml", render(t, JUnit, small(t), Options{})},
		{"small.terminal.txt", render(t, Terminal, small(t), Options{})},
		{"small.colour.txt", render(t, Terminal, small(t), Options{Colour: true})},
		{"small.ascii.txt", render(t, Terminal, small(t), Options{ASCII: true})},
		{"small.markdown.md", render(t, Markdown, small(t), Options{})},
		{"good.terminal.txt", render(t, Terminal, sample{}.report(t), Options{})},
		{"three.terminal.txt", render(t, Terminal, three, Options{Baseline: baseline})},
		{"three.markdown.md", render(t, Markdown, three, Options{Baseline: baseline})},
	} {
		golden(t, "testdata/"+c.file, []byte(c.got))
	}
}

func TestRenderingsAreStable(t *testing.T) {
	for _, rd := range Renderers {
		a, b := render(t, rd.Render, small(t), Options{}), render(t, rd.Render, small(t), Options{})
		if a != b {
			t.Errorf("%s: the same report gives two renderings", rd.Name)
		}
		if got, err := RendererFor(rd.Name); err != nil || got.Name != rd.Name || rd.Extension[0] != '.' || rd.About == "" {
			t.Errorf("%s: %v", rd.Name, err)
		}
	}
	if _, err := RendererFor("pdf"); err == nil || !strings.Contains(err.Error(), "take one of terminal, json, html, markdown, junit") {
		t.Error(err)
	}
}

func TestTerminalKeepsToItself(t *testing.T) {
	plain, ascii := render(t, Terminal, small(t), Options{}), render(t, Terminal, small(t), Options{ASCII: true})
	if strings.Contains(plain, "\x1b") {
		t.Error("colours although none were asked for")
	}
	if i := strings.IndexFunc(ascii, func(c rune) bool { return c > 0x7e }); i >= 0 {
		t.Errorf("not ASCII: %q", ascii[i:min(i+10, len(ascii))])
	}
	lines := strings.Split(strings.TrimSpace(plain), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "verdict: not-conformant (exit 1): ") {
		t.Errorf("the last line is %q", last)
	}
	big := sample{size: 20, bug: failing(func(v map[string]string) bool { return v["never"] == "matches" })}.report(t)
	if n := strings.Count(render(t, Terminal, big, Options{}), "\n"); n > 100 {
		t.Errorf("%d lines for %d failures", n, big.Verdict.Counts.Fail)
	}
	evil := small(t)
	for i := range evil.Cases {
		evil.Cases[i].Results[0].Why = "\x1b[2Jgone\nverdict: conformant"
	}
	out := render(t, Terminal, evil, Options{})
	if strings.Contains(out, "\x1b") || strings.Contains(out, "\nverdict: conformant") {
		t.Error("a message of the report steers the terminal")
	}
}

func TestColourAndASCIIFollowTheEnvironment(t *testing.T) {
	if ColourFor(os.Stdin) && os.Getenv("NO_COLOR") != "" {
		t.Error("colours in spite of NO_COLOR")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ColourFor(f) {
		t.Error("colours in a file")
	}
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false}, {map[string]string{"LANG": "C"}, true}, {map[string]string{"LANG": "en_GB.UTF-8"}, false},
		{map[string]string{"LANG": "en_GB.UTF-8", "LC_ALL": "POSIX"}, true}, {map[string]string{"LANG": "C", "LC_CTYPE": "C.utf8"}, false},
	} {
		if got := ASCIIFor(func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%v: %v", c.env, got)
		}
	}
}

// What a CI system reads of it: sums that agree, and a failure for what no case shows.
func TestJUnitCounts(t *testing.T) {
	type testcase struct {
		Skipped *struct{}  `xml:"skipped"`
		Fail    []struct{} `xml:"failure"`
		Err     []struct{} `xml:"error"`
	}
	type suite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	broken := sample{}.report(t)
	broken.Runs[0].Ended, broken.Runs[0].Problem = Infrastructure, "etcd <gone>"
	broken.Judge()
	slow := sample{}.report(t)
	slow.Runs[0].Budgets = []Budget{{Quantile: 0.5, Limit: 1, Observed: 2}}
	slow.Judge()
	for _, c := range []struct {
		name                             string
		r                                *Report
		tests, failures, errors, skipped int
	}{
		{"good", sample{}.report(t), 226, 0, 0, 0},
		{"small", small(t), 10, 3, 1, 3},
		{"failing", sample{bug: emptyIsTrue}.report(t), 226, 2, 0, 0},
		{"a run that broke", broken, 227, 0, 1, 0},
		{"a budget broken", slow, 227, 1, 0, 0},
	} {
		var doc struct {
			XMLName  xml.Name `xml:"testsuites"`
			Tests    int      `xml:"tests,attr"`
			Failures int      `xml:"failures,attr"`
			Errors   int      `xml:"errors,attr"`
			Skipped  int      `xml:"skipped,attr"`
			Suites   []suite  `xml:"testsuite"`
		}
		if err := xml.Unmarshal([]byte(render(t, JUnit, c.r, Options{})), &doc); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var tests, failures, errs, skipped int
		for _, s := range doc.Suites {
			var f, e, k int
			for _, tc := range s.Cases {
				f, e = f+len(tc.Fail), e+len(tc.Err)
				if tc.Skipped != nil {
					k++
				}
			}
			if len(s.Cases) != s.Tests || f != s.Failures || e != s.Errors || k != s.Skipped {
				t.Errorf("%s, suite %s: its sums are not those of its cases", c.name, s.Name)
			}
			tests, failures, errs, skipped = tests+s.Tests, failures+s.Failures, errs+s.Errors, skipped+s.Skipped
		}
		got := []int{doc.Tests, doc.Failures, doc.Errors, doc.Skipped}
		if !slices.Equal(got, []int{tests, failures, errs, skipped}) || !slices.Equal(got, []int{c.tests, c.failures, c.errors, c.skipped}) {
			t.Errorf("%s: %v in all, %v in the suites, want %v", c.name, got, []int{tests, failures, errs, skipped}, []int{c.tests, c.failures, c.errors, c.skipped})
		}
	}
}

// CI systems bound the file: what passes, which is nearly everything, must not cost much.
// Class and name are all by which CI systems tell test cases apart: no two may have the same, whatever the runs share.
func TestJUnitNamesAreUnique(t *testing.T) {
	one := sample{}.report(t)
	other := func(id string, change func(*Run)) *Report {
		r := sample{}.report(t)
		r.Runs[0].ID = id
		change(&r.Runs[0])
		return r
	}
	r, err := Merge(one, sample{kubernetes: "1.36.3"}.report(t), sample{lane: "kind"}.report(t), sample{version: "0.2.0"}.report(t),
		other("a", func(r *Run) { r.Routing = "endpoints" }), other("b", func(r *Run) { r.Target.Name = "mine" }),
		other("c", func(r *Run) { r.Provider = "another" }), other("d", func(r *Run) { r.Target.Digest = "sha256:another" }))
	if err != nil {
		t.Fatal(err)
	}
	seen, classes := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`<testcase classname="([^"]*)" name="([^"]*)"`).FindAllStringSubmatch(render(t, JUnit, r, Options{}), -1) {
		if seen[m[0]] {
			t.Fatalf("two test cases are %s", m[0])
		}
		seen[m[0]], classes[m[1]] = true, true
	}
	if len(seen) != 8*226 {
		t.Errorf("%d test cases", len(seen))
	}
	for _, want := range []string{"webhook.faults.kind", "webhook.faults.admission.1_36_3", "webhook.faults.admission.1_37_2.endpoints"} {
		if !classes[want] {
			t.Errorf("no class is %s; there are %v", want, slices.Sorted(maps.Keys(classes)))
		}
	}
	if c := junitColumns(one.Runs); c[0] != ".admission" {
		t.Errorf("a run alone has the classes of %s", c[0])
	}
}

func TestJUnitOfPassesIsSmall(t *testing.T) {
	r := sample{}.report(t)
	if each := len(render(t, JUnit, r, Options{})) / len(r.Cases); each > 400 {
		t.Errorf("%d bytes a case that passed", each)
	}
}

func TestStepSummary(t *testing.T) {
	r := sample{bug: emptyIsTrue}.report(t)
	of := func(w io.Writer, o Options) error { return Markdown(w, r, o) }
	t.Setenv("GITHUB_STEP_SUMMARY", "")
	if written, err := StepSummary(of, Options{}); written || err != nil {
		t.Errorf("without the variable: %v, %v", written, err)
	}
	path := filepath.Join(t.TempDir(), "summary.md")
	t.Setenv("GITHUB_STEP_SUMMARY", path)
	for _, c := range []struct {
		name    string
		there   int
		written bool
	}{{"empty", 0, true}, {"something", 5000, true}, {"nearly full", StepSummaryBytes - 3000, true}, {"full", StepSummaryBytes - 10, false}} {
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), c.there), 0o644); err != nil {
			t.Fatal(err)
		}
		written, err := StepSummary(of, Options{})
		if err != nil || written != c.written {
			t.Errorf("%s: %v, %v", c.name, written, err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > StepSummaryBytes || !bytes.HasPrefix(data, bytes.Repeat([]byte("x"), c.there)) {
			t.Errorf("%s: %d bytes", c.name, len(data))
		}
		if c.written && !bytes.Contains(data, []byte("not-conformant")) {
			t.Errorf("%s: the verdict is not there", c.name)
		}
		if c.name == "nearly full" && !bytes.Contains(data, []byte("left out")) {
			t.Errorf("%s: cut without a word", c.name)
		}
	}
	// One document leaves room for another.
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := StepSummary(func(_ io.Writer, o Options) error {
		if o.MaxBytes != StepSummaryBytes/2 {
			t.Errorf("a document may have %d bytes", o.MaxBytes)
		}
		return nil
	}, Options{})
	if err != nil {
		t.Error(err)
	}
	t.Setenv("GITHUB_STEP_SUMMARY", filepath.Join(path, "no-folder"))
	if _, err := StepSummary(of, Options{}); err == nil {
		t.Error("a summary that cannot be written is no error")
	}
}

func TestMarkdownIsInert(t *testing.T) {
	r := small(t)
	for i := range r.Cases {
		r.Cases[i].Results[0].Why = "<script>x</script> | @everyone ![x](http://x) `a` \xff"
	}
	out := render(t, Markdown, r, Options{})
	for _, bad := range []string{"<script", "@everyone", "![x](", "\xff"} {
		if strings.Contains(out, bad) {
			t.Errorf("%q is in the Markdown", bad)
		}
	}
	if !utf8.ValidString(out) {
		t.Error("not UTF-8")
	}
	for _, limit := range []int{500, 1000, 2000} {
		cut := render(t, Markdown, r, Options{MaxBytes: limit})
		if len(cut) > limit || !strings.Contains(cut, "left out") {
			t.Errorf("limit %d: %d bytes", limit, len(cut))
		}
	}
}

func TestFullWriters(t *testing.T) {
	for _, rd := range ComparisonRenderers {
		if err := rd.Render(&fullDisk{io.Discard, 3}, Compare(small(t), small(t), CompareOptions{}), Options{}); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", rd.Name, err)
		}
	}
}
