// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/outrigger-k8s/outrigger/injector/certs"
	"github.com/outrigger-k8s/outrigger/injector/deploy"
	"github.com/outrigger-k8s/outrigger/lane/kind"
)

// newWorld is one without a cluster: a fake API server that injects as admit says, and gives namespaces their ServiceAccount.
func newWorld(t *testing.T, admit func(*corev1.Pod) error) (*world, *fake.Clientset) {
	client := fake.NewClientset()
	client.PrependReactor("create", "namespaces", func(action k8stesting.Action) (bool, runtime.Object, error) {
		ns := action.(k8stesting.CreateAction).GetObject().(*corev1.Namespace)
		if ns.Name == "" {
			ns.Name = ns.GenerateName + "x"
		}
		return false, ns, client.Tracker().Add(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: ns.Name}})
	})
	client.PrependReactor("create", "pods", func(action k8stesting.Action) (bool, runtime.Object, error) {
		pod := action.(k8stesting.CreateAction).GetObject().(*corev1.Pod).DeepCopy()
		if err := admit(pod); err != nil {
			return true, nil, err
		}
		return true, pod, nil
	})
	return &world{client: client, injector: &kind.Injector{Image: "injector:test"}, run: t.Context()}, client
}

func inject(pod *corev1.Pod) error {
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: sidecar})
	return nil
}

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// whole is an injected pod whose init container ended before the others started.
func whole() *corev1.Pod {
	ended := corev1.ContainerStatus{Name: initializer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(at)}}}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}, {Name: sidecar}}}}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{ended}
	for n, name := range []string{"app", sidecar} {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: name, State: corev1.ContainerState{
			Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at.Add(time.Duration(n) * time.Second))}}})
	}
	return pod
}

func TestInitFirst(t *testing.T) {
	if err := initFirst(whole()); err != nil {
		t.Errorf("a pod that came up as it must: %v", err)
	}
	for want, spoil := range map[string]func(*corev1.Pod){
		"has no container istio-proxy":  func(p *corev1.Pod) { p.Spec.Containers = p.Spec.Containers[:1] },
		"has not ended well":            func(p *corev1.Pod) { p.Status.InitContainerStatuses[0].State.Terminated.ExitCode = 1 },
		"istio-init has not ended well": func(p *corev1.Pod) { p.Status.InitContainerStatuses[0].State.Terminated = nil },
		"has not ended well: []":        func(p *corev1.Pod) { p.Status.InitContainerStatuses = nil },
		"container app does not run":    func(p *corev1.Pod) { p.Status.ContainerStatuses[0].State.Running = nil },
		"container istio-proxy does not run, or started before": func(p *corev1.Pod) {
			p.Status.ContainerStatuses[1].State.Running.StartedAt = metav1.NewTime(at.Add(-time.Second))
		},
	} {
		pod := whole()
		spoil(pod)
		if err := initFirst(pod); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestInjected(t *testing.T) {
	for _, test := range []struct {
		spec corev1.PodSpec
		want bool
	}{
		{corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}, false},
		{corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}, {Name: sidecar}}}, true},
		{corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}, InitContainers: []corev1.Container{{Name: initializer}, {Name: sidecar}}}, true},
		{corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}, InitContainers: []corev1.Container{{Name: initializer}}}, false},
	} {
		if injected(&test.spec) != test.want {
			t.Errorf("%+v: injected %t", test.spec, !test.want)
		}
	}
}

func TestNotReady(t *testing.T) {
	pod := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: "a", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImageNeverPull"}}},
		{Name: "b", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 7}}},
		{Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
	}
	lacks := notReady(pod)
	for _, want := range []string{"its phase is Pending", "a waits: ErrImageNeverPull", "b ended with code 7", "c is not ready"} {
		if !strings.Contains(lacks, want) {
			t.Errorf("%q lacks %q", lacks, want)
		}
	}
	pod.Status.Conditions[0].Status = corev1.ConditionTrue
	if lacks := notReady(pod); lacks != "" {
		t.Errorf("a Ready pod: %s", lacks)
	}
}

func TestRefused(t *testing.T) {
	internal := apierrors.NewInternalError(errors.New("failed calling webhook: no"))
	for _, test := range []struct {
		err     error
		code    int32
		message string
		want    string // "": it is refused as it must be
	}{
		{internal, 500, "failed calling webhook", ""},
		{fmt.Errorf("create pod: %w", internal), 500, "failed calling webhook", ""},
		{internal, 403, "failed calling webhook", "observed 500"},
		{internal, 500, "denied", "observed 500"},
		{nil, 500, "denied", "and it was created"},
		{errors.New("EOF"), 500, "EOF", "observed EOF"},
	} {
		err := refused("a pod", test.err, test.code, test.message)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v, expecting code %d and %q: %v, want %q", test.err, test.code, test.message, err, test.want)
		}
	}
}

// What says nothing about the injector is told from what does.
func TestTransport(t *testing.T) {
	lost := &url.Error{Op: "Post", URL: "https://127.0.0.1:1/", Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{lost, true},
		{fmt.Errorf("wait until a pod is Ready: %w (last: %w)", errors.New("not shown within 8m"), lost), true},
		{errors.New("pod x has no container istio-proxy"), false},
		{apierrors.NewInternalError(lost), false}, // the API server says so about the webhook
		{&url.Error{Op: "Get", URL: "x", Err: context.DeadlineExceeded}, false},
	} {
		if got := transport(test.err); got != test.want {
			t.Errorf("%v: about the way to the cluster: %t", test.err, got)
		}
	}
}

// While something is done pods must have been created, none may fail, and none be missed.
func TestWhileCreating(t *testing.T) {
	var fault, miss atomic.Bool
	var created atomic.Int64
	w, _ := newWorld(t, func(pod *corev1.Pod) error {
		created.Add(1)
		if fault.CompareAndSwap(true, false) {
			return apierrors.NewInternalError(errors.New("failed calling webhook"))
		}
		if miss.CompareAndSwap(true, false) {
			return nil
		}
		return inject(pod)
	})
	more := func() error {
		for until := created.Load() + 4*meanwhile; created.Load() < until; {
			if t.Context().Err() != nil {
				return t.Context().Err()
			}
		}
		return nil
	}
	for _, test := range []struct {
		name string
		do   func() error
		want string
	}{
		{"all goes well", more, ""},
		{"one fails", func() error { fault.Store(true); return more() }, "1 went wrong: creation"},
		{"one is missed", func() error { miss.Store(true); return more() }, "the pod has no sidecar"},
		{"one fails only after it was done", func() error { err := more(); fault.Store(true); return err }, "1 went wrong"},
		{"what is done fails", func() error { return errors.New("no such thing") }, "no such thing"},
	} {
		fault.Store(false)
		miss.Store(false)
		err := w.whileCreating(t.Context(), "ns", test.do)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	// What is done sooner than enough pods are created is done again.
	times := 0
	if err := w.whileCreating(t.Context(), "ns", func() error {
		if times++; times < 3 {
			return nil
		}
		return more()
	}); err != nil || times != 3 {
		t.Errorf("done %d times, want 3: %v", times, err)
	}
	// Creations that hang meanwhile show nothing.
	hold := make(chan struct{})
	var holding atomic.Bool
	slow, _ := newWorld(t, func(pod *corev1.Pod) error {
		if holding.Load() {
			<-hold
		}
		return inject(pod)
	})
	letGo := sync.OnceFunc(func() { time.AfterFunc(50*time.Millisecond, func() { close(hold) }) }) // when it is done
	err := slow.whileCreating(t.Context(), "ns", func() error {
		holding.Store(true)
		letGo()
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "which shows nothing") {
		t.Errorf("nothing was created meanwhile: %v", err)
	}
}

// What is rotated is the certificate, or its authority too, on every replica, trusted by both configurations, alone.
func TestNotRotated(t *testing.T) {
	terms := certs.Terms{Hosts: []string{"injector.svc"}, Authority: 24 * time.Hour, Leaf: time.Hour}
	before, err := certs.New(terms, at)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := before.Renew(terms, at.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	both, err := before.Replace(terms, at.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	whole := both.Retire()
	serving := func(sets ...*certs.Set) (list []deploy.ReplicaState) {
		for _, s := range sets {
			list = append(list, deploy.ReplicaState{Name: "r", Certificate: s.ID(), Authority: s.AuthorityID()})
		}
		return list
	}
	trusting := func(mutating, validating *certs.Set) map[string][]byte {
		return map[string][]byte{"mutating/a": mutating.Bundle(), "validating/b": validating.Bundle()}
	}
	for _, test := range []struct {
		authority bool
		now       *certs.Set
		replicas  []deploy.ReplicaState
		bundles   map[string][]byte
		want      string
	}{
		{false, leaf, serving(leaf, leaf), trusting(leaf, leaf), ""},
		{true, whole, serving(whole, whole), trusting(whole, whole), ""},
		{false, before, serving(before), trusting(before, before), "the certificate is the one from before"},
		{true, leaf, serving(leaf), trusting(leaf, leaf), "its authority the one from before"},
		{false, whole, serving(whole), trusting(whole, whole), "only the certificate was to be"},
		{true, whole, serving(whole, before), trusting(whole, whole), "serves another certificate"},
		{true, whole, nil, trusting(whole, whole), "no replica has reported"},
		{true, both, serving(both), trusting(both, both), "2 authorities are trusted"},
		{true, whole, serving(whole), trusting(whole, before), "the caBundle of webhook validating/b"},
		{true, whole, serving(whole), trusting(both, whole), "the caBundle of webhook mutating/a"},
	} {
		if got := notRotated(test.authority, before, test.now, test.replicas, test.bundles); test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	if n := certificatesIn(bytes.Repeat(before.Bundle(), 3)); n != 3 {
		t.Errorf("three certificates are %d", n)
	}
}

// Pods are others by their UIDs, whatever they are called.
func TestReplaced(t *testing.T) {
	w, client := newWorld(t, inject)
	pod := func(name string, uid types.UID) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: deploy.DefaultNamespace, UID: uid, Labels: map[string]string{deploy.Label: deploy.LabelValue}}}
	}
	if _, err := w.replicas(t.Context()); err == nil || !strings.Contains(err.Error(), "there are none") {
		t.Errorf("no pods: %v", err)
	}
	for _, p := range []*corev1.Pod{pod("a", "1"), pod("b", "2")} {
		if err := client.Tracker().Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.replaced(t.Context(), *pod("a", "0"), *pod("b", "9")); err != nil {
		t.Errorf("pods of the same names: %v", err)
	}
	if err := w.replaced(t.Context(), *pod("z", "2")); err == nil || !strings.Contains(err.Error(), "pod b is the same as before") {
		t.Errorf("a pod that stayed: %v", err)
	}
}

// A proof that does not hold leaves what there is to be known of it, before its namespace goes; with Keep that stays.
func TestEvidence(t *testing.T) {
	for _, keep := range []bool{false, true} {
		w, client := newWorld(t, inject)
		w.options = Options{Folder: t.TempDir(), Keep: keep, Restore: true}
		stale := filepath.Join(w.options.Folder, "sample", "of-an-earlier-run.json")
		if err := errors.Join(os.MkdirAll(filepath.Dir(stale), 0o755), os.WriteFile(stale, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		var got Result
		w.one(t.Context(), &Proof{Name: "sample", show: func(ctx context.Context, w *world) error {
			return w.with(ctx, enabled, func(ns string) error {
				pod := whole()
				pod.Name, pod.Namespace = "left", ns
				return errors.Join(client.Tracker().Add(pod), errors.New("it does not hold"))
			})
		}}, func(r Result) { got = r })
		if got.Err == nil || got.Broken {
			t.Fatalf("%+v", got)
		}
		for _, file := range []string{"sample/proof-x-pods.json", "sample/proof-x-events.json", "sample/proof-x-left.app.log", "sample/injector-mutating.json", "sample/kube-system-pods.json"} {
			if !slices.Contains(got.Files, file) {
				t.Errorf("%s is not among %v", file, got.Files)
			}
		}
		raw, err := os.ReadFile(filepath.Join(w.options.Folder, "sample", "proof-x-pods.json"))
		if err != nil || !strings.Contains(string(raw), `"left"`) {
			t.Errorf("the namespace's pods: %.200s, %v", raw, err)
		}
		if _, err := os.Stat(stale); err == nil {
			t.Error("what an earlier run left passes for this one's")
		}
		_, err = client.CoreV1().Namespaces().Get(t.Context(), "proof-x", metav1.GetOptions{})
		if keep != (err == nil) || keep != strings.Contains(got.Err.Error(), "namespace proof-x is kept") {
			t.Errorf("keep %t: the namespace: %v; the error: %v", keep, err, got.Err)
		}
	}
}

// The others begin at once, or when the one that is ahead waits or has ended; those in turn never go side by side.
func TestBesides(t *testing.T) {
	turn, ahead, other, alone := &Proof{Name: "turn", InTurn: true}, &Proof{Name: "ahead", InTurn: true, Ahead: true}, &Proof{Name: "other"}, &Proof{Name: "alone", Alone: true}
	for _, test := range []struct {
		name   string
		proofs []*Proof
		until  *Proof // goes on until another has been shown
		waits  bool   // and says before that it waits
		want   []string
	}{
		{"none in turn", []*Proof{other, alone}, nil, false, []string{"other"}},
		{"alone only", []*Proof{alone}, nil, false, nil},
		{"waits", []*Proof{other, ahead, turn}, ahead, true, []string{"other", "ahead", "turn"}},
		{"ends", []*Proof{other, ahead}, nil, false, []string{"ahead", "other"}},
		{"not ahead", []*Proof{other, turn}, turn, false, []string{"other", "turn"}},
	} {
		var mu sync.Mutex
		var got []string
		shown, turns := make(chan struct{}), 0
		besides(test.proofs, func(p *Proof, waits func()) {
			if p.InTurn {
				mu.Lock()
				if turns++; turns > 1 {
					t.Errorf("%s: two in turn at once", test.name)
				}
				mu.Unlock()
				if p == test.until {
					if test.waits {
						waits()
					}
					select {
					case <-shown:
					case <-time.After(10 * time.Second):
						t.Errorf("%s: no other has begun", test.name)
					}
				} else {
					time.Sleep(50 * time.Millisecond) // who begins too early has the time to
				}
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, p.Name)
			if p.InTurn {
				turns--
			} else {
				close(shown)
			}
		})
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: shown were %q, want %q", test.name, got, test.want)
		}
	}
}

// Of a proof nothing is left to run; its namespace is left where the cluster goes after the last proof.
func TestClear(t *testing.T) {
	for _, restore := range []bool{false, true} {
		w, client := newWorld(t, inject)
		w.options.Restore = restore
		if err := w.with(t.Context(), enabled, func(string) error { return nil }); err != nil {
			t.Fatal(err)
		}
		_, err := client.CoreV1().Namespaces().Get(t.Context(), "proof-x", metav1.GetOptions{})
		if restore != apierrors.IsNotFound(err) {
			t.Errorf("restore %t: the namespace: %v", restore, err)
		}
		// The fake client deletes no collections, so what is asked for counts.
		var cleared []string
		for _, action := range client.Actions() {
			if action.Matches("delete-collection", action.GetResource().Resource) && action.GetNamespace() == "proof-x" {
				cleared = append(cleared, action.GetResource().Resource)
				policy := action.(k8stesting.DeleteCollectionActionImpl).DeleteOptions.PropagationPolicy
				if policy == nil || *policy != metav1.DeletePropagationBackground {
					t.Errorf("the %s are deleted with %v", action.GetResource().Resource, policy)
				}
			}
		}
		want := []string{"deployments", "replicasets", "daemonsets", "statefulsets", "cronjobs", "jobs", "pods"} // owners first
		if restore {
			want = nil // the namespace takes along what is in it
		}
		if !slices.Equal(cleared, want) {
			t.Errorf("restore %t: cleared of %q, want %q", restore, cleared, want)
		}
	}
}

// A pod that has failed, as one whose container the node could not start, or that goes, is not waited for: another comes.
func TestPodsOf(t *testing.T) {
	w, client := newWorld(t, inject)
	gone := metav1.Now()
	for name, pod := range map[string]corev1.Pod{
		"runs":    {Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		"waits":   {Status: corev1.PodStatus{Phase: corev1.PodPending}},
		"is-done": {Status: corev1.PodStatus{Phase: corev1.PodSucceeded}},
		"failed":  {Status: corev1.PodStatus{Phase: corev1.PodFailed}},
		"goes":    {ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &gone, Finalizers: []string{"example.com/stays"}}},
	} {
		pod.Name, pod.Namespace, pod.Labels = name, "ns", map[string]string{"app": "task"}
		if err := client.Tracker().Add(&pod); err != nil {
			t.Fatal(err)
		}
	}
	pods, err := w.podsOf(t.Context(), "ns", "task")
	var names []string
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	slices.Sort(names)
	if want := []string{"is-done", "runs", "waits"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v, want %q", names, err, want)
	}
}

// A cluster that is gone, or cannot be reached, says nothing about a proof; a run that was cut off tells of none.
func TestBroken(t *testing.T) {
	w, _ := newWorld(t, inject)
	told := func(ctx context.Context, show func(context.Context, *world) error) (list []Result) {
		w.one(ctx, &Proof{Name: "sample", show: show}, func(r Result) { list = append(list, r) })
		return list
	}
	for _, test := range []struct {
		name   string
		show   func(context.Context, *world, context.CancelCauseFunc) error
		broken bool
		told   int
	}{
		{"holds", func(context.Context, *world, context.CancelCauseFunc) error { return nil }, false, 1},
		{"does not hold", func(context.Context, *world, context.CancelCauseFunc) error { return errors.New("no") }, false, 1},
		{"not reached", func(context.Context, *world, context.CancelCauseFunc) error {
			return &url.Error{Op: http.MethodGet, URL: "x", Err: syscall.ECONNREFUSED}
		}, true, 1},
		{"gone", func(ctx context.Context, w *world, end context.CancelCauseFunc) error {
			end(fmt.Errorf("%w: the node does not run", kind.ErrGone))
			return await(ctx, "it never is", func(context.Context) (string, error) { return "nothing", nil })
		}, true, 1},
		{"cut off", func(ctx context.Context, w *world, end context.CancelCauseFunc) error {
			end(errors.New("^C"))
			return await(ctx, "it never is", func(context.Context) (string, error) { return "nothing", nil })
		}, false, 0},
	} {
		ctx, end := context.WithCancelCause(t.Context())
		w.run = ctx
		results := told(ctx, func(ctx context.Context, w *world) error { return test.show(ctx, w, end) })
		end(nil)
		if len(results) != test.told || test.told > 0 && results[0].Broken != test.broken {
			t.Errorf("%s: %+v", test.name, results)
		}
	}
}
