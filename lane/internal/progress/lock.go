// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"context"
	"time"

	"github.com/outrigger-k8s/outrigger/proc"
)

// Lock waits for the lock of something that is built and, where that takes more than a moment, says so.
func (p *Progress) Lock(ctx context.Context, path string) (unlock func() error, err error) {
	patience := time.AfterFunc(200*time.Millisecond, func() { p.Line("waiting for another process that builds the same (%s)", path) })
	defer patience.Stop()
	defer p.While(func(elapsed time.Duration) string {
		return "still waiting for another process that builds the same, for " + Round(elapsed)
	})()
	return proc.Lock(ctx, path)
}
