// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	kruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/tap"
)

// A watched lane notes what the runner asks of the real one: the arrangements and attempts, for the bare loop to repeat,
// and how long arranging took.
type watched struct {
	probe.Lane
	keep      bool
	arranging time.Duration

	mu     sync.Mutex
	groups []*group
}

// A group is an arrangement, and what is tried under it.
type group struct {
	arrangement *probe.Arrangement
	attempts    map[string]*probe.Attempt // by key; their objects are never handed out, only copies
}

func (w *watched) Arrange(ctx context.Context, a *probe.Arrangement) error {
	if w.keep {
		w.groups = append(w.groups, &group{a, map[string]*probe.Attempt{}})
	}
	start := time.Now()
	err := w.Lane.Arrange(ctx, a)
	w.arranging += time.Since(start)
	return err
}

func (w *watched) Probe(ctx context.Context, at *probe.Attempt) (*probe.Observation, error) {
	if w.keep {
		kept := *at
		kept.Object = at.Object.DeepCopyObject()
		w.mu.Lock()
		w.groups[len(w.groups)-1].attempts[at.Key] = &kept
		w.mu.Unlock()
	}
	return w.Lane.Probe(ctx, at)
}

// A contest is a lane's two sides.
type contest struct {
	*bed
	lane        probe.Lane
	plan        *probe.Plan
	concurrency int
	rounds      int // how often a block goes through the plan
	// create does what a lane's Probe cannot do without: it sends one object on its way. A refusal is no error.
	create func(ctx context.Context, at *probe.Attempt, object kruntime.Object) error

	groups    []*group
	upstreams map[string]*tap.Upstream // by key
}

// block is what came of one side's turn.
type block struct {
	took      time.Duration // without arranging
	arranging time.Duration
	calls     int // that reached the tap
}

func (c *contest) rate(b block) float64 { return float64(c.rounds*c.plan.Len()) / b.took.Seconds() }

// turn goes through the plan rounds times.
func (c *contest) turn(round func() (block, error)) (sum block, err error) {
	for range c.rounds {
		b, err := round()
		if err != nil {
			return sum, err
		}
		sum.took, sum.arranging, sum.calls = sum.took+b.took, sum.arranging+b.arranging, sum.calls+b.calls
	}
	return sum, nil
}

// warm takes every case its way once: it starts the instances, and notes what the bare loop is to repeat.
func (c *contest) warm(ctx context.Context) (block, error) {
	watch := &watched{Lane: c.lane, keep: true}
	b, err := c.runner(ctx, watch)
	if err != nil {
		return b, err
	}
	c.groups, c.upstreams = watch.groups, map[string]*tap.Upstream{}
	for _, a := range c.plan.Arrangements {
		for _, p := range a.Cases {
			up, release, err := c.fleet.Instance(ctx, p.Settings.Document)
			if err != nil {
				return b, err
			}
			release() // nothing is retired: there are fewer settings than the fleet keeps
			c.upstreams[p.Key] = up
		}
	}
	return b, nil
}

// runner is the side of outrigger: the runner as in any run, its judgements added to a report.
func (c *contest) runner(ctx context.Context, watch *watched) (block, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	f := c.lane.Facts()
	builder, err := report.NewBuilder(report.Run{
		Lane: f.Lane, Provider: f.Provider, Kubernetes: f.Kubernetes, Target: report.TargetInfo{Name: "reference"}, Planned: c.plan.Len(),
	}, run.ReportTables(c.plan.Tables))
	if err != nil {
		return block{}, err
	}
	r := &probe.Runner{
		Lane: watch, Tap: probe.Here(c.tap), CABundle: c.authority.CABundle(), Injector: c.fleet, Concurrency: c.concurrency, Timeout: time.Minute,
	}
	calls := c.tap.Calls()
	runtime.GC() // the other side's garbage is not ours to collect
	start := time.Now()
	err = r.Run(ctx, c.plan, func(j *probe.Judgement) {
		if !j.Holds() {
			stop(fmt.Errorf("%s does not hold, and what fails is not worth timing: %v %w", j.Planned.Case.ID(), j.Why, j.Err))
		}
		if err := builder.Add(run.Result(j)); err != nil {
			stop(err)
		}
	})
	took := time.Since(start)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return block{}, err
	}
	return block{took - watch.arranging, watch.arranging, c.tap.Calls() - calls}, c.fleet.Err()
}

// bare is the other side: a loop over the same objects, made before.
func (c *contest) bare(ctx context.Context) (block, error) {
	var b block
	calls := c.tap.Calls()
	for i, g := range c.groups {
		start := time.Now()
		if err := c.lane.Arrange(ctx, g.arrangement); err != nil {
			return b, err
		}
		b.arranging += time.Since(start)
		attempts, objects := g.inOrder(c.plan.Arrangements[i])
		runtime.GC()
		start = time.Now()
		var next atomic.Int64
		group, ctx := errgroup.WithContext(ctx)
		for range c.concurrency {
			group.Go(func() error {
				for {
					i := int(next.Add(1)) - 1
					if i >= len(attempts) || ctx.Err() != nil {
						return context.Cause(ctx)
					}
					at := attempts[i]
					// Without these two no call would find its instance.
					if err := c.tap.Expect(at.Key, c.upstreams[at.Key]); err != nil {
						return err
					}
					err := c.create(ctx, at, objects[i])
					c.tap.Take(ctx, at.Key)
					if err != nil {
						return fmt.Errorf("create %s: %w", at.Key, err)
					}
				}
			})
		}
		if err := group.Wait(); err != nil {
			return b, err
		}
		b.took += time.Since(start)
	}
	b.calls = c.tap.Calls() - calls
	return b, nil
}

// inOrder are the attempts in the order of the plan, and copies of their objects to use up.
func (g *group) inOrder(a *probe.PlannedArrangement) ([]*probe.Attempt, []kruntime.Object) {
	attempts := make([]*probe.Attempt, len(a.Cases))
	objects := make([]kruntime.Object, len(a.Cases))
	for i, p := range a.Cases {
		attempts[i] = g.attempts[p.Key]
		objects[i] = attempts[i].Object.DeepCopyObject()
	}
	return attempts, objects
}

// compare lets the two sides take turns, and makes a measurement of it. bar is for the median of the ratios.
func (c *contest) compare(ctx context.Context, o *options, bareLoop string, bar float64) (*Measurement, error) {
	if _, err := c.warm(ctx); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	if _, err := c.bare(ctx); err != nil {
		return nil, fmt.Errorf("warm the bare loop up: %w", err)
	}
	var ours, theirs, arranging []float64
	calls := 0
	for n := range o.pairs {
		a, err := c.turn(func() (block, error) { return c.runner(ctx, &watched{Lane: c.lane}) })
		if err != nil {
			return nil, err
		}
		b, err := c.turn(func() (block, error) { return c.bare(ctx) })
		if err != nil {
			return nil, fmt.Errorf("the bare loop: %w", err)
		}
		if a.calls != b.calls {
			return nil, fmt.Errorf("the two sides differ: the runner's cases made %d calls, those of the bare loop %d", a.calls, b.calls)
		}
		calls = a.calls
		ours, theirs, arranging = append(ours, c.rate(a)), append(theirs, c.rate(b)), append(arranging, a.arranging.Seconds())
		fmt.Fprintf(o.progress, "  pair %d of %d: %s of %s\n", n+1, o.pairs, format(ours[n], "cases/s"), format(theirs[n], "cases/s"))
	}
	m := &Measurement{Title: fmt.Sprintf("blocks of %d cases of %s, %d calls of the webhook among them, %d cases at once",
		c.rounds*c.plan.Len(), tableID, calls, c.concurrency)}
	m.figure("outrigger", "cases/s", ours, nil)
	m.figure(bareLoop, "cases/s", theirs, nil)
	m.figure("outrigger / bare loop", percent, ratios(ours, theirs), atLeast(bar))
	m.figure(fmt.Sprintf("arranging, %d times a block", c.rounds*len(c.plan.Arrangements)), "s", arranging, nil)
	return m, nil
}
