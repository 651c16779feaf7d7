// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/lane/kind"
	"github.com/outrigger-k8s/outrigger/lane/kind/nodeimage"
	"github.com/outrigger-k8s/outrigger/lane/kind/proof"
	"github.com/outrigger-k8s/outrigger/lane/source"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/table/cover"
	"github.com/outrigger-k8s/outrigger/target"
)

// Kind is what a session in the kind lane has in its cluster, for what is shown there beside the tables' cases.
type Kind struct {
	Cluster  *kind.Cluster
	Injector *kind.Injector // nil where the target runs already
	dns      *dnsWait
}

// Kind of the session; nil in other lanes.
func (s *Session) Kind() *Kind { return s.kind }

// err says what makes the cases of the run doubtful.
func (k *Kind) err(ctx context.Context) error {
	if k == nil || ctx.Err() != nil {
		return nil
	}
	return k.Cluster.Ended(ctx)
}

// covering selects of each table the cases among which every combination of three values occurs that occurs among those
// that the lane can run. Of the others it selects likewise, so that the report names what is not run.
func (o *Options) covering(tables []*table.Table) probe.Selects {
	facts := kindFacts(o)
	chosen := map[*table.Table]map[int]bool{}
	for _, t := range tables {
		key := covered{t, fmt.Sprint(facts)}
		known, there := coverings.Load(key)
		if !there {
			known, _ = coverings.LoadOrStore(key, coveringOf(t, facts))
		}
		chosen[t] = known.(map[int]bool)
	}
	return func(c table.Case) bool {
		return (o.Selects == nil || o.Selects(c)) && chosen[c.Table][c.Number()]
	}
}

// coverings are the selections of tables so far, by covered: a suite selects when it makes its specs, and once more when it
// runs them, and all tables take a second.
var coverings sync.Map

type covered struct {
	table *table.Table
	facts string
}

// coveringOf gives the numbers of the cases of one table that covering selects where the lane is such.
func coveringOf(t *table.Table, facts probe.Facts) map[int]bool {
	chosen := map[int]bool{}
	for _, runs := range []bool{true, false} {
		for _, c := range cover.Cases(t, func(c table.Case) bool { return (c.Missing(facts) == "") == runs }, probe.Arranged) {
			chosen[c.Number()] = true
		}
	}
	return chosen
}

func kindFacts(o *Options) probe.Facts {
	f := probe.Facts{Lane: kind.Name, Provider: kind.Name, Kubernetes: o.Kubernetes, Routing: controlplane.RoutingClusterIP, Features: kind.Features(o.Long || o.Full)}
	if f.Kubernetes == "" {
		f.Kubernetes = nodeimage.DefaultVersion
	}
	return f
}

func checkKind(o *Options) error {
	if o.Routing != "" && o.Routing != controlplane.RoutingClusterIP {
		return usage("the kind lane routes by %s: for %s take --lane controlplane", controlplane.RoutingClusterIP, o.Routing)
	}
	if err := source.CheckVersion(o.Kubernetes); err != nil {
		return &UsageError{err}
	}
	return nil
}

func openKind(ctx context.Context, s *Session) (probe.Lane, error) {
	o := &s.options
	if s.subject.Process != nil && o.Target != "" {
		return nil, usage("target %s is a program, and the kind lane runs the reference injector or a target that runs already: install yours in the cluster (--keep), and describe it by url", s.subject.Name)
	}
	tap := o.Tap
	if tap == "" {
		var err error
		if tap, err = kind.FindTap(); err != nil {
			return nil, &UsageError{err}
		}
	}
	options := kind.Options{
		Config: o.KindConfig, NodeImage: o.NodeImage, Kubernetes: o.Kubernetes, Keep: o.Keep, Reuse: o.Reuse, Progress: o.Progress,
	}
	if o.Artifacts != "" {
		options.Logs = filepath.Join(o.Artifacts, kindFolder)
		// What an earlier run has left must not pass for this one's.
		err := errors.Join(kind.RemoveCollected(options.Logs), os.RemoveAll(filepath.Join(o.Artifacts, filepath.FromSlash(proofFolder))))
		if err != nil {
			return nil, fmt.Errorf("remove what an earlier run has left of its cluster: %w", err)
		}
	}
	start := time.Now()
	installing := installation{session: s, program: tap, done: make(chan struct{})}
	options.Started = func(c *kind.Cluster) (stop func()) { return installing.start(ctx, c) }
	c, err := kind.Create(ctx, options)
	if err != nil {
		return nil, err
	}
	s.kind = &Kind{Cluster: c}
	s.closers = append(s.closers, c.Close)
	s.took("image", start, c.Times().Image)
	s.took("cluster", start.Add(c.Times().Image), c.Times().Cluster)
	s.kind.dns = awaitDNS(c)
	s.closers = append(s.closers, s.kind.dns.stop)
	var lane, aside *kind.Lane
	err = s.phase("install", func() (err error) {
		if err = installing.wait(); err == nil && s.kind.Injector == nil {
			err = s.kind.dns.wait(ctx) // a target that runs already may have a name alone
		}
		if err != nil {
			s.collect()
			return err
		}
		lane, aside, err = kind.NewLanes(c, s.options.Long || s.options.Full)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, lane.Close, aside.Close)
	s.runner.Aside = aside
	return lane, nil
}

// A dnsWait is a wait for the cluster's DNS, which takes up to ten seconds more than all that the tables' cases need: webhooks
// are called by addresses, and so is the injector by the tap. Only what runs in pods needs it, and a target that runs elsewhere.
type dnsWait struct {
	began  time.Time
	cancel context.CancelFunc

	done chan struct{} // closed when what follows is set
	took time.Duration
	err  error
}

func awaitDNS(c *kind.Cluster) *dnsWait {
	// Not the context of who opens the session: it may end with the opening.
	ctx, cancel := context.WithCancel(context.Background())
	w := &dnsWait{began: time.Now(), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.err = c.Ready(ctx)
		w.took = time.Since(w.began)
	}()
	return w
}

// stop gives the wait up: the cluster is about to go.
func (w *dnsWait) stop(context.Context) error {
	w.cancel()
	<-w.done
	return nil
}

// wait returns once DNS is ready.
func (w *dnsWait) wait(ctx context.Context) error {
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wholeCluster returns once the cluster's DNS is ready too, and has the report say when that was.
func (s *Session) wholeCluster(ctx context.Context) error {
	w := s.kind.dns
	if err := w.wait(ctx); err != nil {
		return err
	}
	s.phases = append(s.phases, report.Phase{Name: "DNS", Duration: w.took, At: w.began.Sub(s.started), Beside: true})
	fmt.Fprintf(s.options.Progress, "kind: the cluster's DNS was ready %s after its nodes and kube-proxy\n", w.took.Round(100*time.Millisecond))
	return nil
}

// An installation puts tap and target into the cluster while that still becomes ready: most of it is waiting for the same
// node.
type installation struct {
	session *Session
	program string // the tap's
	cancel  context.CancelFunc

	done     chan struct{} // closed when what follows is set
	tap      *kind.Tap
	injector *kind.Injector // nil where the target runs already
	err      error
}

// start begins, and returns what gives the installation up.
func (i *installation) start(ctx context.Context, c *kind.Cluster) (stop func()) {
	ctx, i.cancel = context.WithCancel(ctx)
	go func() {
		defer close(i.done)
		i.err = i.run(ctx, c)
	}()
	return i.stop
}

func (i *installation) run(ctx context.Context, c *kind.Cluster) error {
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		i.tap, err = kind.StartTap(bothCtx, c, i.program)
		return err
	})
	both.Go(func() (err error) {
		i.injector, err = i.session.installInjector(bothCtx, c)
		return err
	})
	if err := both.Wait(); err != nil || i.injector == nil {
		return err
	}
	if err := i.injector.AwaitReached(ctx, i.tap); err != nil {
		return fmt.Errorf("install the injector in cluster %s: %w", c.Name(), err)
	}
	return nil
}

// stop gives the installation up: there will be no cluster.
func (i *installation) stop() {
	i.cancel()
	<-i.done
	if i.tap != nil {
		i.tap.Close()
	}
}

// wait returns once all is installed, and gives it to the session.
func (i *installation) wait() error {
	<-i.done
	i.cancel()
	s := i.session
	if tap := i.tap; tap != nil {
		s.closers = append(s.closers, func(context.Context) error { tap.Close(); return nil })
		s.runner.Tap, s.runner.Mutators, s.runner.CABundle, s.runner.Injector = tap, tap, tap.CABundle, s.fleet
	}
	if s.kind.Injector = i.injector; i.injector != nil {
		s.runner.Injector = i.injector
	}
	return i.err
}

// installInjector installs the reference injector; nil where the target runs already.
func (s *Session) installInjector(ctx context.Context, c *kind.Cluster) (*kind.Injector, error) {
	if s.subject.Process == nil {
		return nil, nil
	}
	binary := s.options.Injector
	if binary == "" {
		var err error
		if binary, err = target.FindReference(); err != nil {
			return nil, &UsageError{err}
		}
	}
	built, err := kind.InjectorImage(binary)
	if err != nil {
		return nil, err
	}
	return kind.Install(ctx, c, built)
}

// collectTimeout bounds the collection of artefacts.
const collectTimeout = 2 * time.Minute

// collect leaves in the artefacts' folder what the cluster knows of a run that did not go well, before it is deleted, and
// says which files and folders that are.
func (s *Session) collect() []string {
	if s.kind == nil || s.options.Artifacts == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	folder := filepath.Join(s.options.Artifacts, kindFolder)
	err := s.kind.Cluster.Collect(ctx, folder)
	if err == nil {
		fmt.Fprintf(s.options.Progress, "kind: logs of nodes, API server, pods and injector, and all events, are in %s\n", folder)
		return collected(folder)
	}
	// What the run found does not depend on it.
	fmt.Fprintf(s.options.Progress, "kind: of the logs of nodes, API server, pods and injector, and the events, what could be had is in %s; the rest could not: %v\n", folder, err)
	return collected(folder)
}

// collected are the files and folders that were collected, as a report names them.
func collected(folder string) (names []string) {
	for _, name := range kind.Collected(folder) {
		names = append(names, path.Join(kindFolder, name))
	}
	if _, err := os.Stat(filepath.Join(folder, path.Base(proofFolder))); err == nil {
		names = append(names, proofFolder)
	}
	slices.Sort(names)
	return names
}

// proofTable is the proofs as a report tells of them.
func proofTable(proofs []*proof.Proof) report.Table {
	t := report.Table{
		ID: proof.TableID, Profile: proof.Profile, Name: proof.Table, Total: len(proofs),
		Title:      "What only a cluster with nodes can show",
		Dimensions: []report.Dimension{{Name: proof.Dimension}},
		View:       &report.View{Rows: []string{proof.Dimension}},
	}
	for _, p := range proofs {
		t.Dimensions[0].Values = append(t.Dimensions[0].Values, p.Name)
		t.Rules = append(t.Rules, report.Rule{
			Name: p.Name, When: proof.Dimension + "=" + p.Name, Outcome: p.Outcome, Because: p.Because, Source: p.Source,
		})
	}
	return t
}

// proofFolder is where, in the artefacts' folder, is what was collected of proofs that do not hold.
const proofFolder = kindFolder + "/proofs"

// kindFolder is where, in the artefacts' folder, is what was collected of the cluster.
const kindFolder = "kind"

// proofResult is a proof's result as a report tells of it.
func proofResult(r proof.Result) report.CaseResult {
	p := r.Proof
	c := report.CaseResult{
		ID: p.ID(), Table: proof.TableID, Values: []string{p.Name}, Rule: p.Name, Expected: report.Expected{Outcome: p.Outcome},
		Result: report.Result{Status: report.Pass, Observed: report.Observed{Outcome: p.Outcome}, Latency: r.Took},
	}
	if r.Err != nil {
		c.Result = report.Result{Status: report.Fail, Why: r.Err.Error(), Latency: r.Took}
		if r.Broken {
			c.Result.Status = report.Error
		}
		for _, file := range r.Files {
			c.Result.Artefacts = append(c.Result.Artefacts, proofFolder+"/"+file)
		}
	}
	return c
}

// Proofs are what is shown beside the tables' cases, in the kind lane with the reference injector.
func (o *Options) Proofs() ([]*proof.Proof, error) {
	if o.Lane != kind.Name || o.Target != "" || o.Profile != "" || o.Shard.Index > 1 {
		return nil, nil
	}
	var matching *regexp.Regexp
	if o.Focus != "" {
		var err error
		if matching, err = regexp.Compile(o.Focus); err != nil {
			return nil, usage("focus %q is not a regular expression: %w", o.Focus, err)
		}
	}
	return slices.DeleteFunc(proof.Select(matching, o.Long), func(p *proof.Proof) bool {
		return o.SelectsProof != nil && !o.SelectsProof(p)
	}), nil
}

// prove shows the proofs, once the cases are through: they want the injector's own webhook configurations.
func (s *Session) prove(ctx context.Context, told func(proof.Result)) error {
	if len(s.proofs) == 0 {
		return nil
	}
	var mu sync.Mutex
	var errs []error
	done := 0
	tell := func(r proof.Result) {
		mu.Lock()
		defer mu.Unlock()
		done++
		how := "holds"
		if r.Err != nil {
			how = "DOES NOT HOLD"
			if r.Broken {
				how = "COULD NOT BE SHOWN"
			}
		}
		fmt.Fprintf(s.options.Progress, "kind: proof %d of %d, %s: %s, in %s\n", done, len(s.proofs), r.Proof.Name, how, r.Took.Round(100*time.Millisecond))
		errs = append(errs, s.builder.Add(proofResult(r)))
		if told != nil {
			told(r)
		}
	}
	s.clock.start()
	defer s.clock.ended(proof.TableID)
	return s.phase("runtime suite", func() error {
		// The last arrangement's webhooks are called at the tap, perhaps about every pod.
		if err := s.runner.Lane.Arrange(ctx, &probe.Arrangement{Name: proof.TableID}); err != nil {
			return err
		}
		if err := s.kind.Injector.Restore(ctx); err != nil {
			return err
		}
		o := proof.Options{Keep: s.options.Keep, Restore: s.options.Keep || s.options.Reuse}
		if s.options.Artifacts != "" {
			o.Folder = filepath.Join(s.options.Artifacts, filepath.FromSlash(proofFolder))
		}
		err := proof.Run(ctx, s.kind.Cluster, s.kind.Injector, s.proofs, o, tell)
		return errors.Join(append(errs, err)...)
	})
}
