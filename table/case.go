// SPDX-License-Identifier: Apache-2.0

package table

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// KeyLength is how long a case's short key is, in characters.
const KeyLength = 16

// A Case is one combination of one value for each dimension of a table. It is a small value: copy it.
type Case struct {
	Table *Table
	n     int // its number in the table's full product
	step  int // of the course, counted from 1; 0: the case as a whole
}

// ID of the table: profile and name.
func (t *Table) ID() string { return string(t.Profile) + "/" + string(t.Name) }

// Digest of the table's file and its profile's: two reports with one digest asked the same questions.
func (t *Table) Digest() string { return t.digest }

// Of is the profile whose base the table's lies on.
func (t *Table) Of() *Profile { return t.profile }

// Cases yields every combination that is not excluded, in the order of the full product, the last dimension fastest.
func (t *Table) Cases() iter.Seq[Case] {
	return func(yield func(Case) bool) {
		values := make([]int, len(t.Dimensions))
		for n := range t.total {
			t.spread(n, values)
			if firstHolding(t.excludedMasks, values) < 0 && !yield(Case{t, n, 0}) {
				return
			}
		}
	}
}

// Len is the number of cases: the full product less what is excluded.
func (t *Table) Len() int {
	n := t.total
	for _, barred := range t.barred {
		n -= barred
	}
	return n
}

// Decides is how many combinations rule i decides where every `given` above it fails and its own holds.
func (t *Table) Decides(i int) int { return t.decides[i] }

// Barred is how many combinations exclusion i excludes.
func (t *Table) Barred(i int) int { return t.barred[i] }

// spread writes the value index of each dimension of combination n.
func (t *Table) spread(n int, values []int) {
	for i, stride := range t.strides {
		values[i] = n / stride % len(t.Dimensions[i].Values)
	}
}

func (t *Table) dimension(name Word) int {
	return slices.IndexFunc(t.Dimensions, func(d Dimension) bool { return d.Name == name })
}

func (t *Table) dimensionNames() []string {
	names := make([]string, len(t.Dimensions))
	for i, d := range t.Dimensions {
		names[i] = string(d.Name)
	}
	return names
}

func (d Dimension) value(slug Word) int {
	return slices.IndexFunc(d.Values, func(v Value) bool { return v.Slug == slug })
}

// Slugs of the dimension's values, in order.
func (d Dimension) Slugs() []string {
	slugs := make([]string, len(d.Values))
	for i, v := range d.Values {
		slugs[i] = string(v.Slug)
	}
	return slugs
}

// Number of the case in its table's full product.
func (c Case) Number() int { return c.n }

// Index of the value that the case has in dimension d.
func (c Case) Index(d int) int { return c.n / c.Table.strides[d] % len(c.Table.Dimensions[d].Values) }

// Value that the case has in dimension d.
func (c Case) Value(d int) *Value { return &c.Table.Dimensions[d].Values[c.Index(d)] }

// ID is stable and readable: istio-classic/decision/policy=disabled,ns-label=enabled.
func (c Case) ID() string { return c.Table.ID() + "/" + c.Combination() }

// Combination is the part of the ID behind the table: dimension=value, with commas between.
func (c Case) Combination() string {
	var b strings.Builder
	for d := range c.Table.Dimensions {
		if d > 0 {
			b.WriteByte(',')
		}
		b.WriteString(string(c.Table.Dimensions[d].Name))
		b.WriteByte('=')
		b.WriteString(string(c.Value(d).Slug))
	}
	return b.String()
}

var keyAlphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Key is what the case's objects are called, or begin with: the client never learns a review's UID, so the name is how
// a review finds its case. 13 characters of a hash of the ID, stable; a legal DNS label.
// Each step of a course has a key of its own: a workload that it left behind still asks for pods at the next.
func (c Case) Key() string {
	if c.step == 0 {
		return keyOf(c.ID())
	}
	return keyOf(c.ID() + "@" + string(c.Step().Name))
}

func keyOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return "or-" + keyAlphabet.EncodeToString(sum[:])[:KeyLength-len("or-")]
}

// Needs are the features the case needs of a lane, sorted.
func (c Case) Needs() []string {
	var needs []string
	add := func(words []Word) {
		for _, w := range words {
			needs = append(needs, string(w))
		}
	}
	add(c.Table.Needs)
	if c.Table.Follows() {
		needs = append(needs, FeatureFollow)
	}
	for d := range c.Table.Dimensions {
		add(c.Value(d).Needs)
	}
	slices.Sort(needs)
	return slices.Compact(needs)
}

// Missing is the first feature that the case needs and facts lacks, "" if the lane can run it.
func (c Case) Missing(facts Facts) string {
	for _, need := range c.Needs() {
		if !facts.have(need) {
			return need
		}
	}
	return ""
}

// Rule that decides the case where facts hold: the first whose `when` and `given` hold. Never nil for a proved table. Of
// a case with a course that is not at one of its steps it is the rule of the step that is shown.
func (c Case) Rule(facts Facts) *Rule {
	for r := range c.Rules(facts) {
		return r
	}
	return nil
}

// Rules that hold for the case, in order: the first decides, the others would if it were not there.
func (c Case) Rules(facts Facts) iter.Seq[*Rule] {
	return func(yield func(*Rule) bool) {
		values := make([]int, len(c.Table.Dimensions))
		c.Table.spread(c.n, values)
		if c.step == 0 {
			c.step = c.Table.Shown()
		}
		for i, m := range c.Table.ruleMasks {
			r := c.Table.Rules[i]
			if m.holds(values) && r.Given.hold(facts) && r.Then.At(c.Step()) != nil && !yield(r) {
				return
			}
		}
	}
}

// Section names one of the documents that a case is made of.
type Section string

// The sections, as a table's file calls them.
const (
	NamespaceSection Section = "namespace"
	PodSection       Section = "pod"
	WorkloadSection  Section = "workload"
	WebhookSection   Section = "webhook"
	WebhooksSection  Section = "webhooks"
	ServicesSection  Section = "services"
	ObjectsSection   Section = "objects"
	MutatorsSection  Section = "mutators"
	ApplySection     Section = "apply"
	SettingsSection  Section = "settings"
	WireSection      Section = "wire"
	RequestSection   Section = "request"
)

func (d *Documents) section(s Section) Overlay {
	for _, x := range d.sections() {
		if x.name == string(s) {
			return x.overlay
		}
	}
	return nil
}

// Document is one of the case's documents: the profile's base, the table's and each value's overlay over it. It must
// not be changed: parts of it are the table's.
func (c Case) Document(s Section) map[string]any {
	doc := merge(c.Table.profile.base(s), c.Table.Base.section(s))
	for d := range c.Table.Dimensions {
		doc = merge(doc, c.Value(d).section(s))
	}
	for _, step := range c.Table.Course[:c.step] {
		doc = merge(doc, step.section(s))
		for d := range c.Table.Dimensions {
			if at := c.Value(d).At[step.Name]; at != nil {
				doc = merge(doc, at.section(s))
			}
		}
	}
	return doc
}

// Variant numbers the case's documents: two cases of a table with the same variant of sections have the same documents
// there; of cases that are at no step, at each of the steps. Variants at a step compare with others at a step only.
func (c Case) Variant(sections ...Section) int {
	variant := 0
	for d := range c.Table.Dimensions {
		if slices.ContainsFunc(sections, func(s Section) bool { return c.Table.writes(d, s) }) {
			variant = variant*len(c.Table.Dimensions[d].Values) + c.Index(d)
		}
	}
	if c.step > 0 {
		variant = variant*(len(c.Table.Course)+1) + c.step
	}
	return variant
}

// writes tells whether any value of dimension d lays something over section s.
func (t *Table) writes(d int, s Section) bool {
	return slices.ContainsFunc(t.Dimensions[d].Values, func(v Value) bool {
		if len(v.section(s)) > 0 {
			return true
		}
		for _, at := range v.At {
			if len(at.section(s)) > 0 {
				return true
			}
		}
		return false
	})
}

// Find is the case with this ID. The error names the nearest profile, table, dimension or value.
func (s *Set) Find(id string) (Case, error) {
	fail := func(format string, args ...any) (Case, error) {
		return Case{}, fmt.Errorf("find case %q: %s", id, fmt.Sprintf(format, args...))
	}
	parts := strings.SplitN(id, "/", 3)
	if len(parts) != 3 {
		return fail("a case is called PROFILE/TABLE/DIMENSION=VALUE,…; `outrigger list` prints them all")
	}
	var t *Table
	names := make([]string, len(s.Tables))
	for i, x := range s.Tables {
		if names[i] = x.ID(); names[i] == parts[0]+"/"+parts[1] {
			t = x
		}
	}
	if t == nil {
		return fail("there is no table %q%s", parts[0]+"/"+parts[1], didYouMean(parts[0]+"/"+parts[1], names))
	}
	given := map[Word]bool{}
	n := 0
	for _, pair := range strings.Split(parts[2], ",") {
		name, slug, ok := strings.Cut(pair, "=")
		if !ok {
			return fail("%q is not DIMENSION=VALUE", pair)
		}
		d := t.dimension(Word(name))
		if d < 0 {
			return fail("table %s has no dimension %q%s", t.ID(), name, didYouMean(name, t.dimensionNames()))
		}
		v := t.Dimensions[d].value(Word(slug))
		if v < 0 {
			return fail("dimension %q has no value %q%s", name, slug, didYouMean(slug, t.Dimensions[d].Slugs()))
		}
		if given[Word(name)] {
			return fail("dimension %q is given twice", name)
		}
		given[Word(name)] = true
		n += v * t.strides[d]
	}
	for _, d := range t.Dimensions {
		if !given[d.Name] {
			return fail("dimension %q is missing (one of %s)", d.Name, strings.Join(d.Slugs(), ", "))
		}
	}
	values := make([]int, len(t.Dimensions))
	t.spread(n, values)
	if x := firstHolding(t.excludedMasks, values); x >= 0 {
		return fail("the combination is excluded (%s:%d): %s", t.File, t.Excluded[x].Line, t.Excluded[x].Because)
	}
	return Case{t, n, 0}, nil
}

// Select returns the tables of one profile, or all where profile is "".
func (s *Set) Select(profile string) ([]*Table, error) {
	if profile == "" {
		return slices.Clone(s.Tables), nil // the set may be everybody's
	}
	var names []string
	for _, p := range s.Profiles {
		names = append(names, string(p.Name))
	}
	if !slices.Contains(names, profile) {
		return nil, fmt.Errorf("there is no profile %q%s", profile, didYouMean(profile, names))
	}
	var tables []*Table
	for _, t := range s.Tables {
		if string(t.Profile) == profile {
			tables = append(tables, t)
		}
	}
	return tables, nil
}
