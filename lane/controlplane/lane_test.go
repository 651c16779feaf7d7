// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/table"
)

var keys atomic.Uint32

func newKey() string { return "or-" + fmt.Sprintf("%013s", base26(keys.Add(1))) }

// base26 writes n with letters only, as keys are.
func base26(n uint32) string {
	digits := []byte("aaaaaaaaaaaaa")
	for i := len(digits) - 1; n > 0; i-- {
		digits[i] = byte('a' + n%26)
		n /= 26
	}
	return string(digits)
}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}}
}

func podAttempt(namespace string, dry bool) *probe.Attempt {
	key := newKey()
	return &probe.Attempt{Key: key, Namespace: namespace, DryRun: dry, Object: &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: key}, Spec: podSpec(),
	}}
}

func namespace(name string, labels ...string) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		ns.Labels[k] = v
	}
	return ns
}

type arrangement = []*admissionregistrationv1.MutatingWebhookConfiguration

func arrange(t *testing.T, l *Lane, webhooks arrangement, namespaces ...*corev1.Namespace) {
	t.Helper()
	err := l.Arrange(t.Context(), &probe.Arrangement{Name: t.Name(), Webhooks: webhooks, Namespaces: namespaces})
	if err != nil {
		t.Fatal(err)
	}
}

func observe(t *testing.T, l *Lane, at *probe.Attempt) *probe.Observation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o, err := l.Probe(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	if o.Cleanup != nil {
		if err := o.Cleanup(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if (o.Pod == nil) == (o.Refused == nil) {
		t.Fatalf("pod %v and refusal %v: want one of them", o.Pod, o.Refused)
	}
	return o
}

// withheld writes a configuration when it is to be written again.
type withheld[T any, C configuration[T]] struct {
	store[T]
	configuration C
}

func (w *withheld[T, C]) Patch(
	ctx context.Context, name string, _ types.PatchType, _ []byte, _ metav1.PatchOptions, _ ...string,
) (*T, error) {
	live, err := w.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	next := w.configuration.DeepCopy()
	C(next).SetResourceVersion(C(live).GetResourceVersion())
	return w.Update(ctx, next, metav1.UpdateOptions{})
}

// A CronJob that runs at the turn of the year is due if it ran last at that time.
func TestBeforeTurn(t *testing.T) {
	for _, now := range []string{"2026-11-28T19:43:00Z", "2027-01-01T00:00:00Z", "2027-01-01T13:59:59Z", "2027-12-31T23:59:59Z", "2028-02-29T12:00:00Z", "2028-12-31T23:59:59Z"} {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, zone := range []int{-12, 0, 14} {
			local := at.In(time.FixedZone("", zone*60*60))
			if turn := time.Date(local.Year(), time.January, 1, 0, 0, 0, 0, local.Location()); !beforeTurn(at).Before(turn) {
				t.Errorf("%s, UTC%+d: the last run is to have been at %s, and the year turned at %s", now, zone, beforeTurn(at), turn)
			}
		}
	}
}

func TestLane(t *testing.T) {
	cp := startControlPlane(t, Options{})
	l := NewLane(cp, LaneOptions{})
	w := startWebhook(t)
	t.Cleanup(l.events.stop)
	const fail, ignore = admissionregistrationv1.Fail, admissionregistrationv1.Ignore
	on, off := namespace("on", "inject=yes"), namespace("off")

	t.Run("outcomes", func(t *testing.T) {
		for _, test := range []struct {
			name     string
			path     string
			policy   admissionregistrationv1.FailurePolicyType
			in       string
			change   func(*probe.Attempt)
			code     int32 // 0: admitted
			message  string
			attempts int
			mutated  bool
			open     int
			touched  bool
		}{
			{name: "injected", path: "/annotate", policy: fail, in: "on", attempts: 1, mutated: true, touched: true},
			{name: "not selected", path: "/annotate", policy: fail, in: "off"},
			{name: "allowed unchanged", path: "/", policy: fail, in: "on", attempts: 1},
			{name: "denied", path: "/deny", policy: ignore, in: "on", code: 418, message: "not this one", attempts: 1},
			{name: "denied as too many requests", path: "/busy", policy: fail, in: "on", code: 429, message: "come back later", attempts: 1},
			{name: "failed closed", path: "!down", policy: fail, in: "on", code: 500, message: "failed calling webhook", attempts: 1},
			{name: "failed open", path: "!down", policy: ignore, in: "on", attempts: 1, open: 1},
			{name: "invalid pod", path: "/", policy: fail, in: "on", code: 422, message: "Required value", attempts: 1,
				change: func(at *probe.Attempt) { at.Object.(*corev1.Pod).Spec.Containers[0].Name = "" }},
			{name: "generated name", path: "/annotate", policy: fail, in: "on", attempts: 1, mutated: true, touched: true,
				change: func(at *probe.Attempt) {
					pod := at.Object.(*corev1.Pod)
					pod.GenerateName, pod.Name = pod.Name+"-", ""
				}},
			{name: "for real", path: "/annotate", policy: fail, in: "on", attempts: 1, mutated: true, touched: true,
				change: func(at *probe.Attempt) { at.DryRun = false }},
		} {
			t.Run(test.name, func(t *testing.T) {
				c := w.configuration("hooks", test.path, test.policy)
				if test.path == "!down" {
					nowhere := "https://127.0.0.1:1/"
					c.Webhooks[0].ClientConfig.URL = &nowhere
				}
				arrange(t, l, arrangement{c}, on, off)
				at := podAttempt(test.in, true)
				if test.change != nil {
					test.change(at)
				}
				key, dry := at.Key, at.DryRun
				o := observe(t, l, at)
				switch {
				case test.code == 0 && o.Refused != nil:
					t.Fatalf("refused: %+v", o.Refused)
				case test.code != 0 && o.Refused == nil:
					t.Fatal("admitted")
				case test.code != 0 && (o.Refused.Code != test.code || !strings.Contains(o.Refused.Message, test.message)):
					t.Errorf("refused with %d %q, want %d and %q", o.Refused.Code, o.Refused.Message, test.code, test.message)
				}
				if len(o.Attempts) != test.attempts || test.attempts == 1 && o.Attempts[0].Mutated != test.mutated {
					t.Errorf("attempts %+v, want %d, mutated %t", o.Attempts, test.attempts, test.mutated)
				}
				if len(o.FailedOpen) != test.open {
					t.Errorf("failed open: %q, want %d", o.FailedOpen, test.open)
				}
				if o.Pod != nil && (o.Pod.Annotations["touched"] == "yes") != test.touched {
					t.Errorf("annotations %v, touched is to be %t", o.Pod.Annotations, test.touched)
				}
				if test.touched && !slices.Equal(o.Warnings, []string{"touched"}) {
					t.Errorf("warnings %q", o.Warnings)
				}
				want := test.attempts
				if test.path == "!down" {
					want = 0
				}
				if got := w.count(key); got != want {
					t.Errorf("the webhook was called %d times, want %d", got, want)
				}
				if o.Latency <= 0 {
					t.Error("no latency")
				}
				pods, err := cp.client.CoreV1().Pods(test.in).List(t.Context(), metav1.ListOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if len(pods.Items) != 0 {
					t.Errorf("left behind (dry run %t): %s", dry, pods.Items[0].Name)
				}
			})
		}
	})

	t.Run("what the cluster holds of a case", func(t *testing.T) {
		key := newKey()
		arrange(t, l, arrangement{w.configuration("hooks", "/deny", fail)}, on)
		at := &probe.Attempt{Key: key, Namespace: "on", Pods: true, Object: workloads()["Deployment"](key)}
		o, err := l.Probe(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, f := range l.Collect(t.Context(), at) {
			found[f.Name] = string(f.Data)
		}
		if err := o.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"kind: MutatingWebhookConfiguration", "name: hooks", "kind: Namespace", "kind: Deployment", "kind: ReplicaSet",
			"name: " + key, "kind: Event", "not this one"} {
			if !strings.Contains(found["cluster.yaml"], want) {
				t.Errorf("%q is not in cluster.yaml", want)
			}
		}
		if strings.Contains(found["cluster.yaml"], "#") || strings.Contains(found["cluster.yaml"], "managedFields") {
			t.Errorf("something went wrong:\n%s", found["cluster.yaml"])
		}
		for _, log := range []string{"etcd.log", "kube-apiserver.log", "kube-controller-manager.log"} {
			if found[log] == "" {
				t.Errorf("%s is empty", log)
			}
		}
	})

	t.Run("the marker needs both halves", func(t *testing.T) {
		arrange(t, l, nil)
		seen := func(serial string) bool {
			ok, err := l.markerSeen(t.Context(), markerLabel, serial)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		l.arranged = 997
		l.touched.Store(true)
		arrange(t, l, nil)
		if !seen("998") {
			t.Error("not seen although Arrange returned")
		}
		for _, serial := range []string{"997", "999"} {
			if seen(serial) {
				t.Errorf("marker %s seen; written was 998", serial)
			}
		}
		if err := l.putNamespace(t.Context(), markerNamespace, metadata{Labels: map[string]string{markerLabel: "other"}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := cp.await(ctx, "the namespace's half is missed", func(context.Context) (bool, error) { return !seen("998"), nil })
		if err != nil {
			t.Error(err)
		}
	})

	// The API server may never act on a marker that is changed: see markerPrefix.
	t.Run("each marker has a name of its own", func(t *testing.T) {
		markers := func() (names []string) {
			l.touched.Store(true)
			arrange(t, l, nil)
			list, err := l.configurations().List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range list.Items {
				if isMarker(c.Name) {
					names = append(names, c.Name)
				}
			}
			return names
		}
		first, second := markers(), markers()
		if len(first) != 1 || len(second) != 1 || first[0] == second[0] {
			t.Errorf("markers %q, then %q: expected one each, and another", first, second)
		}
	})

	// The lane goes by what it knows of namespaces, and a case's own request may have changed one.
	t.Run("what a case has done to a namespace is put right", func(t *testing.T) {
		key := newKey()
		ns, hooks := namespace(key), arrangement{w.configuration("hooks", "/deny", fail)}
		arrange(t, l, hooks, ns)
		at := &probe.Attempt{
			Key: key, Operation: table.Update, Resource: corev1.SchemeGroupVersion.WithResource("namespaces"),
			Object: &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"labels": map[string]any{"inject": "yes"}}}},
		}
		if o, err := l.Probe(t.Context(), at); err != nil || o.Refused != nil {
			t.Fatalf("%+v, %v", o, err)
		}
		arrange(t, l, hooks, ns)
		if o := observe(t, l, podAttempt(key, true)); o.Refused != nil {
			t.Errorf("the namespace still is as the case has left it: %v", o.Refused)
		}
	})

	t.Run("a stranger's configuration is taken away", func(t *testing.T) {
		arrange(t, l, nil, on)
		if _, err := l.configurations().Create(t.Context(), w.configuration("stranger", "/deny", fail), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := cp.await(ctx, "an arrangement takes it away", func(ctx context.Context) (bool, error) {
			if err := l.Arrange(ctx, &probe.Arrangement{Name: t.Name(), Namespaces: []*corev1.Namespace{on}}); err != nil {
				return false, err
			}
			_, err := l.configurations().Get(ctx, "stranger", metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return true, nil
			}
			return false, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if o := observe(t, l, podAttempt("on", true)); o.Refused != nil {
			t.Errorf("it is gone, and still in force: %v", o.Refused)
		}
	})

	// The lane goes by what it has written itself, for a while.
	t.Run("a configuration that somebody deleted is written anew", func(t *testing.T) {
		hooks := arrangement{w.configuration("hooks", "/deny", fail)}
		arrange(t, l, hooks, on)
		if err := l.configurations().Delete(t.Context(), "hooks", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := cp.await(ctx, "it is in force no more", func(context.Context) (bool, error) {
			return observe(t, l, podAttempt("on", true)).Refused == nil, nil
		}); err != nil {
			t.Fatal(err)
		}
		arrange(t, l, hooks, on)
		if o := observe(t, l, podAttempt("on", true)); o.Refused == nil {
			t.Error("the configuration is not in force, though it was arranged")
		}
	})

	// Which configuration the API server loses cannot be chosen, so here the old state stays in force because the new one is
	// only written by what writes it again.
	t.Run("a configuration that is not in force is written again", func(t *testing.T) {
		validating := func(path string) *admissionregistrationv1.ValidatingWebhookConfiguration {
			m := w.configuration("checks", path, fail).Webhooks[0]
			return &admissionregistrationv1.ValidatingWebhookConfiguration{
				ObjectMeta: metav1.ObjectMeta{Name: "checks"},
				Webhooks: []admissionregistrationv1.ValidatingWebhook{{
					Name: m.Name, ClientConfig: m.ClientConfig, NamespaceSelector: m.NamespaceSelector, Rules: m.Rules,
					FailurePolicy: m.FailurePolicy, SideEffects: m.SideEffects, AdmissionReviewVersions: m.AdmissionReviewVersions,
				}},
			}
		}
		both := func(path string) *probe.Arrangement {
			return &probe.Arrangement{
				Name: t.Name(), Namespaces: []*corev1.Namespace{on},
				Webhooks:   arrangement{w.configuration("hooks", path, fail)},
				Validating: []*admissionregistrationv1.ValidatingWebhookConfiguration{validating(path)},
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		next, err := marked(both("/deny"))
		if err != nil {
			t.Fatal(err)
		}
		mutating, checks := next.Webhooks[0], next.Validating[0]
		for _, of := range []struct {
			kind string
			wait func() error
		}{
			{mutatingKind, func() error {
				mark := mutating.Webhooks[len(mutating.Webhooks)-1].ObjectSelector.MatchLabels[inForceLabel]
				client := &withheld[admissionregistrationv1.MutatingWebhookConfiguration, *admissionregistrationv1.MutatingWebhookConfiguration]{l.configurations(), mutating}
				return awaitInForce(ctx, l, client, mutatingKind, mutating.Name, inForceLabel, mark)
			}},
			{validatingKind, func() error {
				mark := checks.Webhooks[len(checks.Webhooks)-1].ObjectSelector.MatchLabels[inForceValidatingLabel]
				client := &withheld[admissionregistrationv1.ValidatingWebhookConfiguration, *admissionregistrationv1.ValidatingWebhookConfiguration]{l.validating(), checks}
				return awaitInForce(ctx, l, client, validatingKind, checks.Name, inForceValidatingLabel, mark)
			}},
		} {
			if err := l.Arrange(ctx, both("/")); err != nil {
				t.Fatal(err)
			}
			before := l.rewritten.Load()
			if err := of.wait(); err != nil {
				t.Fatal(err)
			}
			// On a busy machine the one that was written again may be late, too, and be written a second time.
			if l.rewritten.Load() == before {
				t.Errorf("%s: it was not in force, and not written again", of.kind)
			}
			if o := observe(t, l, podAttempt("on", true)); o.Refused == nil {
				t.Errorf("%s: it counts as in force, and its webhook was not called", of.kind)
			}
		}
	})

	// Whoever refuses what is asked for to see a configuration in force keeps Arrange from coming back as if it were.
	t.Run("Arrange asks whether each configuration is in force", func(t *testing.T) {
		c := w.configuration("aside", "/deny", fail)
		c.Webhooks[0].NamespaceSelector = nil
		c.Webhooks[0].ObjectSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: inForceLabel, Operator: metav1.LabelSelectorOpExists}}}
		c.Webhooks[0].Rules[0].Resources = []string{"configmaps"}
		err := l.Arrange(t.Context(), &probe.Arrangement{Name: t.Name(), Webhooks: arrangement{c}})
		if err == nil || !strings.Contains(err.Error(), "acts on mutating webhook configuration aside") {
			t.Errorf("error %v, expected one that says which configuration could not be seen in force", err)
		}
		arrange(t, l, nil)
	})

	// If Arrange came back before the API server acts on it, some of these would see the arrangement before.
	t.Run("arranged when Arrange returns", func(t *testing.T) {
		for i := range 40 {
			inject, path := i%2 == 0, "/annotate"
			if i%4 > 1 {
				path = "/deny"
			}
			ns := namespace("turn")
			if inject {
				ns = namespace("turn", "inject=yes")
			}
			arrange(t, l, arrangement{w.configuration("hooks", path, fail)}, ns)
			at := podAttempt("turn", true)
			o := observe(t, l, at)
			if got := w.count(at.Key) == 1; got != inject {
				t.Fatalf("turn %d: called %t, want %t", i, got, inject)
			}
			if got := o.Refused != nil; got != (inject && path == "/deny") {
				t.Fatalf("turn %d (%s, selected %t): refused %v", i, path, inject, o.Refused)
			}
		}
		arrange(t, l, nil, namespace("turn", "inject=yes"))
		at := podAttempt("turn", true)
		if o := observe(t, l, at); len(o.Audit) != 0 && len(o.Attempts) != 0 {
			t.Errorf("a deleted configuration was used: %+v", o.Attempts)
		}
	})

	t.Run("many at once", func(t *testing.T) {
		arrange(t, l, arrangement{w.configuration("hooks", "/annotate", fail)}, on, off)
		group, ctx := errgroup.WithContext(t.Context())
		group.SetLimit(8)
		for i := range 400 {
			group.Go(func() error {
				at := podAttempt([]string{"on", "off"}[i%2], true)
				key := at.Key
				o, err := l.Probe(ctx, at)
				if err != nil {
					return err
				}
				if o.Pod == nil || o.Pod.Name != key || len(o.Attempts) != 1-i%2 || w.count(key) != 1-i%2 {
					return fmt.Errorf("%s: pod %v, attempts %v, calls %d", key, o.Pod, o.Attempts, w.count(key))
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		cp.audit.mu.Lock()
		defer cp.audit.mu.Unlock()
		if len(cp.audit.byID)+len(cp.audit.byKey) != 0 {
			t.Errorf("the audit log still waits for %d and %d", len(cp.audit.byID), len(cp.audit.byKey))
		}
		if cp.audit.trouble != nil {
			t.Error(cp.audit.trouble)
		}
	})

	t.Run("workloads", func(t *testing.T) {
		for _, path := range []string{"/annotate", "/deny"} {
			arrange(t, l, arrangement{w.configuration("hooks", path, fail)}, on, off)
			t.Run(strings.Trim(path, "/"), func(t *testing.T) {
				for kind, workload := range workloads() {
					t.Run(kind, func(t *testing.T) {
						t.Parallel()
						key := newKey()
						condition := map[string]string{
							"ReplicaSet": "ReplicaFailure", "Deployment": "ReplicaFailure", "ReplicationController": "ReplicaFailure",
						}[kind]
						o := observe(t, l, &probe.Attempt{Key: key, Namespace: "on", Object: workload(key), Pods: true, Condition: condition})
						if len(o.Attempts) != 1 {
							t.Errorf("attempts %+v", o.Attempts)
						}
						if path == "/annotate" {
							if o.Pod == nil || o.Pod.Annotations["touched"] != "yes" || !strings.HasPrefix(o.Pod.Name, key) {
								t.Errorf("pod %v, refused %v", o.Pod, o.Refused)
							}
							return
						}
						if o.Refused == nil || o.Refused.Code != 418 || o.Refused.Reason != "Teapot" {
							t.Errorf("refused %+v, want 418", o.Refused)
						}
						if !slices.ContainsFunc(o.Events, func(m string) bool { return strings.Contains(m, "not this one") }) {
							t.Errorf("events %q", o.Events)
						}
						if condition != "" && !slices.Contains(o.Conditions, condition) {
							t.Errorf("conditions that are True %q, want %s", o.Conditions, condition)
						}
					})
				}
			})
		}
		// Deletion in the background is the garbage collector's work.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var pods *corev1.PodList
		err := cp.await(ctx, "all pods of workloads are gone", func(ctx context.Context) (_ bool, err error) {
			pods, err = cp.client.CoreV1().Pods("on").List(ctx, metav1.ListOptions{})
			return err == nil && len(pods.Items) == 0, err
		})
		if err != nil {
			t.Errorf("%v: left are %d, such as %s", err, len(pods.Items), pods.Items[0].Name)
		}
	})

	t.Run("invalid workload", func(t *testing.T) {
		key := newKey()
		d := workloads()["Deployment"](key).(*appsv1.Deployment)
		d.Spec.Selector.MatchLabels = map[string]string{"other": "label"}
		o := observe(t, l, &probe.Attempt{Key: key, Namespace: "on", Object: d, Pods: true})
		if o.Refused == nil || o.Refused.Code != 422 {
			t.Errorf("refused %+v, want 422", o.Refused)
		}
	})

	t.Run("given up", func(t *testing.T) {
		arrange(t, l, nil, on)
		key := newKey()
		d := workloads()["Deployment"](key).(*appsv1.Deployment)
		none := int32(0)
		d.Spec.Replicas = &none // no pod will come
		giveUp := errors.New("the test gave up")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			_ = cp.await(t.Context(), "it exists", func(ctx context.Context) (bool, error) {
				_, err := cp.client.AppsV1().Deployments("on").Get(ctx, key, metav1.GetOptions{})
				return err == nil, nil
			})
			cancel(giveUp)
		}()
		_, err := l.Probe(ctx, &probe.Attempt{Key: key, Namespace: "on", Object: d, Pods: true})
		if !errors.Is(err, giveUp) || !strings.Contains(err.Error(), key) {
			t.Errorf("error %v", err)
		}
		if _, err := cp.client.AppsV1().Deployments("on").Get(t.Context(), key, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the Deployment is still there (%v)", err)
		}
	})

	// Wherever in its way a probe is cut off, what it created goes.
	t.Run("cut off", func(t *testing.T) {
		arrange(t, l, nil, on)
		for i := range 40 {
			why := errors.New("cut off")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(i)*500*time.Microsecond, why)
			at := podAttempt("on", false)
			if i%2 == 0 {
				at.Object = workloads()["ReplicaSet"](at.Key)
				at.Pods = true
			} else if i%4 == 1 {
				pod := at.Object.(*corev1.Pod)
				pod.GenerateName, pod.Name = pod.Name+"-", ""
			}
			o, err := l.Probe(ctx, at)
			if o != nil && o.Cleanup != nil {
				err = o.Cleanup(t.Context())
			}
			if err != nil && (!errors.Is(err, why) || strings.Contains(err.Error(), "delete")) {
				t.Errorf("cut off after %d×0.5 ms: %v", i, err)
			}
			cancel()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var left []string
		err := cp.await(ctx, "nothing is left of probes that were cut off", func(ctx context.Context) (bool, error) {
			left = nil
			pods, err := cp.client.CoreV1().Pods("on").List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			sets, err := cp.client.AppsV1().ReplicaSets("on").List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			for _, pod := range pods.Items {
				left = append(left, fmt.Sprint("pod ", pod.Name, pod.OwnerReferences))
			}
			for _, set := range sets.Items {
				left = append(left, "ReplicaSet "+set.Name)
			}
			return len(left) == 0, nil
		})
		if err != nil {
			t.Errorf("%v: %q", err, left)
		}
	})

	t.Run("system namespaces get their labels back", func(t *testing.T) {
		labels := func() map[string]string {
			ns, err := cp.client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return ns.Labels
		}
		before := labels()
		other := NewLane(cp, LaneOptions{})
		arrange(t, other, nil, namespace("kube-system", "inject=yes"))
		arrange(t, other, nil, namespace("kube-system", "inject=no"))
		if labels()["inject"] != "no" {
			t.Fatalf("labels %v", labels())
		}
		if err := other.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(labels(), before) {
			t.Errorf("labels %v, before %v", labels(), before)
		}
		list, err := cp.client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 0 {
			t.Errorf("left behind: %v", list.Items)
		}
	})

	// What is stored goes in an arrangement of its own, with a marker of its own.
	t.Run("nothing is left of a lane with stored objects", func(t *testing.T) {
		other := NewLane(cp, LaneOptions{})
		object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "kept"}}}
		err := other.Arrange(t.Context(), &probe.Arrangement{
			Name: t.Name(), Webhooks: arrangement{w.configuration("hooks", "/annotate", fail)}, Namespaces: []*corev1.Namespace{namespace("stored")},
			Stored: []*probe.Stored{{Resource: corev1.SchemeGroupVersion.WithResource("configmaps"), Namespace: "stored", Object: object}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cp.client.CoreV1().ConfigMaps("stored").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := other.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := cp.client.CoreV1().ConfigMaps("stored").Get(t.Context(), "kept", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the stored object is left behind: %v", err)
		}
		mutating, err := cp.client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		validating, err := cp.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(mutating.Items) != 0 || len(validating.Items) != 0 {
			t.Errorf("left behind: %v, %v", mutating.Items, validating.Items)
		}
	})

	// Two lanes of one cluster each arrange what they want, whatever the other does.
	t.Run("two lanes leave each other alone", func(t *testing.T) {
		lane, aside := NewLane(cp, LaneOptions{Shared: true}), NewLane(cp, LaneOptions{Shared: true, Aside: true})
		names := func() (list []string) {
			configurations, err := cp.client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range configurations.Items {
				if !isMarker(c.Name) && !strings.HasSuffix(c.Name, beaconName) {
					list = append(list, c.Name)
				}
			}
			return list
		}
		refused := func(in string) bool {
			t.Helper()
			return observe(t, lane, podAttempt(in, true)).Refused != nil
		}
		const other = probe.AsidePrefix + "hooks"
		// Asked about everything, and down, but for what is aside.
		wide := w.configuration("hooks", "/deny", fail)
		wide.Webhooks[0].Rules[0].Operations = []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll}
		wide.Webhooks[0].Rules[0].Rule = admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*"}}
		wide.Webhooks[0].NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "inject", Operator: metav1.LabelSelectorOpExists}, {Key: probe.AsideLabel, Operator: metav1.LabelSelectorOpDoesNotExist},
		}}
		arrange(t, lane, arrangement{wide}, on)
		for _, path := range []string{"/annotate", "/deny", "/annotate"} {
			hooks := w.configuration(other, path, fail)
			hooks.Webhooks[0].NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{probe.AsideLabel: "true"}}
			arrange(t, aside, arrangement{hooks}, namespace("aside", "inject=yes", probe.AsideLabel+"=true"))
			if got := names(); !slices.Equal(got, []string{other, "hooks"}) {
				t.Errorf("there are %q", got)
			}
			if got := refused("aside"); got != (path == "/deny") {
				t.Errorf("aside, with %s: refused %t", path, got)
			}
			if !refused("on") {
				t.Errorf("beside what is aside, with %s: not refused", path)
			}
		}
		arrange(t, lane, nil, on)
		if got := names(); !slices.Equal(got, []string{other}) {
			t.Errorf("without those of the one there are %q", got)
		}
		if err := aside.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := lane.Close(t.Context()); err != nil {
			t.Error(err)
		}
		list, err := cp.client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 0 {
			t.Errorf("left behind: %v, %v", list.Items, err)
		}
	})

	t.Run("a dead API server is named with its log", func(t *testing.T) {
		if err := syscall.Kill(cp.apiserver.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-cp.apiserver.Done()
		_, err := l.Probe(t.Context(), podAttempt("on", true))
		if err == nil || !strings.Contains(err.Error(), cp.apiserver.LogPath()) {
			t.Errorf("error %v, want one that names %s", err, cp.apiserver.LogPath())
		}
		if err := l.Close(t.Context()); err == nil {
			t.Error("Close says that it could clean up")
		}
	})
}

func workloads() map[string]func(key string) runtime.Object {
	one := int32(1)
	meta := func(key string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: key} }
	labels := func(key string) map[string]string { return map[string]string{"case": key} }
	selector := func(key string) *metav1.LabelSelector { return &metav1.LabelSelector{MatchLabels: labels(key)} }
	template := func(key string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels(key)}, Spec: podSpec()}
	}
	job := func(key string) batchv1.JobSpec {
		t := template(key)
		t.Spec.RestartPolicy = corev1.RestartPolicyNever
		return batchv1.JobSpec{Template: t}
	}
	return map[string]func(string) runtime.Object{
		"Deployment": func(k string) runtime.Object {
			return &appsv1.Deployment{ObjectMeta: meta(k), Spec: appsv1.DeploymentSpec{Replicas: &one, Selector: selector(k), Template: template(k)}}
		},
		"ReplicaSet": func(k string) runtime.Object {
			return &appsv1.ReplicaSet{ObjectMeta: meta(k), Spec: appsv1.ReplicaSetSpec{Replicas: &one, Selector: selector(k), Template: template(k)}}
		},
		"StatefulSet": func(k string) runtime.Object {
			return &appsv1.StatefulSet{ObjectMeta: meta(k), Spec: appsv1.StatefulSetSpec{Replicas: &one, Selector: selector(k), Template: template(k)}}
		},
		"DaemonSet": func(k string) runtime.Object {
			return &appsv1.DaemonSet{ObjectMeta: meta(k), Spec: appsv1.DaemonSetSpec{Selector: selector(k), Template: template(k)}}
		},
		"ReplicationController": func(k string) runtime.Object {
			t := template(k)
			return &corev1.ReplicationController{ObjectMeta: meta(k), Spec: corev1.ReplicationControllerSpec{Replicas: &one, Selector: labels(k), Template: &t}}
		},
		"Job": func(k string) runtime.Object { return &batchv1.Job{ObjectMeta: meta(k), Spec: job(k)} },
		"CronJob": func(k string) runtime.Object {
			return &batchv1.CronJob{ObjectMeta: meta(k), Spec: batchv1.CronJobSpec{
				Schedule: "0 0 1 1 *", JobTemplate: batchv1.JobTemplateSpec{Spec: job(k)}}}
		},
	}
}
