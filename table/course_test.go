// SPDX-License-Identifier: Apache-2.0

package table_test

import (
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/table"
)

// courseTable is what the rows below change a line of.
const courseTable = `schema: outrigger.dev/table/v1alpha1
profile: p
table: t
title: t
source: s
course:
  - {step: before}
  - {step: during, settings: {policy: disabled}}
  - {step: cure, does: change}
  - {step: left, does: look, of: during}
dimensions:
  - dimension: d
    values:
      - {value: a, at: {cure: {settings: {policy: enabled}}}}
      - {value: b}
rules:
  - rule: all
    then: {before: injected, during: {outcome: untouched}, cure: accepted}
    because: b
  - rule: left-a
    when: {d: a}
    then: {left: injected}
    because: b
  - rule: left
    then: {left: untouched}
    because: b
`

// What a step lays over a case's documents stays until a later step lays something else there, and each step has the
// first rule that speaks of it.
func TestCourse(t *testing.T) {
	set, err := load(t, courseTable)
	if err != nil {
		t.Fatal(err)
	}
	tb := set.Tables[0]
	keys := map[string]bool{}
	for c := range tb.Cases() {
		keys[c.Key()] = true
		a := c.Combination() == "d=a"
		policies, rules := []string{"<nil>", "disabled", "disabled", "disabled"}, []string{"all", "all", "all", "left"}
		if a {
			policies, rules = []string{"<nil>", "disabled", "enabled", "enabled"}, []string{"all", "all", "all", "left-a"}
		}
		for k := range tb.Course {
			at := c.At(k + 1)
			policy, _ := at.Document(table.SettingsSection)["policy"].(string)
			if policy == "" {
				policy = "<nil>"
			}
			if rule := at.Rule(table.Facts{}); policy != policies[k] || string(rule.Name) != rules[k] {
				t.Errorf("%s at %s: policy %s, rule %s; expected %s and %s", c.ID(), tb.Course[k].Name, policy, rule.Name, policies[k], rules[k])
			}
			keys[at.Key()] = true
		}
		if got := c.Needs(); len(got) != 1 || got[0] != table.FeatureFollow {
			t.Errorf("%s needs %v", c.ID(), got)
		}
	}
	if len(keys) != 10 {
		t.Errorf("2 cases with 4 steps have %d keys, not 10", len(keys))
	}
	if shown := tb.Shown(); tb.Course[shown-1].Name != "during" {
		t.Errorf("the step that is shown is %s, not the last request", tb.Course[shown-1].Name)
	}
}

func TestCourseRefused(t *testing.T) {
	for _, row := range []struct{ name, old, new, want string }{
		{"a step twice", "{step: during,", "{step: before,", `p/t.yaml:8: step "before": a name of its own`},
		{"a step that does nothing known", "does: change", "does: wait", `p/t.yaml:9: step "cure": does "wait" is none of`},
		{"a look at nothing", "does: look, of: during", "does: look", `p/t.yaml:10: step "left": of "" is no earlier step`},
		{"a look at a change", "does: look, of: during", "does: look, of: cure", `of "cure" is no earlier step that makes a request`},
		{"a look at what comes", "{step: before}", "{step: before, does: look, of: left}", `of "left" is no earlier step`},
		{"a change of something", "does: change", "does: change, of: before", "is of no other step"},
		{"refusals of a look", "does: look, of: during", "does: look, of: during, refusals: 3", "refusals, 1 or more, go with"},
		{"an unknown field of a step", "{step: before}", "{step: before, wait: 3s}", "unknown field"},
		{"a value at an unknown step", "at: {cure:", "at: {cures:", `the course has no step "cures": did you mean "cure"?`},
		{"a value with an unknown field at a step", "at: {cure: {settings:", "at: {cure: {setting:", "unknown field"},
		{"a rule of an unknown step", "then: {left: injected}", "then: {lefts: injected}", `rule "left-a": then: the course has no step "lefts"`},
		{"a rule without steps", "then: {left: injected}", "then: injected", "exactly where the table has a course"},
		{"a change that injects", "cure: accepted", "cure: injected", `step cure: outcome "injected" is none of`},
		{"a request that is accepted", "before: injected", "before: accepted", `step before: outcome "accepted" is none of`},
		{"a step that nobody decides", "{before: injected, during", "{during", `no rule decides d=a at step before`},
		{"a rule that decides nothing", "then: {left: untouched}", "then: {before: untouched}", "no rule decides d=b at step left"},
		{"no length of time", "before: injected", "before: {outcome: injected, within: soon}", `within "soon"`},
		{"a view of no step", "source: s\n", "source: s\nview: {step: after}\n", `view: the course has no step "after"`},
		{"a course of a table without one", "course:\n  - {step: before}\n  - {step: during, settings: {policy: disabled}}\n  - {step: cure, does: change}\n  - {step: left, does: look, of: during}\n", "", "the course has no step"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := strings.Replace(courseTable, row.old, row.new, 1)
			if text == courseTable {
				t.Fatal("nothing was replaced")
			}
			if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v\nexpected one with %s", err, row.want)
			}
		})
	}
}

func TestUncountedCallsAreNotAskedFor(t *testing.T) {
	text := strings.Replace(courseTable, "does: look", "does: await", 1)
	text = strings.Replace(text, "{left: injected}", "{left: {outcome: injected, received: 1}}", 1)
	if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), "step left: then: calls received cannot be counted") {
		t.Errorf("error %v", err)
	}
}
