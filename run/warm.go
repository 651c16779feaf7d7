// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"fmt"
	"time"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/tap"
)

// warm has the target started in all settings that the plan's cases want, several at a time: started one by one, each
// when its first case wants it, they take as long as the cases of the admission lane do. What cannot be started is left
// to be told by the case that wants it.
func (s *Session) warm(ctx context.Context) error {
	if err := s.reachRunning(ctx); err != nil {
		return err
	}
	if s.runner.Injector != probe.Injector(s.fleet) {
		return nil // there is one, which is changed when a case wants it otherwise
	}
	if s.options.FailFast {
		return nil // the first case that fails ends the run: most of what would be started here none would come to want
	}
	var list []map[string]any
	seen := map[*probe.Settings]bool{}
	for _, a := range s.plan.Arrangements {
		for _, p := range a.Cases {
			if !seen[p.Settings] {
				seen[p.Settings] = true
				list = append(list, p.Settings.Document)
			}
		}
	}
	_ = s.fleet.Warm(ctx, list)
	return context.Cause(ctx)
}

// reachTimeout bounds how long a target that runs already may take to be reached.
const reachTimeout = 10 * time.Second

// reachRunning makes sure that a target that runs already can be called, from where it will be: one that cannot would
// seem to break every rule.
func (s *Session) reachRunning(ctx context.Context) error {
	up, err := s.fleet.Running()
	if up == nil || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reachTimeout, fmt.Errorf("not within %s", reachTimeout))
	defer cancel()
	if elsewhere, ok := s.runner.Tap.(interface {
		Reach(context.Context, *tap.Upstream, time.Duration) error
	}); ok {
		err = elsewhere.Reach(ctx, up, reachTimeout)
	} else {
		err = up.Reach(ctx)
	}
	if err != nil {
		return fmt.Errorf("reach target %s at %s: %w; does it run there, and is its certificate by the authority that the target's file names?",
			s.subject.Name, s.subject.URL.Address, err)
	}
	return nil
}
