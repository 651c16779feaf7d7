// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

func attemptsOf(names ...string) []WebhookAttempt {
	var list []WebhookAttempt
	for _, n := range names {
		list = append(list, WebhookAttempt{Webhook: n})
	}
	return list
}

func callsOf(names ...string) []tap.Call {
	var list []tap.Call
	for _, n := range names {
		list = append(list, tap.Call{Webhook: n, Request: []byte(`{"apiVersion":"admission.k8s.io/v1"}`), Response: []byte(`{"apiVersion":"admission.k8s.io/v1"}`)})
	}
	return list
}

func TestCallFaults(t *testing.T) {
	v1beta1 := callsOf("a")
	v1beta1[0].Response = []byte(`{"apiVersion":"admission.k8s.io/v1beta1"}`)
	unread := callsOf("a")
	unread[0].Response = []byte(`<html>`)
	asked := callsOf("a")
	asked[0].Request = []byte(`{"request":{"operation":"UPDATE","object":{"kind":"Pod"},"oldObject":null}}`)
	elsewhere := callsOf("a", "a")
	elsewhere[0].Asked, elsewhere[1].Asked = "/inject", "/"
	for _, row := range []struct {
		name     string
		then     table.Then
		attempts []WebhookAttempt
		calls    []tap.Call
		want     []string
	}{
		{"nothing asked", table.Then{}, attemptsOf("a", "b"), callsOf("a"), nil},
		{"sum", table.Then{Calls: &table.Calls{Sum: 2}}, attemptsOf("a", "b"), callsOf("b", "a"), nil},
		{"sum of attempts", table.Then{Calls: &table.Calls{Sum: 2}}, attemptsOf("a"), callsOf("a", "b"), []string{"expected the API server to call the webhook 2 times, its audit annotations tell of 1"}},
		{"sum of calls", table.Then{Calls: &table.Calls{Sum: 0}}, nil, callsOf("a"), []string{"expected the tap to receive 0 calls, it received 1"}},
		{"each", table.Then{Calls: &table.Calls{Sum: 3, Each: map[string]int{"a": 2, "b": 1}}}, attemptsOf("a", "b", "a"), callsOf("b", "a", "a"), nil},
		{"each of another", table.Then{Calls: &table.Calls{Sum: 1, Each: map[string]int{"a": 1}}}, attemptsOf("b"), callsOf("a"), []string{
			"expected the API server to call webhook a once, its audit annotations tell of 0",
			"expected the API server to call webhook b never, its audit annotations tell of 1"}},
		{"each received by another", table.Then{Calls: &table.Calls{Sum: 1, Each: map[string]int{"a": 1}}}, attemptsOf("a"), callsOf("b"), []string{
			"expected the tap to receive 1 call for webhook a, it received 0",
			"expected the tap to receive 0 calls for webhook b, it received 1"}},
		{"order", table.Then{Called: []string{"a", "b"}}, attemptsOf("a", "b"), callsOf("a", "b"), nil},
		{"order of attempts", table.Then{Called: []string{"a", "b"}}, attemptsOf("b", "a"), callsOf("a", "b"), []string{"expected the API server to call [a b] in this order, its audit annotations tell of [b a]"}},
		{"order of calls", table.Then{Called: []string{"a", "b"}}, attemptsOf("a", "b"), callsOf("b", "a"), []string{"expected the tap to receive calls for [a b] in this order, it received [b a]"}},
		{"nobody in order", table.Then{Called: []string{}}, attemptsOf("a"), nil, []string{"expected the API server to call [] in this order, its audit annotations tell of [a]"}},
		{"review", table.Then{Review: "admission.k8s.io/v1"}, attemptsOf("a"), callsOf("a"), nil},
		{"review of another version", table.Then{Review: "admission.k8s.io/v2"}, attemptsOf("a"), callsOf("a"), []string{
			`call 1 of 1: expected a review of admission.k8s.io/v2, the API server sent "admission.k8s.io/v1"`,
			`call 1 of 1: expected the answer to be of admission.k8s.io/v2, the target sent "admission.k8s.io/v1"`}},
		{"asked", table.Then{Asked: table.Overlay{"operation": "UPDATE", "oldObject": nil}}, attemptsOf("a"), asked, nil},
		{"asked for another operation", table.Then{Asked: table.Overlay{"operation": "CREATE"}}, attemptsOf("a"), asked, []string{
			`call 1 of 1: in the review, expected "CREATE" at /request/operation, observed "UPDATE"`}},
		{"asked with what is not there", table.Then{Asked: table.Overlay{"dryRun": true}}, attemptsOf("a"), asked, []string{
			`call 1 of 1: in the review, expected true at /request/dryRun, observed nothing`}},
		{"asked, and nobody was", table.Then{Asked: table.Overlay{"operation": "CREATE"}}, nil, nil, []string{
			"expected reviews to look into, the tap received none"}},
		{"path", table.Then{Path: "/inject"}, attemptsOf("a"), elsewhere[:1], nil},
		{"another path", table.Then{Path: "/inject"}, attemptsOf("a"), elsewhere, []string{"call 2 of 2: expected the path /inject, the API server asked for /"}},
		{"a path, and no call", table.Then{Path: "/"}, nil, nil, []string{"expected calls for the path /, the tap received none"}},
		{"not answered in kind", table.Then{Review: "admission.k8s.io/v1"}, attemptsOf("a"), v1beta1, []string{`call 1 of 1: expected the answer to be of admission.k8s.io/v1, the target sent "admission.k8s.io/v1beta1"`}},
		{"answered with something else", table.Then{Review: "admission.k8s.io/v1"}, attemptsOf("a"), unread, []string{`call 1 of 1: expected the answer to be of admission.k8s.io/v1, the target sent ""`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := callFaults(&row.then, row.attempts, row.calls); !slices.Equal(got, row.want) {
				t.Errorf("faults:\n%s\nexpected:\n%s", strings.Join(got, "\n"), strings.Join(row.want, "\n"))
			}
		})
	}
}

func TestOwnCalls(t *testing.T) {
	sent := func(bodies ...string) []tap.Call {
		var list []tap.Call
		for _, b := range bodies {
			list = append(list, tap.Call{Request: []byte(b)})
		}
		return list
	}
	mine, controllers := `{"request":{"dryRun":true}}`, `{"request":{"dryRun":false}}`
	for _, row := range []struct {
		name    string
		attempt Attempt
		want    int // of the calls below
	}{
		{"an update", Attempt{DryRun: true, Operation: table.Update}, 2},
		{"a deletion", Attempt{DryRun: true, Operation: table.Delete}, 2},
		{"a subresource", Attempt{DryRun: true, Subresource: "status"}, 2},
		{"carried out: its own calls are no dry runs", Attempt{Operation: table.Update}, 3},
		{"a creation: nobody knows the object yet", Attempt{DryRun: true}, 3},
	} {
		calls := ownCalls(&row.attempt, sent(controllers, mine, `{"request":`)) // what cannot be read is a fault of its own
		if len(calls) != row.want {
			t.Errorf("%s: %d calls are its own, want %d", row.name, len(calls), row.want)
		}
	}
}

// toldTap is a tap that has seen these calls.
type toldTap struct {
	Tap
	calls []tap.Call
}

func (toldTap) ExpectFault(context.Context, string, *tap.Upstream, *tap.Fault) error { return nil }
func (t toldTap) Take(context.Context, string) ([]tap.Call, error)                   { return t.calls, nil }

// nothingSeen is a lane that answers every attempt at once.
type nothingSeen struct{ Lane }

func (nothingSeen) Probe(context.Context, *Attempt) (*Observation, error) { return &Observation{}, nil }

// What a controller's request caused never reaches the judge.
func TestRunnerTakesItsOwnCalls(t *testing.T) {
	seen := []tap.Call{{Request: []byte(`{"request":{"dryRun":false}}`)}, {Request: []byte(`{"request":{"dryRun":true}}`)}}
	r := &Runner{Lane: nothingSeen{}, Tap: toldTap{calls: seen}}
	_, calls, err := r.once(t.Context(), try{planned: &Planned{}, attempt: &Attempt{DryRun: true, Operation: table.Update}})
	if err != nil || len(calls) != 1 {
		t.Errorf("%d calls are handed on, want 1; %v", len(calls), err)
	}
}
