// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A pinboard is where the runner pins each judgement, or what became of a proof, and where the spec finds it.
type pinboard[T any] struct {
	mu      sync.Mutex
	pinned  map[string]T  // by the case's ID; taken down by the spec: nothing is kept that was asserted
	waiting chan struct{} // of the spec that waits; closed when something was pinned
	closed  bool
	err     error // why the runner ended before its last case
}

func newBoard[T any]() *pinboard[T] { return &pinboard[T]{pinned: map[string]T{}} }

func (b *pinboard[T]) put(id string, what T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pinned[id] = what
	b.wake()
}

// close says that nothing more will be pinned.
func (b *pinboard[T]) close(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.err = true, err
	b.wake()
}

func (b *pinboard[T]) wake() {
	if b.waiting != nil {
		close(b.waiting)
		b.waiting = nil
	}
}

var errNotJudged = errors.New("the run ended without a judgement on the case")

// await takes down what is pinned for the case as soon as it is there.
func (b *pinboard[T]) await(ctx context.Context, id string) (none T, err error) {
	for {
		b.mu.Lock()
		if j, ok := b.pinned[id]; ok {
			delete(b.pinned, id)
			b.mu.Unlock()
			return j, nil
		}
		if b.closed {
			defer b.mu.Unlock()
			if b.err != nil {
				return none, fmt.Errorf("%s: the run ended early: %w", id, b.err)
			}
			return none, fmt.Errorf("%s: %w", id, errNotJudged)
		}
		if b.waiting == nil {
			b.waiting = make(chan struct{})
		}
		waiting := b.waiting
		b.mu.Unlock()
		select {
		case <-waiting:
		case <-ctx.Done():
			return none, fmt.Errorf("%s: %w", id, context.Cause(ctx))
		}
	}
}
