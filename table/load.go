// SPDX-License-Identifier: Apache-2.0

package table

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxFileSize bounds a table's file, in bytes.
const MaxFileSize = 1 << 20

// A Set is all profiles and tables of one source.
type Set struct {
	Profiles []*Profile // sorted by name
	Tables   []*Table   // sorted by ID
}

// Load reads every `<profile>/profile.yaml` and its tables, `<profile>/<table>.yaml`, and proves each table. The
// errors of all files are joined; each names its file and line. shown is what messages put before a file's name: the
// folder that fsys is.
func Load(fsys fs.FS, shown string) (*Set, error) {
	files, err := fs.Glob(fsys, "*/profile.yaml")
	if err != nil || len(files) == 0 {
		return nil, errors.Join(errors.New("load tables: no */profile.yaml found"), err)
	}
	set := &Set{}
	var errs []error
	for _, file := range files {
		profile, err := loadProfile(fsys, file, shown)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		set.Profiles = append(set.Profiles, profile)
		tables, err := fs.Glob(fsys, path.Join(path.Dir(file), "*.yaml"))
		if err != nil {
			return nil, err
		}
		for _, tf := range tables {
			if tf == file {
				continue
			}
			t, err := loadTable(fsys, tf, profile, shown)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			set.Tables = append(set.Tables, t)
		}
	}
	slices.SortFunc(set.Profiles, func(a, b *Profile) int { return strings.Compare(string(a.Name), string(b.Name)) })
	slices.SortFunc(set.Tables, func(a, b *Table) int { return strings.Compare(a.ID(), b.ID()) })
	return set, errors.Join(errs...)
}

func loadProfile(fsys fs.FS, file, shown string) (*Profile, error) {
	p, shown := &Profile{}, path.Join(shown, file)
	raw, err := decodeFile(fsys, file, shown, p)
	if err != nil {
		return nil, err
	}
	p.File, p.raw = shown, raw // now: an empty document leaves nothing as it was
	return p, p.check()
}

func loadTable(fsys fs.FS, file string, profile *Profile, shown string) (*Table, error) {
	t, shown := &Table{}, path.Join(shown, file)
	raw, err := decodeFile(fsys, file, shown, t)
	if err != nil {
		return nil, err
	}
	t.File, t.profile = shown, profile // now: an empty document leaves nothing as it was
	sum := sha256.Sum256(append(append(raw, 0), profile.raw...))
	t.digest = hex.EncodeToString(sum[:8])
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, t.prove()
}

func decodeFile(fsys fs.FS, file, shown string, v any) ([]byte, error) {
	f, err := fsys.Open(file)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", shown, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", shown, err)
	}
	if len(raw) > MaxFileSize {
		return nil, fmt.Errorf("load %s: the file is larger than %d bytes: split the table", shown, MaxFileSize)
	}
	return raw, decode(shown, raw, v)
}

// decode reads one YAML document strictly. The error begins with file:line.
func decode(file string, raw []byte, v any) (err error) {
	defer func() {
		// The YAML library panics on some malformed files.
		if p := recover(); p != nil {
			err = &Error{file, 0, fmt.Sprintf("this is not YAML: %v", p)}
		}
	}()
	err = yaml.UnmarshalWithOptions(raw, v, yaml.Strict())
	if err == nil {
		if line := SecondDocument(raw); line > 0 {
			return &Error{file, line, "a second document: only one is read"}
		}
		return nil
	}
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil && at.GetToken().Position != nil {
		return &Error{file, at.GetToken().Position.Line, at.GetMessage()}
	}
	return &Error{file, 0, err.Error()}
}

// SecondDocument is the line at which the second document of a YAML file begins, 0 where there is none: the YAML library
// would read the first and say nothing.
func SecondDocument(raw []byte) (line int) {
	parsed, err := parser.ParseBytes(raw, 0)
	if err != nil {
		return 0 // whoever decodes it says so
	}
	n := 0
	for _, doc := range parsed.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if n++; n == 2 {
			return doc.Body.GetToken().Position.Line
		}
	}
	return 0
}

// An Error is what is wrong with a file, and where.
type Error struct {
	File string
	Line int // 0 where it is the file as a whole
	What string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.What)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.What)
}

var slug = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

func (p *Profile) check() error {
	fail := func(format string, args ...any) error { return &Error{p.File, 0, fmt.Sprintf(format, args...)} }
	switch {
	case p.Schema != ProfileSchema:
		return fail("schema is %q: this version of outrigger reads %q", p.Schema, ProfileSchema)
	case !slug.MatchString(string(p.Name)):
		return fail("profile %q is not a name: letters, digits, '-', '_' and '.'", p.Name)
	case path.Base(path.Dir(p.File)) != string(p.Name):
		return fail("profile %q lies in folder %q: call both the same", p.Name, path.Dir(p.File))
	case len(p.Webhooks) == 0:
		return fail("no webhooks: a profile needs at least one webhook configuration")
	case len(p.Sidecar.Containers) == 0:
		return fail("sidecar.containers is empty: without it no injection can be recognised")
	}
	return nil
}

// check looks at all that can be seen without enumerating combinations.
func (t *Table) check() error {
	fail := func(line int, format string, args ...any) error {
		return &Error{t.File, line, fmt.Sprintf(format, args...)}
	}
	name := strings.TrimSuffix(path.Base(t.File), ".yaml")
	switch {
	case t.Schema != TableSchema:
		return fail(0, "schema is %q: this version of outrigger reads %q", t.Schema, TableSchema)
	case t.Profile != t.profile.Name:
		return fail(0, "profile %q lies in the folder of profile %q", t.Profile, t.profile.Name)
	case string(t.Name) != name:
		return fail(0, "table %q lies in file %q: call both the same", t.Name, path.Base(t.File))
	case len(t.Dimensions) == 0:
		return fail(0, "a table needs at least one dimension")
	}
	t.total = 1
	seen := map[Word]bool{}
	for _, d := range t.Dimensions {
		if seen[d.Name] {
			return fail(0, "dimension %q is there twice", d.Name)
		}
		if !slug.MatchString(string(d.Name)) {
			return fail(0, "dimension %q: a name is needed, of letters, digits, '-', '_' and '.'", d.Name)
		}
		seen[d.Name] = true
		if len(d.Values) == 0 || len(d.Values) > 64 {
			return fail(0, "dimension %q has %d values: 1 to 64 can be read", d.Name, len(d.Values))
		}
		values := map[Word]bool{}
		for _, v := range d.Values {
			if values[v.Slug] {
				return fail(v.Line, "value %q of dimension %q is there twice", v.Slug, d.Name)
			}
			if !slug.MatchString(string(v.Slug)) {
				return fail(v.Line, "value %q of dimension %q: a name is needed, of letters, digits, '-', '_' and '.'", v.Slug, d.Name)
			}
			values[v.Slug] = true
		}
		t.total *= len(d.Values)
		if t.total > MaxCombinations {
			return fail(0, "more than %d combinations: split the table", MaxCombinations)
		}
	}
	t.strides = make([]int, len(t.Dimensions))
	for i, stride := len(t.Dimensions)-1, 1; i >= 0; i-- {
		t.strides[i] = stride
		stride *= len(t.Dimensions[i].Values)
	}
	if err := t.checkOverlays(); err != nil {
		return err
	}
	for _, x := range t.Excluded {
		if x.Because == "" {
			return fail(x.Line, "an excluded combination must say because of what it cannot be")
		}
		if _, err := t.compile(x.When, x.Line); err != nil {
			return err
		}
	}
	for _, name := range slices.Concat(t.View.Rows, t.View.Columns) {
		if !seen[name] {
			return fail(0, "view: unknown dimension %q%s", name, didYouMean(string(name), t.dimensionNames()))
		}
	}
	rules := map[Word]bool{}
	for _, r := range t.Rules {
		switch {
		case rules[r.Name]:
			return fail(r.Line, "rule %q is there twice", r.Name)
		case !slug.MatchString(string(r.Name)):
			return fail(r.Line, "rule %q: a name is needed, of letters, digits, '-', '_' and '.'", r.Name)
		case r.Because == "":
			return fail(r.Line, "rule %q does not say why: give it a because", r.Name)
		case r.Source == "" && t.Source == "":
			return fail(r.Line, "rule %q has no source, and neither has the table", r.Name)
		}
		rules[r.Name] = true
		if _, err := r.Given.compile(); err != nil {
			return fail(r.Line, "rule %q: given: %v", r.Name, err)
		}
		if r.Then.Course != nil {
			continue // checked below
		}
		if err := r.Then.check(Requests); err != nil {
			return fail(r.Line, "rule %q: %v", r.Name, err)
		}
		if r.Then.Within != "" || r.Then.Sooner != "" {
			return fail(r.Line, "rule %q: then: within and sooner are of steps, and the table has no course", r.Name)
		}
	}
	return t.checkCourse()
}
