// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/outrigger-k8s/outrigger/injector/decide"
	"github.com/outrigger-k8s/outrigger/injector/patch"
	"github.com/outrigger-k8s/outrigger/injector/pod"
)

func TestBroken(t *testing.T) {
	const container = "dialect: istio\ntemplate:\n  containers:\n"
	tests := []struct {
		name, text string
		want       []string // the problems
	}{
		{"nothing", "", []string{`dialect: "" is not a dialect: use one of istio-classic, kubesphere, istio`}},
		{"comments only", "# nothing\n", []string{`dialect: "" is not a dialect: use one of istio-classic, kubesphere, istio`}},
		{"no dialect", "policy: enabled", []string{`dialect: "" is not a dialect: use one of istio-classic, kubesphere, istio`}},
		{"unknown dialect", "\ndialect: Istio", []string{`line 2: dialect: "Istio" is not a dialect: use one of istio-classic, kubesphere, istio`}},
		{"unknown field", "dialect: istio\npolicies: enabled", []string{`line 2: unknown field "policies"`}},
		{"unknown fields", container + "  - {name: a, image: b, imagee: c}\n  native: true\n  other: 1",
			[]string{`line 4: unknown field "template.containers[0].imagee"`, `line 6: unknown field "template.other"`}},
		{"upper and lower case differ", "dialect: istio\nPolicy: enabled", []string{`line 2: unknown field "Policy"`}},
		{"a field twice", "dialect: istio\npolicy: enabled\npolicy: disabled", []string{`line 3: mapping key "policy" already defined at [2:1]`}},
		{"a deep field twice", container + "  - name: a\n    image: b\n    name: c", []string{`line 6: mapping key "name" already defined at [4:5]`}},
		{"a field twice in braces", "dialect: istio\ntemplate: {native: true, native: false}",
			[]string{`line 2: mapping key "native" already defined at [2:12]`}},
		{"a boolean for a word", "dialect: istio\npolicy: true", []string{`line 2: policy: want a string, got a bool: put it into quotation marks`}},
		{"a number for a word", container + "  - name: a\n    image: b\n    env:\n    - {name: A, value: 8080}",
			[]string{`line 7: template.containers[0].env[0].value: want a string, got a number: put it into quotation marks`}},
		{"a word for a boolean", "dialect: istio\ntemplate: {native: yes}", []string{`line 2: template.native: want a bool, got a string`}},
		{"a word for a list", "dialect: istio\nignoredNamespaces: kube-system", []string{`line 2: ignoredNamespaces: want a list, got a string`}},
		{"a mapping for a list", "dialect: istio\nignoredNamespaces:\n  a: b", []string{`line 3: ignoredNamespaces: want a list, got a mapping`}},
		{"a mapping for a word", "dialect: istio\npolicy: {a: b}", []string{`line 2: policy: want a string, got a mapping`}},
		{"a list for everything", "- dialect: istio", []string{`line 1: want a mapping, got a list`}},
		{"a word for everything", "istio", []string{`line 1: want a mapping, got a string`}},
		{"a quantity", container + "  - name: a\n    image: b\n    resources:\n      limits:\n        cpu: 1\n        memory: lots",
			[]string{`line 9: template.containers[0].resources.limits.memory: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`}},
		{"no YAML", "dialect: [istio", []string{`line 1: sequence end token ']' not found`}},
		{"a tab", "dialect: istio\n\tpolicy: enabled", []string{"line 2: found character '\t' that cannot start any token"}},
		{"two documents", "dialect: istio\n---\ndialect: istio", []string{`line 3: a second document: only one is read`}},
		{"an anchor", "dialect: &d istio", []string{`line 1: dialect: anchor: not allowed in a configuration`}},
		{"a merge", "dialect: istio\n<<: {policy: enabled}", []string{`line 2: mergekey as a key: not allowed in a configuration`}},
		{"a tag", "dialect: !!str istio", []string{`line 1: dialect: tag: not allowed in a configuration`}},
		{"infinity", "dialect: istio\npolicy: .inf", []string{`line 2: policy: infinity: not allowed in a configuration`}},
		{"a container without a name", container + "  - image: b", []string{
			`line 4: template.containers[0].name: "": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`}},
		{"a container without an image", container + "  - name: b", []string{`line 4: template.containers[0].image: required`}},
		{"the same name in both lists", container + "  - name: istio-init\n    image: b",
			[]string{`line 4: template.containers[0].name: "istio-init" is the name of template.initContainers[0] already`}},
		{"volumes of one name", "dialect: istio\ntemplate: {volumes: [{name: a}, {name: a}]}",
			[]string{`line 2: template.volumes[1].name: "a" is the name of template.volumes[0] already`}},
		{"the status as an annotation", "dialect: istio\ntemplate:\n  annotations:\n    sidecar.istio.io/status: x",
			[]string{`line 4: template.annotations.sidecar.istio.io/status: the injector writes this annotation itself: take it out`}},
		{"too deep in brackets", "dialect: istio\npolicy: " + strings.Repeat("[", 100_000), []string{`line 2: nested deeper than 64`}},
		{"too deep in dashes", strings.Repeat("- ", 100_000), []string{`line 1: nested deeper than 64`}},
		{"too deep in lines", nested(80), []string{`line 65: ` + strings.Repeat("a.", 63) + `a: nested deeper than 64`}},
		{"too long", "dialect: istio\n#" + strings.Repeat("x", Most), []string{fmt.Sprintf(`%d bytes are too many, at most %d are read`, Most+16, Most)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := Parse("injector.yaml", []byte(test.text))
			var broken *Error
			if !errors.As(err, &broken) {
				t.Fatalf("got %+v, %v; want an *Error", s, err)
			}
			var got []string
			for _, p := range broken.Problems {
				got = append(got, p.Error())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if !strings.HasPrefix(err.Error(), "read configuration injector.yaml: ") {
				t.Errorf("the error does not say what was attempted on what: %v", err)
			}
		})
	}
}

// nested is a document of so many mappings in each other.
func nested(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestOdd(t *testing.T) {
	tests := []struct {
		name, text, policy string
		want               []string // the warnings
	}{
		{"nothing odd", "dialect: istio-classic", "enabled", nil},
		{"the dialect's default policy", "dialect: kubesphere", "disabled", nil},
		{"null is not given", "dialect: kubesphere\npolicy: null\ntemplate: null", "disabled", nil},
		{"words stay words: on", "dialect: istio\npolicy: on", "on", []string{`line 2: policy: "on" is neither enabled nor disabled: nothing will be injected`}},
		{"words stay words: no", "dialect: istio\npolicy: no", "no", []string{`line 2: policy: "no" is neither enabled nor disabled: nothing will be injected`}},
		{"words stay words: y", "dialect: istio\npolicy: y", "y", []string{`line 2: policy: "y" is neither enabled nor disabled: nothing will be injected`}},
		{"in quotation marks", "dialect: istio\npolicy: 'true'", "true", []string{`line 2: policy: "true" is neither enabled nor disabled: nothing will be injected`}},
		{"empty policy", "dialect: istio\npolicy: ''", "", []string{`line 2: policy: "" is neither enabled nor disabled: nothing will be injected`}},
		{"upper case policy", "dialect: istio\npolicy: Enabled", "Enabled", []string{`line 2: policy: "Enabled" is neither enabled nor disabled: nothing will be injected`}},
		{"empty selector", "dialect: istio\nneverInjectSelector:\n- {}\n- matchLabels: {}", "enabled",
			[]string{`line 3: neverInjectSelector[0]: empty: it never matches`, `line 4: neverInjectSelector[1]: empty: it never matches`}},
		{"invalid selector", "dialect: istio\nalwaysInjectSelector:\n- matchExpressions: [{key: a, operator: Is}]", "enabled",
			[]string{`line 3: alwaysInjectSelector[0]: invalid, passed over: "Is" is not a valid label selector operator`}},
		{"dashes and colons in a text", "dialect: istio\nrevision: a" + strings.Repeat(" - :b", 100), "enabled", nil},
		{"no containers", "dialect: istio\ntemplate:\n  initContainers: []\n  containers: []", "enabled",
			[]string{`line 3: template: it has no containers: only the status annotation will be injected`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := Parse("injector.yaml", []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range s.Warnings {
				got = append(got, p.Error())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			if s.Decision.Policy != test.policy {
				t.Errorf("policy %q, want %q", s.Decision.Policy, test.policy)
			}
		})
	}
}

// full is a configuration with every field.
const full = `# every field there is
dialect: istio-classic
policy: disabled
neverInjectSelector:
  - matchExpressions: [{key: a, operator: Is}]
  - matchLabels: {app: "no"}
alwaysInjectSelector:
  - matchExpressions:
      - {key: app, operator: In, values: [web, on]}
ignoredNamespaces: []
revision: canary
template:
  initContainers: []
  containers:
    - name: proxy
      image: example.org/proxy:1
      args: ["--x", y]
      resources: {requests: {cpu: 1, memory: 64Mi}}
      livenessProbe: {httpGet: {path: /, port: 8080}}
      env:
        - name: MULTI
          value: |
            one
            two
  volumes:
    - name: v
      emptyDir: {}
  imagePullSecrets: [{name: regcred}]
  annotations: {example.org/yes: "yes", word: yes}
  native: true
`

func TestFull(t *testing.T) {
	s, err := Parse("full", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	d := s.Decision
	if d.Dialect.Name != "istio-classic" || d.Policy != "disabled" || d.IgnoredNamespaces == nil || len(d.IgnoredNamespaces) != 0 {
		t.Errorf("got %+v", d)
	}
	if d.Never[0].Matches(labels.Set{}) || !d.Never[1].Matches(labels.Set{"app": "no"}) || !d.Always[0].Matches(labels.Set{"app": "on"}) {
		t.Errorf("selectors: %v, %v", d.Never, d.Always)
	}
	const want = `[{"op":"add","path":"/spec","value":{}},` +
		`{"op":"add","path":"/spec/initContainers","value":[{"name":"proxy","image":"example.org/proxy:1","args":["--x","y"],` +
		`"env":[{"name":"MULTI","value":"one\ntwo\n"}],"resources":{"requests":{"cpu":"1","memory":"64Mi"}},"restartPolicy":"Always",` +
		`"livenessProbe":{"httpGet":{"path":"/","port":8080}}}]},` +
		`{"op":"add","path":"/spec/volumes","value":[{"name":"v","emptyDir":{}}]},` +
		`{"op":"add","path":"/spec/imagePullSecrets","value":[{"name":"regcred"}]},` +
		`{"op":"add","path":"/metadata","value":{"annotations":{"example.org/yes":"yes",` +
		`"sidecar.istio.io/status":"{\"initContainers\":[\"proxy\"],\"containers\":[],\"volumes\":[\"v\"],\"imagePullSecrets\":[\"regcred\"],\"revision\":\"canary\"}",` +
		`"word":"yes"}}}]`
	if got := operations(t, s); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// operations is the patch for an empty pod.
func operations(t *testing.T, s *Settings) string {
	t.Helper()
	result, err := s.Template.Make(new(pod.Pod), func() (json.RawMessage, error) { return nil, errors.New("not needed") })
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(result.Operations)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDefaults checks that what is not written is the dialect's, and the template's that of default.yaml, field by field.
func TestDefaults(t *testing.T) {
	for _, d := range decide.Dialects {
		s, err := Parse("small", []byte("dialect: "+d.Name))
		if err != nil {
			t.Fatal(err)
		}
		if s.Decision.Policy != d.Policy || !slices.Equal(s.Decision.IgnoredNamespaces, d.IgnoredNamespaces) {
			t.Errorf("%s: got policy %s, ignored %v", d.Name, s.Decision.Policy, s.Decision.IgnoredNamespaces)
		}
		if len(s.Warnings) > 0 {
			t.Errorf("%s: warnings %v", d.Name, s.Warnings)
		}
		want := patch.Status{InitContainers: []string{"istio-init"}, Containers: []string{"istio-proxy"},
			Volumes: []string{"istio-envoy", "istio-data", "istio-podinfo"}, ImagePullSecrets: []string{}, Revision: "default"}.String()
		if text := operations(t, s); !strings.Contains(text, strings.ReplaceAll(want, `"`, `\"`)) {
			t.Errorf("%s: no status %s in %s", d.Name, want, text)
		}
	}
	s, err := Parse("native", []byte("dialect: istio\ntemplate: {native: true, volumes: []}"))
	if err != nil {
		t.Fatal(err)
	}
	if text := operations(t, s); strings.Contains(text, "/spec/containers") || strings.Contains(text, "/spec/volumes") ||
		!strings.Contains(text, `"restartPolicy":"Always"`) {
		t.Errorf("native without volumes: %s", text)
	}
}

func TestHashIsOfTheBytes(t *testing.T) {
	one, err := Parse("one", []byte("dialect: istio\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "9a2c0b8160cede59d3844d9845ead8d8a4d8f9cd3368419313df4b05ab984be1"; one.Hash != want { // printf 'dialect: istio\n' | sha256sum
		t.Errorf("hash %s, want %s", one.Hash, want)
	}
	two, err := Parse("two", []byte("dialect: istio\n#\n"))
	if err != nil || one.Hash == two.Hash {
		t.Errorf("other bytes, same hash %s, %v", one.Hash, err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	var broken *Error
	if _, err := Open(filepath.Join(dir, "none")); err == nil || errors.As(err, &broken) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	path := filepath.Join(dir, "injector.yaml")
	if err := os.WriteFile(path, []byte("dialect: x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.As(err, &broken) {
		t.Errorf("broken file: got %v", err)
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(full))
	f.Add(defaultYAML)
	f.Add([]byte("dialect: istio\npolicy: on\nneverInjectSelector: [{matchLabels: {a: b}}]\n"))
	f.Add([]byte("? a\n: |+\n  b\n"))
	f.Add([]byte("a: !!binary x\n<<: *b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("fuzz", data)
		if err != nil {
			var broken *Error
			if !errors.As(err, &broken) || len(broken.Problems) == 0 {
				t.Fatalf("%v is not an *Error with problems", err)
			}
			return
		}
		decide.Decide(&s.Decision, "shop", new(pod.Pod))
		operations(t, s)
	})
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse("full", []byte(full)); err != nil {
			b.Fatal(err)
		}
	}
}
