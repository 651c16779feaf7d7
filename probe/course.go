// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
	"github.com/outrigger-k8s/outrigger/target"
)

// A scenario is a case on its way through the steps of its table's course. The cases of one arrangement take each step
// together: what a step changes is the cluster's, and all see it.
type scenario struct {
	planned   *Planned
	began     time.Time
	steps     []*Judgement
	made      map[table.Word]*made // by step, what later ones come back to
	refused   bool                 // before the first change was accepted
	cure      time.Time            // when the first change that was accepted was asked for
	beside    *Beside              // of the change that was made last, where pods were created beside it
	notRun    string
	err       error
	artefacts []string // of steps that do not hold
}

// made is what a step left behind for later ones.
type made struct {
	try
	pod     *corev1.Pod
	refused *metav1.Status
	cleanup func(context.Context) error
}

// runCourse takes the cases of an arrangement through the course, and gives each judgement to judged after the last step.
func (r *Runner) runCourse(ctx context.Context, a *PlannedArrangement, judged func(*Judgement)) (err error) {
	t := a.Cases[0].Case.Table
	scenarios := make([]*scenario, len(a.Cases))
	for i, p := range a.Cases {
		scenarios[i] = &scenario{planned: p, began: time.Now(), made: map[table.Word]*made{}}
	}
	defer func() {
		err = errors.Join(err, r.end(ctx, scenarios))
	}()
	var in *Arrangement // force
	var changed time.Time
	for k, stage := range a.Course {
		step := &t.Course[k]
		var clients *beside
		if step.Clients > 0 {
			if clients, err = r.create(ctx, k, scenarios); err != nil {
				return fmt.Errorf("create pods beside %s: %w", stage.Name, errors.Join(err, clients.stop()))
			}
		}
		asked := time.Now()
		if clients != nil {
			clients.asked.Store(&asked)
			if err := r.become(ctx, k, scenarios); err != nil {
				return fmt.Errorf("change the settings for %s: %w", stage.Name, errors.Join(err, clients.stop()))
			}
		}
		next, err := r.complete(ctx, stage)
		if err != nil {
			return fmt.Errorf("arrange %s: %w", stage.Name, errors.Join(err, clients.stop()))
		}
		var refusal *metav1.Status
		if in == nil || step.Does == table.Changes || differs(in, next) {
			err := r.Lane.Arrange(ctx, next)
			if refusal = refusalBy(err); refusal != nil && step.Does == table.Changes {
				err = nil
			}
			if err != nil {
				return fmt.Errorf("arrange %s: %w", stage.Name, errors.Join(err, clients.stop()))
			}
			in = next // what was refused is not tried again by later steps
		}
		if step.Does == table.Changes && refusal == nil {
			changed = asked
		}
		if clients != nil {
			all, err := clients.end(refusal != nil)
			if err != nil {
				return fmt.Errorf("create pods beside %s: %w", stage.Name, err)
			}
			for _, s := range scenarios {
				s.beside = all[s]
			}
		}
		if err := r.takeStep(ctx, k, stage, scenarios, in, refusal, changed); err != nil {
			return err
		}
	}
	for _, s := range scenarios {
		judged(s.judgement())
	}
	return nil
}

// differs tells whether b needs more than is so already.
func differs(a, b *Arrangement) bool {
	return !reflect.DeepEqual(a.Webhooks, b.Webhooks) || !reflect.DeepEqual(a.Validating, b.Validating) ||
		!reflect.DeepEqual(a.Namespaces, b.Namespaces) || !reflect.DeepEqual(a.Services, b.Services) ||
		!maps.Equal(a.Behind, b.Behind) || !reflect.DeepEqual(a.Stored, b.Stored)
}

// refusalBy is the API server's refusal that err comes of, nil where it comes of something else.
func refusalBy(err error) *metav1.Status {
	var refused apierrors.APIStatus
	if !errors.As(err, &refused) {
		return nil
	}
	status := refused.Status()
	return &status
}

// takeStep takes every scenario through the step with index k, side by side.
func (r *Runner) takeStep(ctx context.Context, k int, stage *PlannedArrangement, scenarios []*scenario, inForce *Arrangement, refusal *metav1.Status, changed time.Time) error {
	t := scenarios[0].planned.Case.Table
	step := &t.Course[k]
	f := newForms(t)
	letGo(k, scenarios)
	var tries []stepTry
	for _, s := range scenarios {
		if s.err != nil || s.notRun != "" {
			continue
		}
		p := s.planned.Course[k]
		err := r.onward(ctx, s, p)
		if errors.Is(err, target.ErrFixedSettings) {
			s.notRun = err.Error()
			continue
		}
		if err != nil {
			return err
		}
		try := stepTry{scenario: s, attempt: &Attempt{Key: p.Key, Namespace: p.Namespace, DryRun: true}}
		switch {
		case step.Does == table.Changes:
			try.observe = func(context.Context) (*Observation, []tap.Call, error) {
				return &Observation{Refused: refusal}, nil, nil
			}
		case step.Does.Follows():
			if m := s.made[step.Of]; m != nil {
				try.attempt = m.attempt
			}
			try.observe = func(ctx context.Context) (*Observation, []tap.Call, error) { return r.follow(ctx, s, p, step) }
		default:
			t, err := r.prepare(ctx, f, p)
			if errors.Is(err, target.ErrFixedSettings) {
				s.notRun = err.Error()
				continue
			}
			if err != nil {
				return fmt.Errorf("prepare %s, step %s: %w", p.Case.ID(), step.Name, err)
			}
			try.attempt = t.attempt
			try.observe = func(ctx context.Context) (*Observation, []tap.Call, error) { return r.request(ctx, s, t, step) }
		}
		tries = append(tries, try)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	if !step.Does.Follows() { // those only wait
		group.SetLimit(r.underWay(stage.Cases))
	}
	for _, try := range tries {
		group.Go(func() error {
			s, p := try.scenario, try.scenario.planned.Course[k]
			stepCtx, cancel := context.WithTimeoutCause(groupCtx, r.Timeout, errTimeout{r.Timeout})
			defer cancel()
			at := time.Since(s.began)
			o, calls, err := try.observe(stepCtx)
			var j *Judgement
			if err != nil {
				s.err = fmt.Errorf("step %s: %w", step.Name, err)
				j = broken(p, err)
			} else {
				j = Judge(p, o, calls)
				if b := s.beside; b != nil && step.Clients > 0 {
					j.Beside, j.Held = b, b.Held
					for _, why := range b.why {
						j.fault("%s", why)
					}
				}
				s.add(step, j, o, at, changed)
			}
			err = r.settle(stepCtx, &Evidence{Judgement: j, Arrangement: inForce.For(p.Namespace), Attempt: try.attempt, Observation: o, Calls: calls})
			if ctx.Err() != nil {
				return context.Cause(ctx) // a case that was cut off says nothing of the target
			}
			if err != nil {
				s.err = errors.Join(s.err, fmt.Errorf("step %s: %w", step.Name, err))
			}
			s.artefacts = append(s.artefacts, j.Artefacts...)
			return nil
		})
	}
	return group.Wait()
}

// A stepTry is one scenario at a step.
type stepTry struct {
	scenario *scenario
	attempt  *Attempt // what is looked at; of a step that only changes the cluster, the case's key and namespace
	observe  func(context.Context) (*Observation, []tap.Call, error)
}

// request makes the case's request. Where a later step comes back to what it makes, that is kept.
func (r *Runner) request(ctx context.Context, s *scenario, t try, step *table.Step) (*Observation, []tap.Call, error) {
	if !s.planned.keeps(step.Name) {
		defer t.release()
		return r.probe(ctx, t)
	}
	t.attempt.Keep, t.attempt.DryRun = true, false
	m := &made{try: t}
	s.made[step.Name] = m
	if err := r.expect(ctx, t); err != nil {
		return nil, nil, err
	}
	o, err := r.Lane.Probe(ctx, t.attempt)
	if err != nil {
		return nil, nil, err
	}
	m.pod, m.refused, m.cleanup, o.Cleanup = o.Pod, o.Refused, o.Cleanup, nil
	calls, err := r.retake(ctx, t)
	return o, calls, err
}

// follow comes back to what an earlier step has made.
func (r *Runner) follow(ctx context.Context, s *scenario, p *Planned, step *table.Step) (*Observation, []tap.Call, error) {
	lane, ok := r.Lane.(Follower)
	m := s.made[step.Of]
	if !ok || m == nil {
		return nil, nil, fmt.Errorf("the lane cannot come back to what step %s made: it lacks %q", step.Of, table.FeatureFollow)
	}
	if _, err := r.retake(ctx, m.try); err != nil { // calls between the steps are of no interest
		return nil, nil, err
	}
	o, err := lane.Follow(ctx, &FollowUp{
		Does: step.Does, Key: m.planned.Key, Namespace: m.planned.Namespace, Object: m.attempt.Object, Pod: m.pod,
		Refused: m.refused, Refusals: step.Refusals,
	})
	if err != nil {
		return nil, nil, err
	}
	if o.Pod != nil {
		m.pod = o.Pod
	}
	calls, err := r.retake(ctx, m.try)
	if step.Does.Uncounted() {
		calls = nil
	}
	return o, calls, err
}

// letGo gives up the settings in which the target was wanted for what earlier steps have made, where the step with index
// k wants it in others. A target of which there is one is not changed before all have.
func letGo(k int, scenarios []*scenario) {
	for _, s := range scenarios {
		for _, m := range s.made {
			if m.planned.Settings != s.planned.Course[k].Settings {
				m.release()
			}
		}
	}
}

// onward has the calls for what earlier steps have made go to the target in the settings of the step, and the tap break
// them as the step has it: controllers go on calling.
func (r *Runner) onward(ctx context.Context, s *scenario, p *Planned) error {
	for _, m := range s.made {
		if m.planned.Settings == p.Settings && reflect.DeepEqual(m.planned.Wire, p.Wire) {
			continue
		}
		onward := *m.planned
		onward.Wire = p.Wire
		if onward.Settings != p.Settings {
			onward.Settings = p.Settings
			up, release, err := r.Injector.Instance(ctx, p.Settings.Document)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Case.ID(), err)
			}
			m.up, m.release = up, release
		}
		m.planned = &onward
		if _, err := r.retake(ctx, m.try); err != nil {
			return fmt.Errorf("%s: %w", p.Case.ID(), err)
		}
	}
	return nil
}

// end takes away what the scenarios have made, whatever became of them.
func (r *Runner) end(ctx context.Context, scenarios []*scenario) error {
	ctx = context.WithoutCancel(ctx)
	var group errgroup.Group
	group.SetLimit(max(1, r.Concurrency))
	var mu sync.Mutex
	var errs []error
	for _, s := range scenarios {
		group.Go(func() error {
			for _, m := range s.made {
				ctx, cancel := context.WithTimeout(ctx, r.Timeout)
				_, err := r.Tap.Take(ctx, m.planned.Key)
				if m.cleanup != nil {
					err = errors.Join(err, m.cleanup(ctx))
				}
				cancel()
				m.release()
				if err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("%s: %w", s.planned.Case.ID(), err))
					mu.Unlock()
				}
			}
			return nil
		})
	}
	_ = group.Wait()
	return errors.Join(errs...)
}

// add takes a step's judgement, and how long after the last change there was its pod.
func (s *scenario) add(step *table.Step, j *Judgement, o *Observation, at time.Duration, changed time.Time) {
	j.At = at
	s.steps = append(s.steps, j)
	switch {
	case step.Does == table.Changes:
		if s.cure.IsZero() {
			s.cure = changed
		}
		return
	case o.Refused != nil || o.Lacking != "":
		s.refused = s.refused || o.Refused != nil && s.cure.IsZero()
		return
	case changed.IsZero() || step.Does == table.Looks || step.Does == table.Recreates:
		return
	}
	seen := o.Seen
	if seen.IsZero() {
		seen = time.Now()
	}
	j.Recovery = max(seen.Sub(changed), time.Microsecond)
	if limit, _ := j.Planned.Then().Limit(); limit > 0 && j.Recovery > limit {
		j.fault("expected a pod within %s of the change, it came after %s", limit, j.Recovery.Round(time.Millisecond))
	}
}

// judgement of the whole: what was observed at the step that is shown, and what any step differs in.
func (s *scenario) judgement() *Judgement {
	p := s.planned
	switch {
	case s.notRun != "":
		return &Judgement{Planned: p, NotRun: s.notRun}
	case s.err != nil:
		j := broken(p, s.err)
		j.Artefacts = s.artefacts
		return j
	}
	j := *s.steps[p.Case.Table.Shown()-1]
	j.Planned, j.Course, j.Why, j.Calls = p, s.steps, nil, nil
	j.Artefacts = s.artefacts
	if !s.refused { // there was nothing to recover from
		j.Recovery = 0
	}
	for i, step := range s.steps {
		j.Held = max(j.Held, step.Held)
		if s.refused && p.Case.Table.Course[i].Does == table.Nudges {
			j.Nudged = step.Recovery
		}
	}
	for _, step := range s.steps {
		sooner := step.Planned.Then().Sooner
		if sooner == "" || len(step.Why) > 0 {
			continue
		}
		other := s.steps[p.Case.Table.StepNumber(sooner)-1]
		if step.Recovery <= 0 || other.Recovery <= step.Recovery {
			step.fault("expected a pod sooner than at step %s, it came %s after the change and the other %s", sooner, step.Recovery, other.Recovery)
		}
	}
	for i, step := range s.steps {
		for _, why := range step.Why {
			rule := step.Planned.Rule
			j.fault("step %s (rule %s, %s:%d): %s", p.Case.Table.Course[i].Name, rule.Name, p.Case.Table.File, rule.Line, why)
		}
		if len(step.Why) > 0 {
			j.Calls = append(j.Calls, step.Calls...)
		}
	}
	return &j
}

// keeps tells whether a later step comes back to what the step of this name makes.
func (p *Planned) keeps(name table.Word) bool {
	for _, s := range p.Case.Table.Course {
		if s.Of == name {
			return true
		}
	}
	return false
}

// addScenario plans each step of a case's course. Scenarios share an arrangement where all they change is alike.
func (b *tablePlan) addScenario(p *Planned) error {
	c := p.Case
	steps := c.Table.Course
	// The settings too: a target of which there is one has one at a time.
	g := group{webhooks: c.Variant(table.WebhookSection, table.WebhooksSection, table.ServicesSection, table.ObjectsSection, table.SettingsSection)}
	if c.Table.Alone {
		g.alone = 1 + c.Number()
	}
	namespaces := make([]*corev1.Namespace, len(steps))
	sum := sha256.New()
	for k := range steps {
		at := c.At(k + 1)
		ns, raw, err := readNamespace(at)
		if err != nil {
			return err
		}
		if named(at) { // what becomes of it concerns all cases
			g.round = 1 + c.Variant(table.NamespaceSection)
		}
		sum.Write(raw)
		namespaces[k] = ns
		sp := &Planned{Case: at, Key: at.Key(), Rule: at.Rule(b.facts)}
		if sp.Rule == nil {
			return fmt.Errorf("no rule decides step %s", steps[k].Name)
		}
		if err := b.fill(sp); err != nil {
			return err
		}
		g.listener += "/" + sp.Wire.listener()
		p.Course = append(p.Course, sp)
	}
	// A namespace that is relabelled on the way keeps its name, and is shared by those that go the same way.
	name := "outrigger-" + hex.EncodeToString(sum.Sum(nil)[:4])
	for k, ns := range namespaces {
		if ns.Name == "" {
			ns.Name = name
		}
		p.Course[k].Namespace = ns.Name
	}
	shown := p.Course[c.Table.Shown()-1]
	p.Namespace, p.Settings = shown.Namespace, shown.Settings

	a := b.groups[g]
	if a == nil {
		a = &PlannedArrangement{}
		a.Name = fmt.Sprintf("%s/%d.%d", b.table.ID(), g.webhooks, len(b.groups))
		for k, sp := range p.Course {
			stage := &PlannedArrangement{Wire: sp.Wire}
			stage.Name = a.Name + "@" + string(steps[k].Name)
			if err := stage.addWebhooks(sp.Case); err != nil {
				return err
			}
			if err := stage.addServices(sp.Case); err != nil {
				return err
			}
			a.Course = append(a.Course, stage)
		}
		b.groups[g] = a
	}
	var ever Arrangement // a step may take away the webhook that a mutator answers
	for _, stage := range a.Course {
		ever.Webhooks = append(ever.Webhooks, stage.Webhooks...)
		ever.Validating = append(ever.Validating, stage.Validating...)
	}
	for k, sp := range p.Course {
		stage := a.Course[k]
		if err := sp.Mutators.among(&ever); err != nil {
			return err
		}
		stage.addNamespace(namespaces[k])
		stage.Cases = append(stage.Cases, sp)
	}
	a.Cases = append(a.Cases, p)
	return nil
}

// addNamespace adds a case's namespace, in place of one of its name: all cases of an arrangement that name one want it
// alike, and one that Services lie in has no labels of its own.
func (a *Arrangement) addNamespace(ns *corev1.Namespace) {
	for i, other := range a.Namespaces {
		if other.Name == ns.Name {
			a.Namespaces[i] = ns
			return
		}
	}
	a.Namespaces = append(a.Namespaces, ns)
}
