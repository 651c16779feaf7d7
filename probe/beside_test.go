// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/table"
)

// changing is a table of one case, whose pods are admitted before a change and rejected after it.
const changing = `
course:
  - {step: before}
  - {step: change, does: change, clients: 3, namespace: {metadata: {labels: {closed: "yes"}}}}
  - {step: after}
dimensions:
  - {dimension: d, values: [{value: a}]}
rules:
  - {rule: r, then: {before: untouched, change: accepted, after: {outcome: rejected, code: 403}}, because: b}
`

// inPlace is an injector of which there is one, and of which nobody may have to wait for another.
type inPlace struct {
	*single
	became []any
}

func (i *inPlace) Become(_ context.Context, settings map[string]any) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.policy = settings["policy"]
	i.became = append(i.became, i.policy)
	return nil
}

// An injector of which there is one is changed while it is called, and nobody waits for somebody who waits for him.
func TestSettingsChangeInPlace(t *testing.T) {
	lane := &fakeLane{t: t, arranged: func(*Arrangement) error { return nil }}
	r, injector := bench(t, lane)
	one := &inPlace{single: &single{fakeInjector: injector}}
	r.Lane, r.Injector = busyLane{lane}, one
	plan, err := NewPlan([]*table.Table{loaded(t, `
course:
  - {step: before}
  - {step: change, does: change, clients: 3, settings: {policy: changed}}
  - {step: after}
dimensions:
  - {dimension: d, values: [{value: a}]}
rules:
  - {rule: r, then: {before: untouched, change: accepted, after: untouched}, because: b}
`)}, lane.Facts(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context(), plan, func(j *Judgement) {
		if j.Err != nil {
			t.Error(j.Err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(one.became) != 1 || one.became[0] != "changed" {
		t.Errorf("it became %v", one.became)
	}
	if n := injector.held.Load(); n != 0 {
		t.Errorf("%d instances of the target are still held", n)
	}
}

// busyLane is changed while pods are being created.
type busyLane struct{ *fakeLane }

func (l busyLane) Arrange(_ context.Context, a *Arrangement) error {
	l.mu.Lock()
	l.now = a
	l.mu.Unlock()
	return l.arranged(a)
}

// changed takes the case through a lane in which the n'th pod that is created beside the change, counted from 0, is as states
// says; the last of these goes for all further ones. open is admitted, closed is rejected, and everything else is a third
// thing. The change arrives when at least that many pods have been created.
func changed(t *testing.T, states ...string) *Judgement {
	t.Helper()
	lane := &fakeLane{t: t}
	var n atomic.Int64
	var arriving, arrived atomic.Bool
	enough := make(chan struct{})
	lane.arranged = func(a *Arrangement) error {
		if strings.HasSuffix(a.Name, "@change") {
			arriving.Store(true)
			<-enough
			arrived.Store(true)
		}
		return nil
	}
	tb := loaded(t, changing)
	var own map[string]bool // keys of the steps' own requests
	lane.probed = func(_ context.Context, at *Attempt, _ func()) (*Observation, error) {
		state := "open"
		switch {
		case own[at.Key]:
			if arrived.Load() {
				state = "closed"
			}
		case arriving.Load():
			i := int(n.Add(1)) - 1
			state = states[min(i, len(states)-1)]
			if i == len(states)+3 {
				close(enough)
			}
		}
		switch state {
		case "open":
			return &Observation{Pod: at.Object.(*corev1.Pod)}, nil
		case "closed":
			return &Observation{Refused: refused(403, "Forbidden", "closed")}, nil
		case "lost":
			return nil, errors.New("the connection is lost")
		}
		return &Observation{Refused: refused(500, "InternalError", state)}, nil
	}
	r, injector := bench(t, lane)
	r.Lane = busyLane{lane}
	plan, err := NewPlan([]*table.Table{tb}, lane.Facts(), nil)
	if err != nil {
		t.Fatal(err)
	}
	own = map[string]bool{}
	for _, p := range plan.Arrangements[0].Cases[0].Course {
		own[p.Key] = true
	}
	var got *Judgement
	if err := r.Run(t.Context(), plan, func(j *Judgement) { got = j }); err != nil {
		t.Fatal(err)
	}
	if n := injector.held.Load(); n != 0 {
		t.Errorf("%d instances of the target are still held", n)
	}
	return got
}

func TestBesideAChange(t *testing.T) {
	for _, c := range []struct {
		name   string
		states []string
		why    string // "": the case holds
	}{
		{"old, then new", []string{"open", "open", "open", "open", "closed"}, ""},
		{"never new", []string{"open"}, "is still as before the change, which had arrived"},
		{"a third thing", []string{"open", "elsewhere", "closed"}, "is neither as before the change"},
		{"old again", []string{"closed", "closed", "closed", "closed", "closed", "closed", "open"}, "is as before the change again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := changed(t, c.states...)
			why := strings.Join(j.Why, "; ")
			if c.why == "" {
				b := j.Course[1].Beside
				if !j.Holds() || b == nil || b.Before < 3 || b.After < 3 || j.Held <= 0 || j.Held != b.Held {
					t.Errorf("held %s, %+v: %s", j.Held, b, why)
				}
				return
			}
			if j.Holds() || !strings.Contains(why, c.why) {
				t.Errorf("why: %q, want %q", why, c.why)
			}
		})
	}
}

// A client that cannot go on breaks its own case, not the run.
func TestBesideAChangeAClientIsLost(t *testing.T) {
	j := changed(t, "open", "open", "open", "open", "lost", "closed")
	if j.Err == nil || !strings.Contains(j.Err.Error(), "the connection is lost") {
		t.Errorf("error %v; why %v", j.Err, j.Why)
	}
}
