// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// A Judgement is what was observed of a case, held against what its rule says.
type Judgement struct {
	Planned    *Planned
	Observed   table.Outcome
	Code       int32  // of the refusal
	Reason     string // of the refusal
	Message    string // of the refusal
	FailedOpen bool
	Digest     string // of what the target's patches did to the object, "none" if nothing
	Effect     string // what Digest is of, a line each: a webhook's name, then its changes; "" if nothing
	Attempted  int    // calls that the API server tried, from its audit annotations
	Received   int    // calls that the tap saw
	Latency    time.Duration
	// Why says, a sentence each, in what the observation differs from the rule. Empty: the case holds.
	Why []string
	// Err says why nothing can be said about the case: infrastructure. The observation is then empty.
	Err error
	// NotRun says why the case was not tried after all: the target cannot have the settings it wants. "" if it was.
	NotRun string
	// Course is each step of a scenario; what stands above is of the step that is shown.
	Course []*Judgement
	// At is when a step began, since the scenario did.
	At time.Duration
	// Recovery is how long after the last change a step's pod was there; of a scenario, that of the step that is shown,
	// where something was refused before the first change. 0 where nothing recovered.
	Recovery time.Duration
	// Nudged is the Recovery of the step that nudged a controller, of a scenario that has one. 0 where none came of it.
	Nudged time.Duration
	// Beside is what became of the pods created beside a change; nil where none were.
	Beside *Beside
	// Held is how long a change took to hold, where pods created beside it could tell: of a step, or the longest of a scenario.
	Held time.Duration
	// Calls are the tap's records; kept only for cases that do not hold.
	Calls []tap.Call
	// Artefacts are the files in which evidence of the case was kept; see [Keeper].
	Artefacts []string
}

// Holds tells whether the case is as its rule says. One that was not tried does not hold.
func (j *Judgement) Holds() bool { return j.Err == nil && j.NotRun == "" && len(j.Why) == 0 }

// Judge holds an observation and the tap's record of its calls against the rule of the case.
func Judge(p *Planned, o *Observation, calls []tap.Call) *Judgement {
	j := &Judgement{Planned: p, Attempted: len(o.Attempts), Received: len(calls), FailedOpen: len(o.FailedOpen) > 0, Latency: o.Latency}
	if o.Retried { // how often it has tried by now is chance
		j.Received = min(j.Received, j.Attempted)
	}
	sidecar := &p.Case.Table.Of().Sidecar
	j.Observed = outcome(o, sidecar, p.Mutators)
	if r := o.Refused; r != nil {
		j.Code, j.Reason, j.Message = r.Code, string(r.Reason), r.Message
	}
	then := p.Then()
	if step := p.Case.Step(); step != nil && step.Does == table.Changes && o.Refused == nil {
		if j.Observed = table.Unchanged; p.Case.Changed() {
			j.Observed = table.Accepted
		}
	}
	j.against(then, o)
	j.oneSided(then, o)
	if o.Rehearsal != "" {
		j.fault("%s", o.Rehearsal)
	}
	j.Why = append(j.Why, callFaults(then, o.Attempts, calls)...)
	var made digest
	for i := range calls {
		if _, own := p.Mutators[calls[i].Webhook]; own || p.Wire.forges(calls[i].Webhook, own) {
			continue // the harness's own answer is not the target's
		}
		e, what := effectOf(&calls[i])
		if e != nil {
			made.add(calls[i].Webhook, e)
			what = e.beyond(&sidecar.Adds)
		}
		if what != "" {
			j.fault("%s", what)
		}
	}
	j.Digest, j.Effect = made.sum(p.Key)
	if !j.Holds() {
		j.Calls = calls
		for i := range calls {
			if what := unanswered(&calls[i]); what != "" {
				j.fault("call %d of %d: %s", i+1, len(calls), what)
			}
		}
	}
	return j
}

func (j *Judgement) fault(format string, args ...any) {
	j.Why = append(j.Why, fmt.Sprintf(format, args...))
}

// against compares what was observed with what must be.
func (j *Judgement) against(then *table.Then, o *Observation) {
	if o.Lacking != "" {
		j.fault("expected %s: %s", then.Outcome, o.Lacking)
	} else if j.Observed != then.Outcome {
		j.fault("expected %s, observed %s%s", then.Outcome, j.Observed, refusal(o))
	}
	if then.Code != 0 && int(j.Code) != then.Code {
		j.fault("expected code %d, observed %d", then.Code, j.Code)
	}
	if then.Reason != "" && j.Reason != then.Reason {
		j.fault("expected reason %s, observed %q", then.Reason, j.Reason)
	}
	if !then.Message.In(j.Message) {
		j.fault("expected a message with %q, observed %q", then.Message.String(), j.Message)
	}
	for _, what := range missing(map[string]any(then.Details), detailsOf(o.Refused), "") {
		j.fault("in the refusal's details: %s", what)
	}
	if j.FailedOpen != then.FailedOpen {
		j.fault("expected failed open: %v, observed: %v", then.FailedOpen, j.FailedOpen)
	}
	if then.Warning != "" && !slices.ContainsFunc(o.Warnings, func(w string) bool { return strings.Contains(w, then.Warning) }) {
		j.fault("expected a warning with %q, observed %q", then.Warning, o.Warnings)
	}
	if o.Refused == nil {
		j.Why = append(j.Why, missing(map[string]any(then.Object), o.Object, "")...)
	}
	if then.Pod == nil && then.Order == nil && then.Absent == nil {
		return
	}
	if o.Pod == nil {
		j.fault("expected a pod to look into, there is none")
		return
	}
	for _, what := range podFaults(then, o.Pod) {
		j.fault("%s", what)
	}
}

// detailsOf a refusal, as they are in JSON; nil where there is no refusal, or none with details.
func detailsOf(refused *metav1.Status) map[string]any {
	if refused == nil || refused.Details == nil {
		return nil
	}
	// Of a struct that came from JSON nothing can be wrong.
	details, _ := runtime.DefaultUnstructuredConverter.ToUnstructured(refused.Details)
	return details
}

// outcome of an observation. The API server's own words tell a webhook's no from a failed call: they are what users
// see, and have been the same since 1.9. What mutators do to the pod, webhooks that the harness answers itself, is none
// of the target's doing.
func outcome(o *Observation, sidecar *table.Sidecar, mutators Mutators) table.Outcome {
	if o.Refused != nil {
		switch m := o.Refused.Message; {
		case strings.Contains(m, `admission webhook "`) && (strings.Contains(m, "denied the request")):
			return table.Denied
		case strings.Contains(m, "failed calling webhook"):
			return table.Failed
		}
		return table.Rejected
	}
	if o.Lacking != "" {
		return "" // nothing can be said
	}
	mutated := o.Looked && hasSidecar(o.Pod, sidecar) || slices.ContainsFunc(o.Attempts, func(a WebhookAttempt) bool { return a.Mutated && mutators[a.Webhook] == nil })
	switch {
	case !mutated:
		return table.Untouched
	case o.Pod != nil && hasSidecar(o.Pod, sidecar):
		return table.Injected
	}
	return table.Altered
}

func hasSidecar(pod *corev1.Pod, sidecar *table.Sidecar) bool {
	is := func(c corev1.Container) bool { return slices.Contains(sidecar.Containers, c.Name) }
	return slices.ContainsFunc(pod.Spec.Containers, is) || slices.ContainsFunc(pod.Spec.InitContainers, is)
}

// unanswered says why a call was none that an API server can use, "" if its answer was a 200.
func unanswered(call *tap.Call) string {
	const most = 200 // characters of a body that explains itself
	switch {
	case call.Err != nil:
		return call.Err.Error()
	case call.Status != http.StatusOK:
		return fmt.Sprintf("the target answered HTTP %d to %s: %.*q", call.Status, call.Path, most, Answer(call))
	}
	return ""
}

func refusal(o *Observation) string {
	if o.Refused == nil {
		return ""
	}
	return fmt.Sprintf(" (%d %s: %s)", o.Refused.Code, o.Refused.Reason, o.Refused.Message)
}

func times(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return plural(n, "time")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
