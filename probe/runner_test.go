// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
	"github.com/outrigger-k8s/outrigger/target"
)

// fakeLane calls the webhooks of its arrangement as an API server would, over the real tap, and observes what its
// fields say.
type fakeLane struct {
	t        *testing.T
	arranged func(*Arrangement) error                                                  // may be nil
	probed   func(ctx context.Context, at *Attempt, call func()) (*Observation, error) // may be nil: one call, untouched

	mu        sync.Mutex
	now       *Arrangement
	underWay  atomic.Int32
	most      atomic.Int32
	arranging []string
}

func (l *fakeLane) Facts() Facts { return Facts{Lane: "fake"} }

func (l *fakeLane) Arrange(_ context.Context, a *Arrangement) error {
	if n := l.underWay.Load(); n > 0 {
		l.t.Errorf("%s is arranged while %d cases are under way", a.Name, n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = a
	l.arranging = append(l.arranging, a.Name)
	if l.arranged != nil {
		return l.arranged(a)
	}
	return nil
}

func (l *fakeLane) Probe(ctx context.Context, at *Attempt) (*Observation, error) {
	n := l.underWay.Add(1)
	defer l.underWay.Add(-1)
	for most := l.most.Load(); n > most && !l.most.CompareAndSwap(most, n); most = l.most.Load() {
	}
	l.mu.Lock()
	w := l.now.Webhooks[1].Webhooks[0]
	l.mu.Unlock()
	call := func() { l.call(ctx, *w.ClientConfig.URL, w.ClientConfig.CABundle, at) }
	if l.probed != nil {
		return l.probed(ctx, at, call)
	}
	call()
	return &Observation{Pod: at.Object.(*corev1.Pod), Attempts: tried(1, false)}, nil
}

func (l *fakeLane) call(ctx context.Context, address string, bundle []byte, at *Attempt) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		l.t.Error("no certificate in the caBundle")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	object, err := json.Marshal(at.Object)
	if err != nil {
		l.t.Error(err)
	}
	body := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","name":%q,"object":%s}}`, at.Key, object)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader([]byte(body)))
	if err != nil {
		l.t.Error(err)
		return
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		if ctx.Err() == nil {
			l.t.Error(err)
		}
		return
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
}

// fakeInjector answers every review with a yes, and counts who holds it.
type fakeInjector struct {
	up       *tap.Upstream
	err      error // of Instance, for settings with policy disabled
	asked    atomic.Int32
	held     atomic.Int32
	released atomic.Int32
}

func (f *fakeInjector) Instance(_ context.Context, settings map[string]any) (*tap.Upstream, func(), error) {
	f.asked.Add(1)
	if f.err != nil && settings["policy"] == "disabled" {
		return nil, nil, f.err
	}
	f.held.Add(1)
	return f.up, sync.OnceFunc(func() { f.held.Add(-1); f.released.Add(1) }), nil
}

// bench is a runner over the fakes and a real tap.
func bench(t *testing.T, lane *fakeLane) (*Runner, *fakeInjector) {
	t.Helper()
	authority := pkitest.Authority(t)
	server := pkitest.Serve(t, authority, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":true}}`)
	}))
	address, err := url.Parse(server.URL + "/inject")
	if err != nil {
		t.Fatal(err)
	}
	up, err := tap.NewUpstream(address, authority.CABundle())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	listening, err := tap.Listen(tap.Options{Certificate: pkitest.Certificate(t, authority, "127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listening.Close(context.Background()) })
	lane.t = t
	injector := &fakeInjector{up: up}
	return &Runner{
		Lane: lane, Tap: Here(listening), CABundle: authority.CABundle(), Injector: injector, Concurrency: 3, Timeout: time.Minute,
	}, injector
}

// run takes the plan its way and returns the judgements by case ID.
func run(t *testing.T, ctx context.Context, r *Runner, plan *Plan) (map[string]*Judgement, error) {
	t.Helper()
	var mu sync.Mutex
	judged := map[string]*Judgement{}
	err := r.Run(ctx, plan, func(j *Judgement) {
		mu.Lock()
		defer mu.Unlock()
		id := j.Planned.Case.ID()
		if judged[id] != nil {
			t.Errorf("%s is judged twice", id)
		}
		judged[id] = j
	})
	return judged, err
}

// calledOnce expects each case to be untouched after one call.
const calledOnce = `
dimensions:
  - {dimension: policy, values: [{value: on}, {value: off, settings: {policy: disabled}}]}
  - {dimension: hook, values: [{value: fail}, {value: ignore, webhook: {failurePolicy: Ignore}}]}
  - {dimension: n, values: [{value: "1"}, {value: "2"}, {value: "3"}, {value: "4"}, {value: "5"}]}
rules: [{rule: once, then: {outcome: untouched, calls: 1}, because: b}]
`

func twenty(t *testing.T) *Plan {
	t.Helper()
	plan, err := NewPlan([]*table.Table{loaded(t, calledOnce)}, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestRunnerTakesEveryCaseItsWay(t *testing.T) {
	lane := &fakeLane{}
	r, injector := bench(t, lane)
	var told []string
	r.Arranging = func(a *PlannedArrangement) { told = append(told, a.Name) }
	plan := twenty(t)
	judged, err := run(t, t.Context(), r, plan)
	if err != nil {
		t.Fatal(err)
	}
	if len(judged) != 20 {
		t.Errorf("%d of 20 cases were judged", len(judged))
	}
	for id, j := range judged {
		if !j.Holds() || j.Attempted != 1 || j.Received != 1 {
			t.Errorf("%s: %q, error %v, attempted %d, received %d", id, j.Why, j.Err, j.Attempted, j.Received)
		}
	}
	if len(plan.Arrangements) != 2 || len(lane.arranging) != 2 || !slices.Equal(told, lane.arranging) {
		t.Errorf("arranged %q, told of %q", lane.arranging, told)
	}
	// One for each case, and one beside each arrangement.
	if injector.released.Load() != 22 || injector.held.Load() != 0 {
		t.Errorf("released %d of 22 instances, %d are still held", injector.released.Load(), injector.held.Load())
	}
	if _, strays := r.Tap.(here).Strays(); strays != 0 || r.Tap.(here).Calls() != 20 {
		t.Errorf("%d calls, %d strays", r.Tap.(here).Calls(), strays)
	}
}

// Every webhook that is arranged leads to the tap and trusts it, and the plan itself is not changed.
func TestRunnerPointsWebhooksAtTheTap(t *testing.T) {
	var seen []string
	lane := &fakeLane{}
	r, _ := bench(t, lane)
	lane.arranged = func(a *Arrangement) error {
		for _, c := range a.Webhooks {
			for _, w := range c.Webhooks {
				if w.ClientConfig.URL == nil || *w.ClientConfig.URL != r.Tap.URL(w.Name) || !bytes.Equal(w.ClientConfig.CABundle, r.CABundle) {
					t.Errorf("%s: clientConfig %v", w.Name, w.ClientConfig)
				}
				seen = append(seen, w.Name)
			}
		}
		return nil
	}
	plan := twenty(t)
	if _, err := run(t, t.Context(), r, plan); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 4 {
		t.Errorf("arranged webhooks %q", seen)
	}
	if plan.Arrangements[0].Webhooks[0].Webhooks[0].ClientConfig.URL != nil {
		t.Error("the plan was changed")
	}
}

// A call that only one side saw is a fault, whichever side.
func TestRunnerCountsCalls(t *testing.T) {
	for _, row := range []struct {
		name     string
		calls    int
		attempts int
		want     []string
	}{
		{"both", 1, 1, nil},
		{"the API server tried, the tap saw nothing", 0, 1, []string{"to receive 1 call, it received 0"}},
		{"the tap saw two", 2, 1, []string{"to receive 1 call, it received 2"}},
		{"the API server says nothing", 1, 0, []string{"audit annotations tell of 0"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			lane := &fakeLane{probed: func(_ context.Context, at *Attempt, call func()) (*Observation, error) {
				for range row.calls {
					call()
				}
				return &Observation{Pod: at.Object.(*corev1.Pod), Attempts: tried(row.attempts, false)}, nil
			}}
			r, _ := bench(t, lane)
			judged, err := run(t, t.Context(), r, twenty(t))
			if err != nil || len(judged) != 20 {
				t.Fatalf("%d judged, error %v", len(judged), err)
			}
			for _, j := range judged {
				same(t, j.Why, row.want)
			}
		})
	}
}

// What the lane cannot say is an error of the case: neither a pass nor a fault of the target.
func TestRunnerKeepsErrorsApart(t *testing.T) {
	bad := errors.New("the cluster is gone")
	for _, row := range []struct {
		name   string
		probed func(ctx context.Context, at *Attempt, call func()) (*Observation, error)
		want   error
	}{
		{"an error of the probe", func(_ context.Context, _ *Attempt, call func()) (*Observation, error) {
			call()
			return nil, bad
		}, bad},
		{"an error of the cleanup", func(_ context.Context, at *Attempt, call func()) (*Observation, error) {
			call()
			return &Observation{Pod: at.Object.(*corev1.Pod), Attempts: tried(1, false), Cleanup: func(context.Context) error { return bad }}, nil
		}, bad},
		{"no error of the cleanup", func(_ context.Context, at *Attempt, call func()) (*Observation, error) {
			call()
			return &Observation{Pod: at.Object.(*corev1.Pod), Attempts: tried(1, false), Cleanup: func(context.Context) error { return nil }}, nil
		}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, injector := bench(t, &fakeLane{probed: row.probed})
			judged, err := run(t, t.Context(), r, twenty(t))
			if err != nil || len(judged) != 20 {
				t.Fatalf("%d judged, error %v", len(judged), err)
			}
			for id, j := range judged {
				if !errors.Is(j.Err, row.want) || j.Holds() != (row.want == nil) || len(j.Why) > 0 {
					t.Errorf("%s: error %v, faults %q, holds %v", id, j.Err, j.Why, j.Holds())
				}
				if j.Err != nil && !strings.Contains(j.Err.Error(), id) {
					t.Errorf("the error does not name its case: %v", j.Err)
				}
			}
			if injector.held.Load() != 0 {
				t.Errorf("%d instances are still held", injector.held.Load())
			}
		})
	}
}

// What the cleanup deletes may call the webhook again: the calls are counted before.
func TestRunnerCountsBeforeItCleansUp(t *testing.T) {
	lane := &fakeLane{probed: func(_ context.Context, at *Attempt, call func()) (*Observation, error) {
		call()
		return &Observation{Pod: at.Object.(*corev1.Pod), Attempts: tried(1, false), Cleanup: func(context.Context) error { call(); return nil }}, nil
	}}
	r, _ := bench(t, lane)
	judged, err := run(t, t.Context(), r, twenty(t))
	if err != nil {
		t.Fatal(err)
	}
	for id, j := range judged {
		if !j.Holds() {
			t.Errorf("%s: %q %v", id, j.Why, j.Err)
		}
	}
}

func TestRunnerStopsWhereItCannotGoOn(t *testing.T) {
	bad := errors.New("no such thing")
	t.Run("an arrangement", func(t *testing.T) {
		n := 0
		lane := &fakeLane{arranged: func(*Arrangement) error {
			if n++; n == 2 {
				return bad
			}
			return nil
		}}
		r, _ := bench(t, lane)
		judged, err := run(t, t.Context(), r, twenty(t))
		if !errors.Is(err, bad) || !strings.Contains(err.Error(), "p/t/1.0") || len(judged) != 10 {
			t.Errorf("%d judged, error %v", len(judged), err)
		}
	})
	t.Run("an instance", func(t *testing.T) {
		r, injector := bench(t, &fakeLane{})
		injector.err = bad
		judged, err := run(t, t.Context(), r, twenty(t))
		if !errors.Is(err, bad) || !strings.Contains(err.Error(), "policy=off") || len(judged) > 10 {
			t.Errorf("%d judged, error %v", len(judged), err)
		}
		if injector.held.Load() != 0 {
			t.Errorf("%d instances are still held", injector.held.Load())
		}
	})
	t.Run("settings that the target cannot have", func(t *testing.T) {
		r, injector := bench(t, &fakeLane{})
		injector.err = fmt.Errorf("starting: %w", target.ErrFixedSettings)
		judged, err := run(t, t.Context(), r, twenty(t))
		if err != nil || len(judged) != 20 {
			t.Fatalf("%d judged, error %v", len(judged), err)
		}
		for id, j := range judged {
			if off := strings.Contains(id, "policy=off"); off != (j.NotRun != "") || off == j.Holds() {
				t.Errorf("%s: not run %q, holds %v", id, j.NotRun, j.Holds())
			}
		}
	})
}

// A run that is interrupted says why, and judges no case that it cut off.
func TestRunnerIsInterrupted(t *testing.T) {
	interrupted := errors.New("^C")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var n atomic.Int32
	lane := &fakeLane{probed: func(ctx context.Context, at *Attempt, call func()) (*Observation, error) {
		call()
		if n.Add(1) < 5 {
			return &Observation{Pod: at.Object.(*corev1.Pod), Attempts: tried(1, false)}, nil
		}
		cancel(interrupted)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}}
	r, injector := bench(t, lane)
	judged, err := run(t, ctx, r, twenty(t))
	if !errors.Is(err, interrupted) {
		t.Errorf("error %v", err)
	}
	if len(judged) > 4 {
		t.Errorf("%d cases were judged, 4 had ended", len(judged))
	}
	for id, j := range judged {
		if !j.Holds() {
			t.Errorf("%s was cut off, and judged: %v %q", id, j.Err, j.Why)
		}
	}
	if lane.underWay.Load() != 0 || injector.asked.Load() == 20 {
		t.Errorf("%d under way, %d instances asked for", lane.underWay.Load(), injector.asked.Load())
	}
}

// A case that takes too long is an error of its own; the others are judged.
func TestRunnerBoundsACase(t *testing.T) {
	var slow atomic.Bool
	lane := &fakeLane{probed: func(ctx context.Context, at *Attempt, call func()) (*Observation, error) {
		call()
		if slow.CompareAndSwap(false, true) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return &Observation{Pod: at.Object.(*corev1.Pod), Attempts: tried(1, false)}, nil
	}}
	r, _ := bench(t, lane)
	r.Timeout = 2 * time.Second
	judged, err := run(t, t.Context(), r, twenty(t))
	if err != nil || len(judged) != 20 {
		t.Fatalf("%d judged, error %v", len(judged), err)
	}
	late := 0
	for _, j := range judged {
		if Timeout(j.Err) {
			late++
		} else if !j.Holds() {
			t.Errorf("%v %q", j.Err, j.Why)
		}
	}
	if late != 1 {
		t.Errorf("%d cases were late", late)
	}
	if Timeout(errors.New("another")) || Timeout(nil) {
		t.Error("every error is a timeout")
	}
}

func TestRunnerKeepsToItsConcurrency(t *testing.T) {
	lane := &fakeLane{}
	// Each case waits until as many are under way as may be, so that fewer would never end.
	full := make(chan struct{}, 20)
	var arrived atomic.Int32
	lane.probed = func(ctx context.Context, at *Attempt, call func()) (*Observation, error) {
		call()
		if arrived.Add(1) == 3 {
			for range 20 {
				full <- struct{}{}
			}
		}
		select {
		case <-full:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		return &Observation{Pod: at.Object.(*corev1.Pod), Attempts: tried(1, false)}, nil
	}
	r, _ := bench(t, lane)
	judged, err := run(t, t.Context(), r, twenty(t))
	if err != nil || len(judged) != 20 {
		t.Fatalf("%d judged, error %v", len(judged), err)
	}
	if most := lane.most.Load(); most != 3 {
		t.Errorf("%d cases were under way at once, of 3", most)
	}
}

func TestCasesThatWaitRunSideBySide(t *testing.T) {
	lane := &fakeLane{}
	// Each case waits until all of its arrangement are under way, so that fewer would never end.
	var arrived atomic.Int32
	full := make(chan struct{}, 20)
	lane.probed = func(ctx context.Context, at *Attempt, call func()) (*Observation, error) {
		call()
		if arrived.Add(1)%10 == 0 {
			for range 10 {
				full <- struct{}{}
			}
		}
		select {
		case <-full:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		return &Observation{Pod: at.Object.(*corev1.Pod), Attempts: tried(1, false)}, nil
	}
	plan, err := NewPlan([]*table.Table{loaded(t, "waits: true"+calledOnce)}, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := bench(t, lane)
	r.Timeout = 3 * time.Second
	judged, err := run(t, t.Context(), r, plan)
	if err != nil || len(judged) != 20 {
		t.Fatalf("%d judged, error %v", len(judged), err)
	}
	if most := lane.most.Load(); most != 10 {
		t.Errorf("%d cases were under way at once, of 10", most)
	}
}
