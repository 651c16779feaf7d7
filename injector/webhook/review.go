// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// review is an AdmissionReview as it comes in: of admission.k8s.io/v1 or v1beta1, whose JSON is the same. T is what is
// read of the object.
//
// One pass over the body decodes it, object and all. An object of another kind than T may not fit T; since
// encoding/json goes on after such an error, the request around it is known and can say so.
type review[T any] struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Request    *request[T] `json:"request"`
}

type request[T any] struct {
	UID         string   `json:"uid"`
	Kind        kind     `json:"kind"`
	Resource    resource `json:"resource"`
	SubResource string   `json:"subResource"`
	Name        string   `json:"name"`
	Namespace   string   `json:"namespace"`
	Operation   string   `json:"operation"`
	Object      *T       `json:"object"`
	OldObject   *T       `json:"oldObject"` // of an UPDATE
}

type kind struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

type resource struct {
	Group    string `json:"group"`
	Version  string `json:"version"`
	Resource string `json:"resource"`
}

// answer is an AdmissionReview as it goes out.
type answer struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Response   response `json:"response"`
}

type response struct {
	UID              string            `json:"uid"`
	Allowed          bool              `json:"allowed"`
	Status           *denial           `json:"status,omitempty"`
	Patch            []byte            `json:"patch,omitempty"` // base64 in JSON
	PatchType        string            `json:"patchType,omitempty"`
	AuditAnnotations map[string]string `json:"auditAnnotations,omitempty"`
	Warnings         []string          `json:"warnings,omitempty"`
}

// denial is the part of a metav1.Status that tells why something was denied.
type denial struct {
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Code    int    `json:"code"`
}

// versions are the reviews that are understood, and answered in kind.
var versions = map[string]bool{"admission.k8s.io/v1": true, "admission.k8s.io/v1beta1": true}

// refusal is a request that is not answered with a review.
type refusal struct {
	code int    // of HTTP
	kind string // for the metric
	text string // for whoever asked: the API server puts it into its own message
}

// The kinds of refusals, and of other errors, as the metric counts them.
const (
	tooLong       = "body-too-long"
	notJSON       = "content-type"
	unread        = "body-unread"
	empty         = "body-empty"
	undecodable   = "undecodable"
	noRequest     = "no-request"
	misdirected   = "misdirected" // answered, but nothing was looked at
	panicked      = "panic"
	badPatch      = "patch"
	badConfigMap  = "configuration-refused"
	unimplemented = "version"
	unready       = "unready" // there is no configuration yet
)

// errorKinds are all of them, so that each starts at zero.
var errorKinds = []string{tooLong, notJSON, unread, empty, undecodable, noRequest, misdirected, panicked, badPatch,
	badConfigMap, unimplemented, unready}

// subject is what an endpoint is made to be asked about.
type subject struct {
	kind       kind
	resource   resource
	operations []string
}

// decode reads a review that is about a subject. A request about something else comes with a warning and is to be
// allowed; its object is not to be looked at.
func decode[T any](body []byte, about subject) (r *review[T], warning string, refused *refusal) {
	r = new(review[T])
	err := json.Unmarshal(body, r)
	var misfit *json.UnmarshalTypeError
	switch {
	case err != nil && !errors.As(err, &misfit):
		return nil, "", bad(undecodable, "cannot decode the body as an AdmissionReview: %v", err)
	case r.Kind != "AdmissionReview":
		return nil, "", bad(undecodable, "the body is of kind %.64q, want AdmissionReview", r.Kind)
	case !versions[r.APIVersion]:
		return nil, "", bad(unimplemented, "the review is of apiVersion %.64q, want admission.k8s.io/v1 or v1beta1", r.APIVersion)
	case r.Request == nil:
		return nil, "", bad(noRequest, "the AdmissionReview has no request")
	case r.Request.UID == "":
		return nil, "", bad(noRequest, "the AdmissionReview's request has no uid")
	}
	if warning = about.misses(r.Request.Kind, r.Request.Resource, r.Request.SubResource, r.Request.Operation); warning != "" {
		return r, warning, nil
	}
	if err != nil {
		return nil, "", bad(undecodable, "cannot decode the %s in the AdmissionReview: %v", about.kind.Kind, err)
	}
	if r.Request.Object == nil {
		return nil, "", bad(noRequest, "the AdmissionReview's request has no object")
	}
	return r, "", nil
}

// misses says what a request is about, if that is not the subject.
func (s subject) misses(k kind, r resource, sub, operation string) string {
	for _, o := range s.operations {
		if o == operation && k == s.kind && r == s.resource && sub == "" {
			return ""
		}
	}
	if sub != "" {
		sub = "/" + sub
	}
	return fmt.Sprintf("asked about %.32q of %.64q (%.64q), allowed unseen: the webhook's rules should say %s of %s only",
		operation, r.Resource+sub, k.Kind, s.operations, s.resource.Resource)
}

func bad(kind, format string, args ...any) *refusal {
	return &refusal{code: http.StatusBadRequest, kind: kind, text: fmt.Sprintf(format, args...)}
}

// reply returns the answer to a review, still without a verdict.
func (r *review[T]) reply(allowed bool) *answer {
	return &answer{
		APIVersion: r.APIVersion,
		Kind:       r.Kind,
		Response:   response{UID: r.Request.UID, Allowed: allowed},
	}
}

// object returns the full JSON of the object in a review's body.
func object(body []byte) (json.RawMessage, error) {
	var r struct {
		Request struct {
			Object json.RawMessage `json:"object"`
		} `json:"request"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, err
	}
	return r.Request.Object, nil
}
