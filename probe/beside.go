// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-k8s/outrigger/target"
)

// beside is the clients that create pods while a change is made.
type beside struct {
	asked    atomic.Pointer[time.Time] // when the change was asked for; nil until then
	arrived  atomic.Bool               // the API server has shown that it acts on the change, or has refused it
	clients  []*client
	creators *errgroup.Group
	cancel   context.CancelFunc
}

// A client creates one pod after the other, and holds each against the states before and after the change.
type client struct {
	scenario *scenario
	states   [2]*state     // before, after
	first    chan struct{} // closed by ready: once there is a first pod, or there never will be
	ready    func()
	replicas bool // the settings change under an injector that may have replicas: one has them sooner than the other
	pods     int
	each     [2]int        // of the pods, how many were as one state has it and not as the other
	held     time.Duration // from the change until a creation that was as after it was answered
	last     bool          // the last of them, begun when the change had arrived, was as it must be
	why      []string
	err      error // why nothing can be said about it
}

// state is what a creation is held against.
type state struct {
	try   try
	forms *forms
}

// create starts the clients of all scenarios, each with a first pod from before the change, and returns when they have it.
func (r *Runner) create(ctx context.Context, k int, scenarios []*scenario) (*beside, error) {
	t := scenarios[0].planned.Case.Table
	before, after := t.Around(k + 1)
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	b := &beside{creators: group, cancel: cancel}
	for _, s := range scenarios {
		if s.err != nil || s.notRun != "" {
			continue
		}
		for n := range t.Course[k].Clients {
			first := make(chan struct{})
			c := &client{scenario: s, first: first, ready: sync.OnceFunc(func() { close(first) })}
			b.clients = append(b.clients, c)
			for i, step := range []int{before, after} {
				p := *s.planned.Course[step-1]
				p.Key = s.planned.Course[k].Case.ClientKey(n)
				f := newForms(t)
				if _, single := r.Injector.(Single); single && i > 0 {
					at := c.states[0].try // which becomes what it is to be, and is called all the while
					at.planned, at.release = &p, func() {}
					c.states[i] = &state{at, f}
					c.replicas = p.Settings != c.states[0].try.planned.Settings
					continue
				}
				try, err := r.prepare(ctx, f, &p)
				if errors.Is(err, target.ErrFixedSettings) {
					s.notRun = err.Error()
					break
				}
				if err != nil {
					return b, fmt.Errorf("prepare a client of %s, step %s: %w", p.Case.ID(), t.Course[k].Name, err)
				}
				c.states[i] = &state{try, f}
			}
		}
	}
	for _, c := range b.clients {
		if c.scenario.notRun == "" {
			group.Go(func() error {
				defer c.ready() // nobody waits for one that cannot go on
				err := r.creates(ctx, b, c)
				if err != nil && ctx.Err() == nil {
					c.err, err = err, nil // it breaks its own case, and no other
				}
				return err
			})
		}
	}
	for _, c := range b.clients {
		if c.scenario.notRun != "" {
			continue
		}
		select {
		case <-c.first:
		case <-ctx.Done():
			return b, b.stop()
		}
	}
	return b, nil
}

// become gives an injector of which there is one the settings of the step with index k: the same for all scenarios.
func (r *Runner) become(ctx context.Context, k int, scenarios []*scenario) error {
	one, single := r.Injector.(Single)
	if !single {
		return nil
	}
	return one.Become(ctx, scenarios[0].planned.Course[k].Settings.Document)
}

// stop ends the clients at once, unless they have ended, and says why they could not go on.
func (b *beside) stop() error {
	if b == nil {
		return nil
	}
	b.cancel()
	err := b.creators.Wait()
	if errors.Is(err, context.Canceled) { // by this, or by what has ended the run, which says so itself
		err = nil
	}
	for _, c := range b.clients {
		for _, s := range c.states {
			if s != nil {
				s.try.release()
			}
		}
	}
	return err
}

// end says that the change has arrived, waits until every client has created one more pod, and gives each scenario's
// clients to its step.
func (b *beside) end(refused bool) (map[*scenario]*Beside, error) {
	b.arrived.Store(true)
	_ = b.creators.Wait() // stop says it
	all := map[*scenario]*Beside{}
	for _, c := range b.clients {
		sum := all[c.scenario]
		if sum == nil {
			sum = &Beside{}
			all[c.scenario] = sum
		}
		sum.add(c, refused)
		if c.err != nil && c.scenario.err == nil {
			c.scenario.err = fmt.Errorf("create pods beside a change: %w", c.err)
		}
	}
	return all, b.stop()
}

// creates goes on until a creation that was begun after the change had arrived.
func (r *Runner) creates(ctx context.Context, b *beside, c *client) error {
	key := c.states[0].try.planned.Key
	defer func() { _, _ = r.Tap.Take(context.WithoutCancel(ctx), key) }()
	if err := r.expect(ctx, c.states[0].try); err != nil {
		return err
	}
	for done := false; !done; {
		done = b.arrived.Load()
		asked := b.asked.Load()
		// The injector is what its settings make of it from the moment on at which the change is asked for: as with a new
		// replica that takes over, calls go to the one or to the other.
		at := c.states[0]
		if asked != nil {
			at = c.states[1]
		}
		if _, err := r.retake(ctx, at.try); err != nil {
			return err
		}
		if err := r.creation(ctx, b, c, at, done); err != nil {
			return err
		}
		c.ready()
	}
	return nil
}

// creation makes one, and says which state it is of.
func (r *Runner) creation(ctx context.Context, b *beside, c *client, at *state, last bool) error {
	attempt, err := at.forms.attempt(at.try.planned)
	if err != nil {
		return err
	}
	attempt.DryRun = true
	stepCtx, cancel := context.WithTimeoutCause(ctx, r.Timeout, errTimeout{r.Timeout})
	defer cancel()
	o, err := r.Lane.Probe(stepCtx, attempt)
	if err != nil {
		return err
	}
	calls, err := r.retake(stepCtx, at.try)
	if err != nil {
		return err
	}
	answered := time.Now()
	c.pods++
	was := Judge(c.states[0].try.planned, o, calls)
	is := Judge(c.states[1].try.planned, o, calls)
	asked := b.asked.Load()
	switch {
	case !was.Holds() && !is.Holds():
		c.fault("pod %d is neither as before the change (%v) nor as after it (%v)", c.pods, was.Why, is.Why)
	case is.Holds() && !was.Holds():
		if asked == nil {
			c.fault("pod %d is as after the change, which had not been asked for yet", c.pods)
			return nil
		}
		if c.each[1]++; c.each[1] == 1 {
			c.held = answered.Sub(*asked)
		}
	case was.Holds() && !is.Holds():
		c.each[0]++
		if c.each[1] > 0 && !c.replicas {
			c.fault("pod %d is as before the change again, after %d that were as after it", c.pods, c.each[1])
		}
	}
	c.last = last && is.Holds()
	return nil
}

// maxFaults of a client are told; a change that goes wrong goes wrong for many pods.
const maxFaults = 3

func (c *client) fault(format string, args ...any) {
	if len(c.why) < maxFaults {
		c.why = append(c.why, fmt.Sprintf(format, args...))
	}
}

// Beside is what became of the pods that were created beside a change.
type Beside struct {
	Pods          int           // created, all in all
	Before, After int           // of them, as the state before and not as the one after has it, and the other way round
	Held          time.Duration // from asking for the change until it held for every client; 0 where none could tell
	why           []string
}

func (b *Beside) add(c *client, refused bool) {
	b.Pods += c.pods
	b.Before += c.each[0]
	b.After += c.each[1]
	b.Held = max(b.Held, c.held)
	b.why = append(b.why, c.why...)
	if refused && c.each[1] > 0 {
		b.why = append(b.why, fmt.Sprintf("%s as after the change, which was refused", plural(c.each[1], "pod")))
	}
	if !refused && !c.last && len(c.why) == 0 {
		b.why = append(b.why, fmt.Sprintf("pod %d is still as before the change, which had arrived when it was created", c.pods))
	}
}

// String says it for a timeline.
func (b *Beside) String() string {
	return fmt.Sprintf("%d pods created beside it, %d of them as before and not after, %d as after and not before", b.Pods, b.Before, b.After)
}
