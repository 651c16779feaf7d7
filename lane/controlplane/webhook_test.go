// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/table"
)

// A testWebhook answers by path: /annotate with a patch, /deny with no, /busy with no and code 429, all else with yes.
type testWebhook struct {
	url    string
	bundle []byte

	mu    sync.Mutex
	calls map[string]int // by key
}

func startWebhook(t testing.TB) *testWebhook {
	t.Helper()
	authority := pkitest.Authority(t)
	w := &testWebhook{bundle: authority.CABundle(), calls: map[string]int{}}
	w.url = pkitest.Serve(t, authority, w).URL
	return w
}

func (w *testWebhook) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	var object metav1.PartialObjectMetadata
	if err := json.Unmarshal(review.Request.Object.Raw, &object); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	w.calls[(object.Name + object.GenerateName + strings.Repeat(" ", table.KeyLength))[:table.KeyLength]]++
	w.mu.Unlock()
	answer := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	switch r.URL.Path {
	case "/annotate":
		patch := admissionv1.PatchTypeJSONPatch
		answer.PatchType = &patch
		answer.Patch = []byte(`[{"op":"add","path":"/metadata/annotations","value":{"touched":"yes"}}]`)
		answer.Warnings = []string{"touched"}
	case "/deny":
		answer.Allowed, answer.Result = false, &metav1.Status{Message: "not this one", Code: 418, Reason: "Teapot"}
	case "/busy":
		answer.Allowed = false
		answer.Result = &metav1.Status{
			Message: "come back later", Code: 429, Reason: metav1.StatusReasonTooManyRequests,
			Details: &metav1.StatusDetails{RetryAfterSeconds: 1},
		}
	}
	review.Response, review.Request = answer, nil
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(review)
}

func (w *testWebhook) count(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[key]
}

// configuration has one webhook for the pods of namespaces labelled inject=yes.
func (w *testWebhook) configuration(name, path string, policy admissionregistrationv1.FailurePolicyType) *admissionregistrationv1.MutatingWebhookConfiguration {
	url, none := w.url+path, admissionregistrationv1.SideEffectClassNone
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:              "pods." + name + ".test",
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: w.bundle},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"inject": "yes"}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule: admissionregistrationv1.Rule{
					APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"},
				},
			}},
			FailurePolicy: &policy, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
		}},
	}
}
