// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// course is a table of two cases that take four steps: what is created at the first is looked at by the last.
const course = `
course:
  - {step: before}
  - {step: cure, does: change, namespace: {metadata: {labels: {cured: "yes"}}}}
  - {step: after}
  - {step: still, does: look, of: before}
dimensions:
  - dimension: d
    values: [{value: a, at: {after: {wire: {fault: empty}}}}, {value: b}]
rules:
  - {rule: first, then: {before: {outcome: untouched, calls: 1}, cure: accepted}, because: b}
  - {rule: last, then: {after: {outcome: untouched, within: 1h}, still: untouched}, because: b}
`

// followingLane keeps what it is told to.
type followingLane struct {
	*fakeLane
	mu       sync.Mutex
	kept     []string
	cleaned  []string
	followed []FollowUp
	lacking  string
}

func (l *followingLane) Facts() Facts {
	return Facts{Lane: "following", Features: []string{table.FeatureFollow}}
}

func (l *followingLane) Probe(ctx context.Context, at *Attempt) (*Observation, error) {
	o, err := l.fakeLane.Probe(ctx, at)
	if err == nil && at.Keep {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.kept = append(l.kept, at.Key)
		o.Cleanup = func(context.Context) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.cleaned = append(l.cleaned, at.Key)
			return nil
		}
	}
	return o, err
}

func (l *followingLane) Follow(_ context.Context, f *FollowUp) (*Observation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followed = append(l.followed, *f)
	return &Observation{Pod: f.Pod, Looked: true, Lacking: l.lacking}, nil
}

func runCourseOf(t *testing.T, lane *followingLane) (map[string]*Judgement, error) {
	t.Helper()
	r, injector := bench(t, lane.fakeLane)
	r.Lane = lane
	plan, err := NewPlan([]*table.Table{loaded(t, course)}, lane.Facts(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.NotRun) > 0 || plan.Len() != 2 {
		t.Fatalf("%d cases are planned, %d not", plan.Len(), len(plan.NotRun))
	}
	var mu sync.Mutex
	got := map[string]*Judgement{}
	err = r.Run(t.Context(), plan, func(j *Judgement) {
		mu.Lock()
		defer mu.Unlock()
		got[j.Planned.Case.Combination()] = j
	})
	if n := injector.held.Load(); n != 0 {
		t.Errorf("%d instances of the target are still held", n)
	}
	return got, err
}

// single is a target of which there is one: in other settings only when nobody wants it in those that it has.
type single struct {
	*fakeInjector
	mu     sync.Mutex
	policy any
	had    []any // policies, one after the other
}

func (s *single) Instance(ctx context.Context, settings map[string]any) (*tap.Upstream, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if policy := settings["policy"]; len(s.had) == 0 || policy != s.policy {
		if n := s.held.Load(); n > 0 {
			return nil, nil, fmt.Errorf("policy %v is wanted while %d want %v: they would wait for each other", policy, n, s.policy)
		}
		s.policy, s.had = policy, append(s.had, policy)
	}
	return s.fakeInjector.Instance(ctx, settings)
}

// A course may change the settings while what it made before is still there, also where the target is one.
func TestCourseOfSettings(t *testing.T) {
	lane := &followingLane{fakeLane: &fakeLane{t: t}}
	r, injector := bench(t, lane.fakeLane)
	one := &single{fakeInjector: injector}
	r.Lane, r.Injector = lane, one
	plan, err := NewPlan([]*table.Table{loaded(t, `
course:
  - {step: before}
  - {step: change, does: change, settings: {policy: changed}}
  - {step: same, does: look, of: before}
  - {step: after}
dimensions:
  - {dimension: d, values: [{value: a}, {value: b, settings: {policy: other}}, {value: c, at: {after: {settings: {policy: last}}}}]}
rules:
  - {rule: r, then: {before: {outcome: untouched, calls: 1}, change: accepted, same: untouched, after: {outcome: untouched, calls: 1}}, because: b}
`)}, lane.Facts(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context(), plan, func(j *Judgement) {
		if !j.Holds() {
			t.Errorf("%s: %v %v", j.Planned.Case.ID(), j.Why, j.Err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if want := []any{"enabled", "changed", "other", "changed", "enabled", "changed", "last"}; !slices.Equal(one.had, want) {
		t.Errorf("the target had the policies %v, want %v", one.had, want)
	}
	if n := injector.held.Load(); n != 0 {
		t.Errorf("%d instances of the target are still held", n)
	}
}

func TestCourse(t *testing.T) {
	lane := &followingLane{fakeLane: &fakeLane{t: t}}
	got, err := runCourseOf(t, lane)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"d=a", "d=b"} {
		j := got[c]
		if j == nil || !j.Holds() || len(j.Course) != 4 || j.Course[1].Observed != table.Accepted {
			t.Fatalf("%s: %+v", c, j)
		}
		if j.Course[2].Recovery <= 0 || j.Recovery != 0 {
			t.Errorf("%s: the pod after the change came %s after it; nothing was refused before, and yet the case recovered after %s",
				c, j.Course[2].Recovery, j.Recovery)
		}
	}
	if len(lane.kept) != 2 || len(lane.cleaned) != 2 || len(lane.followed) != 2 {
		t.Errorf("kept %v, cleaned up %v, followed %v: each once for each case", lane.kept, lane.cleaned, lane.followed)
	}
	// Only what changes is arranged: of a at the first step, at the cure, and where its wire breaks; of b at two of these.
	if len(lane.arranging) != 5 {
		t.Errorf("arranged %v", lane.arranging)
	}
}

// Each step is judged: what one shows otherwise than its rule says makes the case fail, and the sentence names the step.
func TestCourseJudgesEveryStep(t *testing.T) {
	t.Run("a request", func(t *testing.T) {
		lane := &followingLane{fakeLane: &fakeLane{t: t}}
		lane.probed = func(_ context.Context, at *Attempt, _ func()) (*Observation, error) {
			return &Observation{Pod: at.Object.(*corev1.Pod)}, nil // no webhook is called, also not at the first step
		}
		got, err := runCourseOf(t, lane)
		if err != nil {
			t.Fatal(err)
		}
		if why := strings.Join(got["d=b"].Why, "; "); !strings.Contains(why, "step before (rule first,") || strings.Contains(why, "step after") {
			t.Errorf("why: %q", why)
		}
	})
	t.Run("a look", func(t *testing.T) {
		got, err := runCourseOf(t, &followingLane{fakeLane: &fakeLane{t: t}, lacking: "the pod is gone"})
		if err != nil {
			t.Fatal(err)
		}
		if why := strings.Join(got["d=b"].Why, "; "); !strings.Contains(why, "step still (rule last,") || !strings.Contains(why, "the pod is gone") {
			t.Errorf("why: %q", why)
		}
	})
	t.Run("a change that is refused", func(t *testing.T) {
		lane := &followingLane{fakeLane: &fakeLane{t: t}}
		lane.arranged = func(a *Arrangement) error {
			if strings.HasSuffix(a.Name, "@cure") {
				return &apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusInternalServerError, Message: "failed calling webhook"}}
			}
			return nil
		}
		got, err := runCourseOf(t, lane)
		if err != nil {
			t.Fatal(err)
		}
		if why := strings.Join(got["d=b"].Why, "; "); !strings.Contains(why, "step cure (rule first,") || !strings.Contains(why, "expected accepted, observed failed") {
			t.Errorf("why: %q", why)
		}
	})
	t.Run("an arrangement that breaks", func(t *testing.T) {
		lane := &followingLane{fakeLane: &fakeLane{t: t}}
		lane.arranged = func(a *Arrangement) error {
			if strings.HasSuffix(a.Name, "@cure") {
				return errors.New("etcd is gone")
			}
			return nil
		}
		if _, err := runCourseOf(t, lane); err == nil || !strings.Contains(err.Error(), "etcd is gone") {
			t.Errorf("the run ended with %v", err)
		}
		if len(lane.cleaned) != len(lane.kept) {
			t.Errorf("kept %v, and cleaned up %v", lane.kept, lane.cleaned)
		}
	})
}

// A lane that cannot come back to what it made does not run such a course, and says so.
func TestCourseNeedsToFollow(t *testing.T) {
	plan, err := NewPlan([]*table.Table{loaded(t, course)}, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.NotRun) != 2 || plan.NotRun[0].Missing != table.FeatureFollow {
		t.Errorf("not run: %+v", plan.NotRun)
	}
}
