// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/report"
)

// A ledger holds what became of each case at each of its tries, until there will be no other. A case that will not be
// tried again goes straight into the report, so that a run without --repeat and --retries holds nothing twice.
type ledger struct {
	builder *report.Builder
	repeat  int // how often every case is tried
	retries int // how often one that failed at all of these is tried again

	mu     sync.Mutex
	kept   map[string]*keptCase // by ID
	detail int                  // bytes of patches and reviews
}

type keptCase struct {
	report.CaseResult                 // of the first try
	tries             []report.Result // all of them, in order
}

// maxKeptDetail is how much of patches and reviews wait here; the report's own bound is the same.
const maxKeptDetail = 64 << 20

func newLedger(b *report.Builder, repeat, retries int) *ledger {
	return &ledger{builder: b, repeat: repeat, retries: retries, kept: map[string]*keptCase{}}
}

// add takes the result of one try.
func (l *ledger) add(c report.CaseResult) error {
	again := l.retries > 0 && c.Result.Status == report.Fail
	if l.repeat == 1 && !again && !l.has(c.ID) {
		return l.builder.Add(c)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kept[c.ID]
	if k == nil {
		k = &keptCase{CaseResult: c}
		l.kept[c.ID] = k
	}
	res := c.Result
	n := len(res.Patch) + len(res.Review)
	switch {
	case k.failed(): // Join takes the details of the first failure
		res.Patch, res.Review = "", ""
	case l.detail+n > maxKeptDetail && n > 0:
		res.Patch, res.Review = "", ""
		l.builder.Update(func(r *report.Run) { r.LeftOut++ })
	default:
		l.detail += n
	}
	k.tries = append(k.tries, res)
	return nil
}

func (l *ledger) has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept[id] != nil
}

func (k *keptCase) failed() bool {
	return slices.ContainsFunc(k.tries, func(r report.Result) bool { return r.Status == report.Fail })
}

// failing tells whether a case failed at every try so far. One that passed at some is flaky already, and one that could
// not be judged at some stays so: neither is worth another try.
func (l *ledger) failing(p *probe.Planned) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kept[p.Case.ID()]
	return k != nil && !slices.ContainsFunc(k.tries, func(r report.Result) bool { return r.Status != report.Fail })
}

// close puts every case that was kept into the report, with as many tries as it had.
func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(l.kept)) {
		k := l.kept[id]
		joined, err := report.Join(k.tries...)
		if err != nil {
			return err
		}
		if joined.Status == report.NotRun {
			joined.Tries = 0
		}
		k.CaseResult.Result = joined
		if err := l.builder.Add(k.CaseResult); err != nil {
			return err
		}
	}
	l.kept = nil
	return nil
}

// rounds takes the whole plan through the lane as often as --repeat says, and after that, as often as --retries says,
// the cases that failed every time. Whole rounds: what made a case fail should have had the time to go away.
func (s *Session) rounds(ctx context.Context, r *probe.Runner, l *ledger, judged func(*probe.Judgement)) error {
	plan := s.plan
	for round := 1; ; round++ {
		if err := r.Run(ctx, plan, judged); err != nil {
			return err
		}
		switch {
		case round < l.repeat:
			continue
		case round == l.repeat+l.retries:
			return nil
		}
		if plan = plan.Only(l.failing); plan.Len() == 0 {
			return nil
		}
		s.total.Add(int64(plan.Len()))
	}
}
