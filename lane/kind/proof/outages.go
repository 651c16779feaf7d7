// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/outrigger-k8s/outrigger/injector/deploy"
	"github.com/outrigger-k8s/outrigger/lane/kind"
)

// outages is about an injector that is down by real means, with failurePolicy Fail, and the way out: the webhook
// configuration is deleted, which nothing can stop.
var outages = []*Proof{
	{
		Name: "scaled-to-zero", Title: "without replicas no pod can be created, until the webhook configuration is deleted", Outcome: "failed",
		Because:   "nothing answers at the Service's address, and failurePolicy Fail means no",
		Source:    "k8s.io/apiserver pkg/admission/plugin/webhook/mutating/dispatcher.go",
		Catalogue: []int{1},
		Alone:     true,
		show: outage(func(ctx context.Context, w *world) error { return w.ask(ctx, 0) },
			`failed calling webhook "injector.outrigger.dev": failed to call webhook: Post "https://injector.outrigger-injector.svc:443/inject?timeout=10s": dial tcp `,
			"connect: connection refused"),
	},
	{
		Name: "service-deleted", Title: "without its Service no pod can be created, until the webhook configuration is deleted", Outcome: "failed",
		Because:   "the configuration names a Service that is not there",
		Source:    "k8s.io/apiserver pkg/util/proxy/proxy.go",
		Catalogue: []int{7, 8},
		Alone:     true,
		show: outage(func(ctx context.Context, w *world) error {
			return w.client.CoreV1().Services(deploy.DefaultNamespace).Delete(ctx, deploy.Name, metav1.DeleteOptions{})
		}, `failed calling webhook "injector.outrigger.dev": failed to call webhook: Post "https://injector.outrigger-injector.svc:443/inject?timeout=10s": service "injector" not found`),
	},
	{
		Name: "network-cut", Title: "when the network between API server and injector is cut no pod can be created, until the webhook configuration is deleted", Outcome: "failed",
		Because:   "what the API server sends is dropped, as by a firewall between the control plane and the nodes, and it waits until timeoutSeconds are over",
		Source:    "k8s.io/apiserver pkg/admission/plugin/webhook/mutating/dispatcher.go",
		Catalogue: []int{10, 11},
		Alone:     true,
		show:      networkCut,
	},
	{
		Name: "kube-system-blocked", Title: "an outage that reaches kube-system keeps DNS down, until the webhook configuration is deleted", Outcome: "failed",
		Because:   "the pods of kube-system are pods like any other to a webhook whose selectors take them in",
		Source:    "kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices",
		Catalogue: []int{5},
		Alone:     true,
		show:      systemBlocked,
	},
}

// outage shows that after do pods are refused with a message that has all of messages in it, that the webhook
// configuration can be deleted, and that pods are created then, without a sidecar, while those of namespaces that are not
// selected were never in danger. Run brings the injector back.
func outage(do func(context.Context, *world) error, messages ...string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		return w.with(ctx, enabled, func(ns string) error {
			if err := w.awaitInjecting(ctx, ns); err != nil {
				return err
			}
			if err := do(ctx, w); err != nil {
				return err
			}
			var last error
			err := await(ctx, "a pod is refused with "+strings.Join(messages, " … "), func(ctx context.Context) (string, error) {
				_, err := w.client.CoreV1().Pods(ns).Create(ctx, w.app("app"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				last = err
				if err == nil {
					return "it is created", nil
				}
				for _, message := range messages {
					if !strings.Contains(err.Error(), message) {
						return err.Error(), nil // the fault is on its way
					}
				}
				return "", nil
			})
			if err != nil {
				return err
			}
			if err := refused("a pod", last, http.StatusInternalServerError, messages[0]); err != nil {
				return err
			}
			if err := w.with(ctx, nil, func(other string) error {
				_, err := w.create(ctx, other, w.app("app"))
				return err
			}); err != nil {
				return fmt.Errorf("in a namespace that is not selected: %w", err)
			}
			return w.recovered(ctx, ns)
		})
	}
}

// recovered deletes the webhook configuration, and shows that a pod comes up without a sidecar.
func (w *world) recovered(ctx context.Context, ns string) error {
	err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, deploy.DefaultNamespace, metav1.DeleteOptions{})
	if err != nil {
		return fmt.Errorf("delete the webhook configuration: %w", err)
	}
	return await(ctx, "a pod is created, without a sidecar", func(ctx context.Context) (string, error) {
		pod, err := w.client.CoreV1().Pods(ns).Create(ctx, w.app("app"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && injected(&pod.Spec) {
			return "it is injected", nil
		}
		return "", err
	})
}

func networkCut(ctx context.Context, w *world) error {
	node := w.cluster.Node()
	nft := func(ctx context.Context, script string) error {
		if err := node.CommandContext(ctx, "nft", "-f", "-").SetStdin(strings.NewReader(script)).Run(); err != nil {
			return fmt.Errorf("change nftables on node %s: %w", node, err)
		}
		return nil
	}
	err := outage(func(ctx context.Context, w *world) error {
		// A second, so that nobody waits longer than it takes to see it.
		patch := []byte(`[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":1}]`)
		_, err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(ctx, deploy.DefaultNamespace, types.JSONPatchType, patch, metav1.PatchOptions{})
		if err != nil {
			return fmt.Errorf("shorten the webhook's timeout: %w", err)
		}
		// Behind kube-proxy's translation: the port is the pods' own.
		return nft(ctx, "table inet "+kind.CutTable+" {\n chain out { type filter hook postrouting priority 200; tcp dport 8443 drop; }\n}\n")
	}, `failed calling webhook "injector.outrigger.dev": failed to call webhook: Post "https://injector.outrigger-injector.svc:443/inject?timeout=1s": `, "context deadline exceeded")(ctx, w)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, nft(ctx, "table inet "+kind.CutTable+" {}\ndelete table inet "+kind.CutTable+"\n"))
}

func systemBlocked(ctx context.Context, w *world) error {
	namespaces := w.client.CoreV1().Namespaces()
	label := func(ctx context.Context, value string) error {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"istio-injection":%s}}}`, value)
		if _, err := namespaces.Patch(ctx, metav1.NamespaceSystem, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("label namespace %s: %w", metav1.NamespaceSystem, err)
		}
		return nil
	}
	ready := func(count int) error {
		return await(ctx, fmt.Sprintf("%d pods of DNS are Ready", count), func(ctx context.Context) (string, error) {
			d, err := w.client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
			if err != nil || d.Status.ReadyReplicas == int32(count) && d.Status.Replicas == int32(count) {
				return "", err
			}
			return fmt.Sprintf("%d are, of %d", d.Status.ReadyReplicas, d.Status.Replicas), nil
		})
	}
	show := func() error {
		dns, err := w.client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := label(ctx, `"enabled"`); err != nil {
			return err
		}
		if err := w.ask(ctx, 0); err != nil {
			return err
		}
		// The label must have reached the API server's admission before the pods go.
		if err := await(ctx, "a pod in kube-system is refused", func(ctx context.Context) (string, error) {
			_, err := w.client.CoreV1().Pods(metav1.NamespaceSystem).Create(ctx, w.app("trial"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err != nil && strings.Contains(err.Error(), "failed calling webhook") {
				return "", nil
			}
			return fmt.Sprintf("%v", err), nil
		}); err != nil {
			return err
		}
		now := int64(0)
		if err := w.client.CoreV1().Pods(metav1.NamespaceSystem).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now},
			metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"}); err != nil {
			return fmt.Errorf("delete the pods of DNS: %w", err)
		}
		if err := w.awaitEvent(ctx, metav1.NamespaceSystem, "ReplicaSet", "FailedCreate", `failed calling webhook "injector.outrigger.dev"`); err != nil {
			return err
		}
		if err := ready(0); err != nil {
			return err
		}
		if err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, deploy.DefaultNamespace, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("delete the webhook configuration: %w", err)
		}
		// Its controller waits longer after each failure; a change of the Deployment makes it look at once.
		nudge := fmt.Appendf(nil, `{"metadata":{"annotations":{"outrigger.dev/nudge":%q}}}`, time.Now().Format(time.RFC3339Nano))
		sets, err := w.client.AppsV1().ReplicaSets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
		if err != nil {
			return fmt.Errorf("list the ReplicaSets of DNS: %w", err)
		}
		for _, set := range sets.Items {
			if _, err := w.client.AppsV1().ReplicaSets(set.Namespace).Patch(ctx, set.Name, types.MergePatchType, nudge, metav1.PatchOptions{}); err != nil {
				return fmt.Errorf("nudge ReplicaSet %s: %w", set.Name, err)
			}
		}
		return ready(int(*dns.Spec.Replicas))
	}
	err := show()
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, label(cleaning, "null"))
}
