// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/proc"
	"github.com/outrigger-k8s/outrigger/tap"
)

// DefaultLimit is how many instances a fleet keeps side by side: more than the 108 settings of the largest tables. An
// instance of the reference injector takes about 15 MiB.
const DefaultLimit = 128

// Options of a fleet. The zero value is of use.
type Options struct {
	// Authority issues the certificate that the instances serve with. Default: one of the fleet's own.
	Authority *pki.Authority
	// Limit is how many instances live side by side. Above it, those that no case uses are stopped, least recently used
	// first; instances in use never are, so that there may be more. Default: DefaultLimit.
	Limit int
	// Starting is how many instances are started at a time. Default: twice the number of cores.
	Starting int
	// Warmed is told by Warm how many instances are ready of how many; never by two goroutines at once. May be nil.
	Warmed func(ready, wanted int)
}

// A Fleet runs instances of one target, one for each distinct settings, on loopback. Safe for concurrent use.
type Fleet struct {
	target  *Target
	run     *proc.Run
	options Options

	ctx    context.Context // ends with Stop
	cancel context.CancelCauseFunc
	starts sync.WaitGroup
	slots  chan struct{} // one for each start under way

	shared func() (*shared, error) // what all instances serve with, made once

	mu        sync.Mutex
	stopped   bool
	clock     int                  // counts uses, to know the least recent
	instances map[string]*instance // by canonical settings
	forms     map[uintptr]form     // of settings that were asked for, by the address of their map
	ports     map[int]bool         // given to instances, so that no two of ours get the same
}

// errStopped is what is returned once the fleet has been stopped.
var errStopped = errors.New("the fleet has been stopped")

// NewFleet makes a fleet of t whose processes belong to run. Nothing is started yet. run may be nil for a target that
// runs already. Stop it when all cases are done.
func NewFleet(run *proc.Run, t *Target, o Options) *Fleet {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if o.Starting <= 0 {
		o.Starting = 2 * runtime.NumCPU()
	}
	f := &Fleet{
		target: t, run: run, options: o,
		slots:     make(chan struct{}, o.Starting),
		instances: map[string]*instance{},
		forms:     map[uintptr]form{},
		ports:     map[int]bool{},
	}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	f.shared = sync.OnceValues(f.share)
	return f
}

// Instance returns where the target answers in these settings, once it is ready there. It starts an instance if there
// is none; several callers that want the same settings wait for one start. The caller calls release, once or more
// often, when its case is done.
//
// The settings must not be changed afterwards: the same map asked for again is not read again.
//
// Errors are of infrastructure, all of them: the target could not be started, or has ended by itself since (the error
// names its log and shows its last lines; it is not started again, since a target that dies is something to know), or
// cannot have these settings (errors.Is: [ErrFixedSettings]).
func (f *Fleet) Instance(ctx context.Context, settings map[string]any) (up *tap.Upstream, release func(), err error) {
	key, err := f.canonical(settings)
	if err != nil {
		return nil, nil, fmt.Errorf("giving target %s its settings: %w", f.target.Name, err)
	}
	in, err := f.lease(key, settings)
	if err != nil {
		return nil, nil, fmt.Errorf("starting target %s: %w", f.target.Name, err)
	}
	release = sync.OnceFunc(func() { f.release(in) })
	select {
	case <-in.started:
		err = in.dead()
	case <-ctx.Done():
		err = fmt.Errorf("waiting for target %s to start with settings %s: %w", f.target.Name, in.digest,
			context.Cause(ctx))
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return in.upstream, release, nil
}

// LogEnd is the last n bytes of the log of the instance with these settings; nil where there is none, or it is not
// outrigger's own process.
func (f *Fleet) LogEnd(settings map[string]any, n int64) []byte {
	key, err := f.canonical(settings)
	if err != nil {
		return nil
	}
	f.mu.Lock()
	in := f.instances[string(key)]
	f.mu.Unlock()
	if in == nil {
		return nil
	}
	select {
	case <-in.started:
	default:
		return nil
	}
	if in.process == nil {
		return nil
	}
	return in.process.LogEnd(n)
}

// A form is the canonical form of settings. It holds on to their map, so that the address stays theirs.
type form struct {
	settings map[string]any
	key      []byte
}

// maxForms is how many forms a fleet remembers: of more settings than any run has, for callers that make their maps
// anew each time.
const maxForms = 4096

// canonical is the canonical form of settings. Tens of thousands of cases share a hundred maps, and to write the form
// takes a quarter of what a case costs in the admission lane.
func (f *Fleet) canonical(settings map[string]any) ([]byte, error) {
	at := reflect.ValueOf(settings).Pointer()
	f.mu.Lock()
	have, ok := f.forms[at]
	f.mu.Unlock()
	if ok {
		return have.key, nil
	}
	key, err := canonical(settings)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.forms) >= maxForms {
		clear(f.forms)
	}
	f.forms[at] = form{settings, key}
	return key, nil
}

// Warm starts an instance for each of list, Options.Starting at a time, and returns once all of them are ready, with
// the first error if one is not. Settings that the target cannot have ([ErrFixedSettings]) are passed over. More of
// them than Options.Limit are not kept: the rest is left to be started when it is wanted.
func (f *Fleet) Warm(ctx context.Context, list []map[string]any) error {
	list = list[:min(len(list), f.options.Limit)]
	var mu sync.Mutex
	ready := 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(f.options.Starting)
	for _, settings := range list {
		group.Go(func() error {
			_, release, err := f.Instance(ctx, settings)
			if err != nil && !errors.Is(err, ErrFixedSettings) {
				return err
			}
			if err == nil {
				release()
			}
			mu.Lock()
			defer mu.Unlock()
			ready++
			if f.options.Warmed != nil {
				f.options.Warmed(ready, len(list))
			}
			return nil
		})
	}
	return group.Wait()
}

// Err returns why instances have ended by themselves, if any have: whatever cases saw of them since is not the fault
// of their settings.
func (f *Fleet) Err() error {
	f.mu.Lock()
	all := slices.SortedFunc(maps.Values(f.instances), func(a, b *instance) int { return a.serial - b.serial })
	f.mu.Unlock()
	var errs []error
	for _, in := range all {
		select {
		case <-in.started:
			if in.err == nil {
				errs = append(errs, in.dead())
			}
		default:
		}
	}
	return errors.Join(errs...)
}

// Stop ends every start under way and every instance, and returns when they are gone. Later calls of Instance fail.
func (f *Fleet) Stop() {
	f.mu.Lock()
	f.stopped = true
	f.cancel(errStopped)
	f.mu.Unlock()
	f.starts.Wait() // after this nobody but us touches the instances
	var wg sync.WaitGroup
	f.mu.Lock()
	for _, in := range f.instances {
		wg.Go(in.stop)
	}
	f.mu.Unlock()
	wg.Wait()
}

// lease finds or makes the instance for the canonical settings key, and counts the caller among its users.
func (f *Fleet) lease(key []byte, settings map[string]any) (*instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return nil, errStopped
	}
	f.clock++
	in := f.instances[string(key)]
	if in == nil {
		in = &instance{serial: f.clock, digest: digest(key), started: make(chan struct{})}
		f.instances[string(key)] = in
		retired := f.retire()
		// The start is the fleet's, not the caller's: others may be waiting for it when the caller gives up.
		f.starts.Go(func() {
			defer close(in.started)
			for _, old := range retired {
				old.stop()
				f.givePortBack(old.port)
			}
			in.err = f.start(in, key, settings)
		})
	}
	in.users++
	in.used = f.clock
	return in, nil
}

func (f *Fleet) release(in *instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in.users--
}

// retire takes out of the fleet what is over the limit and not in use, least recently used first.
func (f *Fleet) retire() []*instance {
	var retired []*instance
	for len(f.instances) > f.options.Limit {
		var oldest string
		for key, in := range f.instances {
			select {
			case <-in.started:
				if in.users == 0 && in.process != nil && in.dead() == nil &&
					(oldest == "" || in.used < f.instances[oldest].used) {
					oldest = key
				}
			default: // its starter is a user
			}
		}
		if oldest == "" {
			return retired // all are in use
		}
		retired = append(retired, f.instances[oldest])
		delete(f.instances, oldest)
	}
	return retired
}

// start makes in ready.
func (f *Fleet) start(in *instance, key []byte, settings map[string]any) error {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-f.ctx.Done():
		return fmt.Errorf("starting target %s: %w", f.target.Name, context.Cause(f.ctx))
	}
	if f.target.URL != nil {
		return f.join(in, key)
	}
	if err := f.launch(in, settings); err != nil {
		return fmt.Errorf("starting target %s with settings %s: %w", f.target.Name, abbreviate(key), err)
	}
	return nil
}

// join makes in the target that runs already, if that has the settings.
func (f *Fleet) join(in *instance, key []byte) error {
	has, err := canonical(f.target.URL.Settings)
	if err != nil {
		return fmt.Errorf("reading the settings that target %s has: %w", f.target.Name, err)
	}
	if !bytes.Equal(has, key) {
		return fmt.Errorf("%w: %s runs at %s with %s, the case wants %s (`outrigger explain CASE --settings` prints them)", ErrFixedSettings, f.target.Name,
			f.target.URL.Address, abbreviate(has), abbreviate(key))
	}
	in.upstream, err = f.Running()
	return err
}

// Running is where a target that runs already is called; nil where the target is started. An error is a mistake in its file.
func (f *Fleet) Running() (*tap.Upstream, error) {
	if !f.target.Fixed() {
		return nil, nil
	}
	bundle := []byte(f.target.URL.CABundle)
	if file := f.target.URL.CAFile; file != "" {
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(f.target.file), file)
		}
		var err error
		if bundle, err = readBounded(file); err != nil {
			return nil, fmt.Errorf("reading the CA file of target %s: %w", f.target.Name, err)
		}
	}
	address, err := url.Parse(f.target.URL.Address)
	if err != nil {
		return nil, fmt.Errorf("reading the address of target %s: %w", f.target.Name, err)
	}
	return tap.NewUpstream(address, bundle)
}

// abbreviate cuts settings to what a message can take.
func abbreviate(canonical []byte) string {
	const most = 300
	if len(canonical) <= most {
		return string(canonical)
	}
	return string(canonical[:most]) + "…"
}
