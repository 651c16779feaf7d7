// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/outrigger-k8s/outrigger/injector/watch"
)

// Source is where configurations come from, and the settings in force: the last ones that were not broken. Open makes
// one of a file; the zero value is one without settings, for whoever has configurations to Offer.
type Source struct {
	path    string
	read    watch.Snapshot
	current atomic.Pointer[Settings]
}

// Open reads a configuration file. A broken configuration is an *Error; other errors are of reading the file.
func Open(path string) (*Source, error) {
	snapshot, err := watch.Read(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	s, err := Parse(path, snapshot.Files[0])
	if err != nil {
		return nil, err
	}
	source := &Source{path: path, read: snapshot}
	source.current.Store(s)
	return source, nil
}

// Offer puts the settings of a configuration in force, unless it is broken; the name is for messages. It returns the
// settings now in force, which are nil if no configuration was good so far.
func (s *Source) Offer(name string, data []byte) (*Settings, error) {
	next, err := Parse(name, data)
	if err == nil {
		s.current.Store(next)
	}
	return s.Current(), err
}

// Current returns the settings in force; nil only where there have not been any yet.
func (s *Source) Current() *Settings { return s.current.Load() }

// Follow puts new settings in force as the file changes, until the context is done. It reports every change: the
// settings now in force, and the error that kept a new configuration out, if there is one. It returns an error only
// when it cannot watch. Call it once.
func (s *Source) Follow(ctx context.Context, report func(*Settings, error)) error {
	return watch.Follow(ctx, s.read, func(now watch.Snapshot, err error) {
		if err != nil {
			report(s.Current(), err)
			return
		}
		report(s.Offer(s.path, now.Files[0]))
	}, s.path)
}
