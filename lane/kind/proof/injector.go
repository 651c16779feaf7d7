// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/outrigger-k8s/outrigger/injector/certs"
	injectorcluster "github.com/outrigger-k8s/outrigger/injector/cluster"
	"github.com/outrigger-k8s/outrigger/injector/deploy"
)

// injector is about an injector that is worked on while pods are created without pause: no creation fails, and none is
// missed.
var injector = []*Proof{
	{
		Name: "rolled", Title: "the injector is rolled while pods are created without pause", Outcome: "injected",
		Because: "a replica that goes is no longer asked before it stops, and one that comes is asked only once it can answer",
		Source:  "outrigger injector/cmd/injector (--drain), injector/deploy (maxUnavailable 0)",
		InTurn:  true, Ahead: true,
		show: withoutPause(func(ctx context.Context, w *world) error {
			old, err := w.replicas(ctx)
			if err != nil {
				return err
			}
			restart := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
			_, err = w.deployments().Patch(ctx, deploy.Name, types.StrategicMergePatchType, restart, metav1.PatchOptions{})
			if err != nil {
				return fmt.Errorf("restart the injector's Deployment: %w", err)
			}
			if err := w.injector.AwaitAvailable(ctx); err != nil {
				return err
			}
			w.waits() // for the old replicas, which serve on for a while
			if err := w.settled(ctx, 2); err != nil {
				return err
			}
			return w.replaced(ctx, old...)
		}),
	},
	{
		Name: "scaled", Title: "the injector is scaled up and down while pods are created without pause", Outcome: "injected",
		Because: "as when it is rolled",
		Source:  "outrigger injector/cmd/injector (--drain)",
		InTurn:  true, Long: true,
		show: withoutPause(func(ctx context.Context, w *world) error {
			for _, replicas := range []int32{3, 1, 2} {
				if err := w.scale(ctx, replicas); err != nil {
					return err
				}
			}
			return nil
		}),
	},
	{
		Name: "rescheduled", Title: "a replica of the injector is evicted while pods are created without pause", Outcome: "injected",
		Because: "the PodDisruptionBudget lets one go at a time, and the others answer",
		Source:  "kubernetes.io/docs/concepts/scheduling-eviction/api-eviction",
		InTurn:  true, Long: true,
		show: withoutPause(func(ctx context.Context, w *world) error {
			pods, err := w.replicas(ctx)
			if err != nil {
				return err
			}
			evicted := pods[0]
			err = w.client.PolicyV1().Evictions(evicted.Namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: evicted.Name, Namespace: evicted.Namespace}})
			if err != nil {
				return fmt.Errorf("evict pod %s: %w", evicted.Name, err)
			}
			if err := w.settled(ctx, 2); err != nil {
				return err
			}
			return w.replaced(ctx, evicted)
		}),
	},
	{
		Name: "leaf-rotated", Title: "the injector's certificate is rotated while pods are created without pause", Outcome: "injected",
		Because: "every replica serves the new certificate from memory, and the API server trusts the authority, not the certificate",
		Source:  "outrigger injector/certs", Catalogue: []int{15},
		InTurn: true,
		show:   withoutPause(rotated(injectorcluster.RotateLeaf)),
	},
	{
		Name: "authority-rotated", Title: "the injector's authority is replaced while pods are created without pause", Outcome: "injected",
		Because: "old and new stay in the caBundle until every replica serves a certificate of the new one",
		Source:  "outrigger injector/certs", Catalogue: []int{15},
		InTurn: true,
		show:   withoutPause(rotated(injectorcluster.RotateAuthority)),
	},
	{
		Name: "all-deleted", Title: "all of the injector's pods are deleted at once, and come back by themselves", Outcome: "injected",
		Because:   "its webhook configuration leaves its own namespace out, so its pods need no injector to be created",
		Source:    "outrigger injector/deploy/webhooks/mutating.yaml",
		Catalogue: []int{2, 3},
		Alone:     true,
		show: func(ctx context.Context, w *world) error {
			old, err := w.replicas(ctx)
			if err != nil {
				return err
			}
			if err := w.deletePods(ctx); err != nil {
				return err
			}
			// The Deployment looks available until its controller has seen that they have gone.
			if err := await(ctx, "the injector's pods are others", func(ctx context.Context) (string, error) {
				if err := w.replaced(ctx, old...); err != nil {
					return err.Error(), nil
				}
				return "", nil
			}); err != nil {
				return err
			}
			return w.back(ctx)
		},
	},
	{
		Name: "node-restarted", Title: "the node is restarted, and the injector comes back by itself, with it pods' creation", Outcome: "injected",
		Because:   "nothing that the injector needs is injected, and what it serves with is stored in the cluster",
		Source:    "outrigger injector/deploy",
		Catalogue: []int{2, 3},
		Alone:     true, Long: true,
		show: func(ctx context.Context, w *world) error {
			if err := w.cluster.Restart(ctx); err != nil {
				return err
			}
			return w.back(ctx)
		},
	},
}

func (w *world) deployments() interface {
	Patch(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (*appsv1.Deployment, error)
	UpdateScale(context.Context, string, *autoscalingv1.Scale, metav1.UpdateOptions) (*autoscalingv1.Scale, error)
} {
	return w.client.AppsV1().Deployments(deploy.DefaultNamespace)
}

// replicas are the injector's pods, one at least.
func (w *world) replicas(ctx context.Context) ([]corev1.Pod, error) {
	pods, err := w.client.CoreV1().Pods(deploy.DefaultNamespace).List(ctx, metav1.ListOptions{LabelSelector: deploy.Label + "=" + deploy.LabelValue})
	if err != nil {
		return nil, fmt.Errorf("list the injector's pods: %w", err)
	}
	if len(pods.Items) == 0 {
		return nil, errors.New("list the injector's pods: there are none")
	}
	return pods.Items, nil
}

// replaced makes sure that none of the old pods is among the injector's, and that it has others.
func (w *world) replaced(ctx context.Context, old ...corev1.Pod) error {
	pods, err := w.replicas(ctx)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if slices.ContainsFunc(old, func(o corev1.Pod) bool { return o.UID == pod.UID }) {
			return fmt.Errorf("the injector's pod %s is the same as before", pod.Name)
		}
	}
	return nil
}

// scale gives the injector so many replicas, and waits until it has them.
func (w *world) scale(ctx context.Context, replicas int32) error {
	if err := w.ask(ctx, replicas); err != nil {
		return err
	}
	return w.settled(ctx, int(replicas))
}

// ask gives the injector so many replicas, and does not wait.
func (w *world) ask(ctx context.Context, replicas int32) error {
	_, err := w.deployments().UpdateScale(ctx, deploy.Name, &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: deploy.Name, Namespace: deploy.DefaultNamespace}, Spec: autoscalingv1.ScaleSpec{Replicas: replicas},
	}, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("scale the injector to %d: %w", replicas, err)
	}
	return nil
}

// settled waits until the injector's Deployment is rolled out, and no pod is left but its own: one that ends goes on
// serving for a while, and when it stops at last nobody may miss it.
func (w *world) settled(ctx context.Context, replicas int) error {
	if err := w.injector.AwaitAvailable(ctx); err != nil {
		return err
	}
	return await(ctx, fmt.Sprintf("the injector has %d pods and no others", replicas), func(ctx context.Context) (string, error) {
		pods, err := w.client.CoreV1().Pods(deploy.DefaultNamespace).List(ctx, metav1.ListOptions{LabelSelector: deploy.Label + "=" + deploy.LabelValue})
		if err != nil {
			return "", err
		}
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp != nil {
				return "pod " + pod.Name + " is still ending", nil
			}
			if lacks := notReady(&pod); lacks != "" {
				return "pod " + pod.Name + ": " + lacks, nil
			}
		}
		if len(pods.Items) != replicas {
			return fmt.Sprintf("there are %d", len(pods.Items)), nil
		}
		return "", nil
	})
}

// back waits until the injector is available, and a pod becomes Ready with its sidecar.
func (w *world) back(ctx context.Context) error {
	if err := w.injector.AwaitAvailable(ctx); err != nil {
		return err
	}
	return w.with(ctx, enabled, func(ns string) error {
		if err := w.awaitInjecting(ctx, ns); err != nil {
			return err
		}
		pod, err := w.ready(ctx, ns, w.app("app"))
		if err != nil {
			return err
		}
		return initFirst(pod)
	})
}

// rotated asks for new certificates, and waits until every replica serves with one, and both webhook configurations trust
// its authority and no other.
func rotated(what string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		before, err := w.certificates(ctx)
		if err != nil {
			return err
		}
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, injectorcluster.RotateAnnotation, what)
		_, err = w.client.CoreV1().Secrets(deploy.DefaultNamespace).Patch(ctx, deploy.CertificateSecret, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			return fmt.Errorf("ask for new certificates: %w", err)
		}
		return await(ctx, "the injector's certificates are rotated ("+what+")", func(ctx context.Context) (string, error) {
			now, err := w.certificates(ctx)
			if err != nil {
				return "", err
			}
			replicas, err := w.injector.Replicas(ctx)
			if err != nil {
				return "", err
			}
			bundles, err := w.bundles(ctx)
			if err != nil {
				return "", err
			}
			return notRotated(what == injectorcluster.RotateAuthority, before, now, replicas, bundles), nil
		})
	}
}

// notRotated says what is missing until certificates are rotated, with their authority or without.
func notRotated(authority bool, before, now *certs.Set, replicas []deploy.ReplicaState, bundles map[string][]byte) string {
	switch {
	case now.ID() == before.ID():
		return "the certificate is the one from before"
	case authority && now.AuthorityID() == before.AuthorityID():
		return "the certificate is new, and its authority the one from before"
	case !authority && now.AuthorityID() != before.AuthorityID():
		return "the authority is another, and only the certificate was to be"
	case len(replicas) == 0:
		return "no replica has reported"
	}
	for _, r := range replicas {
		if r.Certificate != now.ID() || r.Authority != now.AuthorityID() {
			return "replica " + r.Name + " serves another certificate"
		}
	}
	if n := certificatesIn(now.Bundle()); n != 1 {
		return fmt.Sprintf("%d authorities are trusted", n)
	}
	for _, name := range slices.Sorted(maps.Keys(bundles)) {
		if !bytes.Equal(bundles[name], now.Bundle()) {
			return "the caBundle of webhook " + name + " is not the Secret's"
		}
	}
	return ""
}

// certificatesIn counts the certificates of a bundle.
func certificatesIn(bundle []byte) (n int) {
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		n++
	}
	return n
}

func (w *world) certificates(ctx context.Context) (*certs.Set, error) {
	secret, err := w.client.CoreV1().Secrets(deploy.DefaultNamespace).Get(ctx, deploy.CertificateSecret, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the injector's certificates: %w", err)
	}
	return certs.Parse(secret.Data)
}

// bundles are the caBundles of the injector's webhooks, of both its configurations, by configuration and webhook.
func (w *world) bundles(ctx context.Context) (map[string][]byte, error) {
	admission := w.client.AdmissionregistrationV1()
	mutating, err := admission.MutatingWebhookConfigurations().Get(ctx, deploy.DefaultNamespace, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the mutating webhook configuration: %w", err)
	}
	validating, err := admission.ValidatingWebhookConfigurations().Get(ctx, deploy.DefaultNamespace, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the validating webhook configuration: %w", err)
	}
	bundles := map[string][]byte{}
	for _, h := range mutating.Webhooks {
		bundles["mutating/"+h.Name] = h.ClientConfig.CABundle
	}
	for _, h := range validating.Webhooks {
		bundles["validating/"+h.Name] = h.ClientConfig.CABundle
	}
	if len(mutating.Webhooks) == 0 || len(validating.Webhooks) == 0 {
		return nil, errors.New("read the webhook configurations: one has no webhooks")
	}
	return bundles, nil
}

// creators is how many pods are created at a time by withoutPause.
const creators = 2

// pace is the time from one creation of a creator's to its next. Without it they would take half of a small machine, and
// what is done to the injector meanwhile would take so much longer.
const pace = 50 * time.Millisecond

// meanwhile is how many pods withoutPause must have created while do was done, else it has shown nothing. What is done sooner
// is done again, so often at most.
const (
	meanwhile = 2 * creators
	again     = 10
)

// afterwards is how many pods withoutPause creates when all is done: what was done may show late.
const afterwards = 20

// withoutPause shows that no creation of a pod fails, and none is missed, while do is done.
func withoutPause(do func(context.Context, *world) error) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		return w.with(ctx, enabled, func(ns string) error {
			if err := w.awaitInjecting(ctx, ns); err != nil {
				return err
			}
			return w.whileCreating(ctx, ns, func() error { return do(ctx, w) })
		})
	}
}

// whileCreating creates pods without pause, by dry run, from before do until after it.
func (w *world) whileCreating(ctx context.Context, ns string, do func() error) error {
	life, stop := context.WithCancel(ctx)
	defer stop()
	var count, left atomic.Int64
	left.Store(-1) // no end yet
	var mu sync.Mutex
	var faults []error
	fault := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		faults = append(faults, err)
	}
	var all sync.WaitGroup
	begun := make(chan struct{}, creators)
	for range creators {
		all.Go(func() {
			next := time.NewTicker(pace)
			defer next.Stop()
			for first := true; left.Load() != 0 && life.Err() == nil; first = false {
				pod, err := w.client.CoreV1().Pods(ns).Create(life, w.app("trial"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				switch {
				case life.Err() != nil:
				case err != nil:
					fault(fmt.Errorf("creation %d failed: %w", count.Load(), err))
				case !injected(&pod.Spec):
					fault(fmt.Errorf("creation %d was missed: the pod has no sidecar", count.Load()))
				}
				count.Add(1)
				if first {
					begun <- struct{}{}
				}
				if n := left.Load(); n > 0 {
					left.CompareAndSwap(n, n-1)
				}
				select {
				case <-next.C:
				case <-life.Done():
				}
			}
		})
	}
	for range creators { // all are at it
		select {
		case <-begun:
		case <-ctx.Done():
		}
	}
	before := count.Load()
	err := do()
	during := count.Load() - before
	for n := 0; err == nil && during < meanwhile && n < again; n++ {
		err = do()
		during = count.Load() - before
	}
	if err != nil {
		stop()
	}
	left.Store(afterwards)
	all.Wait()
	mu.Lock()
	defer mu.Unlock()
	if len(faults) > 0 {
		return errors.Join(err, fmt.Errorf("of %d creations %d went wrong: %w", count.Load(), len(faults), faults[0]))
	}
	if err == nil && during < meanwhile {
		return fmt.Errorf("while it was done only %d pods were created, which shows nothing: want %d at least", during, meanwhile)
	}
	return err
}
