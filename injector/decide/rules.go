// SPDX-License-Identifier: Apache-2.0

package decide

import (
	"fmt"
	"slices"
)

// The names of the rules. They are stable: audit annotations, metrics and reports carry them.
const (
	HostNetwork     = "host-network"
	SystemNamespace = "system-namespace"
	MirrorPod       = "mirror-pod"
	PolicyUnknown   = "policy-unknown"
	LabelTrue       = "label-true"
	LabelFalse      = "label-false"
	AnnotationTrue  = "annotation-true"
	AnnotationFalse = "annotation-false"
	NeverSelector   = "never-selector"
	AlwaysSelector  = "always-selector"
	PolicyEnabled   = "policy-enabled"
	PolicyDisabled  = "policy-disabled"
)

// mirrorKey is the annotation of a mirror pod: the API server's image of a static pod, which a kubelet runs from a
// file. What is injected into the image never runs.
const mirrorKey = "kubernetes.io/config.mirror"

// rule is one step of the procedure.
type rule struct {
	name    string
	inject  bool
	applies func(*question) bool
	why     func(*question) string
}

const yes, no = true, false

// rules is the decision procedure: the first rule that applies decides.
//
// The first two and the order of the rest are Istio's (injectRequired). An unknown policy stands before the pod's own
// word because there it throws away every earlier result, even an explicit yes: the switch on the policy comes last
// and its default is "not required". The mirror pod's rule is this injector's own.
var rules = []rule{
	{HostNetwork, no, func(q *question) bool { return q.hostNetwork }, whyHostNetwork},
	{SystemNamespace, no, func(q *question) bool { return q.isIgnored() }, whySystemNamespace},
	{MirrorPod, no, func(q *question) bool { return q.isMirror() }, whyMirrorPod},
	{PolicyUnknown, no, func(q *question) bool { return q.policyUnknown() }, whyPolicyUnknown},
	{LabelTrue, yes, func(q *question) bool { return q.says("label", q.settings.Dialect.Yes) }, whyWord},
	{LabelFalse, no, func(q *question) bool { return q.saysNo("label") }, whyWord},
	{AnnotationTrue, yes, func(q *question) bool { return q.says("annotation", q.settings.Dialect.Yes) }, whyWord},
	{AnnotationFalse, no, func(q *question) bool { return q.saysNo("annotation") }, whyWord},
	{NeverSelector, no, func(q *question) bool { return matching(q.settings.Never, q.labels) >= 0 }, whyNever},
	{AlwaysSelector, yes, func(q *question) bool { return matching(q.settings.Always, q.labels) >= 0 }, whyAlways},
	{PolicyEnabled, yes, func(q *question) bool { return q.settings.Policy == Enabled }, whyPolicy},
	{PolicyDisabled, no, func(q *question) bool { return q.settings.Policy == Disabled }, whyPolicy},
}

func (q *question) isIgnored() bool {
	return slices.Contains(q.settings.IgnoredNamespaces, q.namespace)
}

func (q *question) isMirror() bool {
	_, mirror := q.annotations[mirrorKey]
	return mirror
}

func whyHostNetwork(*question) string {
	return "the pod uses the host's network: redirecting its traffic would redirect the node's"
}

func whySystemNamespace(q *question) string {
	return fmt.Sprintf("nothing is injected in namespace %s", q.namespace)
}

func whyMirrorPod(*question) string {
	return "the pod is the mirror of a static pod: the kubelet would not run what is injected"
}

func whyPolicyUnknown(q *question) string {
	return fmt.Sprintf("the policy %s is unknown, and then nothing is injected, whatever the pod says",
		quote(q.settings.Policy))
}

func whyWord(q *question) string {
	return fmt.Sprintf("%s %s is %s", q.where, q.key(), quote(q.word))
}

func whyNever(q *question) string {
	return fmt.Sprintf("neverInjectSelector[%d] matches the pod's labels", matching(q.settings.Never, q.labels))
}

func whyAlways(q *question) string {
	return fmt.Sprintf("alwaysInjectSelector[%d] matches the pod's labels", matching(q.settings.Always, q.labels))
}

func whyPolicy(q *question) string {
	return fmt.Sprintf("the policy is %s, and nothing else says anything about the pod", q.settings.Policy)
}
