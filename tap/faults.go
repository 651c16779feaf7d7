// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/outrigger-k8s/outrigger/pki"
)

// plain is no fault: the calls pass. It is there to be held against the others.
var plain = Declaration{Name: "none", Title: "the call passes, over HTTP/1.1"}

// Faults are all that can be chosen, in the order in which they are shown.
var Faults = []Declaration{
	plain,

	// In place of the target's answer.
	{Name: "status", Title: "an HTTP status, with or without Retry-After", Takes: []string{"status"}, answer: status},
	{Name: "redirect", Title: "302 to another path of the same server", answer: instead(http.StatusFound,
		http.Header{"Location": {"/redirected"}}, "")},
	{Name: "empty", Title: "200 with an empty body", answer: instead(http.StatusOK, nil, "")},
	{Name: "html", Title: "200 with a page of HTML", answer: instead(http.StatusOK,
		http.Header{"Content-Type": {"text/html"}}, "<!DOCTYPE html><title>Sign in</title>\n")},

	// The target's answer, and what the wire does to it.
	{Name: "truncated", Title: "the first half of the answer's JSON, as if that were all", answer: truncated},
	{Name: "endless", Title: "200 with a body that does not end", answer: endless},
	{Name: "cut-in-body", Title: "the connection ends in the middle of the answer's body", answer: cutInBody},
	{Name: "cut-after-body", Title: "the connection ends when the whole answer is out", answer: cutAfterBody},
	{Name: "cut-before-end", Title: "the connection ends after the last chunk of the body, before the mark of its end",
		answer: cutBeforeEnd},
	{Name: "hang-up", Title: "the connection is closed when the request has been read, as by a handler that panics",
		answer: hangUp},
	{Name: "every-other", Title: "the first call, and every other after it, is closed like that, as behind a Service one of whose two replicas is broken",
		answer: everyOther},
	{Name: "reset", Title: "the connection is reset when the request has been read, as by a process that dies",
		answer: reset},
	{Name: "reset-in-body", Title: "the connection is reset in the middle of the answer's body", answer: resetting(cutInBody)},
	{Name: "reset-before-end", Title: "the connection is reset after the last chunk of the body, before the mark of its end",
		answer: resetting(cutBeforeEnd)},
	{Name: "reset-after-body", Title: "the connection is reset when the whole answer is out", answer: resetting(cutAfterBody)},
	{Name: "silent", Title: "the request is read, and never answered", answer: silent},
	{Name: "slow", Title: "the target is called after a delay", Takes: []string{"delay"}, answer: slow},

	// The target's answer, changed.
	edited("no-response", "a review without response", `{"response": null}`),
	edited("no-uid", "a response without uid", `{"response": {"uid": null}}`),
	edited("wrong-uid", "a response to another request",
		`{"response": {"uid": "00000000-0000-0000-0000-000000000000"}}`),
	edited("no-kind", "a review without apiVersion and kind", `{"apiVersion": null, "kind": null}`),
	edited("wrong-version", "a review of another version than was asked for", `{"apiVersion": "admission.k8s.io/v1beta1"}`),
	edited("wrong-kind", "a document of another kind", `{"apiVersion": "v1", "kind": "Pod"}`),
	edited("patch-without-type", "a patch without patchType", `{"response": {"patchType": null}}`),
	edited("type-without-patch", "a patchType without patch", `{"response": {"patch": null}}`),
	edited("unknown-patch-type", "a patch of a type that there is not", `{"response": {"patchType": "MergePatch"}}`),
	patched("undecodable-patch", "a patch that is no JSON patch", `{"op": "add"}`),
	patched("unappliable-patch", "a patch at a place that is not there",
		`[{"op": "add", "path": "/spec/nowhere/name", "value": "x"}]`),
	patched("mistyped-patch", "a patch that makes the pod something else than a pod",
		`[{"op": "replace", "path": "/spec/containers", "value": "none"}]`),
	patched("invalid-patch", "a patch that makes the pod invalid",
		`[{"op": "replace", "path": "/spec/containers/0/name", "value": "Not A Name"}]`),
	patched("namespace-patch", "a patch that moves the pod to another namespace",
		`[{"op": "add", "path": "/metadata/namespace", "value": "elsewhere"}]`),
	edited("denial", "no, with no word of explanation", denial(`null`)),
	edited("denial-message", "no, with a message", denial(`{"message": "no sidecars today"}`)),
	edited("denial-reason", "no, with a reason and no message", denial(`{"reason": "Conflict"}`)),
	edited("denial-code", "no, with a code, a reason and a message",
		denial(`{"code": 418, "reason": "Teapot", "message": "no sidecars today"}`)),
	edited("denial-success", "no, with the code and status of a yes", denial(`{"code": 200, "status": "Success"}`)),
	edited("denial-details", "no, with details", denial(`{"code": 422, "reason": "Invalid", "message": "no sidecars today",
		"details": {"name": "or", "kind": "Pod", "causes": [{"reason": "FieldValueInvalid", "message": "bad", "field": "spec"}]}}`)),
	edited("denial-with-patch", "no, and a patch nevertheless", `{"response": {"allowed": false}}`),
	edited("warning", "yes, with a warning", `{"response": {"warnings": ["sidecars will be dear"]}}`),

	// The connection.
	{Name: "no-such-host", Title: "the url's host is no name that DNS could resolve", connection: nameless{}},
	{Name: "refused", Title: "nothing listens", connection: nothing{}},
	{Name: "no-handshake", Title: "the connection is accepted, and TLS never answered", connection: noHandshake{}},
	{Name: "other-authority", Title: "the certificate is of another authority", connection: serving{stranger: true}},
	{Name: "cluster-authority", Title: "the certificate is of the cluster's own authority", connection: serving{cluster: true}},
	{Name: "first-certificate", Title: "none: the certificate is the first of two that one address serves with, one after the other",
		connection: rotating{}},
	{Name: "rotated-certificate", Title: "the certificate at that address has been rotated: it is of the authority that is to follow the first one's",
		connection: rotating{successor: true}},
	{Name: "expired", Title: "the certificate has expired", connection: serving{terms: func(now time.Time) pki.Terms {
		return pki.Terms{NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}
	}}},
	{Name: "not-yet-valid", Title: "the certificate is not valid yet", connection: serving{terms: func(now time.Time) pki.Terms {
		return pki.Terms{NotBefore: now.Add(time.Hour)}
	}}},
	{Name: "common-name-only", Title: "the certificate names its host as common name only",
		connection: serving{terms: func(time.Time) pki.Terms { return pki.Terms{CommonNameOnly: true} }}},
	{Name: "wrong-host", Title: "the certificate is another host's", connection: serving{host: "elsewhere.example"}},
	{Name: "old-tls", Title: "the server speaks TLS 1.1 and older only", connection: serving{newest: tls.VersionTLS11}},
	{Name: "no-tls", Title: "the server speaks HTTP without TLS", connection: serving{bare: true}},
}

func edited(name, title, review string) Declaration {
	if !json.Valid([]byte(review)) { // it is declared above: no program would start with it
		panic(fmt.Sprintf("fault %s is no JSON: %s", name, review))
	}
	return Declaration{Name: name, Title: title, review: json.RawMessage(review)}
}

func patched(name, title, patch string) Declaration {
	return edited(name, title, fmt.Sprintf(`{"response": {"patch": %q, "patchType": "JSONPatch"}}`,
		base64.StdEncoding.EncodeToString([]byte(patch))))
}

func denial(status string) string {
	return `{"response": {"allowed": false, "patch": null, "patchType": null, "status": ` + status + `}}`
}
