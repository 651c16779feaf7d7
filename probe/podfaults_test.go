// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"testing"
)

func TestPodFaults(t *testing.T) {
	pod := podOf(t, `{
		"metadata": {"labels": {"a": "1"}, "annotations": {"x/y": "z", "til~de": "t"}},
		"spec": {
			"hostNetwork": true,
			"initContainers": [{"name": "init"}],
			"containers": [{"name": "app", "image": "i", "args": ["1", "2"], "env": [{"name": "E", "value": "v"}]}, {"name": "proxy", "image": "p"}],
			"tolerations": [{"key": "k"}]
		}}`)
	for _, row := range []struct {
		name, then string
		want       []string
	}{
		{"nothing asked", "injected", nil},
		{"all there", `{outcome: injected, pod: {metadata: {labels: {a: "1"}}, spec: {hostNetwork: true, containers: [{name: proxy, image: p}]}}}`, nil},
		{"a value", `{outcome: injected, pod: {metadata: {labels: {a: "2"}}}}`, []string{`expected "2" at /metadata/labels/a, observed "1"`}},
		{"a missing key", `{outcome: injected, pod: {metadata: {labels: {b: "1"}}}}`, []string{`expected "1" at /metadata/labels/b, observed nothing`}},
		{"a missing mapping", `{outcome: injected, pod: {spec: {securityContext: {runAsUser: 1}}}}`, []string{`expected {"runAsUser":1} at /spec/securityContext, observed nothing`}},
		{"a key with a slash", `{outcome: injected, pod: {metadata: {annotations: {x/y: other}}}}`, []string{`expected "other" at /metadata/annotations/x~1y, observed "z"`}},
		{"a key with a tilde", `{outcome: injected, pod: {metadata: {annotations: {til~de: other}}}}`, []string{`at /metadata/annotations/til~0de`}},
		{"an element by its name, wherever it stands", `{outcome: injected, pod: {spec: {containers: [{name: proxy}, {name: app}]}}}`, nil},
		{"a missing element", `{outcome: injected, pod: {spec: {containers: [{name: gone}]}}}`, []string{`expected "gone" in /spec/containers, observed [app proxy]`}},
		{"deep in an element", `{outcome: injected, pod: {spec: {containers: [{name: app, env: [{name: E, value: w}]}]}}}`, []string{`expected "w" at /spec/containers/app/env/E/value, observed "v"`}},
		{"a list without names is compared whole", `{outcome: injected, pod: {spec: {containers: [{name: app, args: ["1"]}]}}}`, []string{`expected ["1"] at /spec/containers/app/args, observed ["1","2"]`}},
		{"an equal list", `{outcome: injected, pod: {spec: {containers: [{name: app, args: ["1", "2"]}], tolerations: [{key: k}]}}}`, nil},
		{"several faults", `{outcome: injected, pod: {metadata: {labels: {a: "2"}}, spec: {hostNetwork: false}}}`, []string{"/metadata/labels/a", "/spec/hostNetwork"}},
		{"order", `{outcome: injected, order: {initContainers: [init], containers: [app, proxy]}}`, nil},
		{"another order", `{outcome: injected, order: {containers: [proxy, app]}}`, []string{"expected spec.containers to be [proxy app] in this order, observed [app proxy]"}},
		{"one too many", `{outcome: injected, order: {containers: [app]}}`, []string{"to be [app] in this order, observed [app proxy]"}},
		{"an order of nothing", `{outcome: injected, order: {volumes: [data]}}`, []string{"expected spec.volumes to be [data] in this order, observed []"}},
		{"every order is looked at", `{outcome: injected, order: {initContainers: [x], containers: [y]}}`, []string{"spec.initContainers", "spec.containers"}},
		{"absent", `{outcome: injected, absent: [/spec/volumes, /spec/containers/proxy/env, /metadata/labels/b]}`, nil},
		{"not absent", `{outcome: injected, absent: [/spec/hostNetwork]}`, []string{"expected nothing at /spec/hostNetwork, observed true"}},
		{"not absent, by name", `{outcome: injected, absent: [/spec/containers/app/env/E]}`, []string{"expected nothing at /spec/containers/app/env/E"}},
		{"not absent, by index", `{outcome: injected, absent: [/spec/containers/1/image]}`, []string{"expected nothing at /spec/containers/1/image"}},
		{"not absent, escaped", `{outcome: injected, absent: [/metadata/annotations/x~1y, /metadata/annotations/til~0de]}`, []string{"x~1y", "til~0de"}},
		{"every pointer is looked at", `{outcome: injected, absent: [/spec/volumes, /spec/hostNetwork]}`, []string{"/spec/hostNetwork"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			same(t, podFaults(&plannedFor(t, row.then).Rule.Then, pod), row.want)
		})
	}
}

func TestLookUp(t *testing.T) {
	doc := map[string]any{"m": map[string]any{"a/b": "1", "c~d": "2"}, "l": []any{map[string]any{"name": "x", "v": "3"}, "plain"}, "s": "text"}
	for _, row := range []struct {
		pointer string
		want    any // nil: not found
	}{
		{"/m/a~1b", "1"}, {"/m/c~0d", "2"}, {"/l/x/v", "3"}, {"/l/0/v", "3"}, {"/l/1", "plain"}, {"/s", "text"},
		{"/m/none", nil}, {"/l/2", nil}, {"/l/-1", nil}, {"/l/none", nil}, {"/s/deeper", nil}, {"/none/deeper", nil},
	} {
		got, found := lookUp(doc, row.pointer)
		if found != (row.want != nil) || found && got != row.want {
			t.Errorf("%s: %v, %v; expected %v", row.pointer, got, found, row.want)
		}
	}
}

// What was said of one pod is said of it again, and a pod never lacks anything of itself.
func FuzzMissing(f *testing.F) {
	f.Add(`{"a":[{"name":"x","b":1}],"c":[1,2]}`)
	f.Add(`{"a":[{"name":"x"},{"name":"x","b":null}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var doc map[string]any
		if json.Unmarshal([]byte(text), &doc) != nil || doubled(doc) {
			return
		}
		if faults := missing(doc, doc, ""); len(faults) > 0 {
			t.Fatalf("%s lacks something of itself: %q", text, faults)
		}
	})
}

// doubled tells whether two elements of a list have one name: the second is then never found.
func doubled(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			if doubled(x) {
				return true
			}
		}
	case []any:
		seen := map[string]bool{}
		for _, x := range v {
			name, ok := nameOf(x)
			if ok && seen[name] || doubled(x) {
				return true
			}
			seen[name] = true
		}
	}
	return false
}
