// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"context"
	"fmt"
)

// A route is another upstream for one webhook of a case.
type route struct {
	exchange exchange
	path     string // of the upstream, for records
}

// Route sends the calls that are made to webhook for the case with this key to up, and not to the upstream that Expect
// named, with what of fault is in the answer put into each (nil: nothing); the fault that Expect named does not touch
// them. The key must be expected.
func (t *Tap) Route(key, webhook string, up *Upstream, fault *Fault) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.expected[key]
	if e == nil {
		return fmt.Errorf("routing the calls of webhook %s for key %q: it is not expected", webhook, key)
	}
	if e.routes == nil {
		e.routes = map[string]route{}
	}
	e.routes[webhook] = t.routeTo(up, fault)
	return nil
}

// Routed is where the calls to a webhook go, and what goes wrong with their answers; nil: nothing.
type Routed struct {
	Upstream *Upstream
	Fault    *Fault
}

// Retake is Take of a key that stays expected: calls that arrive from now on go by rest, but for those to the webhooks of
// routes. No call between the two is lost, which matters where controllers go on calling. The key must be expected.
func (t *Tap) Retake(ctx context.Context, key string, rest Routed, routes map[string]Routed) ([]Call, error) {
	r := t.routeTo(rest.Upstream, rest.Fault)
	next := &expectation{exchange: r.exchange, path: r.path, routes: map[string]route{}}
	for webhook, to := range routes {
		next.routes[webhook] = t.routeTo(to.Upstream, to.Fault)
	}
	t.mu.Lock()
	e := t.expected[key]
	if e == nil {
		t.mu.Unlock()
		return nil, fmt.Errorf("taking the calls for key %q and expecting more: it is not expected", key)
	}
	t.expected[key] = next
	t.mu.Unlock()
	return t.finish(ctx, e), nil
}

func (t *Tap) routeTo(up *Upstream, fault *Fault) route {
	r := route{path: up.url.Path, exchange: func(ctx context.Context, q *query) (*reply, error) {
		return up.forward(ctx, q, t.options.MaxResponse)
	}}
	if fault != nil {
		r.exchange = fault.faulty(r.exchange)
	}
	return r
}

// to is where the calls to webhook go. The tap's mutex guards it.
func (e *expectation) to(webhook string) route {
	if r, ok := e.routes[webhook]; ok {
		return r
	}
	return route{e.exchange, e.path}
}
