// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
)

// whole runs options to the end and gives what Finish gave.
func whole(t *testing.T, o run.Options) (*report.Report, error) {
	t.Helper()
	s, err := run.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ended := s.Run(t.Context(), nil)
	r, err := s.Finish(ended)
	if err != nil {
		t.Fatal(err)
	}
	if o.Artifacts != "" {
		valid(t, run.ReportFile(o.Artifacts))
	}
	return r, ended
}

// once runs options and gives the report, which must follow the published schema.
func once(t *testing.T, o run.Options) (*report.Report, error) {
	t.Helper()
	r, err := run.Once(t.Context(), o)
	if err == nil {
		file := filepath.Join(t.TempDir(), "report.json")
		if err := report.Write(file, r); err != nil {
			t.Fatal(err)
		}
		valid(t, file)
	}
	return r, err
}

// valid fails where a report that was written does not follow the published schema.
func valid(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Validate(data); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}

// Of a case that does not hold the artefacts' folder has all that is known, and the report names it.
func TestEvidence(t *testing.T) {
	t.Parallel()
	artifacts := t.TempDir()
	mine := filepath.Join(artifacts, "cases", "mine.txt")
	old := filepath.Join(artifacts, "cases", "or-aaaaaaaaaaaaa")
	if err := os.MkdirAll(old, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, mine, "not outrigger's")
	write(t, filepath.Join(old, "case.yaml"), "of an earlier run")
	file, _ := fickle(t, "nyn")
	r, ended := whole(t, run.Options{Target: file, Focus: "^" + asked + "$", Artifacts: artifacts, Repeat: 3})
	if ended != nil {
		t.Fatal(ended)
	}
	res := r.Cases[0].Results[0]
	key := find(t, asked).Key()
	want := []string{"case.yaml", "admitted.yaml", "call-1-review.json", "call-1-answer.json", "sent.yaml", "settings.yaml", "arranged.yaml"}
	var got []string
	for _, name := range res.Artefacts {
		text, err := os.ReadFile(filepath.Join(artifacts, filepath.FromSlash(name)))
		if err != nil || len(text) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		if folder := "cases/" + key + "/"; !strings.HasPrefix(name, folder) {
			t.Errorf("%s is not in %s", name, folder)
		}
		got = append(got, filepath.Base(name))
		if base := filepath.Base(name); base == "case.yaml" && !strings.Contains(string(text), "expected injected, observed untouched") ||
			base == "sent.yaml" && !strings.Contains(string(text), key) {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	if res.Status != report.Flaky || !slices.Equal(got, want) {
		t.Errorf("%s with %q, expected %q", res.Status, got, want)
	}
	if _, err := os.Stat(filepath.Join(artifacts, "cases", key+"-2", "case.yaml")); err != nil {
		t.Errorf("the second try that failed: %v", err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("what an earlier run kept is still there")
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("a file that is not outrigger's is gone: %v", err)
	}

	// One that holds leaves nothing.
	file, _ = fickle(t, "y")
	r, _ = whole(t, run.Options{Target: file, Focus: "^" + asked + "$", Artifacts: artifacts})
	if n := len(r.Cases[0].Results[0].Artefacts); n != 0 || r.Verdict.Exit != 0 {
		t.Errorf("%s: %d artefacts of a case that holds", r.Verdict.Because, n)
	}
	if left, err := filepath.Glob(filepath.Join(artifacts, "cases", "or-*")); err != nil || len(left) > 0 {
		t.Errorf("left of the run before: %q, %v", left, err)
	}
}

// Of many cases that fail by one rule a few are kept, and the report says of how many nothing was.
func TestEvidenceIsBounded(t *testing.T) {
	t.Parallel()
	artifacts := t.TempDir()
	file, _ := fickle(t, "")
	r, ended := whole(t, run.Options{Target: file, Focus: "annotation=true,policy=enabled,host-network=no", Artifacts: artifacts, Repeat: 6})
	if ended != nil {
		t.Fatal(ended)
	}
	folders, err := os.ReadDir(filepath.Join(artifacts, "cases"))
	if err != nil || len(folders) != 3 {
		t.Errorf("%d folders, expected 3; %v", len(folders), err)
	}
	failed := 0
	for i := range r.Cases {
		if res := r.Cases[i].Results[0]; res.Status == report.Fail {
			failed += res.Tries
		}
	}
	if failed <= 3 || r.Runs[0].NoEvidence != failed-3 {
		t.Errorf("%d tries failed, of %d nothing was kept", failed, r.Runs[0].NoEvidence)
	}
}

// Whatever the run before left, its report and every rendering of it, cannot be taken for this one's: neither while the
// run is under way nor where it could not even be opened.
func TestNoRenderingOutlivesItsRun(t *testing.T) {
	artifacts := t.TempDir()
	file, _ := fickle(t, "")
	options := run.Options{Target: file, Focus: "^" + asked + "$", Artifacts: artifacts}
	names := []string{"report.json", "report.html", "report.md", "report.txt", "junit.xml"}
	for _, name := range names {
		write(t, filepath.Join(artifacts, name), "of an earlier run")
	}
	s, err := run.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(artifacts, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of the run before is still there: %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	for _, name := range names {
		write(t, filepath.Join(artifacts, name), "of an earlier run")
	}
	write(t, filepath.Join(artifacts, "nowhere"), "no folder")
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", filepath.Join(artifacts, "nowhere"))
	if _, err := run.Open(t.Context(), options); err == nil || run.Exit(err) != report.ExitInfrastructure {
		t.Fatalf("opened without a place for its processes: %v", err)
	}
	valid(t, run.ReportFile(artifacts))
	for _, name := range names {
		if data, err := os.ReadFile(filepath.Join(artifacts, name)); err != nil || !strings.Contains(string(data), "nowhere") {
			t.Errorf("%s does not say why the run was not opened: %v\n%.300s", name, err, data)
		}
	}
}

// A run that left no report gets one that says so, and one that left any does not.
func TestLost(t *testing.T) {
	o := run.Options{Lane: "controlplane", Kubernetes: "1.2.3", Artifacts: filepath.Join(t.TempDir(), "a")}
	var usage *run.UsageError
	if err := run.Lost(o, ""); !errors.As(err, &usage) {
		t.Errorf("for no reason: %v", err)
	}
	if err := run.Lost(o, "the job died"); err != nil {
		t.Fatal(err)
	}
	valid(t, run.ReportFile(o.Artifacts))
	r, err := report.Read(run.ReportFile(o.Artifacts))
	if err != nil || r.Verdict.Exit != report.ExitInfrastructure || r.Runs[0].Kubernetes != "1.2.3" || r.Runs[0].Problem != "the job died" {
		t.Errorf("%v: %+v", err, r)
	}
	if err := run.Lost(o, "the job died"); !errors.As(err, &usage) {
		t.Errorf("where there is a report: %v", err)
	}
}

// Evidence that cannot be kept is a fault of the machine, and said.
func TestEvidenceThatCannotBeKept(t *testing.T) {
	t.Parallel()
	artifacts := t.TempDir()
	key := find(t, asked).Key()
	file, calls := fickle(t, "")
	s, err := run.Open(t.Context(), run.Options{Target: file, Focus: "^" + asked + "$", Artifacts: artifacts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := os.MkdirAll(filepath.Join(artifacts, "cases"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(artifacts, "cases", key), "in the way")
	ended := s.Run(t.Context(), nil)
	if ended == nil || !strings.Contains(ended.Error(), "keep evidence of "+asked) || calls.Load() != 1 {
		t.Errorf("%v after %d calls", ended, calls.Load())
	}
	r, err := s.Finish(ended)
	if err != nil || r.Verdict.Exit != report.ExitInfrastructure || len(r.Cases[0].Results[0].Artefacts) != 0 {
		t.Errorf("%v: %+v", err, r.Verdict)
	}
}
