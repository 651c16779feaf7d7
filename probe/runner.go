// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
	"github.com/outrigger-k8s/outrigger/target"
)

// Injector gives the runner the target in the settings that a case wants.
type Injector interface {
	// Instance is where the target answers in these settings. It starts the target where it must, and returns once it
	// is ready. release says that the caller no longer needs it.
	Instance(ctx context.Context, settings map[string]any) (up *tap.Upstream, release func(), err error)
}

// A Single is an injector of which there is one: its settings can be changed while it is called.
type Single interface {
	Injector
	// Become changes the settings, whoever wants the injector in those that it has, and returns once none of its answers is
	// by those any more. Calls meanwhile are answered by the one or by the other.
	Become(ctx context.Context, settings map[string]any) error
}

// Answerer gives the runner the webhooks that are not the target's.
type Answerer interface {
	// Answering is where a webhook answers every review with this JSON patch.
	Answering(ctx context.Context, patch json.RawMessage) (*tap.Upstream, error)
}

// A Tap records what the API server calls: one of this process ([Here]), or one that runs in the cluster. What its methods
// do, package tap says.
type Tap interface {
	URL(webhook string) string
	FaultURL(ctx context.Context, f *tap.Fault, webhook string) (string, error)
	ExpectFault(ctx context.Context, key string, up *tap.Upstream, fault *tap.Fault) error
	Route(ctx context.Context, key, webhook string, up *tap.Upstream, fault *tap.Fault) error
	// Take fails where the records cannot be had: nothing can be said about the case then.
	Take(ctx context.Context, key string) ([]tap.Call, error)
	Retake(ctx context.Context, key string, rest tap.Routed, routes map[string]tap.Routed) ([]tap.Call, error)
}

// Rotates is a tap that can say whose certificate it serves with once that is rotated: one of this process.
type Rotates interface {
	SuccessorBundle() ([]byte, error)
}

// Here is a tap of this process.
func Here(t *tap.Tap) Tap { return here{t} }

type here struct{ *tap.Tap }

func (h here) FaultURL(_ context.Context, f *tap.Fault, webhook string) (string, error) {
	return h.Tap.FaultURL(f, webhook)
}

func (h here) ExpectFault(_ context.Context, key string, up *tap.Upstream, fault *tap.Fault) error {
	return h.Tap.ExpectFault(key, up, fault)
}

func (h here) Route(_ context.Context, key, webhook string, up *tap.Upstream, fault *tap.Fault) error {
	return h.Tap.Route(key, webhook, up, fault)
}

func (h here) Take(ctx context.Context, key string) ([]tap.Call, error) {
	return h.Tap.Take(ctx, key), nil
}

// A Runner takes the cases of a plan through a lane, arrangement by arrangement, the cases of one concurrently.
type Runner struct {
	Lane Lane
	// Aside is another lane of the same cluster, for the arrangements that can be made aside; nil: they are made like all
	// others. Neither lane touches what the other has made.
	Aside    Lane
	Tap      Tap
	CABundle []byte // by which the tap's certificate is verified
	Cluster  []byte // the certificate of the cluster's own authority; nil where the lane lacks FeatureClusterAuthority
	Injector Injector
	Mutators Answerer // may be nil where no case has mutators
	// Concurrency is how many cases are under way at once; at least 1.
	Concurrency int
	// Timeout bounds one case. A case that takes longer is an infrastructure error, not a failure of the target: a
	// target that hangs is cut off by the webhook's own timeout long before.
	Timeout time.Duration
	// Keeper keeps evidence of cases that do not hold; may be nil.
	Keeper Keeper
	// Arranging is told of each arrangement before it is made; may be nil.
	Arranging func(*PlannedArrangement)

	sparing           bool // what is made aside is under way
	stranger          sync.Once
	strangerAuthority *pki.Authority // for caBundles that are wrong
	strangerErr       error
	stands            stands
}

// Run takes every case of the plan its way and gives each judgement to judged, from several goroutines at once, in the
// order in which they end. It returns early, with ctx's cause, when ctx ends, and with an error when an arrangement
// cannot be made or the target cannot be started: the cases that were not judged by then have no outcome.
func (r *Runner) Run(ctx context.Context, plan *Plan, judged func(*Judgement)) error {
	for rest := plan.Arrangements; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].settings == rest[0].settings { // of one injector: it cannot be changed for one side alone
			n++
		}
		if err := r.runAlike(ctx, rest[:n], judged); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// runAlike runs arrangements that want the same settings: what can be made aside is, beside the others. Some come after that,
// by themselves: see apart.
func (r *Runner) runAlike(ctx context.Context, list []*PlannedArrangement, judged func(*Judgement)) error {
	aside := only(list, func(a *PlannedArrangement) bool { return a.Aside })
	if r.Aside == nil || len(aside) == 0 {
		return r.runInTurn(ctx, list, judged)
	}
	apart := apart(list)
	// The webhooks of what was arranged last may not leave out what is made aside.
	if err := r.Lane.Arrange(ctx, &Arrangement{Name: "nothing beside"}); err != nil {
		return fmt.Errorf("arrange nothing, before something is made aside: %w", err)
	}
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() error {
		other := &Runner{
			Lane: r.Aside, Tap: r.Tap, CABundle: r.CABundle, Cluster: r.Cluster, Injector: r.Injector, Mutators: r.Mutators,
			Concurrency: r.Concurrency, Timeout: r.Timeout, Keeper: r.Keeper, Arranging: r.Arranging,
		}
		if err := other.runInTurn(bothCtx, aside, judged); err != nil {
			return err
		}
		return r.Aside.Arrange(bothCtx, &Arrangement{Name: "nothing aside"}) // every request would be held against its webhooks
	})
	both.Go(func() error {
		r.sparing = true
		defer func() { r.sparing = false }()
		return r.runInTurn(bothCtx, only(list, func(a *PlannedArrangement) bool { return !a.Aside && !apart[a] }), judged)
	})
	if err := both.Wait(); err != nil {
		return err
	}
	return r.runInTurn(ctx, only(list, func(a *PlannedArrangement) bool { return apart[a] }), judged)
}

// apart are the arrangements that must not have others made aside: those that change the injector's settings, which are
// everybody's; those that expect events of controllers, which are refused pods aside too, and whose events get lost where
// they are too many; and those of tables about namespaceSelectors and their absence, since it would no longer be one.
func apart(list []*PlannedArrangement) map[*PlannedArrangement]bool {
	selective, all := map[*table.Table]bool{}, map[*table.Table]bool{}
	for _, a := range list {
		for _, stage := range append(slices.Clone(a.Course), a) {
			for _, selector := range stage.namespaceSelectors() {
				t := a.Cases[0].Case.Table
				if s := *selector; s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
					all[t] = true
				} else {
					selective[t] = true
				}
			}
		}
	}
	apart := map[*PlannedArrangement]bool{}
	for _, a := range list {
		t := a.Cases[0].Case.Table
		if !a.Aside && (a.changesSettings() || a.expectsEvents() || a.Parts == nil && selective[t] && all[t]) {
			apart[a] = true
		}
	}
	return apart
}

// only are the arrangements of which so holds, in their order.
func only(list []*PlannedArrangement, so func(*PlannedArrangement) bool) []*PlannedArrangement {
	return slices.DeleteFunc(slices.Clone(list), func(a *PlannedArrangement) bool { return !so(a) })
}

// runInTurn runs one arrangement after the other.
func (r *Runner) runInTurn(ctx context.Context, list []*PlannedArrangement, judged func(*Judgement)) error {
	for _, a := range list {
		if r.Arranging != nil {
			r.Arranging(a)
		}
		if a.Course != nil {
			if err := r.runCourse(ctx, a, judged); err != nil {
				return err
			}
			continue
		}
		complete, err := r.complete(ctx, a)
		if err == nil {
			err = r.arrange(ctx, a, complete)
		}
		if err != nil {
			return fmt.Errorf("arrange %s: %w", a.Name, err)
		}
		if err := r.runCases(ctx, a, complete, judged); err != nil {
			return err
		}
	}
	return nil
}

// arrange makes the arrangement, and beside it has the target become what its first case wants: neither keeps the other
// waiting. What goes wrong with the target, the case itself meets again.
func (r *Runner) arrange(ctx context.Context, a *PlannedArrangement, complete *Arrangement) error {
	var target sync.WaitGroup
	target.Go(func() {
		if _, release, err := r.Injector.Instance(ctx, a.Cases[0].Settings.Document); err == nil {
			release()
		}
	})
	defer target.Wait()
	return r.Lane.Arrange(ctx, complete)
}

// complete is the arrangement with every webhook's clientConfig pointing at the tap, but for those that name a Service.
// Behind that there is the tap as well, or nobody, as the case says.
func (r *Runner) complete(ctx context.Context, a *PlannedArrangement) (out *Arrangement, err error) {
	if out, err = r.completeAll(ctx, a); err == nil && r.sparing {
		out.spare()
	}
	return out, err
}

func (r *Runner) completeAll(ctx context.Context, a *PlannedArrangement) (*Arrangement, error) {
	if a.Parts == nil {
		return r.completeOne(ctx, a)
	}
	parts, ids := make([]*Arrangement, len(a.Parts)), make([]partID, len(a.Parts))
	for i, part := range a.Parts {
		var err error
		ids[i] = part.id
		if parts[i], err = r.completeOne(ctx, part); err != nil {
			return nil, fmt.Errorf("%s: %w", part.Name, err)
		}
	}
	return sideBySide(a.Name, parts, ids), nil
}

func (r *Runner) completeOne(ctx context.Context, a *PlannedArrangement) (*Arrangement, error) {
	out := &Arrangement{Name: a.Name, Namespaces: a.Namespaces, Services: a.Services}
	var err error
	if out.Stored, err = a.stored(); err != nil {
		return nil, err
	}
	for _, c := range a.Webhooks {
		c = c.DeepCopy()
		for i := range c.Webhooks {
			if err := r.direct(ctx, a, c.Webhooks[i].Name, &c.Webhooks[i].ClientConfig); err != nil {
				return nil, err
			}
		}
		out.Webhooks = append(out.Webhooks, c)
	}
	for _, c := range a.Validating {
		c = c.DeepCopy()
		for i := range c.Webhooks {
			if err := r.direct(ctx, a, c.Webhooks[i].Name, &c.Webhooks[i].ClientConfig); err != nil {
				return nil, err
			}
		}
		out.Validating = append(out.Validating, c)
	}
	return out, r.standBehind(a, out)
}

// direct points a webhook at the tap, unless it names a Service: the case's own. Of a url that it states, the host alone
// is put in.
func (r *Runner) direct(ctx context.Context, a *PlannedArrangement, webhook string, config *admissionregistrationv1.WebhookClientConfig) error {
	trust := a.Wire.Trust
	if a.Wire.Only != nil && !slices.Contains(a.Wire.Only, webhook) {
		trust = TrustTap
	}
	bundle, err := r.bundle(trust)
	if err != nil {
		return err
	}
	if config.Service != nil {
		config.CABundle = bundle
		return nil
	}
	var url string
	if config.URL != nil {
		url, err = r.standAt(a, webhook, *config.URL)
	} else {
		url, err = r.url(ctx, a, webhook)
	}
	if err != nil {
		return err
	}
	*config = admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: bundle}
	return nil
}

// try is a case that is ready to be probed.
type try struct {
	planned *Planned
	inForce *Arrangement
	attempt *Attempt
	up      *tap.Upstream
	release func()
}

func (r *Runner) runCases(ctx context.Context, a *PlannedArrangement, inForce *Arrangement, judged func(*Judgement)) error {
	tries := make(chan try, r.Concurrency)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(tries)
		var f *forms
		for _, p := range a.Cases {
			if f == nil || f.table != p.Case.Table {
				f = newForms(p.Case.Table)
			}
			t, err := r.prepare(ctx, f, p)
			if errors.Is(err, target.ErrFixedSettings) {
				judged(&Judgement{Planned: p, NotRun: err.Error()})
				continue
			}
			if err != nil {
				return fmt.Errorf("prepare %s: %w", p.Case.ID(), err)
			}
			t.inForce = inForce.For(p.Namespace)
			select {
			case tries <- t:
			case <-ctx.Done():
				t.release()
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range r.underWay(a.Cases) {
		group.Go(func() error {
			for t := range tries {
				j := r.one(ctx, t)
				if ctx.Err() != nil && !j.Holds() {
					return context.Cause(ctx) // a case that was cut off says nothing of the target
				}
				judged(j)
			}
			return nil
		})
	}
	err := group.Wait()
	for t := range tries { // prepared when the others gave up; closed by now
		t.release()
	}
	return err
}

// How many cases are under way at once that wait more than they keep anybody busy.
const (
	// Of timeouts: so many that a table takes little longer than its slowest case, and so few that to begin them all takes no
	// noticeable part of the shortest timeout, a second.
	waitingForTimeouts = 128
	// Of controllers, which take some at a time.
	waitingForControllers = 32
)

// underWay is how many of the cases, which are of one arrangement, are under way at once.
func (r *Runner) underWay(cases []*Planned) int {
	n := max(1, r.Concurrency)
	for _, p := range cases {
		switch {
		case p.Case.Table.Waits:
			return max(n, waitingForTimeouts)
		case slices.Contains(p.Case.Needs(), FeatureControllers):
			return max(n, waitingForControllers)
		}
	}
	return n
}

// prepare makes the case's attempt and has the target ready in its settings. An error ends the run: without its target
// or its object no case of the kind can be judged.
func (r *Runner) prepare(ctx context.Context, f *forms, p *Planned) (t try, err error) {
	t.planned = p
	if t.attempt, err = f.attempt(p); err != nil {
		return t, err
	}
	t.up, t.release, err = r.Injector.Instance(ctx, p.Settings.Document)
	return t, err
}

// one takes a case from its attempt to its judgement.
func (r *Runner) one(ctx context.Context, t try) *Judgement {
	defer t.release()
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, errTimeout{r.Timeout})
	defer cancel()
	o, calls, err := r.probe(ctx, t)
	var j *Judgement
	if err != nil {
		j = broken(t.planned, err)
	} else {
		j = Judge(t.planned, o, calls)
	}
	if err := r.settle(ctx, &Evidence{Judgement: j, Arrangement: t.inForce, Attempt: t.attempt, Observation: o, Calls: calls}); err != nil {
		artefacts := j.Artefacts
		j = broken(t.planned, err)
		j.Artefacts = artefacts
	}
	return j
}

// probe makes the attempt and takes the record of its calls.
func (r *Runner) probe(ctx context.Context, t try) (*Observation, []tap.Call, error) {
	if t.attempt.Rehearsed {
		return r.rehearse(ctx, t)
	}
	return r.once(ctx, t)
}

func (r *Runner) once(ctx context.Context, t try) (*Observation, []tap.Call, error) {
	if err := r.expect(ctx, t); err != nil {
		_, takeErr := r.Tap.Take(ctx, t.planned.Key)
		return nil, nil, errors.Join(err, takeErr)
	}
	o, err := r.Lane.Probe(ctx, t.attempt)
	calls, takeErr := r.Tap.Take(ctx, t.planned.Key)
	return o, ownCalls(t.attempt, calls), errors.Join(err, takeErr)
}

// settle keeps evidence of a case that does not hold, and takes away what its attempt has made.
func (r *Runner) settle(ctx context.Context, e *Evidence) error {
	r.keep(ctx, e)
	if o := e.Observation; o != nil && o.Cleanup != nil {
		return o.Cleanup(context.WithoutCancel(ctx))
	}
	return nil
}

func broken(p *Planned, err error) *Judgement {
	return &Judgement{Planned: p, Err: fmt.Errorf("%s: %w", p.Case.ID(), err)}
}

type errTimeout struct{ limit time.Duration }

func (e errTimeout) Error() string {
	return fmt.Sprintf("nothing was observed within %s (--timeout)", e.limit)
}

// Timeout tells whether a case was given up because Runner.Timeout was over.
func Timeout(err error) bool {
	var t errTimeout
	return errors.As(err, &t)
}

func newForms(t *table.Table) *forms {
	return &forms{table: t, pods: map[int]*corev1.Pod{}, requests: map[int]*table.Request{}}
}
