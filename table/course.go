// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// FeatureFollow is what a lane needs for steps that come back to what an earlier one made. No table names it: whether a
// course has such steps can be seen.
const FeatureFollow = "follow"

// Does is what a step of a course does.
type Does string

// What steps do.
const (
	Requests  Does = "request"  // makes the case's request, as a case without a course does once
	Changes   Does = "change"   // nothing but its changes: whether the API server accepts them is what is seen
	Looks     Does = "look"     // at the pod that another step made: it must be the same, and untouched since
	Awaits    Does = "await"    // the pod of a workload that another step made and that was refused its pods
	Nudges    Does = "nudge"    // that workload by an annotation, and then awaits its pod
	Endures   Does = "endure"   // until that workload has been refused its pod so often: back-off grows with every refusal
	Recreates Does = "recreate" // deletes the pod of that workload, and awaits the one in its place
)

var actions = []Does{Requests, Changes, Looks, Awaits, Nudges, Endures, Recreates}

// Follows tells whether the step comes back to what an earlier one made.
func (d Does) Follows() bool { return d != Requests && d != Changes }

// Uncounted tells whether calls to webhooks cannot be counted at the step: its controller has been calling all along, and
// which of its calls falls before the step and which into it is chance.
func (d Does) Uncounted() bool { return d == Awaits || d == Nudges || d == Endures }

// A Step is one step of a course: what changes, what is then done, and by the rules what must be seen. What it lays over
// the case's documents, and what the values of dimensions do (`at`), stays until a later step lays something else there.
type Step struct {
	Name  Word   `yaml:"step" json:"step"`
	Title string `yaml:"title" json:"title,omitempty"`
	// Does: default request.
	Does Does `yaml:"does" json:"does,omitempty" jsonschema:"enum=request,enum=change,enum=look,enum=await,enum=nudge,enum=endure,enum=recreate"`
	// Of is the step that made what a look, an await, a nudge, an endurance and a recreation are about.
	Of Word `yaml:"of" json:"of,omitempty"`
	// Refusals is how often an endurance has the workload refused, at least, since it was created.
	Refusals int `yaml:"refusals" json:"refusals,omitempty" jsonschema:"minimum=1"`
	// Clients is how many clients go on creating pods while a change is made, by dry run and without pause: from before it is
	// asked for until it holds. Each creation must be as the request step before the change, or as the one after it, has it.
	Clients   int `yaml:"clients" json:"clients,omitempty" jsonschema:"minimum=1"`
	Documents `yaml:",inline"`

	Line int `yaml:"-" json:"-"`
}

// UnmarshalYAML reads the step and keeps its line.
func (s *Step) UnmarshalYAML(node ast.Node) error {
	type plain Step
	if err := strict(node, (*plain)(s)); err != nil {
		return err
	}
	s.Line = line(node)
	if s.Does == "" {
		s.Does = Requests
	}
	return nil
}

// request is the index of the nearest step from i on, forwards (1) or backwards (-1), that makes a request; -1 where there is
// none.
func (t *Table) request(i, way int) int {
	for ; i >= 0 && i < len(t.Course); i += way {
		if t.Course[i].Does == Requests {
			return i
		}
	}
	return -1
}

// Around are the numbers of the steps that make a request before and after the change with this number.
func (t *Table) Around(step int) (before, after int) {
	return t.request(step-1, -1) + 1, t.request(step-1, 1) + 1
}

// ClientKey is the key of one of the clients that create pods beside the change at which the case is.
func (c Case) ClientKey(client int) string {
	return keyOf(fmt.Sprintf("%s@%s#%d", c.ID(), c.Step().Name, client))
}

// At is what a value lays over the case's documents at steps of the course, by the step's name.
type At map[Word]*Documents

// UnmarshalYAML reads a mapping of steps to documents.
func (a *At) UnmarshalYAML(node ast.Node) error {
	*a = At{}
	return eachPair(node, func(step string, value ast.Node) error {
		d := &Documents{}
		(*a)[Word(step)] = d
		return strict(value, d)
	})
}

// At is the case at its step of this number, counted from 1: its documents, its rule and its key are the step's.
func (c Case) At(step int) Case { return Case{c.Table, c.n, step} }

// Step that the case is at, nil where it is at none.
func (c Case) Step() *Step {
	if c.step == 0 {
		return nil
	}
	return &c.Table.Course[c.step-1]
}

// sections are all the documents that a case is made of.
var sections = []Section{
	NamespaceSection, PodSection, WorkloadSection, WebhookSection, WebhooksSection, ServicesSection, ObjectsSection,
	MutatorsSection, ApplySection, SettingsSection, WireSection, RequestSection,
}

// Changed tells whether any document of the case at its step is another than at the step before.
func (c Case) Changed() bool {
	before := c
	before.step--
	return slices.ContainsFunc(sections, func(s Section) bool {
		return !reflect.DeepEqual(c.Document(s), before.Document(s))
	})
}

// Shown is the number of the step whose outcome stands for the case where there is room for one only: the view's, or the
// last request. 0 where the table has no course.
func (t *Table) Shown() int {
	if t.View.Step != "" {
		return t.StepNumber(t.View.Step)
	}
	for i := len(t.Course); i > 0; i-- {
		if t.Course[i-1].Does == Requests {
			return i
		}
	}
	return len(t.Course)
}

// StepNumber is the number of the step with this name, 0 where there is none.
func (t *Table) StepNumber(name Word) int {
	return 1 + slices.IndexFunc(t.Course, func(s Step) bool { return s.Name == name })
}

// Follows tells whether any step comes back to what an earlier one made.
func (t *Table) Follows() bool {
	return slices.ContainsFunc(t.Course, func(s Step) bool { return s.Does.Follows() })
}

// At is what must be seen at the step of this name; of a rule of a table without a course, whatever the name. nil where
// the rule says nothing of the step.
func (t *Then) At(step *Step) *Then {
	if step == nil {
		return t
	}
	return t.Course[step.Name]
}

// Then is what the rule says of a case of the table: where that has a course, of the step that is shown; nil where it says
// nothing of that one.
func (t *Table) Then(r *Rule) *Then {
	if shown := t.Shown(); shown > 0 {
		return r.Then.At(&t.Course[shown-1])
	}
	return &r.Then
}

// thenFields cannot be the names of steps: a `then` could not be told from one with a course.
var thenFields = []Word{"outcome", "course"}

// checkCourse looks at the steps, and at what values and rules say of them.
func (t *Table) checkCourse() error {
	fail := func(line int, format string, args ...any) error {
		return &Error{t.File, line, fmt.Sprintf(format, args...)}
	}
	names := make([]string, len(t.Course))
	for i, s := range t.Course {
		earlier := func(name Word) int { return slices.Index(names[:i], string(name)) }
		if !slug.MatchString(string(s.Name)) || earlier(s.Name) >= 0 || slices.Contains(thenFields, s.Name) {
			return fail(s.Line, "step %q: a name of its own is needed, of letters, digits, '-', '_' and '.', and neither of %v", s.Name, thenFields)
		}
		names[i] = string(s.Name)
		of := earlier(s.Of)
		switch {
		case !slices.Contains(actions, s.Does):
			return fail(s.Line, "step %q: does %q is none of %v", s.Name, s.Does, actions)
		case s.Does.Follows() && (of < 0 || t.Course[of].Does != Requests):
			return fail(s.Line, "step %q: of %q is no earlier step that makes a request: a %s is about what such a step made", s.Name, s.Of, s.Does)
		case (s.Does == Endures) != (s.Refusals > 0):
			return fail(s.Line, "step %q: refusals, 1 or more, go with an %s", s.Name, Endures)
		case s.Clients > 0 && s.Does != Changes:
			return fail(s.Line, "step %q: clients create pods beside a %s only", s.Name, Changes)
		case s.Clients > 0 && (t.request(i, -1) < 0 || t.request(i, 1) < 0):
			return fail(s.Line, "step %q: a request before it and one after it are to say what its clients' creations are held against", s.Name)
		case !s.Does.Follows() && s.Of != "":
			return fail(s.Line, "step %q: a %s is of no other step", s.Name, s.Does)
		}
	}
	if t.View.Step != "" && t.StepNumber(t.View.Step) == 0 {
		return fail(0, "view: the course has no step %q%s", t.View.Step, didYouMean(string(t.View.Step), names))
	}
	if shown := t.Shown(); shown > 0 && t.Course[shown-1].Does == Changes {
		return fail(0, "view: step %q is a %s: a step that shows what becomes of a pod stands for the case", names[shown-1], Changes)
	}
	if t.Alone && len(t.Course) == 0 {
		return fail(0, "alone is of a course, and the table has none")
	}
	known := func(name Word) bool { return slices.Contains(names, string(name)) }
	for _, d := range t.Dimensions {
		for _, v := range d.Values {
			for name := range v.At {
				if !known(name) {
					return fail(v.Line, "value %q of dimension %q: the course has no step %q%s", v.Slug, d.Name, name, didYouMean(string(name), names))
				}
			}
		}
	}
	for _, r := range t.Rules {
		if (len(t.Course) == 0) != (r.Then.Course == nil) {
			return fail(r.Line, "rule %q: then says what is seen at each step exactly where the table has a course", r.Name)
		}
		for _, name := range sortedWords(r.Then.Course) {
			if !known(name) {
				return fail(r.Line, "rule %q: then: the course has no step %q%s", r.Name, name, didYouMean(string(name), names))
			}
			step, then := &t.Course[t.StepNumber(name)-1], r.Then.Course[name]
			if then.Course != nil {
				return fail(r.Line, "rule %q: then: %s: a step has no course of its own", r.Name, name)
			}
			if then.Sooner != "" && (!known(then.Sooner) || then.Sooner == name) {
				return fail(r.Line, "rule %q: step %s: sooner: the course has no other step %q%s", r.Name, name, then.Sooner, didYouMean(string(then.Sooner), names))
			}
			if err := then.check(step.Does); err != nil {
				return fail(r.Line, "rule %q: step %s: %v", r.Name, name, err)
			}
		}
	}
	return nil
}

// check says what is wrong with what a step that does this must show, or a case without a course.
func (t *Then) check(does Does) error {
	outcomes := Outcomes
	if does == Changes {
		outcomes = []Outcome{Accepted, Unchanged, Denied, Failed, Rejected}
	}
	switch {
	case !slices.Contains(outcomes, t.Outcome):
		return fmt.Errorf("outcome %q is none of %v", t.Outcome, outcomes)
	case t.Calls != nil && (t.Attempted != nil || t.Received != nil):
		return fmt.Errorf("then: calls says both of attempted and received: leave out one or the other")
	case does.Uncounted() && (t.Calls != nil || t.Received != nil || t.Called != nil || t.Review != "" || t.Path != "" || t.Asked != nil):
		return fmt.Errorf("then: calls received cannot be counted where one may fall before the %s or into it; attempted can", does)
	}
	if _, err := t.Limit(); err != nil {
		return err
	}
	if err := checkPod(t.Pod); err != nil {
		return fmt.Errorf("then.pod: %w", err)
	}
	return nil
}

// Limit is Within as a duration; 0 where there is none.
func (t *Then) Limit() (time.Duration, error) {
	if t.Within == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(t.Within)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("within %q is no length of time such as 30s", t.Within)
	}
	return d, nil
}
