// SPDX-License-Identifier: Apache-2.0

package mutants

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
)

var update = flag.Bool("update", false, "write the schema instead of comparing it")

// Every row fits the source as it is: a change that moves a line fails here, and names the row.
func TestEveryMutantStands(t *testing.T) {
	list, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(m.File)))
		if err != nil {
			t.Errorf("mutant %s (line %d): %v", m.Name, m.line, err)
			continue
		}
		wrong, err := m.Apply(text)
		if err != nil {
			t.Error(err)
		} else if bytes.Equal(wrong, text) {
			t.Errorf("mutant %s (line %d) changes nothing", m.Name, m.line)
		}
		if m.NoticedBy == Tests {
			tests, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(m.Package), "*_test.go"))
			if err != nil || len(tests) == 0 {
				t.Errorf("mutant %s (line %d): package %s has no tests", m.Name, m.line, m.Package)
			}
		}
	}
}

// The rules that are to notice exist; and each rule of each table of the injector's decision is named by a mutant, so
// that whoever adds a rule adds what breaks it.
func TestRulesExist(t *testing.T) {
	list, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	known, named := map[string]bool{}, map[string]bool{}
	for _, tb := range set.Tables {
		for _, r := range tb.Rules {
			known[string(r.Name)] = true
		}
	}
	for _, m := range list {
		for _, r := range m.Rules {
			if named[r] = true; !known[r] {
				t.Errorf("mutant %s (line %d): no table has a rule %q", m.Name, m.line, r)
			}
		}
	}
	for _, tb := range set.Tables {
		for _, r := range tb.Rules {
			if tb.Name == "decision" && !named[string(r.Name)] {
				t.Errorf("%s:%d: no mutant names rule %q: add one to mutants.yaml that it must notice", tb.File, r.Line, r.Name)
			}
		}
	}
}

// The issue asks for at least 40, of all three parts.
func TestThereAreEnough(t *testing.T) {
	list, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	count := map[Part]int{}
	for _, m := range list {
		count[m.Of]++
	}
	if len(list) < 45 || count[Injector] < 25 || count[Webhook] < 8 || count[Harness] < 12 {
		t.Errorf("%d mutants: %v", len(list), count)
	}
}

const good = `schema: outrigger.dev/mutants/v1alpha1
mutants:
  - mutant: a
    of: injector
    file: x/y.go
    old: right
    new: wrong
    what: it is wrong
`

func TestRefused(t *testing.T) {
	if _, err := parse("m.yaml", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, old, new, want string }{
		{"newer schema", "v1alpha1", "v2", `m.yaml: schema is "outrigger.dev/mutants/v2"`},
		{"unknown field", "what:", "wat:", `m.yaml:8: unknown field "wat"`},
		{"no mutants", good[strings.Index(good, "mutants:\n"):], "mutants: []\n", "there are no mutants"},
		{"not YAML", "mutants:\n", "mutants: [\n", "m.yaml"},
		{"a bad name", "mutant: a", "mutant: A b", `m.yaml:3: mutant "A b": a name has`},
		{"an unknown part", "of: injector", "of: kubelet", `m.yaml:3: mutant "a": of "kubelet"`},
		{"a file outside", "file: x/y.go", "file: ../y.go", "is not a path within the checkout"},
		{"an absolute file", "file: x/y.go", "file: /y.go", "is not a path within the checkout"},
		{"no change", "new: wrong", "new: right", "old must be there, and differ from new"},
		{"no reason", "    what: it is wrong\n", "", "what is wrong then?"},
		{"noticed by nobody", "what:", "noticed-by: luck\n    what:", `noticed-by "luck"`},
		{"tests of no package", "what:", "noticed-by: tests\n    what:", "tests are of a package"},
		{"tests with rules", "what:", "noticed-by: tests\n    package: ./x\n    rules: [r]\n    what:", "know no rules"},
		{"tables with a package", "what:", "package: ./x\n    what:", "package and run are for tests only"},
		{"a bad run", "what:", "noticed-by: tests\n    package: ./x\n    run: (\n    what:", "run is not a regular expression"},
		{"twice", "    what: it is wrong\n", "    what: it is wrong\n" + good[strings.Index(good, "  - mutant"):], "m.yaml:9: mutant \"a\": the mutant of line 3 has the same name"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if strings.Count(good, row.old) != 1 {
				t.Fatalf("%q does not stand once in the good file", row.old)
			}
			_, err := parse("m.yaml", []byte(strings.Replace(good, row.old, row.new, 1)))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v\nexpected one with %s", err, row.want)
			}
		})
	}
}

func TestApply(t *testing.T) {
	for _, row := range []struct {
		name, text, after, old string
		want, err              string
	}{
		{"once", "a b c", "", "b", "a X c", ""},
		{"twice", "a b b", "", "b", "", `old "b" stands 2 times`},
		{"gone", "a c", "", "b", "", `old "b" stands 0 times`},
		{"behind", "b a b b", "a", "b", "b a X b", ""},
		{"behind what is gone", "b b", "a", "b", "", `after "a" stands 0 times`},
		{"behind what stands twice", "a a b", "a", "b", "", `after "a" stands 2 times`},
		{"only before", "b a", "a", "b", "", `old "b" stands 0 times`},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := []byte(row.text)
			m := Mutant{Name: "m", File: "f", After: row.after, Old: row.old, New: "X"}
			got, err := m.Apply(text)
			if string(got) != row.want || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("got %q, %v", got, err)
			}
			if string(text) != row.text {
				t.Errorf("the text itself was changed to %q", text)
			}
		})
	}
}

func TestFailedTest(t *testing.T) {
	for _, row := range []struct{ output, want string }{
		{"PASS\n", ""},
		{"--- FAIL: TestA (0.00s)\n    x_test.go:1: --- FAIL is not a line\nFAIL\n", "TestA"},
		{"--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/row (0.00s)\n        --- FAIL: TestA/row/deep (0.00s)\nFAIL\n", "TestA/row/deep"},
		{"--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/one (0.00s)\n    --- FAIL: TestA/two (0.00s)\n--- FAIL: TestB (0.00s)\n", "TestA/one"},
		{"    --- FAIL: TestA/one (0.00s)\n", "TestA/one"},
	} {
		if got := failedTest(row.output); got != row.want {
			t.Errorf("failedTest(%q) is %q, expected %q", row.output, got, row.want)
		}
	}
}

func TestFindCheckout(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, err := findCheckout(here)
	if err != nil {
		t.Fatal(err)
	}
	if c.root != filepath.Dir(here) {
		t.Errorf("found %s, expected the folder above %s", c.root, here)
	}
	if err := c.check(); err != nil {
		t.Errorf("the test was built from this checkout: %v", err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "go.mod"), []byte("module example.com/other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := findCheckout(other); !errors.Is(err, ErrNoCheckout) {
		t.Errorf("%s: error %v", other, err)
	}
	if err := (&checkout{root: other}).check(); err == nil || !strings.Contains(err.Error(), "build the program again") {
		t.Errorf("another checkout passed: %v", err)
	}
	t.Setenv("PATH", other)
	if _, err := findCheckout(here); !errors.Is(err, ErrNoCheckout) {
		t.Errorf("without a toolchain: error %v", err)
	}
}

func TestOverlay(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	right := filepath.Join(root, "x", "y.go")
	if err := errors.Join(os.Mkdir(filepath.Dir(right), 0o700), os.WriteFile(right, []byte("it is right\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	m := &Mutant{Name: "m", File: "x/y.go", Old: "right", New: "wrong"}
	file, err := (&checkout{root: root}).overlay(m, dir)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var o struct{ Replace map[string]string }
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	wrong, err := os.ReadFile(o.Replace[right])
	if err != nil || string(wrong) != "it is wrong\n" {
		t.Errorf("%s says %q, %v", raw, wrong, err)
	}
	if still, err := os.ReadFile(right); err != nil || string(still) != "it is right\n" {
		t.Errorf("the checkout was changed: %q, %v", still, err)
	}
}

func TestWrite(t *testing.T) {
	m := &Mutant{Name: "m", File: "f.go", What: "it is wrong", NoticedBy: Tables, Rules: []string{"r"}, line: 7}
	tests := &Mutant{Name: "m", File: "f.go", What: "it is wrong", NoticedBy: Tests, Package: "./p", line: 7}
	for _, row := range []struct {
		result Result
		want   []string
	}{
		{Result{Mutant: m, Outcome: Killed, By: "t rule r (case c)"}, []string{"killed   m ", "by t rule r (case c)"}},
		{Result{Mutant: m, Outcome: Survived}, []string{"survived m ", "it is wrong", "mutants.yaml:7", "no case of the tables notices"}},
		{Result{Mutant: tests, Outcome: Survived}, []string{"no test of ./p notices"}},
		{Result{Mutant: m, Outcome: Misled, By: "t rule q (case c)"}, []string{"misled   m ", "expected it to be noticed by r"}},
		{Result{Mutant: m, Outcome: Broken, Err: errBuild}, []string{"broken   m ", "it does not build"}},
	} {
		var out strings.Builder
		write(&out, &row.result)
		for _, want := range row.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: expected %q in\n%s", row.result.Outcome, want, out.String())
			}
		}
		if row.result.Outcome == Killed && strings.Count(out.String(), "\n") != 1 {
			t.Errorf("a killed mutant takes more than a line:\n%s", out.String())
		}
	}
}

func TestSummary(t *testing.T) {
	s := Summary{Mutants: 5}
	for _, o := range []Outcome{Killed, Killed, Survived, Misled, Broken} {
		s.add(&Result{Mutant: &Mutant{Name: "is-" + string(o)}, Outcome: o})
	}
	var out strings.Builder
	s.write(&out)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if got, want := lines[len(lines)-1], "5 mutants: 2 killed, 1 survived, 1 noticed by the wrong rule, 1 broken in 0s"; got != want {
		t.Errorf("%s\nexpected %s", got, want)
	}
	for _, o := range []Outcome{Survived, Misled, Broken} {
		if !strings.Contains(out.String(), fmt.Sprintf("\n%-8s is-%[1]s ", o)) {
			t.Errorf("expected what %s once more in\n%s", o, out.String())
		}
	}
	if strings.Contains(out.String(), "is-killed") {
		t.Errorf("what was killed is told twice:\n%s", out.String())
	}
}

// What a mutant of the harness is tried with first: the cases that its rules decide, and no others, or any of those that
// fail might be judged first.
func TestFocus(t *testing.T) {
	list, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	w := &workshop{tables: set}
	const longest = 128 << 10 // an argument, in Linux
	for _, m := range list {
		if m.NoticedBy != Tables || m.Of != Harness || m.inScenarios() || len(m.Rules) == 0 {
			continue
		}
		these := decidedBy(m.Rules)
		focus := w.focusOn(these)
		if focus == "" || len(focus) >= longest {
			t.Errorf("%s: an expression of %d bytes", m.Name, len(focus))
		}
		matches := regexp.MustCompile(focus)
		for _, tb := range set.Tables {
			for c := range tb.Cases() {
				if got, want := matches.MatchString(c.ID()), these(c); got != want {
					t.Fatalf("%s: %s: tried first %t, expected %t", m.Name, c.ID(), got, want)
				}
			}
		}
	}
	if focus := w.focusOn(quickly); focus == "" || len(focus) >= longest {
		t.Errorf("the quick tables: an expression of %d bytes", len(focus))
	}
	if focus := w.focusOn(func(table.Case) bool { return false }); focus != "" {
		t.Errorf("of no case: %q", focus)
	}
}

// The sample is even: each value of each dimension is in it, and each pair of values of two.
func TestSampleIsEven(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, tb := range set.Tables {
		if tb.Len() <= small || tb.Profile == apiServer {
			continue
		}
		pairs := map[[4]int]bool{}
		for c := range tb.Cases() {
			if !sampledOfInjectors(c) {
				continue
			}
			for d := range tb.Dimensions {
				for e := range d {
					pairs[[4]int{e, c.Index(e), d, c.Index(d)}] = true
				}
			}
		}
		want := 0
		for d := range tb.Dimensions {
			for e := range d {
				want += len(tb.Dimensions[d].Values) * len(tb.Dimensions[e].Values)
			}
		}
		if len(pairs) != want {
			t.Errorf("%s: the sample has %d of %d pairs of values: take another step", tb.ID(), len(pairs), want)
		}
	}
}

// What the row's rules decide is tried first, then a table that is wrong itself; whatever is wrong, all cases that can
// notice are tried in the end.
func TestSelections(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	chosen := func(selects probe.Selects) (tables []string, n int) {
		for _, tb := range set.Tables {
			before := n
			for c := range tb.Cases() {
				if selects(c) {
					n++
				}
			}
			if n > before {
				tables = append(tables, tb.ID())
			}
		}
		return tables, n
	}
	all, injectors := 0, 0
	for _, tb := range set.Tables {
		if all += tb.Len(); tb.Profile != apiServer {
			injectors += tb.Len()
		}
	}
	for _, row := range []struct {
		mutant Mutant
		stage  int
		tables []string // that are in this stage
		last   int
	}{
		{Mutant{Of: Injector, File: "injector/decide/rules.go", Rules: []string{"no-workspace"}}, 0, []string{"kubesphere/decision"}, injectors},
		{Mutant{Of: Injector, File: "injector/decide/rules.go"}, 0, nil, injectors},
		{Mutant{Of: Webhook, File: "scenarios/kubesphere/profile.yaml", NoticedBy: Tables}, 1, []string{"kubesphere/decision"}, all},
		{Mutant{Of: Harness, File: "scenarios/istio-classic/decision.yaml", NoticedBy: Tables}, 1, []string{"istio-classic/decision"}, all},
	} {
		list := selections(&row.mutant)
		if tables, _ := chosen(list[row.stage]); !slices.Equal(tables, row.tables) {
			t.Errorf("%+v: stage %d has cases of %q, expected %q", row.mutant, row.stage, tables, row.tables)
		}
		if _, n := chosen(list[len(list)-1]); n != row.last {
			t.Errorf("%+v: the last stage has %d cases, expected %d", row.mutant, n, row.last)
		}
	}
}

// A mutant of a table makes other tables, which load: one that made the same would be noticed by nobody.
func TestMutatedTables(t *testing.T) {
	list, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	right, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := range list {
		if m := &list[i]; m.inScenarios() {
			n++
			wrong, err := m.wrongTables()
			if err != nil {
				t.Error(err)
			} else if reflect.DeepEqual(wrong, right) {
				t.Errorf("mutant %s (line %d): its tables are the right ones", m.Name, m.line)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d mutants are of tables", n)
	}
}

func TestSchema(t *testing.T) {
	want, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	const name = "mutants.schema.json"
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s is not what the types say (%v): go test ./mutants -run Schema -update", name, err)
	}
	if !bytes.HasPrefix(declared, []byte("# yaml-language-server: $schema="+name+"\n")) {
		t.Errorf("the first line of mutants.yaml does not name %s", name)
	}
	schema, err := jsonschema.NewCompiler().Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	check := func(raw []byte) error {
		asJSON, err := yaml.YAMLToJSON(raw)
		if err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(instance)
	}
	if err := check(declared); err != nil {
		t.Errorf("the schema refuses mutants.yaml: %v", err)
	}
	if check([]byte(strings.Replace(good, "what:", "wat:", 1))) == nil {
		t.Error("the schema accepts an unknown field")
	}
}

// Any bytes are refused or make sense.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("mutants: !000\n a: b\n")) // on which the library panics
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := parse("m.yaml", raw)
		if err == nil && slices.ContainsFunc(list, func(m Mutant) bool { return m.Old == "" || m.NoticedBy == "" }) {
			t.Fatalf("%q gave %+v", raw, list)
		}
	})
}
