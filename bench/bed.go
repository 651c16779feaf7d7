// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/proc"
	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
	"github.com/outrigger-k8s/outrigger/target"
)

// tableID is the table whose cases are tried: the largest, with the mix of calls and no calls that most runs have.
const tableID = "istio-classic/decision"

// A bed is what both sides of a lane's comparison share: a tap, and the injector in all the settings that the cases
// want.
type bed struct {
	processes *proc.Run
	authority *pki.Authority
	tap       *tap.Tap
	fleet     *target.Fleet
	closers   []func(context.Context) error
}

func newBed(ctx context.Context, injector string) (b *bed, err error) {
	b = &bed{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
			b = nil
		}
	}()
	if b.processes, err = proc.Open(ctx, ""); err != nil {
		return b, err
	}
	b.closers = append(b.closers, func(context.Context) error { return b.processes.Close() })
	if b.authority, err = pki.NewAuthority(); err != nil {
		return b, err
	}
	pair, err := b.authority.Issue("127.0.0.1")
	if err != nil {
		return b, err
	}
	certificate, err := pair.TLS()
	if err != nil {
		return b, err
	}
	if b.tap, err = tap.Listen(tap.Options{Certificate: certificate}); err != nil {
		return b, err
	}
	b.closers = append(b.closers, b.tap.Close)
	b.fleet = target.NewFleet(b.processes, target.Reference(injector), target.Options{Authority: b.authority})
	b.closers = append(b.closers, func(context.Context) error { b.fleet.Stop(); return nil })
	return b, nil
}

// closeTimeout bounds an orderly end.
const closeTimeout = 15 * time.Second

func (b *bed) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	for i := len(b.closers) - 1; i >= 0; i-- {
		errs = append(errs, b.closers[i](ctx))
	}
	b.closers = nil
	return errors.Join(errs...)
}

// slicePlan plans about want cases of the table, evenly spread over all its dimensions.
func slicePlan(facts probe.Facts, want int) (*probe.Plan, error) {
	set, err := scenarios.Load()
	if err != nil {
		return nil, fmt.Errorf("load the embedded tables: %w", err)
	}
	tables, err := set.Select("")
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if t.ID() != tableID {
			continue
		}
		sizes := make([]int, len(t.Dimensions))
		for i, d := range t.Dimensions {
			sizes[i] = len(d.Values)
		}
		step := stride(sizes, want)
		return probe.NewPlan([]*table.Table{t}, facts, func(c table.Case) bool { return c.Number()%step == 0 })
	}
	return nil, fmt.Errorf("find table %s: it is not among those embedded", tableID)
}

// stride is how far apart the cases are that make up about want of a table with dimensions of these sizes. It has no
// divisor in common with any size: every second case of a table whose last dimension has two values would always have
// the same one.
func stride(sizes []int, want int) int {
	total := 1
	for _, n := range sizes {
		total *= n
	}
	step := max(total/want, 1)
	for gcd(step, total) != 1 {
		step++
	}
	return step
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
