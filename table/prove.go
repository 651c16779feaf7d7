// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"path"
	"strings"
)

// MaxCombinations bounds the full product of one table.
const MaxCombinations = 1_000_000

// mask is a compiled When: for each dimension the values it allows, a bit each.
type mask []uint64

func (m mask) holds(values []int) bool {
	for i, v := range values {
		if m[i]&(1<<v) == 0 {
			return false
		}
	}
	return true
}

// named is the values that word names, a bit each: the one that is called so, or, with stars that stand for any letters,
// all that fit.
func (d Dimension) named(word Word) uint64 {
	var values uint64
	for i, v := range d.Values {
		if fits, err := path.Match(string(word), string(v.Slug)); err == nil && fits { // no slug has a slash
			values |= 1 << i
		}
	}
	return values
}

// compile turns w into a mask, or says at which line what does not exist, and what was probably meant.
func (t *Table) compile(w When, line int) (mask, error) {
	m := make(mask, len(t.Dimensions))
	for i := range m {
		m[i] = ^uint64(0)
	}
	for _, name := range sortedWords(w) {
		d := t.dimension(name)
		if d < 0 {
			return nil, &Error{t.File, line, fmt.Sprintf("unknown dimension %q%s", name, didYouMean(string(name), t.dimensionNames()))}
		}
		m[d] = 0
		for _, slug := range w[name] {
			named := t.Dimensions[d].named(slug)
			if named == 0 {
				return nil, &Error{t.File, line, fmt.Sprintf("dimension %q has no value %q%s", name, slug, didYouMean(string(slug), t.Dimensions[d].Slugs()))}
			}
			if m[d]&named != 0 {
				return nil, &Error{t.File, line, fmt.Sprintf("value %q of dimension %q is named twice", slug, name)}
			}
			m[d] |= named
		}
		if m[d] == 0 {
			return nil, &Error{t.File, line, fmt.Sprintf("dimension %q is named without a value: this can never hold", name)}
		}
	}
	return m, nil
}

// prove refuses the table unless every combination that is not excluded meets a rule whatever the facts of the run,
// and every rule and every exclusion is of use. A rule with a `given` cannot be relied on to cover anything.
func (t *Table) prove() error {
	rules, excluded, err := t.masks()
	if err != nil {
		return err
	}
	t.decides = make([]int, len(rules))
	t.barred = make([]int, len(excluded))
	values := make([]int, len(t.Dimensions))
	decided := make([]bool, len(rules)) // by each rule, anything of one combination
	var bare []string                   // the first combinations that meet no rule
	for n := range t.total {
		t.spread(n, values)
		if x := firstHolding(excluded, values); x >= 0 {
			t.barred[x]++
			continue
		}
		at := t.decide(rules, values, decided)
		if at != covered && len(bare) < 4 {
			id := Case{t, n, 0}.Combination()
			if len(t.Course) > 0 {
				id += " at step " + string(t.Course[at].Name)
			}
			bare = append(bare, id)
		}
		for i, some := range decided {
			if some {
				t.decides[i]++
				decided[i] = false
			}
		}
	}
	if len(bare) > 0 {
		return &Error{t.File, 0, "no rule decides " + strings.Join(bare, ", nor ") + ": add a rule, or exclude the combination and say why"}
	}
	for i, r := range t.Rules {
		if t.decides[i] == 0 {
			return &Error{t.File, r.Line, fmt.Sprintf("rule %q decides no combination: the rules above it (or the exclusions) take them all", r.Name)}
		}
	}
	for i, x := range t.Excluded {
		if t.barred[i] == 0 {
			return &Error{t.File, x.Line, "this exclusion excludes no combination that is not excluded above it"}
		}
	}
	return nil
}

// covered is what decide says of a combination that meets a rule at every step.
const covered = -1

// decide notes which rules decide anything of a combination, and returns the index of the first step of the course that
// meets none; 0 where a table without a course meets none.
func (t *Table) decide(rules []mask, values []int, decided []bool) int {
	steps := max(1, len(t.Course))
step:
	for k := range steps {
		var step *Step
		if len(t.Course) > 0 {
			step = &t.Course[k]
		}
		for i, m := range rules {
			if !m.holds(values) || t.Rules[i].Then.At(step) == nil {
				continue
			}
			decided[i] = true
			if t.Rules[i].Given.empty() {
				continue step
			}
		}
		return k
	}
	return covered
}

func firstHolding(masks []mask, values []int) int {
	for i, m := range masks {
		if m.holds(values) {
			return i
		}
	}
	return -1
}

func (t *Table) masks() (rules, excluded []mask, err error) {
	for _, r := range t.Rules {
		m, err := t.compile(r.When, r.Line)
		if err != nil {
			return nil, nil, err
		}
		rules = append(rules, m)
	}
	for _, x := range t.Excluded {
		m, err := t.compile(x.When, x.Line)
		if err != nil {
			return nil, nil, err
		}
		excluded = append(excluded, m)
	}
	t.ruleMasks, t.excludedMasks = rules, excluded
	return rules, excluded, nil
}
