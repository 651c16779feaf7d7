// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// profile is what all tables of these tests lie on.
const profile = `schema: outrigger.dev/profile/v1alpha1
profile: p
title: t
source: s
sidecar:
  containers: [proxy]
  adds: {containers: [proxy], initContainers: [init, proxy], volumes: [shared], annotations: [status/key], labels: [mesh], imagePullSecrets: [registry]}
webhooks:
  - name: b-configuration
    webhooks: [{name: hook.example.com, failurePolicy: Fail}]
  - name: a-configuration
    webhooks: [{name: other.example.com, failurePolicy: Ignore}]
base: {pod: {spec: {containers: [{name: app, image: i}]}}, settings: {policy: enabled}}
`

// loaded is the table that text describes, on the profile above; its name is t.
func loaded(t testing.TB, text string) *table.Table {
	t.Helper()
	return loadedAs(t, "t", text)
}

// loadedAs is a table of this name.
func loadedAs(t testing.TB, name, text string) *table.Table {
	t.Helper()
	head := "schema: outrigger.dev/table/v1alpha1\nprofile: p\ntable: " + name + "\ntitle: t\nsource: s\n"
	set, err := table.Load(fstest.MapFS{"p/profile.yaml": {Data: []byte(profile)}, "p/" + name + ".yaml": {Data: []byte(head + text)}}, "")
	if err != nil {
		t.Fatal(err)
	}
	return set.Tables[0]
}

// plannedFor is a case, the only one of its table, of which then must hold.
func plannedFor(t testing.TB, then string) *Planned {
	t.Helper()
	tb := loaded(t, "dimensions: [{dimension: d, values: [{value: v}]}]\nrules:\n  - {rule: r, then: "+then+", because: b}\n")
	plan, err := NewPlan([]*table.Table{tb}, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Arrangements[0].Cases[0]
}

// podOf reads a pod from JSON.
func podOf(t testing.TB, text string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := json.Unmarshal([]byte(text), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// Pods with and without the sidecar.
const (
	plainPod    = `{"metadata":{"name":"x"},"spec":{"containers":[{"name":"app","image":"i"}]}}`
	injectedPod = `{"metadata":{"name":"x","annotations":{"status/key":"on"}},"spec":{"containers":[{"name":"app","image":"i"},{"name":"proxy","image":"p:1"}]}}`
	nativePod   = `{"metadata":{"name":"x"},"spec":{"initContainers":[{"name":"proxy"}],"containers":[{"name":"app","image":"i"}]}}`
)

// tried is n calls that the API server tried, of which the first mutated the pod if mutated.
func tried(n int, mutated bool) []WebhookAttempt {
	list := make([]WebhookAttempt, n)
	for i := range list {
		list[i] = WebhookAttempt{Index: i, Configuration: "b-configuration", Webhook: "hook.example.com", Mutated: mutated && i == 0}
	}
	return list
}

// call is the record of a call about object, answered with patch ("" is none).
func call(object, patch string) tap.Call {
	answer := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":true}}`
	if patch != "" {
		encoded, _ := json.Marshal([]byte(patch)) // base64, as in a review
		answer = fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":true,"patchType":"JSONPatch","patch":%s}}`, encoded)
	}
	return tap.Call{
		Webhook: "hook.example.com", Path: "/inject", Status: 200, Latency: 1,
		Request:  []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","object":` + object + `}}`),
		Response: []byte(answer),
	}
}

// received is n calls that changed nothing.
func received(n int) []tap.Call {
	list := make([]tap.Call, n)
	for i := range list {
		list[i] = call(plainPod, "")
	}
	return list
}

func refused(code int32, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}
}

// detailed is a refusal without a word but about whom, and why.
func detailed(kind string, causes ...metav1.StatusCause) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusFailure, Code: 422, Details: &metav1.StatusDetails{Kind: kind, Causes: causes}}
}

// same fails unless there are as many faults as wanted, and each holds its want, whatever their order.
func same(t *testing.T, faults, want []string) {
	t.Helper()
	rest := slices.Clone(faults)
	for _, w := range want {
		i := slices.IndexFunc(rest, func(f string) bool { return strings.Contains(f, w) })
		if i < 0 {
			t.Errorf("no fault with %q", w)
			continue
		}
		rest = slices.Delete(rest, i, i+1)
	}
	for _, f := range rest {
		t.Errorf("unexpected fault: %s", f)
	}
	if t.Failed() {
		t.Logf("all faults:\n  %s", strings.Join(faults, "\n  "))
	}
}
