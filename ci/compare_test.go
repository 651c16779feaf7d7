// SPDX-License-Identifier: Apache-2.0

package ci

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/report"
)

// besideBroken gives the path of outrigger beside a reference injector that is built with one text of one of its files
// in another's place.
func besideBroken(t *testing.T, outrigger, file, old, instead string) string {
	t.Helper()
	dir := t.TempDir()
	file, err := filepath.Abs(filepath.Join("..", file))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), old); n != 1 {
		t.Fatalf("%q stands %d times in %s", old, n, file)
	}
	wrong := filepath.Join(dir, filepath.Base(file))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: wrong}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{wrong: []byte(strings.Replace(string(text), old, instead, 1)), filepath.Join(dir, "overlay.json"): overlay} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "injector")
	c := exec.Command("go", "build", "-overlay="+filepath.Join(dir, "overlay.json"), "-o", program, "./injector/cmd/injector")
	if code, out := execute(t, c, []string{"CGO_ENABLED=0"}, ".."); code != 0 {
		t.Fatalf("build the injector: exit %d\n%s", code, out)
	}
	self := filepath.Join(dir, "outrigger")
	if err := os.Link(outrigger, self); err != nil { // a symbolic link would be followed, to the right injector
		t.Fatal(err)
	}
	return self
}

// What changed in the injector, `outrigger compare` names case by case, no more and no less, and exits with the code of
// the kind: a regression where a rule is broken, a changed observation where the tables have nothing against the change.
func TestCompareNamesExactlyWhatChanged(t *testing.T) {
	outrigger := filepath.Join(build(t), "outrigger")
	work := t.TempDir()
	run := func(program, artifacts string) (int, string) {
		t.Helper()
		return execute(t, exec.Command(program, "run", "--quiet", "--profile", "kubesphere", "--artifacts", artifacts), nil, work)
	}
	if code, out := run(outrigger, "before"); code != 0 {
		t.Fatalf("run: exit %d\n%s", code, out)
	}
	valid(t, filepath.Join(work, "before", "report.json"))
	before, err := report.Read(filepath.Join(work, "before", "report.json"))
	if err != nil {
		t.Fatal(err)
	}

	const asked = `kubesphere/decision/workspace=(named|empty),ns-label=(absent|enabled|random|empty),` // about these the injector is asked
	for _, row := range []struct {
		name, file, old, instead string
		exit                     int // of run
		compare                  int // exit code of compare
		kind                     report.ChangeKind
		cases                    string // regular expression of the IDs of all cases that change
		whenever                 string // them in the fewest words
	}{
		{"a rule decides otherwise", "injector/decide/rules.go", "{PolicyEnabled, yes,", "{PolicyEnabled, no,",
			1, report.ExitRegression, report.Regression,
			asked + `annotation=(absent|empty),policy=enabled,host-network=no,namespace=ordinary`,
			"whenever rule=policy-enabled"},
		{"a rule is gone", "injector/decide/rules.go", "	{HostNetwork, no, func(q *question) bool { return q.hostNetwork }, whyHostNetwork},\n", "",
			1, report.ExitRegression, report.Regression,
			asked + `(annotation=(true|True|yes|y|on),policy=(enabled|disabled)|annotation=(absent|empty),policy=enabled),host-network=yes,namespace=ordinary`,
			"host-network=yes"},
		{"another patch, with nothing against it in the tables", "injector/patch/status.go", "`json:\"revision\"`", "`json:\"rev\"`",
			0, report.ExitChangedObservation, report.ChangedObservation,
			asked + `(annotation=(true|True|yes|y|on),policy=(enabled|disabled)|annotation=(absent|empty),policy=enabled),host-network=no,namespace=ordinary`,
			"whenever expected=injected"},
		{"another text that nobody sees", "injector/decide/rules.go", "the pod uses the host's network", "this pod uses the host's network",
			0, 0, "", `$^`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			artifacts := filepath.Join(t.TempDir(), "after")
			code, out := run(besideBroken(t, outrigger, row.file, row.old, row.instead), artifacts)
			if code != row.exit {
				t.Fatalf("run: exit %d, expected %d\n%s", code, row.exit, out)
			}
			code, out = execute(t, exec.Command(outrigger, "compare", "--format", "json", "before/report.json", filepath.Join(artifacts, "report.json")), nil, work)
			if code != row.compare {
				t.Errorf("compare: exit %d, expected %d", code, row.compare)
			}
			valid(t, filepath.Join(artifacts, "report.json"))
			var c report.Comparison
			if err := json.Unmarshal([]byte(out), &c); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if c.Exit != row.compare {
				t.Errorf("exit %d in the comparison, %d of the command", c.Exit, row.compare)
			}
			pattern := regexp.MustCompile("^" + row.cases + "$")
			var want, got []string
			for i := range before.Cases {
				if id := before.Cases[i].ID; pattern.MatchString(id) {
					want = append(want, id)
				}
			}
			if (len(want) == 0) != (row.compare == 0) {
				t.Fatalf("%d cases are like %s", len(want), pattern)
			}
			for _, ch := range c.Changes {
				if ch.Kind != row.kind {
					t.Errorf("%s of %s, where only %s is expected", ch.Kind, ch.Case, row.kind)
				}
				got = append(got, ch.Case)
			}
			if !slices.Equal(got, want) {
				t.Errorf("these cases changed:\n%s\nexpected:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if row.whenever != "" && (len(c.Groups) != 1 || !strings.Contains(c.Groups[0].Whenever, row.whenever)) {
				t.Errorf("in the fewest words: %+v, expected %s", c.Groups, row.whenever)
			}
		})
	}
}
