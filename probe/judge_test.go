// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// What a rule says is held against what was observed, particular by particular; what it does not say is not.
func TestJudge(t *testing.T) {
	injection := call(plainPod, `[{"op":"add","path":"/spec/containers/-","value":{"name":"proxy"}}]`)
	for _, row := range []struct {
		name  string
		then  string
		o     Observation
		calls []tap.Call
		want  []string // faults; none: the case holds
	}{
		{name: "injected as expected", then: "{outcome: injected, calls: 1}",
			o: Observation{Pod: podOf(t, injectedPod), Attempts: tried(1, true)}, calls: []tap.Call{injection}},
		{name: "untouched as expected", then: "{outcome: untouched, calls: 1}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false)}, calls: received(1)},
		{name: "never called as expected", then: "{outcome: untouched, calls: 0}",
			o: Observation{Pod: podOf(t, plainPod)}},
		{name: "injected, untouched expected", then: "untouched",
			o:    Observation{Pod: podOf(t, injectedPod), Attempts: tried(1, true)},
			want: []string{"expected untouched, observed injected"}},
		{name: "untouched, injected expected", then: "injected",
			o:    Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false)},
			want: []string{"expected injected, observed untouched"}},
		{name: "altered is no injection", then: "injected",
			o:    Observation{Pod: podOf(t, plainPod), Attempts: tried(1, true)},
			want: []string{"expected injected, observed altered"}},
		{name: "altered is not untouched", then: "untouched",
			o:    Observation{Pod: podOf(t, plainPod), Attempts: tried(1, true)},
			want: []string{"expected untouched, observed altered"}},
		{name: "refused, injected expected", then: "injected",
			o:    Observation{Refused: refused(500, "InternalError", `failed calling webhook "hook"`)},
			want: []string{`expected injected, observed failed (500 InternalError: failed calling webhook "hook")`}},

		{name: "tried but not received", then: "{outcome: untouched, calls: 1}",
			o:    Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false)},
			want: []string{"expected the tap to receive 1 call, it received 0"}},
		{name: "received but not tried", then: "{outcome: untouched, calls: 1}",
			o: Observation{Pod: podOf(t, plainPod)}, calls: received(1),
			want: []string{"expected the API server to call the webhook once, its audit annotations tell of 0"}},
		{name: "called though it should not be", then: "{outcome: untouched, calls: 0}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false)}, calls: received(1),
			want: []string{"to call the webhook never, its audit annotations tell of 1", "to receive 0 calls, it received 1"}},
		{name: "called twice", then: "{outcome: untouched, calls: 1}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(2, false)}, calls: received(2),
			want: []string{"call the webhook once, its audit annotations tell of 2", "to receive 1 call, it received 2"}},
		{name: "two calls as expected", then: "{outcome: untouched, calls: 2}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(2, false)}, calls: received(2)},
		{name: "calls left out are any", then: "untouched",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(3, false)}, calls: received(2)},

		{name: "each webhook as often as it should be", then: "{outcome: untouched, calls: {hook.example.com: 2}}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(2, false)}, calls: received(2)},
		{name: "as many calls, of another webhook", then: "{outcome: untouched, calls: {other.example.com: 1}}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false)}, calls: received(1),
			want: []string{
				"call webhook hook.example.com never, its audit annotations tell of 1", "receive 0 calls for webhook hook.example.com, it received 1",
				"call webhook other.example.com once, its audit annotations tell of 0", "receive 1 call for webhook other.example.com, it received 0",
			}},
		{name: "in order", then: "{outcome: untouched, called: [hook.example.com, hook.example.com]}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(2, false)}, calls: received(2)},
		{name: "in another order", then: "{outcome: untouched, called: [hook.example.com, other.example.com]}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(2, false)}, calls: received(2),
			want: []string{
				"to call [hook.example.com other.example.com] in this order, its audit annotations tell of [hook.example.com hook.example.com]",
				"to receive calls for [hook.example.com other.example.com] in this order, it received [hook.example.com hook.example.com]",
			}},
		{name: "the version of the reviews", then: "{outcome: untouched, review: admission.k8s.io/v1}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false)}, calls: received(1)},
		{name: "another version of the reviews", then: "{outcome: untouched, review: admission.k8s.io/v1beta1}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false)}, calls: received(1),
			want: []string{
				`expected a review of admission.k8s.io/v1beta1, the API server sent "admission.k8s.io/v1"`,
				`expected the answer to be of admission.k8s.io/v1beta1, the target sent "admission.k8s.io/v1"`,
			}},
		{name: "an answer that is no review", then: "{outcome: untouched, review: admission.k8s.io/v1}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false)}, calls: []tap.Call{{Status: 200, Request: received(1)[0].Request, Response: []byte("{")}},
			want: []string{`the target sent ""`}},
		{name: "one side of the wire", then: "{outcome: failed, attempted: 1, received: 0}",
			o: Observation{Refused: refused(500, "", "failed calling webhook"), Attempts: tried(1, false)}},
		{name: "one side of the wire, otherwise", then: "{outcome: failed, attempted: 0, received: 1}",
			o:    Observation{Refused: refused(500, "", "failed calling webhook"), Attempts: tried(1, false)},
			want: []string{"call the webhook never, its audit annotations tell of 1", "receive 1 call, it received 0"}},
		{name: "an event", then: "{outcome: failed, events: failed calling}",
			o: Observation{Refused: refused(500, "", "failed calling webhook"), Events: []string{"first", "Error creating: failed calling webhook"}}},
		{name: "no such event", then: "{outcome: failed, events: failed calling}",
			o:    Observation{Refused: refused(500, "", "failed calling webhook"), Events: []string{"first"}},
			want: []string{`expected a Warning event with "failed calling" about the workload, observed ["first"]`}},
		{name: "a condition", then: "{outcome: failed, condition: ReplicaFailure}",
			o: Observation{Refused: refused(500, "", "failed calling webhook"), Conditions: []string{"Progressing", "ReplicaFailure"}}},
		{name: "no such condition", then: "{outcome: failed, condition: ReplicaFailure}",
			o:    Observation{Refused: refused(500, "", "failed calling webhook"), Conditions: []string{"Progressing"}},
			want: []string{`expected the workload's condition ReplicaFailure to be True, observed as True ["Progressing"]`}},

		{name: "the code", then: "{outcome: failed, code: 500}",
			o: Observation{Refused: refused(500, "", "failed calling webhook")}},
		{name: "another code", then: "{outcome: failed, code: 500}",
			o:    Observation{Refused: refused(504, "", "failed calling webhook")},
			want: []string{"expected code 500, observed 504"}},
		{name: "the reason", then: "{outcome: rejected, reason: Invalid}",
			o: Observation{Refused: refused(422, "Invalid", "")}},
		{name: "another reason", then: "{outcome: rejected, reason: Invalid}",
			o:    Observation{Refused: refused(422, "Forbidden", "")},
			want: []string{`expected reason Invalid, observed "Forbidden"`}},
		{name: "a part of the message", then: "{outcome: failed, message: deadline}",
			o: Observation{Refused: refused(500, "", "failed calling webhook: context deadline exceeded")}},
		{name: "another message", then: "{outcome: failed, message: deadline}",
			o:    Observation{Refused: refused(500, "", "failed calling webhook: refused")},
			want: []string{`expected a message with "deadline", observed "failed calling webhook: refused"`}},
		{name: "the details", then: "{outcome: rejected, details: {kind: Pod, causes: [{field: spec}]}}",
			o: Observation{Refused: detailed("Pod", metav1.StatusCause{Field: "spec"})}},
		{name: "other details", then: "{outcome: rejected, details: {kind: Pod, causes: [{field: spec}]}}",
			o:    Observation{Refused: detailed("Node", metav1.StatusCause{Field: "spec", Message: "bad"})},
			want: []string{`in the refusal's details: expected [{"field":"spec"}] at /causes, observed [{"field":"spec","message":"bad"}]`, `expected "Pod" at /kind, observed "Node"`}},
		{name: "no details", then: "{outcome: rejected, details: {kind: Pod}}",
			o:    Observation{Refused: refused(422, "Invalid", "")},
			want: []string{`in the refusal's details: expected "Pod" at /kind, observed nothing`}},
		{name: "no pod to look into", then: "{outcome: denied, absent: [/spec/nodeName]}",
			o:    Observation{Refused: refused(400, "", `admission webhook "hook.example.com" denied the request: no`)},
			want: []string{"expected a pod to look into, there is none"}},
		{name: "failed open as expected", then: "{outcome: untouched, failedOpen: true}",
			o: Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false), FailedOpen: []string{"hook.example.com"}}},
		{name: "failed open, not expected", then: "untouched",
			o:    Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false), FailedOpen: []string{"hook.example.com"}},
			want: []string{"expected failed open: false, observed: true"}},
		{name: "not failed open, expected", then: "{outcome: untouched, failedOpen: true}",
			o:    Observation{Pod: podOf(t, plainPod)},
			want: []string{"expected failed open: true, observed: false"}},
		{name: "a warning among others", then: "{outcome: untouched, warning: ignored}",
			o: Observation{Pod: podOf(t, plainPod), Warnings: []string{"first", "it is ignored here"}}},
		{name: "no such warning", then: "{outcome: untouched, warning: ignored}",
			o:    Observation{Pod: podOf(t, plainPod), Warnings: []string{"first"}},
			want: []string{`expected a warning with "ignored", observed ["first"]`}},
		{name: "warnings that are not asked for", then: "untouched",
			o: Observation{Pod: podOf(t, plainPod), Warnings: []string{"first"}}},

		{name: "the pod", then: "{outcome: injected, pod: {spec: {containers: [{name: proxy, image: 'p:1'}]}}}",
			o: Observation{Pod: podOf(t, injectedPod), Attempts: tried(1, true)}},
		{name: "another pod", then: "{outcome: injected, pod: {spec: {containers: [{name: proxy, image: 'p:2'}]}}}",
			o:    Observation{Pod: podOf(t, injectedPod), Attempts: tried(1, true)},
			want: []string{`expected "p:2" at /spec/containers/proxy/image, observed "p:1"`}},
		{name: "only the order is asked for", then: "{outcome: injected, order: {containers: [proxy, app]}}",
			o:    Observation{Pod: podOf(t, injectedPod), Attempts: tried(1, true)},
			want: []string{"expected spec.containers to be [proxy app] in this order, observed [app proxy]"}},
		{name: "only an absence is asked for", then: "{outcome: injected, absent: [/spec/containers/proxy/image]}",
			o:    Observation{Pod: podOf(t, injectedPod), Attempts: tried(1, true)},
			want: []string{"expected nothing at /spec/containers/proxy/image"}},

		{name: "the patch goes beyond the sidecar", then: "injected",
			o: Observation{Pod: podOf(t, injectedPod), Attempts: tried(1, true)},
			calls: []tap.Call{call(plainPod, `[{"op":"replace","path":"/spec/containers/0/image","value":"mine"},
				{"op":"add","path":"/spec/containers/-","value":{"name":"proxy"}}]`)},
			want: []string{"the patch changes /spec/containers/0/image, which is not the sidecar's"}},
		{name: "the second patch goes beyond the sidecar", then: "injected",
			o:     Observation{Pod: podOf(t, injectedPod), Attempts: tried(2, true)},
			calls: []tap.Call{injection, call(plainPod, `[{"op":"add","path":"/metadata/finalizers","value":["x"]}]`)},
			want:  []string{"the patch changes /metadata/finalizers, which is not the sidecar's"}},
		{name: "a call that failed explains a case that does not hold", then: "injected",
			o:     Observation{Refused: refused(500, "", "failed calling webhook")},
			calls: []tap.Call{{Path: "/inject", Status: 503, Response: []byte("no")}, {Err: errors.New("connection reset")}},
			want: []string{"expected injected, observed failed", `call 1 of 2: the target answered HTTP 503 to /inject: "no"`,
				"call 2 of 2: connection reset"}},
		{name: "a call that failed as it should needs no explanation", then: "failed",
			o:     Observation{Refused: refused(500, "", "failed calling webhook")},
			calls: []tap.Call{{Path: "/inject", Status: 503, Response: []byte("no")}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			j := Judge(plannedFor(t, row.then), &row.o, row.calls)
			same(t, j.Why, row.want)
			if j.Holds() != (len(row.want) == 0) {
				t.Errorf("holds: %v", j.Holds())
			}
			if kept := j.Calls != nil; kept != (len(row.want) > 0 && len(row.calls) > 0) {
				t.Errorf("the calls are kept: %v; they are for cases that do not hold", kept)
			}
		})
	}
}

func TestJudgeTellsWhatItSaw(t *testing.T) {
	p := plannedFor(t, "failed")
	o := &Observation{
		Refused:  refused(500, "InternalError", "failed calling webhook"),
		Attempts: tried(3, false), FailedOpen: []string{"x"}, Latency: time.Second,
	}
	j := Judge(p, o, received(2))
	if j.Planned != p || j.Observed != table.Failed || j.Code != 500 || j.Reason != "InternalError" ||
		j.Message != "failed calling webhook" || !j.FailedOpen || j.Attempted != 3 || j.Received != 2 || j.Latency != time.Second {
		t.Errorf("%+v", j)
	}
}

// A case about which nothing can be said, or that was not tried, never counts as one that holds.
func TestOnlyWhatWasJudgedHolds(t *testing.T) {
	for name, j := range map[string]*Judgement{
		"an error":       {Err: errors.New("the lane broke")},
		"not run":        {NotRun: "the target cannot have these settings"},
		"a fault":        {Why: []string{"expected injected, observed untouched"}},
		"both":           {Err: errors.New("x"), Why: []string{"y"}},
		"what broken is": broken(plannedFor(t, "injected"), errors.New("x")),
	} {
		if j.Holds() {
			t.Errorf("%s: it holds", name)
		}
	}
	if !(&Judgement{}).Holds() {
		t.Error("a judgement without a fault does not hold")
	}
}

// The outcome is read from what the API server says and does.
func TestOutcome(t *testing.T) {
	for _, row := range []struct {
		name string
		o    Observation
		want table.Outcome
	}{
		{"denied", Observation{Refused: refused(403, "Forbidden", `admission webhook "hook.example.com" denied the request: no`)}, table.Denied},
		{"denied without a reason", Observation{Refused: refused(400, "", `admission webhook "hook.example.com" denied the request without explanation`)}, table.Denied},
		{"failed", Observation{Refused: refused(500, "InternalError", `Internal error occurred: failed calling webhook "hook.example.com": EOF`)}, table.Failed},
		{"rejected by validation", Observation{Refused: refused(422, "Invalid", "Pod \"x\" is invalid")}, table.Rejected},
		{"rejected by another plugin", Observation{Refused: refused(403, "Forbidden", `pods "x" is forbidden: exceeded quota`)}, table.Rejected},
		{"a dry run refused", Observation{Refused: refused(400, "BadRequest", `admission webhook "hook.example.com" does not support dry run`)}, table.Rejected},
		{"injected", Observation{Pod: podOf(t, injectedPod), Attempts: tried(2, true)}, table.Injected},
		{"injected natively", Observation{Pod: podOf(t, nativePod), Attempts: tried(1, true)}, table.Injected},
		{"altered", Observation{Pod: podOf(t, plainPod), Attempts: tried(1, true)}, table.Altered},
		{"untouched", Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false)}, table.Untouched},
		{"a sidecar of the user's own is no injection", Observation{Pod: podOf(t, injectedPod), Attempts: tried(1, false)}, table.Untouched},
		{"never called", Observation{Pod: podOf(t, plainPod)}, table.Untouched},
	} {
		t.Run(row.name, func(t *testing.T) {
			if j := Judge(plannedFor(t, "injected"), &row.o, nil); j.Observed != row.want {
				t.Errorf("%s, expected %s", j.Observed, row.want)
			}
		})
	}
}

// A controller that was refused its pod tries again, and how often by the time that anybody looks is chance.
func TestRetriesAreNotCounted(t *testing.T) {
	p := plannedFor(t, "{outcome: denied, attempted: 1}")
	denied := refused(400, "", `admission webhook "hook.example.com" denied the request: no`)
	for name, row := range map[string]struct {
		retried bool
		calls   int
		want    int
	}{
		"a client's own request": {false, 3, 3}, "a controller's, first try": {true, 1, 1}, "a controller's, fourth": {true, 4, 1}, "never reached": {true, 0, 0},
	} {
		j := Judge(p, &Observation{Refused: denied, Attempts: tried(1, false), Retried: row.retried}, received(row.calls))
		if j.Received != row.want {
			t.Errorf("%s: %d calls count, want %d", name, j.Received, row.want)
		}
	}
}
