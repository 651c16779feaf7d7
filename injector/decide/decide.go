// SPDX-License-Identifier: Apache-2.0

// Package decide says whether a pod gets a sidecar, and why.
//
// The procedure is a list of rules in a fixed order (see rules); the first that applies decides. Safety comes first
// and cannot be overridden: pods on the host's network, system namespaces, mirror pods. Then the pod may speak for
// itself with an annotation or a label. Then the operator's selectors, and last the policy. What differs between
// families of injectors is a Dialect, a value that the rules read.
//
// The function is pure: no clock, no logging, no cluster. It also never sees the labels of the namespace: the API
// server has already compared those with the webhook's namespaceSelector when it asks the injector at all.
package decide

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/outrigger-k8s/outrigger/injector/pod"
)

// The policies that exist. Any other word is allowed in Settings.Policy and injects nothing.
const (
	Enabled  = "enabled"
	Disabled = "disabled"
)

// Settings are the operator's part of the decision.
type Settings struct {
	// Dialect is how annotations, labels and namespaces are read.
	Dialect Dialect
	// Policy is what happens to a pod about which nothing else says anything: Enabled or Disabled. Any other word
	// means that nothing is injected, whatever the pod says.
	Policy string
	// Never and Always match pods by their labels. An empty selector never matches.
	Never, Always []labels.Selector
	// IgnoredNamespaces is where nothing is ever injected.
	IgnoredNamespaces []string
}

// Decision is the answer about one pod.
type Decision struct {
	// Inject is true when the pod gets a sidecar.
	Inject bool
	// Rule is the stable name of the rule that decided, as in Rules.
	Rule string
	// Why is one sentence for people.
	Why string
	// Warnings are for the author of the pod or the operator: values that mean nothing here.
	Warnings []string
}

// Decide applies the rules to a pod.
//
// The namespace is the request's. It is empty only outside the API server (which fills it in even where the pod's own
// is still empty, as it was for pods of controllers before Kubernetes 1.24); then the pod's own counts.
func Decide(s *Settings, namespace string, p *pod.Pod) Decision {
	q := newQuestion(s, namespace, p)
	for _, r := range rules {
		if r.applies(q) {
			return Decision{Inject: r.inject, Rule: r.name, Why: r.why(q), Warnings: q.warnings()}
		}
	}
	return Decision{Rule: "none", Why: "no rule applies", Warnings: q.warnings()} // unreachable: a policy is known or not
}

// Rule is a rule's stable name, and what comes of a pod that it decides about.
type Rule struct {
	Name   string
	Inject bool
}

// Rules returns all rules, in the order in which they are applied.
func Rules() []Rule {
	var out []Rule
	for _, r := range rules {
		out = append(out, Rule{Name: r.name, Inject: r.inject})
	}
	return out
}

// question is one pod with everything the rules ask about it.
type question struct {
	settings    *Settings
	namespace   string
	hostNetwork bool
	labels      labels.Set
	annotations map[string]string
	// word is what the pod says about itself, and where: "annotation" or "label".
	word, where string
}

func newQuestion(s *Settings, namespace string, p *pod.Pod) *question {
	meta := p.Meta()
	if namespace == "" {
		namespace = meta.Namespace
	}
	q := &question{
		settings:    s,
		namespace:   namespace,
		hostNetwork: p.Lists().HostNetwork,
		labels:      meta.Labels,
		annotations: meta.Annotations,
		word:        meta.Annotations[s.Dialect.AnnotationKey],
		where:       "annotation",
	}
	// Present counts, even when empty: that is how Istio tells the label from the annotation it supersedes.
	if value, present := meta.Labels[s.Dialect.LabelKey]; present && s.Dialect.LabelKey != "" {
		q.word, q.where = value, "label"
	}
	return q
}

// says reports whether the pod's word, found in the given place, is one of words.
func (q *question) says(where string, words []string) bool {
	return q.where == where && q.word != "" && q.settings.Dialect.contains(words, q.word)
}

// saysNo is like says with the words for no, and with whatever else the dialect takes for a no.
func (q *question) saysNo(where string) bool {
	d := &q.settings.Dialect
	return q.says(where, d.No) || q.where == where && d.OtherWord == MeansNo && q.otherWord()
}

// otherWord reports whether the pod's word is neither a yes nor a no.
func (q *question) otherWord() bool {
	d := &q.settings.Dialect
	return q.word != "" && !d.contains(d.Yes, q.word) && !d.contains(d.No, q.word)
}

func (d *Dialect) contains(words []string, word string) bool {
	if d.FoldCase {
		word = strings.ToLower(word)
	}
	return slices.Contains(words, word)
}

// key returns the key of the annotation or label whose word counts.
func (q *question) key() string {
	if q.where == "label" {
		return q.settings.Dialect.LabelKey
	}
	return q.settings.Dialect.AnnotationKey
}

// warnings names the values that mean nothing here, whichever rule decides: they are mistakes in any case.
func (q *question) warnings() []string {
	var warnings []string
	if q.settings.Dialect.OtherWord == GoesOn && q.otherWord() {
		warnings = append(warnings, fmt.Sprintf("%s %s: value %s is ignored: use %s",
			q.where, q.key(), quote(q.word), q.settings.Dialect.words()))
	}
	if q.policyUnknown() {
		warnings = append(warnings, fmt.Sprintf("the injector's policy %s is neither %q nor %q: it injects nothing",
			quote(q.settings.Policy), Enabled, Disabled))
	}
	return warnings
}

// words returns the words that a dialect understands, for messages.
func (d *Dialect) words() string {
	return strings.Join(append(slices.Clone(d.Yes), d.No...), " or ")
}

func (q *question) policyUnknown() bool {
	return q.settings.Policy != Enabled && q.settings.Policy != Disabled
}

// quote returns a value from outside in quotation marks, cut to a length that fits a warning: the API server cuts
// those that are longer than 256 characters, and an annotation may have 256 KiB.
func quote(value string) string {
	const most = 63
	if len(value) > most {
		return fmt.Sprintf("%q…", value[:most])
	}
	return fmt.Sprintf("%q", value)
}

// matching returns the index of the first selector that matches a set of labels, or -1. An empty selector, which
// matches everything elsewhere in Kubernetes, never matches here: one typing mistake would inject a whole cluster.
func matching(selectors []labels.Selector, set labels.Set) int {
	return slices.IndexFunc(selectors, func(s labels.Selector) bool { return !s.Empty() && s.Matches(set) })
}
