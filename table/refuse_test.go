// SPDX-License-Identifier: Apache-2.0

package table_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/outrigger-k8s/outrigger/table"
)

const goodProfile = `schema: outrigger.dev/profile/v1alpha1
profile: p
title: t
source: s
sidecar: {containers: [proxy]}
webhooks: [{name: w, webhooks: [{name: w.example.com}]}]
base: {pod: {spec: {containers: [{name: app, image: i}]}}}
`

// goodTable is what the rows below change a line of; its lines are numbered in their expectations.
const goodTable = `schema: outrigger.dev/table/v1alpha1
profile: p
table: t
title: t
source: s
dimensions:
  - dimension: policy
    values:
      - {value: enabled, settings: {policy: enabled}}
      - {value: disabled, settings: {policy: disabled}}
  - dimension: annotation
    values:
      - {value: absent}
      - {value: "true", pod: {metadata: {annotations: {inject: "true"}}}}
      - {value: yes, pod: {metadata: {annotations: {inject: yes}}}}
excluded:
  - when: {policy: disabled, annotation: yes}
    because: it cannot be
rules:
  - rule: asked
    when: {annotation: [true, yes]}
    then: injected
    because: the pod asks
  - rule: policy
    when: {policy: enabled}
    then: {outcome: injected, calls: 1}
    because: the policy says so
  - rule: rest
    then: untouched
    because: nobody asks
`

func load(t *testing.T, text string) (*table.Set, error) {
	t.Helper()
	return table.Load(fstest.MapFS{"p/profile.yaml": {Data: []byte(goodProfile)}, "p/t.yaml": {Data: []byte(text)}}, "")
}

func TestGoodTableLoads(t *testing.T) {
	set, err := load(t, goodTable)
	if err != nil {
		t.Fatal(err)
	}
	if n := set.Tables[0].Len(); n != 5 {
		t.Errorf("%d cases, expected 2×3 less the one that is excluded", n)
	}
	c, err := set.Find("p/t/policy=disabled,annotation=true")
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Rule(table.Facts{}); r.Name != "asked" || r.Line != 20 {
		t.Errorf("decided by %s at line %d, expected asked at line 20", r.Name, r.Line)
	}
}

// A star in a rule's `when` stands for any letters of a value's name.
func TestStars(t *testing.T) {
	set, err := load(t, strings.Replace(goodTable, "[true, yes]", "[t*, '*s']", 1))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]table.Word{
		"p/t/policy=enabled,annotation=absent": "policy", "p/t/policy=enabled,annotation=true": "asked", "p/t/policy=enabled,annotation=yes": "asked",
	} {
		c, err := set.Find(id)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Rule(table.Facts{}).Name; got != want {
			t.Errorf("%s is decided by %s, expected %s", id, got, want)
		}
	}
}

// A version of Kubernetes can be needed like any feature.
func TestNeedsKubernetes(t *testing.T) {
	set, err := load(t, strings.Replace(goodTable, "source: s\n", "source: s\nneeds: [kubernetes-1.36, plugins]\n", 1))
	if err != nil {
		t.Fatal(err)
	}
	c, err := set.Find("p/t/policy=enabled,annotation=absent")
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]string{"1.36.0": "", "1.37.2": "", "1.35.9": "kubernetes-1.36", "": "kubernetes-1.36"} {
		if got := c.Missing(table.Facts{Kubernetes: version, Features: []string{"plugins"}}); got != want {
			t.Errorf("on %q %q is missing, expected %q", version, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, row := range []struct{ name, old, new, want string }{
		{"unknown field", "title: t\n", "title: t\ntitel: t\n", `p/t.yaml:5: unknown field "titel"`},
		{"doubled field", "title: t\n", "title: t\ntitle: u\n", `p/t.yaml:5: mapping key "title" already defined`},
		{"unknown field of a rule", "    because: the pod asks\n", "    because: the pod asks\n    wy: x\n", `p/t.yaml:24: unknown field "wy"`},
		{"doubled field of a rule", "    because: the pod asks\n", "    because: the pod asks\n    because: x\n", `p/t.yaml:24: mapping key "because" already defined`},
		{"doubled key of an overlay", `{annotations: {inject: "true"}}`, `{annotations: {inject: "true", inject: "false"}}`, `p/t.yaml:14:`},
		{"second document", "    because: nobody asks\n", "    because: nobody asks\n---\ntitle: t\n", `p/t.yaml:32: a second document`},
		{"unknown dimension", "when: {policy: enabled}", "when: {polcy: enabled}", `p/t.yaml:24: unknown dimension "polcy": did you mean "policy"?`},
		{"unknown value", "when: {policy: enabled}", "when: {policy: enbled}", `p/t.yaml:24: dimension "policy" has no value "enbled": did you mean "enabled"?`},
		{"value named twice", "[true, yes]", "[true, true]", `p/t.yaml:20: value "true" of dimension "annotation" is named twice`},
		{"empty list of values", "[true, yes]", "[]", `p/t.yaml:20: dimension "annotation" is named without a value`},
		{"uncovered combination", "  - rule: rest\n    then: untouched\n    because: nobody asks\n", "", "p/t.yaml: no rule decides policy=disabled,annotation=absent"},
		{"a given covers nothing", "  - rule: rest\n", "  - rule: rest\n    given: {kubernetes: \">= 1.0\"}\n", "p/t.yaml: no rule decides policy=disabled,annotation=absent"},
		{"rule that can never apply", "  - rule: rest\n    then: untouched\n    because: nobody asks\n", "  - rule: rest\n    then: untouched\n    because: nobody asks\n  - rule: late\n    then: untouched\n    because: never\n", `p/t.yaml:31: rule "late" decides no combination`},
		{"rule that applies to excluded ones only", "  - rule: rest\n", "  - rule: never\n    when: {policy: disabled, annotation: yes}\n    then: untouched\n    because: never\n  - rule: rest\n", `p/t.yaml:28: rule "never" decides no combination`},
		{"exclusion without a reason", "    because: it cannot be\n", "", "p/t.yaml:17: an excluded combination must say"},
		{"exclusion of nothing", "rules:\n", "  - when: {policy: disabled, annotation: yes}\n    because: again\nrules:\n", "p/t.yaml:19: this exclusion excludes no combination"},
		{"rule without a reason", "    because: the pod asks\n", "", `p/t.yaml:20: rule "asked" does not say why`},
		{"rule without a source", "source: s\n", "source: \"\"\n", `p/t.yaml:20: rule "asked" has no source`},
		{"unknown outcome", "then: injected\n", "then: injekted\n", `p/t.yaml:20: rule "asked": outcome "injekted" is none of`},
		{"altered is never expected", "then: injected\n", "then: altered\n", `p/t.yaml:20: rule "asked": outcome "altered" is none of`},
		{"bad range of versions", "  - rule: asked\n", "  - rule: asked\n    given: {kubernetes: newest}\n", `p/t.yaml:20: rule "asked": given: kubernetes "newest" is not a range`},
		{"doubled value", "value: disabled,", "value: enabled,", `p/t.yaml:10: value "enabled" of dimension "policy"`},
		{"doubled dimension", "dimension: annotation", "dimension: policy", `dimension "policy" is there twice`},
		{"value with a slash", "value: absent", "value: a/b", `p/t.yaml:13: value "a/b" of dimension "annotation"`},
		{"a pod that is none", "{inject: \"true\"}}}}", "{inject: \"true\"}}, spek: {}}}", `p/t.yaml:14: value "true" of dimension "annotation": pod: unknown field "spek"`},
		{"a boolean where Kubernetes wants a string", `{inject: "true"}`, `{inject: true}`, `p/t.yaml:14: value "true" of dimension "annotation": pod:`},
		{"a timeout that is none", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, request: {timeout: soon}}", `p/t.yaml:10: value "disabled" of dimension "policy": request: timeout "soon" is no time: 1500ms, 2s`},
		{"a rehearsal of a dry run", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, request: {rehearsed: true}}", `p/t.yaml:10: value "disabled" of dimension "policy": request: rehearsed goes with the creation of a pod that is carried out: dryRun: false`},
		{"an operation that is none", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, request: {operation: PATCH}}", `p/t.yaml:10: value "disabled" of dimension "policy": request: operation "PATCH" is none of [CREATE UPDATE DELETE CONNECT]`},
		{"a resource without its version", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, request: {resource: pods}}", `p/t.yaml:10: value "disabled" of dimension "policy": request: resource "pods" is not [GROUP/]VERSION/RESOURCE`},
		{"a scope that is none", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, request: {scope: cluster}}", `p/t.yaml:10: value "disabled" of dimension "policy": request: scope "cluster" is neither`},
		{"a request with an unknown field", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, request: {verb: update}}", `p/t.yaml:10: value "disabled" of dimension "policy": request: unknown field "verb"`},
		{"a deletion that removes", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, request: {operation: DELETE, remove: [/a]}}", `p/t.yaml:10: value "disabled" of dimension "policy": request: remove goes with an UPDATE`},
		{"a removal of no place", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, request: {operation: UPDATE, remove: [a]}}", `p/t.yaml:10: value "disabled" of dimension "policy": request: remove: ["a"] are not all JSON pointers`},
		{"an object of no kind", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, objects: {quota: {resource: v1/resourcequotas, object: {}}}}", `p/t.yaml:10: value "disabled" of dimension "policy": object quota: it needs its apiVersion and kind`},
		{"a witness of nothing", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, objects: {quota: {resource: v1/resourcequotas, object: {kind: ResourceQuota}, until: {object: {kind: Pod}}}}}", `p/t.yaml:10: value "disabled" of dimension "policy": object quota: until is refused or has an answer`},
		{"an object without a version", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, objects: {quota: {resource: resourcequotas, object: {kind: ResourceQuota}}}}", `p/t.yaml:10: value "disabled" of dimension "policy": object quota: resource "resourcequotas" is not [GROUP/]VERSION/RESOURCE`},
		{"a star that fits nothing", "when: {policy: enabled}", "when: {policy: on*}", `p/t.yaml:24: dimension "policy" has no value "on*"`},
		{"a star that fits a value named beside it", "[true, yes]", `["true", t*]`, `p/t.yaml:20: value "t*" of dimension "annotation" is named twice`},
		{"two dimensions write one path", "{value: disabled, settings: {policy: disabled}}", "{value: disabled, pod: {metadata: {annotations: {inject: x}}}}", `p/t.yaml:14: value "true" of dimension "annotation" writes pod/metadata/annotations/inject, and so does value "disabled"`},
		{"newer schema", "table/v1alpha1", "table/v2", `p/t.yaml: schema is "outrigger.dev/table/v2"`},
		{"other profile", "profile: p", "profile: q", `profile "q" lies in the folder of profile "p"`},
		{"other name", "table: t", "table: u", `table "u" lies in file "t.yaml"`},
		{"view of an unknown dimension", "source: s\n", "source: s\nview: {rows: [polcy]}\n", `p/t.yaml: view: unknown dimension "polcy": did you mean "policy"?`},
		{"alias", "settings: {policy: disabled}", "settings: *x", "p/t.yaml"},
		{"not YAML", "title: t", "title: [", "p/t.yaml"},
		{"calls that are no number", "calls: 1}", "calls: one}", "p/t.yaml:26: expected how many calls"},
		{"calls of a webhook that are no number", "calls: 1}", "calls: {w.example.com: -1}}", "p/t.yaml:26: expected how many calls"},
		{"a pod of a then that is none", "then: injected\n", "then: {outcome: injected, pod: {spec: {contaners: []}}}\n", `p/t.yaml:20: rule "asked": then.pod:`},
	} {
		t.Run(row.name, func(t *testing.T) {
			if strings.Count(goodTable, row.old) != 1 {
				t.Fatalf("%q stands %d times in the good table", row.old, strings.Count(goodTable, row.old))
			}
			_, err := load(t, strings.Replace(goodTable, row.old, row.new, 1))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v\nexpected one with %s", err, row.want)
			}
		})
	}
}

func TestRefusedTooLarge(t *testing.T) {
	if _, err := load(t, goodTable+strings.Repeat("# comment\n", table.MaxFileSize/10+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("error %v", err)
	}
}

func TestFindSuggests(t *testing.T) {
	set, err := load(t, goodTable)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ id, want string }{
		{"p", "a case is called PROFILE/TABLE/"},
		{"p/u/policy=enabled", `did you mean "p/t"?`},
		{"p/t/policy=enabld,annotation=absent", `did you mean "enabled"?`},
		{"p/t/policy=enabled,anotation=absent", `did you mean "annotation"?`},
		{"p/t/policy=enabled", `dimension "annotation" is missing (one of absent, true, yes)`},
		{"p/t/policy=enabled,policy=enabled", "given twice"},
		{"p/t/policy=disabled,annotation=yes", "the combination is excluded (p/t.yaml:17): it cannot be"},
	} {
		if _, err := set.Find(row.id); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("Find(%s): %v\nexpected an error with %s", row.id, err, row.want)
		}
	}
}

// The words of YAML 1.1 stay words in an overlay, quoted or not; what is quoted is always a word.
func TestWordsStayWords(t *testing.T) {
	set, err := load(t, strings.Replace(goodTable, "settings: {policy: disabled}", `settings: {policy: disabled, words: [y, yes, on, True, TRUE, no, off, n, False, ~, Null, 0x1F, 1_000, 010, "true", 'null', "1"], values: [true, false, null, 1, -2.5, 1e3]}`, 1))
	if err != nil {
		t.Fatal(err)
	}
	c, err := set.Find("p/t/policy=disabled,annotation=absent")
	if err != nil {
		t.Fatal(err)
	}
	doc := c.Document(table.SettingsSection)
	for _, w := range doc["words"].([]any) {
		if _, ok := w.(string); !ok {
			t.Errorf("%v is a %T, expected the word", w, w)
		}
	}
	for i, want := range []any{true, false, nil, int64(1), -2.5, 1000.0} {
		if got := doc["values"].([]any)[i]; got != want {
			t.Errorf("value %d is %v (%T), expected %v (%T)", i, got, got, want, want)
		}
	}
}

// Any bytes are refused or load; they never panic, and what loads is complete.
func FuzzLoad(f *testing.F) {
	f.Add(goodTable)
	f.Add("a: &a [*a, *a]\n")
	f.Add("profiles: !000\n a: b\n")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := load(t, text)
		if err != nil {
			return
		}
		for c := range set.Tables[0].Cases() {
			if c.Rule(table.Facts{}) == nil {
				t.Fatalf("%s meets no rule", c.ID())
			}
		}
	})
}
