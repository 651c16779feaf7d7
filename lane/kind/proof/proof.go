// SPDX-License-Identifier: Apache-2.0

// Package proof shows what only a cluster with nodes can show: that injected pods run, what their users see of them, and
// that the injector can be worked on while pods are created.
//
// A [Proof] is a declaration and a function. It waits for conditions; what it waits for in vain it says in its error. It
// leaves nothing behind.
package proof

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kindexec "sigs.k8s.io/kind/pkg/exec"

	"github.com/outrigger-k8s/outrigger/lane/kind"
	"github.com/outrigger-k8s/outrigger/report"
)

// A Proof is something that is shown once.
type Proof struct {
	Name      string         // a slug
	Title     string         // what is shown
	Outcome   report.Outcome // what becomes of the pods that it is about
	Because   string         // in one sentence
	Source    string
	Catalogue []int // rows of the failure catalogue that it answers
	// InTurn says that it works on the injector, so that it is shown beside others, but not beside others of the kind.
	InTurn bool
	// Ahead says of the first that is InTurn that the others begin only when it waits: it wants the machine at its beginning, and
	// takes longest.
	Ahead bool
	// Alone says that it gets in the way of other pods' creation.
	Alone bool
	// Long says that it is shown only where what takes long is asked for: it takes minutes, or ten seconds and more where
	// another proof shows most of it.
	Long bool

	show func(context.Context, *world) error
}

// TableID is what the proofs are called in reports, as if they were a table of one dimension.
const (
	Profile   = "kind"
	Table     = "runtime"
	Dimension = "proof"
	TableID   = Profile + "/" + Table
)

// ID is the proof's in reports.
func (p *Proof) ID() string { return TableID + "/" + Dimension + "=" + p.Name }

// All are the proofs, in the order in which those of a kind (InTurn, Alone, neither) are shown: what takes long first, so that
// the others go on beside it.
var All = func() []*Proof {
	var list []*Proof
	for _, group := range [][]*Proof{workloads, running, refusals, kinds, injector, outages} {
		list = append(list, group...)
	}
	return list
}()

// Select are the proofs whose ID matches (nil: all), with the long ones or without.
func Select(matching *regexp.Regexp, long bool) []*Proof {
	var list []*Proof
	for _, p := range All {
		if (matching == nil || matching.MatchString(p.ID())) && (long || !p.Long) {
			list = append(list, p)
		}
	}
	return list
}

// A Result is what became of a proof.
type Result struct {
	Proof *Proof
	Err   error // why it does not hold, or could not be shown; nil: it holds
	// Broken says that Err is about the cluster, not about the injector: nothing can be said about the proof.
	Broken bool
	Took   time.Duration
	Files  []string // what was collected of one that did not hold: paths in Options.Folder
}

// Options of Run.
type Options struct {
	// Folder takes, in a folder called after the proof, what there is to be known of one that does not hold; "": nothing
	// is collected.
	Folder string
	// Keep leaves the namespaces of proofs that do not hold.
	Keep bool
	// Restore brings the injector back to what it was after the last proof too, and deletes each proof's namespace: somebody
	// goes on with the cluster.
	Restore bool
}

// perProof bounds one proof. The slowest takes half a minute on an idle machine, and the long ones two.
const perProof = 8 * time.Minute

// sideBySide is how many proofs are under way at once beside the one in turn: enough to keep two cores busy with starting
// pods. With more each only waits longer for its own.
const sideBySide = 4

// Run shows the proofs in the cluster, those that can side by side, and tells of each as it ends, from several goroutines
// at once. The injector must be installed there, with its own webhook configurations; Options.Restore says whether it is again
// in the end. An error is about the cluster: ctx has ended, the cluster is gone, or the injector could not be brought back to
// what it was.
func Run(ctx context.Context, c *kind.Cluster, i *kind.Injector, proofs []*Proof, o Options, tell func(Result)) (err error) {
	ctx, cancel := c.While(ctx)
	defer cancel()
	w := &world{cluster: c, injector: i, client: c.Client(), run: ctx, options: o, waits: func() {}}
	defer func() {
		if w.trial != "" && o.Restore && !errors.Is(context.Cause(ctx), kind.ErrGone) {
			err = errors.Join(err, w.clear(ctx, w.trial))
		}
	}()
	if err := w.settle(ctx); err != nil {
		return gone(ctx, err)
	}
	besides(proofs, func(p *Proof, waits func()) {
		own := *w
		own.waits = waits
		own.one(ctx, p, tell)
	})
	before := "" // the proof that may have left the injector other than it was
	restore := func() error {
		if before == "" || ctx.Err() != nil {
			return nil
		}
		if err := w.restore(ctx); err != nil {
			return gone(ctx, fmt.Errorf("bring the injector back to what it was before proof %s: %w", before, err))
		}
		return nil
	}
	for _, p := range proofs {
		if !p.Alone || ctx.Err() != nil {
			continue
		}
		if err := restore(); err != nil {
			return err
		}
		w.one(ctx, p, tell)
		before = p.Name
	}
	if o.Restore {
		if err := restore(); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// besides shows the proofs that are not to be Alone: those InTurn one after the other, and sideBySide others beside them. Where
// the first of those in turn is Ahead the others begin when it says that it waits, or has ended.
func besides(proofs []*Proof, show func(p *Proof, waits func())) {
	var turns, others []*Proof
	for _, p := range proofs {
		switch {
		case p.InTurn:
			turns = append(turns, p)
		case !p.Alone:
			others = append(others, p)
		}
	}
	waiting := make(chan struct{})
	waits := sync.OnceFunc(func() { close(waiting) })
	if len(turns) == 0 || !turns[0].Ahead {
		waits()
	}
	var inTurn sync.WaitGroup
	inTurn.Go(func() {
		for _, p := range turns {
			show(p, waits)
			waits()
		}
	})
	<-waiting
	var group errgroup.Group
	group.SetLimit(sideBySide)
	for _, p := range others {
		group.Go(func() error { show(p, func() {}); return nil })
	}
	_ = group.Wait()
	inTurn.Wait()
}

// gone is err, or why the cluster is gone if that is what it came of.
func gone(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, kind.ErrGone) && !errors.Is(err, kind.ErrGone) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// one shows a proof, in a world of its own, and tells of it unless it was cut off.
func (w *world) one(ctx context.Context, p *Proof, tell func(Result)) {
	if ctx.Err() != nil {
		return
	}
	began := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, perProof, fmt.Errorf("not shown within %s", perProof))
	defer cancel()
	own := *w
	own.evidence = newEvidence(w.options.Folder, p.Name)
	r := Result{Proof: p, Err: p.show(bounded, &own)}
	r.Took = time.Since(began)
	if r.Err != nil {
		r.Err = gone(ctx, r.Err)
		r.Broken = errors.Is(r.Err, kind.ErrGone) || transport(r.Err)
		if ctx.Err() != nil && !r.Broken {
			return // cut off: nothing can be said
		}
		if ctx.Err() == nil {
			own.collect()
		}
		r.Files = own.evidence.close()
	}
	tell(r)
}

// transport tells whether an error is about the way to the API server or to the node, and so says nothing about what was to
// be shown. A refusal is none, whatever it says: the API server has answered. Nor is a time that ran out.
func transport(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return false
	}
	var request *url.Error
	var network *net.OpError
	var inNode *kindexec.RunError
	var command *exec.ExitError
	return errors.As(err, &request) || errors.As(err, &network) || errors.As(err, &inNode) || errors.As(err, &command) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
