// SPDX-License-Identifier: Apache-2.0

// Package control makes a tap that runs elsewhere, in a cluster, one like any other: a [Server] stands beside the tap and
// does what a [Client] in the harness asks for. Nothing of the calls that the tap takes goes this way but their records.
//
// Both sides show a certificate (TLS 1.3), and each accepts the other's authority alone: who could speak to the server
// could read reviews and have pods injected.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/outrigger-k8s/outrigger/tap"
)

// maxBody bounds a request, in bytes. Upstreams, faults and patches are far below it.
const maxBody = 4 << 20

// maxAnswer bounds an answer, in bytes: the records of one case, each with a review and an answer of up to
// tap.DefaultLimit in base64. More calls than that allows no case has.
const maxAnswer = 64 << 20

// The requests, all POST with JSON both ways.
const (
	pathState    = "/v1/state"
	pathExpect   = "/v1/expect"
	pathRoute    = "/v1/route"
	pathTake     = "/v1/take"
	pathRetake   = "/v1/retake"
	pathFaultURL = "/v1/fault-url"
	pathAnswer   = "/v1/answering"
	pathReach    = "/v1/reach"
)

// State is what there is to know of a tap before it is used.
type State struct {
	CABundle []byte `json:"caBundle"` // by which the certificates it serves with are verified
	Strays   int    `json:"strays"`   // calls that no case expected
}

type upstream struct {
	URL      string `json:"url"`
	Address  string `json:"address,omitempty"` // where it is dialled, if not where its URL says
	CABundle []byte `json:"caBundle"`
}

func upstreamOf(up *tap.Upstream) *upstream {
	return &upstream{URL: up.URL().String(), Address: up.Address(), CABundle: up.CABundle()}
}

// open is what upstreamOf was made of.
func (u *upstream) open() (*tap.Upstream, error) {
	at, err := url.Parse(u.URL)
	if err != nil {
		return nil, fmt.Errorf("read the upstream's URL: %w", err)
	}
	up, err := tap.NewUpstream(at, u.CABundle)
	if err != nil || u.Address == "" {
		return up, err
	}
	return up.At(u.Address), nil
}

type (
	expectRequest struct {
		Key      string         `json:"key"`
		Upstream *upstream      `json:"upstream"`
		Fault    map[string]any `json:"fault,omitempty"` // as a table states it
	}
	routeRequest struct {
		Key      string         `json:"key"`
		Webhook  string         `json:"webhook"`
		Upstream *upstream      `json:"upstream"`
		Fault    map[string]any `json:"fault,omitempty"` // as a table states it
	}
	takeRequest struct {
		Key    string `json:"key"`
		Within int64  `json:"within"` // nanoseconds that calls under way may take to end
	}
	routed struct {
		Upstream *upstream      `json:"upstream"`
		Fault    map[string]any `json:"fault,omitempty"` // as a table states it
	}
	retakeRequest struct {
		takeRequest
		Rest   routed            `json:"rest"`
		Routes map[string]routed `json:"routes,omitempty"`
	}
	takeAnswer struct {
		Calls []call `json:"calls"`
	}
	faultURLRequest struct {
		Fault   map[string]any `json:"fault"`
		Webhook string         `json:"webhook"`
	}
	faultURLAnswer struct {
		URL string `json:"url"`
	}
	answerRequest struct {
		Patch json.RawMessage `json:"patch"`
	}
	reachRequest struct {
		Upstream *upstream `json:"upstream"`
		Within   int64     `json:"within"` // nanoseconds
	}
)

// call is a tap.Call on its way: of its error only the text, and which of the tap's own errors it is.
type call struct {
	tap.Call
	Err    string   `json:"Err,omitempty"` // stands before the Call's
	Errors []string `json:"Errors,omitempty"`
}

// marked are the errors that are told apart by errors.Is.
var marked = map[string]error{"hung-up": tap.ErrHungUp, "unfinished": tap.ErrUnfinished}

func packed(c tap.Call) call {
	out := call{Call: c}
	out.Call.Err = nil
	if c.Err != nil {
		out.Err = c.Err.Error()
		for name, err := range marked {
			if errors.Is(c.Err, err) {
				out.Errors = append(out.Errors, name)
			}
		}
	}
	return out
}

func (c call) unpacked() tap.Call {
	out := c.Call
	if c.Err == "" {
		return out
	}
	told := &toldError{text: c.Err}
	for _, name := range c.Errors {
		if err := marked[name]; err != nil {
			told.is = append(told.is, err)
		}
	}
	out.Err = told
	return out
}

// A toldError is an error that came over the wire.
type toldError struct {
	text string
	is   []error
}

func (e *toldError) Error() string   { return e.text }
func (e *toldError) Unwrap() []error { return e.is }

// faultDocument is f as a table states it; nil for nil.
func faultDocument(f *tap.Fault) (map[string]any, error) {
	if f == nil {
		return nil, nil
	}
	raw, err := json.Marshal(f.Parameters)
	if err != nil {
		return nil, fmt.Errorf("writing fault %s: %w", f.Name, err)
	}
	doc := map[string]any{}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("writing fault %s: %w", f.Name, err)
	}
	doc["fault"] = f.Name
	return doc, nil
}
