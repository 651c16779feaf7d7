// SPDX-License-Identifier: Apache-2.0

package ci

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/scenarios"
)

// target runs one of make's targets with nothing built, and with a script as outrigger: what the recipe makes of what
// the program does.
func target(t *testing.T, script string, args ...string) (code int, out string) {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "outrigger"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("make", append(args, "--no-print-directory", "GO=true", "BIN="+bin)...)
	return execute(t, c, []string{"OUTRIGGER=" + filepath.Join(build(t), "outrigger"), "MAKEFLAGS="}, "..")
}

// Where the run of the gate breaks, the last line that is no line of make's own says so.
func TestGateSaysWhyItsRunBroke(t *testing.T) {
	const broke = "verdict: infrastructure (exit 3): the disk is full"
	for _, name := range []string{"gate", "baseline"} {
		code, out := target(t, `[ "$1" = run ] || exit 99
echo "much else"; echo "`+broke+`"; exit 3`, name, "ARTIFACTS="+t.TempDir(), "BASELINE="+filepath.Join(t.TempDir(), "none"))
		if code == 0 || !strings.Contains(out, broke+"\n") || strings.Contains(out, "much else") || !strings.Contains(out, "Error 3") {
			t.Errorf("make %s: exit %d\n%s", name, code, out)
		}
	}
}

// What make is given comes to the program as it is, whatever make or the shell would make of it.
func TestGivenAsItIs(t *testing.T) {
	const focus, profile = `it's "(a$|b)$,` + "`c` \\d", "$(PROVIDER) $$HOME"
	code, out := target(t, `case "$1" in
provider) echo "<$2>" >&2; echo admission ;;
list) printf '<%s>\n' "$@" >&2; exit 2 ;;
esac`, "e2e", "FOCUS="+focus, "PROFILE="+profile, "PROVIDER=a b")
	for _, word := range []string{focus, profile, "a b"} {
		if code == 0 || !strings.Contains(out, "<"+word+">\n") {
			t.Errorf("%q is not among the words: exit %d\n%s", word, code, out)
		}
	}
}

// A version of Kubernetes that cannot be had is a column that broke; the others have theirs.
func TestMatrixOfAVersionThatCannotBeHad(t *testing.T) {
	artifacts := t.TempDir()
	if err := os.Mkdir(filepath.Join(artifacts, "1.2.3"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{"report.json", "1.2.3/report.json", "1.2.3/junit.xml"} {
		if err := os.WriteFile(filepath.Join(artifacts, old), []byte("of an earlier run"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Instead of running a suite, for which ginkgo would stand, the provider that comes first leaves a report: of 1.37.2 only.
	code, out := target(t, `case "$*" in
provider*) echo controlplane ;;
list*1.37.2*) "$OUTRIGGER" run --quiet --focus kubesphere/.*policy=enabled,host-network=no --artifacts "`+artifacts+`/kept" >/dev/null ;;
list*) echo "outrigger: 1.2.3 is no version that can be had" >&2; exit 2 ;;
verdict*1.37.2/*) mv "`+artifacts+`/kept/report.json" "`+artifacts+`/1.37.2/" ;;
*) exec "$OUTRIGGER" "$@" ;;
esac`, "e2e-matrix", "K8S_VERSIONS=1.2.3 1.37.2", "ARTIFACTS="+artifacts)
	if code == 0 || !strings.Contains(out, "verdict: infrastructure (exit 3): the run controlplane/1.2.3/") {
		t.Errorf("exit %d\n%s", code, out)
	}
	file := filepath.Join(artifacts, "report.json")
	r, err := report.Read(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	valid(t, file)
	if junit, err := os.ReadFile(filepath.Join(artifacts, "1.2.3", "junit.xml")); err != nil || !strings.Contains(string(junit), "left no report (exit 2)") {
		t.Errorf("JUnit of the version that could not be had: %v\n%s", err, junit)
	}
	if len(r.Runs) != 2 || r.Verdict.Counts.Pass == 0 {
		t.Errorf("%d columns: %+v", len(r.Runs), r.Verdict)
	}
}

// Every table that this program carries is in what make gate compares with, and what the injector did to the pods too:
// else neither a table nor a patch could get worse there unseen.
func TestBaselineKnowsEveryTable(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	r, err := report.Read(filepath.Join("..", "reports", "baseline.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range set.Tables {
		kept := r.Table(x.ID())
		switch {
		case kept == nil:
			t.Errorf("the baseline has no table %s: `make baseline` renews it", x.ID())
		case kept.Total != x.Len():
			t.Errorf("the baseline has %d cases of %s, which has %d: `make baseline` renews it", kept.Total, x.ID(), x.Len())
		}
	}
	without := map[string]int{}
	for i := range r.Cases {
		c := &r.Cases[i]
		for _, res := range c.Results {
			if res.Status == report.Pass && res.Observed.Outcome == report.Injected && res.Observed.Digest == "" {
				without[c.Table]++
			}
		}
	}
	for _, table := range slices.Sorted(maps.Keys(without)) {
		t.Errorf("of %d pods of %s that are injected, the baseline does not know how: `make baseline` renews it", without[table], table)
	}
}
