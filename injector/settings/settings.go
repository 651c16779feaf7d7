// SPDX-License-Identifier: Apache-2.0

// Package settings reads the injector's one configuration file.
//
// It is strict, because a mistake in it is silent otherwise: pods simply run without their sidecar. A field that does
// not exist, a field given twice, a value of the wrong kind make a configuration broken, with the line. An injector
// does not start with a broken configuration, and keeps the old one when a new one is broken (see Source). Two things
// are odd but not broken, because Istio's injector accepts them too and people rely on what happens then: a policy
// that is neither enabled nor disabled, and a selector that is invalid. They give warnings.
//
// The file, with every field there is:
//
//	dialect: istio-classic            # required; one of decide.DialectNames
//	policy: enabled                   # default: the dialect's
//	neverInjectSelector: []           # label selectors; an empty one never matches
//	alwaysInjectSelector: []
//	ignoredNamespaces: [kube-system]  # default: the dialect's
//	revision: default                 # goes into the status annotation
//	template:                         # each field's default: the one of default.yaml; an empty list means none
//	  initContainers: []              # core/v1 Containers
//	  containers: []
//	  volumes: []                     # core/v1 Volumes
//	  imagePullSecrets: []
//	  annotations: {}                 # added where the pod does not have them
//	  native: false                   # true: the containers go in as init containers with restartPolicy Always
package settings

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/outrigger-k8s/outrigger/injector/decide"
	"github.com/outrigger-k8s/outrigger/injector/patch"
)

// Settings is a configuration made ready. It does not change, and any number of goroutines may use it.
type Settings struct {
	// Decision is what the decision about a pod depends on.
	Decision decide.Settings
	// Template is what is injected.
	Template *patch.Template
	// Hash names the configuration (see the function Hash): it tells whether a configuration has arrived.
	Hash string
	// Warnings are what is odd about the configuration but does not break it.
	Warnings []Problem
}

// file is the configuration as it is written.
type file struct {
	Dialect              string                 `json:"dialect"`
	Policy               *string                `json:"policy"`
	NeverInjectSelector  []metav1.LabelSelector `json:"neverInjectSelector"`
	AlwaysInjectSelector []metav1.LabelSelector `json:"alwaysInjectSelector"`
	IgnoredNamespaces    []string               `json:"ignoredNamespaces"`
	Revision             *string                `json:"revision"`
	Template             template               `json:"template"`
}

// template is what is injected, as it is written. Nil is what is not written.
type template struct {
	InitContainers   []corev1.Container            `json:"initContainers"`
	Containers       []corev1.Container            `json:"containers"`
	Volumes          []corev1.Volume               `json:"volumes"`
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets"`
	Annotations      map[string]string             `json:"annotations"`
	Native           bool                          `json:"native"`
}

//go:embed default.yaml
var defaultYAML []byte

// defaults reads the template that stands in for what a configuration leaves out.
var defaults = sync.OnceValue(func() template {
	var t template
	doc, err := parseYAML(defaultYAML)
	if err != nil {
		panic(&Error{Name: "default.yaml", Problems: []Problem{err.(Problem)}}) // it is embedded, and a test reads it
	}
	if problems := doc.decode(&t); len(problems) > 0 {
		panic(&Error{Name: "default.yaml", Problems: problems}) // likewise
	}
	return t
})

// Parse reads a configuration. The name is for messages: the file's. Any error is an *Error.
func Parse(name string, data []byte) (*Settings, error) {
	doc, err := parseYAML(data)
	if err != nil {
		return nil, &Error{Name: name, Problems: []Problem{err.(Problem)}}
	}
	var f file
	if problems := doc.decode(&f); len(problems) > 0 {
		return nil, &Error{Name: name, Problems: problems}
	}
	f.Template = f.Template.or(defaults())
	r := reader{doc: doc}
	s := r.settings(&f)
	if len(r.problems) > 0 {
		return nil, &Error{Name: name, Problems: r.problems}
	}
	s.Hash = Hash(data)
	return s, nil
}

// Hash names a configuration: the SHA-256 of its bytes, in hex.
func Hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// or returns the template with what it does not have from another.
func (t template) or(other template) template {
	if t.InitContainers == nil {
		t.InitContainers = other.InitContainers
	}
	if t.Containers == nil {
		t.Containers = other.Containers
	}
	if t.Volumes == nil {
		t.Volumes = other.Volumes
	}
	if t.ImagePullSecrets == nil {
		t.ImagePullSecrets = other.ImagePullSecrets
	}
	if t.Annotations == nil {
		t.Annotations = other.Annotations
	}
	return t
}

// reader collects what is wrong with a file that has been decoded, and what is odd.
type reader struct {
	doc                *document
	problems, warnings []Problem
}

func (r *reader) problem(path, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: r.doc.line(path), Path: path, Text: fmt.Sprintf(format, args...)})
}

func (r *reader) warning(path, format string, args ...any) {
	r.warnings = append(r.warnings, Problem{Line: r.doc.line(path), Path: path, Text: fmt.Sprintf(format, args...)})
}

// settings makes a file ready. Where it found problems, what it returns is of no use.
func (r *reader) settings(f *file) *Settings {
	dialect, known := decide.DialectNamed(f.Dialect)
	if !known {
		r.problem("dialect", "%q is not a dialect: use one of %s", f.Dialect, strings.Join(decide.DialectNames(), ", "))
	}
	s := &Settings{Decision: decide.Settings{
		Dialect:           dialect,
		Policy:            dialect.Policy,
		IgnoredNamespaces: dialect.IgnoredNamespaces,
		Never:             r.selectors("neverInjectSelector", f.NeverInjectSelector),
		Always:            r.selectors("alwaysInjectSelector", f.AlwaysInjectSelector),
	}}
	if f.Policy != nil {
		s.Decision.Policy = *f.Policy
	}
	if p := s.Decision.Policy; known && p != decide.Enabled && p != decide.Disabled {
		r.warning("policy", "%q is neither %s nor %s: nothing will be injected", p, decide.Enabled, decide.Disabled)
	}
	if f.IgnoredNamespaces != nil {
		s.Decision.IgnoredNamespaces = f.IgnoredNamespaces
	}
	revision := "default"
	if f.Revision != nil {
		revision = *f.Revision
	}
	r.check(&f.Template, dialect.StatusKey)
	var err error
	s.Template, err = patch.New(patch.Spec{
		InitContainers:   f.Template.InitContainers,
		Containers:       f.Template.Containers,
		Volumes:          f.Template.Volumes,
		ImagePullSecrets: f.Template.ImagePullSecrets,
		Annotations:      f.Template.Annotations,
		Native:           f.Template.Native,
		Revision:         revision,
		StatusKey:        dialect.StatusKey,
		Own:              dialect.Own,
	})
	if err != nil {
		r.problem("template", "%v", err)
	}
	s.Warnings = r.warnings
	return s
}

// selectors makes selectors ready. An invalid one is passed over with a warning, as Istio's injector does; its place
// is kept, so that messages about the others can name their index.
func (r *reader) selectors(path string, list []metav1.LabelSelector) []labels.Selector {
	var out []labels.Selector
	for i := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		selector, err := metav1.LabelSelectorAsSelector(&list[i])
		switch {
		case err != nil:
			r.warning(at, "invalid, passed over: %v", err)
			selector = labels.Nothing()
		case selector.Empty():
			r.warning(at, "empty: it never matches")
		}
		out = append(out, selector)
	}
	return out
}

// check finds what would make every injected pod invalid. The API server would say so too, but pod by pod.
func (r *reader) check(t *template, statusKey string) {
	containers := map[string]string{}
	for i, c := range t.InitContainers {
		r.checkContainer(fmt.Sprintf("template.initContainers[%d]", i), c, containers)
	}
	for i, c := range t.Containers {
		r.checkContainer(fmt.Sprintf("template.containers[%d]", i), c, containers)
	}
	volumes, secrets := map[string]string{}, map[string]string{}
	for i, v := range t.Volumes {
		r.checkName(fmt.Sprintf("template.volumes[%d].name", i), v.Name, validation.IsDNS1123Label, volumes)
	}
	for i, s := range t.ImagePullSecrets {
		r.checkName(fmt.Sprintf("template.imagePullSecrets[%d].name", i), s.Name, validation.IsDNS1123Subdomain, secrets)
	}
	for _, key := range slices.Sorted(maps.Keys(t.Annotations)) {
		path := "template.annotations." + key
		if key == statusKey {
			r.problem(path, "the injector writes this annotation itself: take it out")
		}
		if errs := validation.IsQualifiedName(strings.ToLower(key)); len(errs) > 0 {
			r.problem(path, "not an annotation's key: %s", strings.Join(errs, ", "))
		}
	}
	if len(t.InitContainers)+len(t.Containers) == 0 {
		r.warning("template", "it has no containers: only the status annotation will be injected")
	}
}

func (r *reader) checkContainer(path string, c corev1.Container, seen map[string]string) {
	r.checkName(path+".name", c.Name, validation.IsDNS1123Label, seen)
	if c.Image == "" {
		r.problem(path+".image", "required")
	}
}

// checkName checks the form of a name, and that it has not been seen.
func (r *reader) checkName(path, name string, form func(string) []string, seen map[string]string) {
	if errs := form(name); len(errs) > 0 {
		r.problem(path, "%q: %s", name, strings.Join(errs, ", "))
	}
	if earlier, twice := seen[name]; twice {
		r.problem(path, "%q is the name of %s already", name, earlier)
	}
	seen[name] = strings.TrimSuffix(path, ".name")
}
