// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"

	"github.com/outrigger-k8s/outrigger/probe"
)

// warm has the target started in all settings that the plan's cases want, several at a time: started one by one, each
// when its first case wants it, they take as long as the cases of the admission lane do. What cannot be started is left
// to be told by the case that wants it.
func (s *Session) warm(ctx context.Context) error {
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
