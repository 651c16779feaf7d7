// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// ownCalls are the calls that an attempt is the reason of. An object that is stored has controllers, which change it while
// an attempt asks to (of a Node, the one that taints it), and their requests, about the same name, call the webhooks too. But
// none of them makes dry runs, as the attempts about stored objects are.
func ownCalls(at *Attempt, calls []tap.Call) []tap.Call {
	if !at.DryRun || at.Operation != table.Update && at.Operation != table.Delete && at.Subresource == "" {
		return calls
	}
	return slices.DeleteFunc(calls, func(c tap.Call) bool {
		var r struct {
			Request struct {
				DryRun *bool `json:"dryRun"`
			} `json:"request"`
		}
		err := json.Unmarshal(c.Request, &r)
		return err == nil && r.Request.DryRun != nil && !*r.Request.DryRun
	})
}

// callFaults says, a sentence each, in what the calls to webhooks differ from what a rule asks of them: how often each
// was called, in which order, and by reviews of which version.
func callFaults(then *table.Then, attempts []WebhookAttempt, calls []tap.Call) []string {
	tried, received := make([]string, len(attempts)), make([]string, len(calls))
	for i, a := range attempts {
		tried[i] = a.Webhook
	}
	for i := range calls {
		received[i] = calls[i].Webhook
	}
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if then.Calls != nil {
		if n := then.Calls.Sum; len(tried) != n {
			fault("expected the API server to call the webhook %s, its audit annotations tell of %d", times(n), len(tried))
		}
		if n := then.Calls.Sum; len(received) != n {
			fault("expected the tap to receive %s, it received %d", plural(n, "call"), len(received))
		}
	}
	if then.Calls != nil && then.Calls.Each != nil {
		triedOf, receivedOf := countOf(tried), countOf(received)
		for _, name := range namesOf(then.Calls.Each, triedOf, receivedOf) {
			n := then.Calls.Each[name]
			if triedOf[name] != n {
				fault("expected the API server to call webhook %s %s, its audit annotations tell of %d", name, times(n), triedOf[name])
			}
			if receivedOf[name] != n {
				fault("expected the tap to receive %s for webhook %s, it received %d", plural(n, "call"), name, receivedOf[name])
			}
		}
	}
	if then.Called != nil && !slices.Equal(then.Called, tried) {
		fault("expected the API server to call %v in this order, its audit annotations tell of %v", then.Called, tried)
	}
	if then.Called != nil && !slices.Equal(then.Called, received) {
		fault("expected the tap to receive calls for %v in this order, it received %v", then.Called, received)
	}
	if then.Review != "" {
		for i := range calls {
			if got := apiVersion(calls[i].Request); got != then.Review {
				fault("call %d of %d: expected a review of %s, the API server sent %q", i+1, len(calls), then.Review, got)
			}
			if got := apiVersion(Answer(&calls[i])); got != then.Review {
				fault("call %d of %d: expected the answer to be of %s, the target sent %q", i+1, len(calls), then.Review, got)
			}
		}
	}
	if then.Path != "" {
		if len(calls) == 0 {
			fault("expected calls for the path %s, the tap received none", then.Path)
		}
		for i := range calls {
			if calls[i].Asked != then.Path {
				fault("call %d of %d: expected the path %s, the API server asked for %s", i+1, len(calls), then.Path, calls[i].Asked)
			}
		}
	}
	if then.Asked != nil {
		if len(calls) == 0 {
			fault("expected reviews to look into, the tap received none")
		}
		for i := range calls {
			for _, what := range missing(map[string]any(then.Asked), requestOf(calls[i].Request), "/request") {
				fault("call %d of %d: in the review, %s", i+1, len(calls), what)
			}
		}
	}
	return faults
}

func countOf(names []string) map[string]int {
	count := map[string]int{}
	for _, n := range names {
		count[n]++
	}
	return count
}

// namesOf are the keys of all of them, sorted, once each.
func namesOf(counts ...map[string]int) []string {
	var names []string
	for _, c := range counts {
		names = slices.AppendSeq(names, maps.Keys(c))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// apiVersion of a review, "" where it cannot be read.
func apiVersion(body []byte) string {
	var review struct {
		APIVersion string `json:"apiVersion"`
	}
	if json.Unmarshal(body, &review) != nil {
		return ""
	}
	return review.APIVersion
}

// requestOf is the request of a review, nil where it cannot be read.
func requestOf(body []byte) map[string]any {
	var review struct {
		Request map[string]any `json:"request"`
	}
	if json.Unmarshal(body, &review) != nil {
		return nil
	}
	return review.Request
}
