// SPDX-License-Identifier: Apache-2.0

package mutants

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/goccy/go-yaml/ast"
	"github.com/invopop/jsonschema"
	"github.com/outrigger-k8s/outrigger/table"
)

// Schema is the schema line of the file of mutants.
const Schema = "outrigger.dev/mutants/v1alpha1"

// file is mutants.yaml.
type file struct {
	Schema  string   `yaml:"schema" json:"schema" jsonschema:"enum=outrigger.dev/mutants/v1alpha1"`
	Mutants []Mutant `yaml:"mutants" json:"mutants"`
}

// A Mutant is one row: what is wrong, and who must notice.
type Mutant struct {
	// Name is unique.
	Name string `yaml:"mutant" json:"mutant" jsonschema:"pattern=^[a-z0-9]+(-[a-z0-9]+)*$"`
	// Of says what is wrong.
	Of Part `yaml:"of" json:"of" jsonschema:"enum=injector,enum=webhook,enum=harness"`
	// File is relative to the checkout, with slashes.
	File string `yaml:"file" json:"file"`
	// After is a text that stands exactly once in File; Old is then looked for behind it. For lines that stand twice.
	After string `yaml:"after" json:"after,omitempty"`
	// Old is the right text. Without After it stands exactly once in File, with it the first one behind it is meant.
	Old string `yaml:"old" json:"old"`
	// New is what stands in its place; "" takes it out.
	New string `yaml:"new" json:"new,omitempty"`
	// What is wrong then, in one sentence.
	What string `yaml:"what" json:"what"`
	// NoticedBy is tables (the default), or tests.
	NoticedBy Notices `yaml:"noticed-by" json:"noticed-by,omitempty" jsonschema:"enum=tables,enum=tests"`
	// Rules are the rules of the tables that may notice. Left out: any.
	Rules []string `yaml:"rules" json:"rules,omitempty"`
	// Package is whose tests must notice, such as ./probe; only with tests.
	Package string `yaml:"package" json:"package,omitempty"`
	// Run narrows these tests as go test -run does; "" is all of them.
	Run string `yaml:"run" json:"run,omitempty"`

	line int
}

// Part is what a mutant is wrong in.
type Part string

// The parts.
const (
	Injector Part = "injector" // the reference injector's code
	Webhook  Part = "webhook"  // a profile's webhook configuration
	Harness  Part = "harness"  // the tables, or the code that holds an injector against them
)

// Notices is who must notice a mutant.
type Notices string

// Who can notice.
const (
	Tables Notices = "tables" // the tables, in the admission lane
	Tests  Notices = "tests"  // the unit tests of a package
)

//go:embed mutants.yaml
var declared []byte

// Load reads the mutants that this program was built with, and checks that the rows make sense. It does not look at the
// files that they change: see [Mutant.Apply].
func Load() ([]Mutant, error) { return parse("mutants/mutants.yaml", declared) }

// parse reads a file of mutants strictly; errors begin with name:line.
func parse(name string, raw []byte) (_ []Mutant, err error) {
	defer func() {
		// The YAML library panics on some malformed files.
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: this is not YAML: %v", name, p)
		}
	}()
	var f file
	if err := yaml.UnmarshalWithOptions(raw, &f, yaml.Strict()); err != nil {
		var at yaml.Error
		if errors.As(err, &at) && at.GetToken() != nil && at.GetToken().Position != nil {
			return nil, fmt.Errorf("%s:%d: %s", name, at.GetToken().Position.Line, at.GetMessage())
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if line := table.SecondDocument(raw); line > 0 {
		return nil, fmt.Errorf("%s:%d: a second document: only one is read", name, line)
	}
	if f.Schema != Schema {
		return nil, fmt.Errorf("%s: schema is %q: this version of outrigger reads %q", name, f.Schema, Schema)
	}
	if len(f.Mutants) == 0 {
		return nil, fmt.Errorf("%s: there are no mutants in it", name)
	}
	var errs []error
	seen := map[string]int{}
	for i := range f.Mutants {
		m := &f.Mutants[i]
		if m.NoticedBy == "" {
			m.NoticedBy = Tables
		}
		what := m.check()
		if earlier, twice := seen[m.Name]; twice && what == "" {
			what = fmt.Sprintf("the mutant of line %d has the same name", earlier)
		}
		seen[m.Name] = m.line
		if what != "" {
			errs = append(errs, fmt.Errorf("%s:%d: mutant %q: %s", name, m.line, m.Name, what))
		}
	}
	return f.Mutants, errors.Join(errs...)
}

var nameForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// check says what is wrong with the row, "" if nothing.
func (m *Mutant) check() string {
	clean := path.Clean(m.File)
	switch {
	case !nameForm.MatchString(m.Name):
		return "a name has lower-case letters, digits and single dashes"
	case !slices.Contains([]Part{Injector, Webhook, Harness}, m.Of):
		return fmt.Sprintf("of %q: it is one of injector, webhook and harness", m.Of)
	case m.File == "" || m.File != clean || path.IsAbs(clean) || strings.HasPrefix(clean, ".."):
		return fmt.Sprintf("file %q is not a path within the checkout", m.File)
	case m.Old == "" || m.Old == m.New:
		return "old must be there, and differ from new"
	case m.What == "":
		return "what is wrong then? Say it in what"
	case !slices.Contains([]Notices{Tables, Tests}, m.NoticedBy):
		return fmt.Sprintf("noticed-by %q: it is tables or tests", m.NoticedBy)
	case m.NoticedBy == Tests && (!strings.HasPrefix(m.Package, "./") || len(m.Rules) > 0):
		return "tests are of a package, such as ./probe, and know no rules"
	case m.NoticedBy == Tables && (m.Package != "" || m.Run != ""):
		return "package and run are for tests only"
	}
	if _, err := regexp.Compile(m.Run); err != nil {
		return fmt.Sprintf("run is not a regular expression: %v", err)
	}
	return ""
}

// Apply returns text, the content of the mutant's file, with the mutation. An error says that the text is no longer
// what the row was written for.
func (m *Mutant) Apply(text []byte) ([]byte, error) {
	fail := func(format string, args ...any) ([]byte, error) {
		return nil, fmt.Errorf("apply mutant %s (mutants/mutants.yaml:%d) to %s: %s: bring the row up to date with the file",
			m.Name, m.line, m.File, fmt.Sprintf(format, args...))
	}
	from := 0
	if m.After != "" {
		if n := bytes.Count(text, []byte(m.After)); n != 1 {
			return fail("after %q stands %d times in it", m.After, n)
		}
		from = bytes.Index(text, []byte(m.After)) + len(m.After)
	}
	n := bytes.Count(text[from:], []byte(m.Old))
	if n == 0 || n > 1 && m.After == "" {
		return fail("old %q stands %d times in it", m.Old, n)
	}
	return slices.Concat(text[:from], bytes.Replace(text[from:], []byte(m.Old), []byte(m.New), 1)), nil
}

// UnmarshalYAML reads the row and keeps its line.
func (m *Mutant) UnmarshalYAML(node ast.Node) error {
	type plain Mutant
	if err := yaml.NodeToValue(node, (*plain)(m), yaml.Strict()); err != nil {
		return err
	}
	for {
		switch n := node.(type) {
		case *ast.MappingNode:
			if len(n.Values) == 0 {
				return nil
			}
			node = n.Values[0]
			continue
		case *ast.MappingValueNode:
			node = n.Key
			continue
		}
		if t := node.GetToken(); t != nil && t.Position != nil {
			m.line = t.Position.Line
		}
		return nil
	}
}

// JSONSchema is the JSON Schema of the file of mutants, for editors.
func JSONSchema() ([]byte, error) {
	r := jsonschema.Reflector{FieldNameTag: "json", ExpandedStruct: true}
	s := r.Reflect(file{})
	s.ID, s.Title = "", "Mutants of Outrigger"
	raw, err := json.MarshalIndent(s, "", "  ")
	return append(raw, '\n'), err
}
