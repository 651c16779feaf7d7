// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// A Wire is what goes wrong between the API server and the webhooks of a case.
type Wire struct {
	Fault *tap.Fault // nil: nothing
	// Only names the webhooks whose calls go wrong. nil: all but the mutators.
	Only []string
	// Trust is what the caBundle of the case's webhooks holds.
	Trust Trust
}

// Trust says whose certificates a caBundle holds.
type Trust string

// What a caBundle can hold.
const (
	TrustTap     Trust = ""        // the tap's authority, which issued its certificate
	TrustNobody  Trust = "none"    // nothing: the API server goes by the authorities of its own host
	TrustAnother Trust = "other"   // an authority that has nothing to do with the tap
	TrustBoth    Trust = "both"    // first the other, then the tap's, as while one is rotated
	TrustCluster Trust = "cluster" // the cluster's own authority, the one in everybody's kubeconfig
	TrustHeir    Trust = "heir"    // first the tap's, then that of the authority that a rotated certificate is of
)

// bundle is the caBundle for t.
func (r *Runner) bundle(t Trust) ([]byte, error) {
	if t == TrustTap {
		return r.CABundle, nil
	}
	switch {
	case t == TrustNobody:
		return nil, nil
	case t == TrustCluster && r.Cluster == nil:
		return nil, fmt.Errorf("the cluster's own authority is out of reach in this lane: the case needs %q", FeatureClusterAuthority)
	case t == TrustCluster:
		return r.Cluster, nil
	}
	if t == TrustHeir {
		rotates, ok := r.Tap.(Rotates)
		if !ok {
			return nil, fmt.Errorf("the tap cannot tell whose certificate it will serve with: the case needs %q", FeatureRotation)
		}
		heir, err := rotates.SuccessorBundle()
		if err != nil {
			return nil, fmt.Errorf("make the authority of the next certificate: %w", err)
		}
		return slices.Concat(r.CABundle, heir), nil
	}
	r.stranger.Do(func() { r.strangerAuthority, r.strangerErr = pki.NewAuthority() })
	if r.strangerErr != nil {
		return nil, fmt.Errorf("make another authority: %w", r.strangerErr)
	}
	other := r.strangerAuthority.CABundle()
	if t == TrustBoth {
		return slices.Concat(other, r.CABundle), nil
	}
	return other, nil
}

// wireOf is what the case has go wrong on the wire.
func (b *tablePlan) wireOf(c table.Case) (Wire, error) {
	variant := c.Variant(table.WireSection)
	if w, known := b.wires[variant]; known {
		return w, nil
	}
	w, err := readWire(c.Document(table.WireSection))
	b.wires[variant] = w
	return w, err
}

func readWire(doc map[string]any) (w Wire, err error) {
	if len(doc) == 0 {
		return w, nil
	}
	doc = maps.Clone(doc)
	if only, stated := doc["webhooks"]; stated {
		delete(doc, "webhooks")
		list, _ := only.([]any)
		for _, x := range list {
			name, _ := x.(string)
			w.Only = append(w.Only, name)
		}
		if len(w.Only) == 0 || slices.Contains(w.Only, "") {
			return w, fmt.Errorf("wire.webhooks is a list of webhooks' names")
		}
	}
	if trust, stated := doc["caBundle"]; stated {
		delete(doc, "caBundle")
		text, _ := trust.(string)
		if w.Trust = Trust(text); !slices.Contains([]Trust{TrustNobody, TrustAnother, TrustBoth, TrustCluster, TrustHeir}, w.Trust) {
			return w, fmt.Errorf("wire.caBundle %q is none of none, other, both, cluster, heir", trust)
		}
		if len(doc) == 0 {
			return w, nil
		}
	}
	w.Fault, err = tap.ParseFault(doc)
	return w, err
}

// forges tells whether the answers of webhook are not its own; mutator tells whether it is one.
func (w Wire) forges(webhook string, mutator bool) bool {
	return w.Fault != nil && w.Fault.Forges() && w.concerns(webhook, mutator)
}

func (w Wire) concerns(webhook string, mutator bool) bool {
	if w.Only == nil {
		return !mutator
	}
	return slices.Contains(w.Only, webhook)
}

// listener is what the webhooks' clientConfig must be for w: the name of the tap's listener that it asks for, "" for its
// own, and whom it trusts. It is the webhooks', so cases that differ in it cannot run under one arrangement.
func (w Wire) listener() string {
	name := ""
	if w.Fault != nil {
		name = strings.Join(append([]string{w.Fault.Listener()}, w.Only...), "@")
	}
	if w.Trust != TrustTap {
		name += "!" + string(w.Trust)
	}
	return name
}

// url is where the API server calls webhook under the arrangement.
func (r *Runner) url(ctx context.Context, a *PlannedArrangement, webhook string) (string, error) {
	fault := a.faultOf(webhook)
	if fault == nil {
		return r.Tap.URL(webhook), nil
	}
	return r.Tap.FaultURL(ctx, fault, webhook)
}

// expect has the tap route and break the calls of the case: to the target's instance, or, where the harness answers
// itself, to the mutator.
func (r *Runner) expect(ctx context.Context, t try) error {
	rest, routes, err := r.routes(ctx, t)
	if err != nil {
		return err
	}
	if err := r.Tap.ExpectFault(ctx, t.planned.Key, rest.Upstream, rest.Fault); err != nil {
		return err
	}
	for name, to := range routes {
		if err := r.Tap.Route(ctx, t.planned.Key, name, to.Upstream, to.Fault); err != nil {
			return err
		}
	}
	return nil
}

// retake takes the calls of a case that is expected so far, and goes on expecting them as its wire has it now.
func (r *Runner) retake(ctx context.Context, t try) ([]tap.Call, error) {
	rest, routes, err := r.routes(ctx, t)
	if err != nil {
		return nil, err
	}
	return r.Tap.Retake(ctx, t.planned.Key, rest, routes)
}

// routes says where the calls of the case go: those of some webhooks, and the rest.
func (r *Runner) routes(ctx context.Context, t try) (rest tap.Routed, routes map[string]tap.Routed, err error) {
	w := t.planned.Wire
	fault := func(webhook string) *tap.Fault {
		if slices.Contains(w.Only, webhook) {
			return w.Fault
		}
		return nil
	}
	rest = tap.Routed{Upstream: t.up, Fault: w.Fault}
	if w.Only != nil {
		rest.Fault = nil
	}
	routes = map[string]tap.Routed{}
	for _, name := range w.Only {
		routes[name] = tap.Routed{Upstream: t.up, Fault: w.Fault}
	}
	for name, patch := range t.planned.Mutators {
		up, err := r.Mutators.Answering(ctx, patch)
		if err != nil {
			return rest, nil, fmt.Errorf("mutator %s: %w", name, err)
		}
		routes[name] = tap.Routed{Upstream: up, Fault: fault(name)}
	}
	return rest, routes, nil
}

// oneSided compares what a rule says of one side of the wire alone: calls tried, calls received, and what a controller
// has to say of a refusal.
func (j *Judgement) oneSided(then *table.Then, o *Observation) {
	if then.Attempted != nil && j.Attempted != *then.Attempted {
		j.fault("expected the API server to call the webhook %s, its audit annotations tell of %d", times(*then.Attempted), j.Attempted)
	}
	if then.Received != nil && j.Received != *then.Received {
		j.fault("expected the tap to receive %s, it received %d", plural(*then.Received, "call"), j.Received)
	}
	if then.Events != nil && !slices.ContainsFunc(o.Events, then.Events.In) {
		j.fault("expected a Warning event with %q about the workload, observed %q", then.Events.String(), o.Events)
	}
	if then.Condition != "" && !slices.Contains(o.Conditions, then.Condition) {
		j.fault("expected the workload's condition %s to be True, observed as True %q", then.Condition, o.Conditions)
	}
}
