// SPDX-License-Identifier: Apache-2.0

package decide_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/outrigger-k8s/outrigger/injector/decide"
	"github.com/outrigger-k8s/outrigger/injector/pod"
)

const key = "sidecar.istio.io/inject"

// scene is one pod under one configuration.
type scene struct {
	settings  decide.Settings
	namespace string
	pod       pod.Pod
}

// newScene is a scene about which only the policy says anything.
func newScene(dialect string) *scene {
	d, ok := decide.DialectNamed(dialect)
	if !ok {
		panic("no dialect " + dialect)
	}
	return &scene{
		settings:  decide.Settings{Dialect: d, Policy: decide.Disabled, IgnoredNamespaces: d.IgnoredNamespaces},
		namespace: "shop",
		pod: pod.Pod{
			Metadata: &pod.Metadata{Labels: map[string]string{"app": "web"}, Annotations: map[string]string{}},
			Spec:     &pod.Spec{},
		},
	}
}

func (s *scene) decide() decide.Decision { return decide.Decide(&s.settings, s.namespace, &s.pod) }

func selector(text string) []labels.Selector {
	return []labels.Selector{labels.SelectorFromSet(labels.Set{"app": text})}
}

// steps is the procedure as the specification states it, with what makes each rule apply. Whatever comes earlier
// beats whatever comes later. It is written down here a second time on purpose.
var steps = []struct {
	rule   string
	inject bool
	cause  func(*scene)
}{
	{"host-network", false, func(s *scene) { s.pod.Spec.HostNetwork = true }},
	{"system-namespace", false, func(s *scene) { s.namespace = "kube-system" }},
	{"mirror-pod", false, func(s *scene) { s.pod.Metadata.Annotations["kubernetes.io/config.mirror"] = "" }},
	{"policy-unknown", false, func(s *scene) { s.settings.Policy = "on" }},
	{"label-true", true, func(s *scene) { s.pod.Metadata.Labels[key] = "true" }},
	{"label-false", false, func(s *scene) { s.pod.Metadata.Labels[key] = "false" }},
	{"annotation-true", true, func(s *scene) { s.pod.Metadata.Annotations[key] = "true" }},
	{"annotation-false", false, func(s *scene) { s.pod.Metadata.Annotations[key] = "false" }},
	{"never-selector", false, func(s *scene) { s.settings.Never = selector("web") }},
	{"always-selector", true, func(s *scene) { s.settings.Always = selector("web") }},
	{"policy-enabled", true, func(s *scene) { s.settings.Policy = "enabled" }},
	{"policy-disabled", false, func(s *scene) { s.settings.Policy = "disabled" }},
}

// exclusive are rules that read the same value, which cannot be two things at once.
var exclusive = [][]string{
	{"label-true", "label-false"},
	{"annotation-true", "annotation-false"},
	{"policy-unknown", "policy-enabled", "policy-disabled"},
}

func TestOrder(t *testing.T) {
	for i, first := range steps {
		s := newScene("istio")
		first.cause(s)
		expect(t, first.rule+" alone", s.decide(), first.rule, first.inject)
		for _, second := range steps[i+1:] {
			if slices.ContainsFunc(exclusive, func(set []string) bool {
				return slices.Contains(set, first.rule) && slices.Contains(set, second.rule)
			}) {
				continue
			}
			s := newScene("istio")
			second.cause(s)
			first.cause(s)
			expect(t, first.rule+" with "+second.rule, s.decide(), first.rule, first.inject)
		}
		s = newScene("istio")
		for _, later := range slices.Backward(steps[i:]) {
			later.cause(s)
		}
		expect(t, first.rule+" with everything after it", s.decide(), first.rule, first.inject)
	}
	var want []decide.Rule
	for _, step := range steps {
		want = append(want, decide.Rule{Name: step.rule, Inject: step.inject})
	}
	if got := decide.Rules(); !slices.Equal(got, want) {
		t.Errorf("rules are\n%v, want\n%v", got, want)
	}
}

func expect(t *testing.T, name string, got decide.Decision, rule string, inject bool) {
	t.Helper()
	if got.Rule != rule || got.Inject != inject {
		t.Errorf("%s: got rule %s, inject %v; want rule %s, inject %v", name, got.Rule, got.Inject, rule, inject)
	}
	if got.Why == "" {
		t.Errorf("%s: no reason given", name)
	}
}

func TestWords(t *testing.T) {
	const yes, no, on = "annotation-true", "annotation-false", "policy-disabled"
	tests := []struct {
		word           string
		classic, istio string
	}{
		{"", on, on},
		{"true", yes, yes},
		{"false", no, no},
		{"True", yes, on},
		{"TRUE", yes, on},
		{"y", yes, on},
		{"Y", yes, on},
		{"yes", yes, on},
		{"YES", yes, on},
		{"on", yes, on},
		{"On", yes, on},
		{"False", no, on},
		{"n", no, on},
		{"no", no, on},
		{"off", no, on},
		{"1", no, on},
		{"0", no, on},
		{"enabled", no, on},
		{" true", no, on},
		{"true ", no, on},
		{"truе", no, on}, // a Cyrillic e
	}
	for _, test := range tests {
		for dialect, want := range map[string]string{"istio-classic": test.classic, "kubesphere": test.classic, "istio": test.istio} {
			t.Run(fmt.Sprintf("%s/%q", dialect, test.word), func(t *testing.T) {
				s := newScene(dialect)
				s.pod.Metadata.Annotations[key] = test.word
				expect(t, "annotation", s.decide(), want, want == yes)
				warned := len(s.decide().Warnings) > 0
				if odd := dialect == "istio" && test.word != "" && want == on; warned != odd {
					t.Errorf("warned: %v, want %v: %q", warned, odd, s.decide().Warnings)
				}

				// The label: in istio it means the same, elsewhere nothing.
				s = newScene(dialect)
				s.pod.Metadata.Labels[key] = test.word
				if dialect == "istio" {
					want = strings.Replace(want, "annotation", "label", 1)
				} else {
					want = on
				}
				expect(t, "label", s.decide(), want, want == "label-true")
			})
		}
	}
}

func TestLabelTakesTheAnnotationsPlace(t *testing.T) {
	for _, label := range []string{"", "yes", "nonsense"} {
		s := newScene("istio")
		s.pod.Metadata.Labels[key] = label
		s.pod.Metadata.Annotations[key] = "true"
		expect(t, fmt.Sprintf("label %q", label), s.decide(), "policy-disabled", false)
	}
}

func TestNoLabelKeyMeansNoLabel(t *testing.T) {
	s := newScene("istio-classic")
	s.pod.Metadata.Labels[""] = "true"
	expect(t, "a label without a key", s.decide(), "policy-disabled", false)
}

func TestNamespace(t *testing.T) {
	tests := []struct {
		dialect, request, pod string
		ignored               bool
	}{
		{"istio-classic", "kube-system", "", true},
		{"istio-classic", "kube-public", "", true},
		{"istio-classic", "kube-node-lease", "", false},
		{"istio-classic", "kube-system2", "", false},
		{"istio-classic", "", "kube-system", true},
		{"istio-classic", "shop", "kube-system", false}, // the request's is the better truth
		{"istio-classic", "kube-system", "shop", true},
		{"istio-classic", "", "", false},
		{"kubesphere", "kube-public", "", true},
		{"istio", "kube-node-lease", "", true},
		{"istio", "local-path-storage", "", true},
	}
	for _, test := range tests {
		s := newScene(test.dialect)
		s.settings.Policy = decide.Enabled
		s.namespace, s.pod.Metadata.Namespace = test.request, test.pod
		want := "policy-enabled"
		if test.ignored {
			want = "system-namespace"
		}
		expect(t, fmt.Sprintf("%+v", test), s.decide(), want, !test.ignored)
	}
}

func TestSelectors(t *testing.T) {
	everything, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{})
	if err != nil {
		t.Fatal(err)
	}
	web, other := selector("web")[0], selector("other")[0]
	tests := []struct {
		name          string
		never, always []labels.Selector
		want, why     string
	}{
		{"none", nil, nil, "policy-disabled", ""},
		{"an empty never matches nothing", []labels.Selector{everything}, []labels.Selector{web}, "always-selector", "[0]"},
		{"an empty always matches nothing", nil, []labels.Selector{everything}, "policy-disabled", ""},
		{"the second matches", nil, []labels.Selector{everything, web}, "always-selector", "[1]"},
		{"one match is enough", []labels.Selector{other, web}, []labels.Selector{web}, "never-selector", "[1]"},
		{"no match", []labels.Selector{other}, []labels.Selector{labels.Nothing()}, "policy-disabled", ""},
	}
	for _, test := range tests {
		s := newScene("istio-classic")
		s.settings.Never, s.settings.Always = test.never, test.always
		d := s.decide()
		expect(t, test.name, d, test.want, test.want == "always-selector")
		if !strings.Contains(d.Why, test.why) {
			t.Errorf("%s: the reason %q does not name %s", test.name, d.Why, test.why)
		}
	}
}

// TestUnknownPolicy is the trap in the order: the switch on the policy comes last and throws away everything before.
func TestUnknownPolicy(t *testing.T) {
	for _, policy := range []string{"on", "true", "Enabled", "ENABLED", "", "enabled ", "off"} {
		s := newScene("istio-classic")
		s.settings.Policy = policy
		s.settings.Always = selector("web")
		s.pod.Metadata.Annotations[key] = "true"
		d := s.decide()
		expect(t, policy, d, "policy-unknown", false)
		if len(d.Warnings) != 1 {
			t.Errorf("%q: warnings %q, want one", policy, d.Warnings)
		}
	}
}

func TestWarningsAreShort(t *testing.T) {
	s := newScene("istio")
	s.settings.Policy = strings.Repeat("\x00", 1000)
	s.pod.Metadata.Labels[key] = strings.Repeat("\U0010FFFF", 1000)
	d := s.decide()
	if len(d.Warnings) != 2 {
		t.Fatalf("got %q, want two warnings", d.Warnings)
	}
	for _, w := range append(d.Warnings, d.Why) {
		if len(w) > 512 {
			t.Errorf("%d bytes: %s", len(w), w)
		}
	}
}

func TestIncompletePods(t *testing.T) {
	s := newScene("istio")
	s.settings.Policy = decide.Enabled
	for _, p := range []*pod.Pod{nil, {}, {Metadata: &pod.Metadata{}}, {Spec: &pod.Spec{}}} {
		expect(t, fmt.Sprintf("%+v", p), decide.Decide(&s.settings, "shop", p), "policy-enabled", true)
	}
}

func TestDialects(t *testing.T) {
	if want := []string{"istio-classic", "kubesphere", "istio"}; !slices.Equal(decide.DialectNames(), want) {
		t.Errorf("dialects are %v, want %v", decide.DialectNames(), want)
	}
	if _, ok := decide.DialectNamed("Istio"); ok {
		t.Error("names of dialects are told apart by upper and lower case")
	}
	for _, d := range decide.Dialects {
		if d.FoldCase && slices.ContainsFunc(append(slices.Clone(d.Yes), d.No...), func(w string) bool { return w != strings.ToLower(w) }) {
			t.Errorf("%s: with FoldCase, words must be in lower case", d.Name)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	s := newScene("istio-classic")
	s.settings.Policy = decide.Enabled
	s.settings.Never, s.settings.Always = selector("other"), selector("another")
	b.ReportAllocs()
	for b.Loop() {
		s.decide()
	}
}
