// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/outrigger-k8s/outrigger/lane/kind/proof"
	"github.com/outrigger-k8s/outrigger/mutator"
	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/proc"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
	"github.com/outrigger-k8s/outrigger/target"
)

// A Session is one run from its first process to its report. Use it in this order: Open, Run, Finish, Close.
type Session struct {
	options   Options
	plan      *probe.Plan
	proofs    []*proof.Proof // that are shown after the plan's cases
	processes *proc.Run
	fleet     *target.Fleet
	runner    probe.Runner // its lane, and what stands between the API server and the target there
	kind      *Kind        // nil in other lanes
	proved    func(proof.Result)
	lane      probe.Lane
	closers   []func(context.Context) error // in the order of opening

	authority *pki.Authority
	subject   *target.Target
	builder   *report.Builder
	started   time.Time
	phases    []report.Phase
	clock     clock
	timings   *timings
	evidence  *evidence    // nil where no artefacts are kept
	total     atomic.Int64 // tries that are planned
	judged    atomic.Int64 // tries
	faults    atomic.Int64
}

// silence turns the logs of client-go and the admission plugins off, for the process: what they have to say, the observations
// say too.
var silence = sync.OnceFunc(func() { klog.SetLogger(logr.Discard()) })

// Open plans the run and starts all it needs: when it returns, the lane is ready. On an error nothing is left running.
func Open(ctx context.Context, o Options) (s *Session, err error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	s = &Session{options: o, started: time.Now()}
	silence()
	defer func() {
		if err != nil {
			var logs []string
			if Exit(err) == report.ExitInfrastructure {
				logs = s.keepLogs()
			}
			err = errors.Join(err, reportUnopened(&o, err, logs), s.Close())
			s = nil
		}
	}()
	// A report of an earlier run must not pass for this one's, however this one ends; nor must a rendering of it.
	if o.Artifacts != "" {
		if err := s.lockArtifacts(); err != nil {
			return s, err
		}
		for _, renderer := range report.Renderers {
			if err := os.Remove(filepath.Join(o.Artifacts, fileOf(renderer))); err != nil && !errors.Is(err, os.ErrNotExist) {
				return s, fmt.Errorf("remove the report of the run before: %w", err)
			}
		}
		if err := errors.Join(sweepEvidence(o.Artifacts), removeLogs(o.Artifacts)); err != nil {
			return s, fmt.Errorf("remove the artefacts of the run before: %w", err)
		}
	}
	if s.subject, err = s.findTarget(); err != nil {
		return s, err
	}
	tables, selects, err := o.Tables()
	if err != nil {
		return s, err
	}
	quarantine, err := s.readFiles(tables)
	if err != nil {
		return s, err
	}
	if s.processes, err = proc.Open(ctx, ""); err != nil {
		return s, err
	}
	s.closers = append(s.closers, func(context.Context) error { return s.processes.Close() })
	for _, line := range s.processes.Swept() {
		fmt.Fprintln(o.Progress, line)
	}
	if s.authority, err = pki.NewAuthority(); err != nil {
		return s, err
	}
	s.fleet = target.NewFleet(s.processes, s.subject, target.Options{Authority: s.authority})
	s.closers = append(s.closers, func(context.Context) error { s.fleet.Stop(); return nil })
	if _, err := s.fleet.Running(); err != nil {
		return s, &UsageError{err}
	}
	if o.Artifacts != "" {
		s.evidence = newEvidence(o.Artifacts, s.fleet.LogEnd)
	}

	if err := s.openLane(ctx); err != nil {
		return s, err
	}
	if err := s.draw(tables, selects); err != nil {
		return s, err
	}
	return s, s.begin(ctx, tables, quarantine)
}

// lockArtifacts makes sure that no other run writes into the artefacts' folder for as long as this one does.
func (s *Session) lockArtifacts() error {
	file := filepath.Join(s.options.Artifacts, ".lock")
	unlock, held, err := proc.TryLock(file)
	if err != nil {
		return fmt.Errorf("take the artefacts' folder: %w", err)
	}
	if held {
		return usage("the artefacts' folder %s is in use by another run: wait for it, or name another folder", s.options.Artifacts)
	}
	s.closers = append(s.closers, func(context.Context) error { return errors.Join(os.Remove(file), unlock()) })
	return nil
}

// openLane makes the place where cases run ready.
func (s *Session) openLane(ctx context.Context) error {
	place, err := s.options.place()
	if err != nil {
		return err
	}
	start := time.Now()
	if s.lane, err = place.open(ctx, s); err != nil {
		return err
	}
	// Of what the lane has told of as phases of their own nothing is counted again.
	var told time.Duration
	for _, p := range s.phases {
		told += p.Duration
	}
	s.took("lane ready", start.Add(told), time.Since(start)-told)
	s.runner.Lane = s.lane
	return nil
}

// draw plans the run: which cases of the tables, in which order, and which proofs.
func (s *Session) draw(tables []*table.Table, selects probe.Selects) (err error) {
	if s.plan, err = probe.NewPlan(tables, s.lane.Facts(), selects); err != nil {
		return err
	}
	if s.proofs, err = s.options.Proofs(); err != nil {
		return err
	}
	if s.plan.Len() == 0 && len(s.plan.NotRun) == 0 && len(s.proofs) == 0 {
		return NoCase(&s.options)
	}
	if s.kind != nil {
		s.plan = s.plan.BySettings()
	}
	if s.plan, err = shardOf(s.plan, s.options.Shard, s.timings); err != nil {
		return err
	}
	place, err := s.options.place()
	if err != nil {
		return err
	}
	if place.together {
		if s.plan, err = s.plan.Together(); err != nil {
			return err
		}
	}
	s.total.Store(int64(s.plan.Len() * s.options.Repeat))
	return nil
}

// begin begins the report.
func (s *Session) begin(ctx context.Context, tables []*table.Table, quarantine *report.Quarantine) error {
	description, err := s.describe(ctx)
	if err != nil {
		return err
	}
	description.Budgets = slices.Clone(s.options.Budgets)
	if s.options.Shard.Of > 0 {
		description.Shards = []report.Shard{s.options.Shard}
	}
	if s.timings != nil { // shards cut by different times do not fit together, and Merge can tell by this
		description.Selection += ", balanced by the times " + s.timings.digest
	}
	described := ReportTables(tables)
	if len(s.proofs) > 0 {
		described = append(described, proofTable(s.proofs))
		description.Planned += len(s.proofs)
	}
	if s.builder, err = report.NewBuilder(description, described); err != nil {
		return err
	}
	if quarantine != nil {
		s.builder.Quarantine(quarantine, s.started)
	}
	return nil
}

// readFiles reads what the options name beside the target, before anything is started.
func (s *Session) readFiles(tables []*table.Table) (quarantine *report.Quarantine, err error) {
	o := &s.options
	if err := checkBudgets(o.Budgets, tables); err != nil {
		return nil, err
	}
	if o.Timings != "" {
		if s.timings, err = readTimings(o.Timings, o.Lane); err != nil {
			return nil, err
		}
	}
	if o.Quarantine == "" {
		return nil, nil
	}
	if quarantine, err = report.ReadQuarantine(o.Quarantine); err != nil {
		return nil, &UsageError{err}
	}
	return quarantine, nil
}

// OnProof has proved told of every proof as it ends, one at a time. Call it before Run.
func (s *Session) OnProof(proved func(proof.Result)) { s.proved = proved }

// Plan of the session.
func (s *Session) Plan() *probe.Plan { return s.plan }

func (s *Session) findTarget() (*target.Target, error) {
	if s.options.Target != "" {
		t, err := target.Load(s.options.Target)
		if err != nil {
			return nil, &UsageError{err}
		}
		return t, nil
	}
	binary := s.options.Injector
	if binary == "" {
		var err error
		if binary, err = target.FindReference(); err != nil {
			return nil, &UsageError{err}
		}
	}
	return target.Reference(binary), nil
}

// spoken are the tables of the profiles that the target claims to speak.
func spoken(tables []*table.Table, t *target.Target) []*table.Table {
	return slices.DeleteFunc(slices.Clone(tables), func(x *table.Table) bool { return !t.Speaks(string(x.Profile)) })
}

// openHere opens what stands between an API server on this machine and the target, in this process. cluster is the API
// server's own authority; nil where it has none.
func (s *Session) openHere(cluster *pki.Authority) error {
	pair, err := s.authority.Issue("127.0.0.1", "localhost")
	if err != nil {
		return err
	}
	certificate, err := pair.TLS()
	if err != nil {
		return err
	}
	listening, err := tap.Listen(tap.Options{Certificate: certificate, Authority: s.authority, Cluster: cluster})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func(ctx context.Context) error { return closeTap(ctx, listening) })
	mutators, err := mutator.Listen(s.authority)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, mutators.Close)
	s.runner.Tap, s.runner.CABundle = probe.Here(listening), s.authority.CABundle()
	s.runner.Injector, s.runner.Mutators = s.fleet, mutators
	return nil
}

// closeTap hangs up on what is still connected after a moment. Every call of a case was waited for when its record was
// taken: what is left are connections on which nobody has said anything, and an API server that still asks for strays.
func closeTap(ctx context.Context, t *tap.Tap) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := t.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Run takes every case of the plan its way and adds it to the report; each judgement, of every try, is also given to
// observe (may be nil), from several goroutines at once. The error says why the run ended early; nil if every case was
// judged.
func (s *Session) Run(ctx context.Context, observe func(*probe.Judgement)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for _, n := range s.plan.NotRun {
		if err := s.builder.Add(notRun(n)); err != nil {
			return err
		}
	}
	ledger := newLedger(s.builder, s.options.Repeat, s.options.Retries)
	var once sync.Once
	var addErr error
	judged := func(j *probe.Judgement) {
		s.judged.Add(1)
		s.clock.ended(j.Planned.Case.Table.ID())
		bad := !j.Holds() && j.NotRun == ""
		if bad {
			s.faults.Add(1)
		}
		s.builder.Effect(j.Digest, j.Effect)
		j.Effect = "" // many cases have the same, which the report now has once
		if err := ledger.add(Result(j)); err != nil {
			once.Do(func() { addErr = err; stop(err) })
		}
		if observe != nil {
			observe(j)
		}
		if s.options.FailFast && bad {
			stop(errFailFast)
		}
	}
	progress := s.startProgress()
	stopProgress := sync.OnceFunc(progress.stop)
	defer stopProgress()
	r := &s.runner
	r.Concurrency, r.Timeout, r.Arranging = s.options.Concurrency, s.options.Timeout, func(a *probe.PlannedArrangement) {
		s.clock.next()
		progress.arranging(a)
	}
	if s.evidence != nil {
		r.Keeper = s.evidence
	}
	if err := s.phase("target ready", func() error { return s.warm(ctx) }); err != nil {
		return err
	}
	s.clock.start()
	err := s.phase("matrix", func() error { return s.rounds(ctx, r, ledger, judged) })
	s.clock.next()
	if s.kind != nil && s.kind.Injector != nil {
		n, took, longest := s.kind.Injector.Changes()
		fmt.Fprintf(s.options.Progress, "kind: the injector's settings were changed %d times, which took %s until every replica had them, at most %s\n",
			n, took.Round(100*time.Millisecond), longest.Round(time.Millisecond))
	}
	rewritten := uint64(0)
	for _, lane := range []probe.Lane{r.Lane, r.Aside} {
		if lane, ok := lane.(interface{ Rewritten() uint64 }); ok {
			rewritten += lane.Rewritten()
		}
	}
	if rewritten > 0 {
		fmt.Fprintf(s.options.Progress, "%s: webhook configurations were written again %d times, since the API server did not act on them soon\n", s.options.Lane, rewritten)
	}
	if err == nil && s.kind != nil {
		err = s.wholeCluster(ctx)
	}
	doubt := s.kind.err(ctx) // before the proofs, some of which end the injector's containers on purpose
	if err == nil && s.kind != nil && s.kind.Injector != nil {
		stopProgress()
		err = s.prove(ctx, s.proved)
	}
	if errors.Is(context.Cause(ctx), errFailFast) {
		err = without(err, errFailFast, context.Canceled)
	}
	// An instance that died by itself makes whatever was observed of its cases doubtful.
	return errors.Join(addErr, err, ledger.close(), s.fleet.Err(), doubt, s.evidence.close())
}

// errFailFast ends a run on purpose. It is no error of the run's.
var errFailFast = errors.New("stopped at the first case that does not hold (--fail-fast)")

// without is what is left of an error, of errors joined or wrapped together too, without those that come of these.
func without(err error, these ...error) error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var rest []error
		for _, e := range several.Unwrap() {
			rest = append(rest, without(e, these...))
		}
		return errors.Join(rest...)
	}
	if inner := errors.Unwrap(err); inner != nil && without(inner, these...) == nil {
		return nil
	}
	if slices.ContainsFunc(these, func(e error) bool { return err == e }) {
		return nil
	}
	return err
}

func (s *Session) phase(name string, f func() error) error {
	start := time.Now()
	err := f()
	s.took(name, start, time.Since(start))
	return err
}

// took adds a phase to the report.
func (s *Session) took(name string, start time.Time, d time.Duration) {
	s.phases = append(s.phases, report.Phase{Name: name, Duration: d, At: start.Sub(s.started)})
}

// closeTimeout bounds the orderly end of each thing that was opened, where it has no bound of its own as processes have, which are
// killed, and clusters, which the next run deletes.
const closeTimeout = 15 * time.Second

// Close stops everything that Open started, in reverse order. It works on a session that Open could only half open.
func (s *Session) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		errs = append(errs, s.closers[i](ctx))
		cancel()
	}
	s.closers = nil
	return errors.Join(errs...)
}
