// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/outrigger-k8s/outrigger/injector/certs"
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
	{
		Name: "secret-replaced", Title: "when the injector serves another authority's certificate than its configuration trusts no pod can be created, until the configuration is deleted", Outcome: "failed",
		Because:   "the Secret was replaced, and the injector may not write the caBundle that goes with it",
		Source:    "k8s.io/apiserver pkg/util/webhook/client.go",
		Catalogue: []int{13, 15, 16},
		Alone:     true, Long: true,
		show: outage(replaceSecret,
			`failed calling webhook "injector.outrigger.dev": failed to call webhook: Post "https://injector.outrigger-injector.svc:443/inject?timeout=10s": `,
			"tls: failed to verify certificate: x509: certificate signed by unknown authority"),
	},
	{
		Name: "bootstrap-deadlock", Title: "an injector that intercepts its own pods cannot come back, until the webhook configuration is deleted", Outcome: "failed",
		Because:   "the answer about the injector's pod would have to come from the injector",
		Source:    "kubernetes.io/docs/concepts/cluster-administration/admission-webhooks-good-practices",
		Catalogue: []int{2, 3, 4},
		Alone:     true, Long: true,
		show: deadlocked,
	},
	{
		Name: "cured-otherwise", Title: "without replicas pods come back by failurePolicy Ignore, by taking the namespace's label away, and with the injector itself", Outcome: "failed",
		Because:   "what is not called cannot fail, what is ignored does not count, and what is there answers",
		Source:    "k8s.io/apiserver pkg/admission/plugin/webhook/mutating/dispatcher.go",
		Catalogue: []int{1, 20},
		Alone:     true, Long: true,
		show: curedOtherwise,
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
	if err := w.deleteConfiguration(ctx); err != nil {
		return err
	}
	return w.awaitUntouched(ctx, ns)
}

func (w *world) deleteConfiguration(ctx context.Context) error {
	err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, deploy.DefaultNamespace, metav1.DeleteOptions{})
	if err != nil {
		return fmt.Errorf("delete the webhook configuration: %w", err)
	}
	return nil
}

// changeConfiguration patches the one webhook of the configuration.
func (w *world) changeConfiguration(ctx context.Context, patch string) error {
	_, err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(ctx, deploy.DefaultNamespace, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("change the webhook configuration: %w", err)
	}
	return nil
}

// label gives a namespace the label that asks for injection a value, "null" to take it away.
func (w *world) label(ctx context.Context, namespace, value string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{"istio-injection":%s}}}`, value)
	if _, err := w.client.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("label namespace %s: %w", namespace, err)
	}
	return nil
}

// awaitUnreached waits until a pod is refused because the webhook cannot be called.
func (w *world) awaitUnreached(ctx context.Context, ns string) error {
	return await(ctx, "a pod in "+ns+" is refused, for the webhook cannot be called", func(ctx context.Context) (string, error) {
		_, err := w.client.CoreV1().Pods(ns).Create(ctx, w.app("trial"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil && strings.Contains(err.Error(), `failed calling webhook "injector.outrigger.dev"`) {
			return "", nil
		}
		return fmt.Sprintf("it is not: %v", err), nil
	})
}

// awaitUntouched waits until a pod is created, and has no sidecar.
func (w *world) awaitUntouched(ctx context.Context, ns string) error {
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
		if err := w.changeConfiguration(ctx, `[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":1}]`); err != nil {
			return err
		}
		// Behind kube-proxy's translation: the port is the pods' own.
		return nft(ctx, "table inet "+kind.CutTable+" {\n chain out { type filter hook postrouting priority 200; tcp dport 8443 drop; }\n}\n")
	}, `failed calling webhook "injector.outrigger.dev": failed to call webhook: Post "https://injector.outrigger-injector.svc:443/inject?timeout=1s": `, "context deadline exceeded")(ctx, w)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, nft(ctx, "table inet "+kind.CutTable+" {}\ndelete table inet "+kind.CutTable+"\n"))
}

// dnsReady is the port at which CoreDNS says whether it is ready.
const dnsReady = 8181

func systemBlocked(ctx context.Context, w *world) error {
	// By their own word: the kubelet asks only every ten seconds whether they are.
	answering := func(count int) error {
		return await(ctx, fmt.Sprintf("%d pods of DNS say that they are ready, and there are no others", count), func(ctx context.Context) (string, error) {
			pods, err := w.client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
			if err != nil {
				return "", err
			}
			if len(pods.Items) != count {
				return fmt.Sprintf("there are %d", len(pods.Items)), nil
			}
			for _, pod := range pods.Items {
				if pod.Status.PodIP == "" {
					return "pod " + pod.Name + " has no address", nil
				}
				if err := w.get(ctx, pod.Namespace, pod.Name, dnsReady, "/ready", nil); err != nil {
					return "", err
				}
			}
			return "", nil
		})
	}
	show := func() error {
		dns, err := w.client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := w.label(ctx, metav1.NamespaceSystem, `"enabled"`); err != nil {
			return err
		}
		if err := w.ask(ctx, 0); err != nil {
			return err
		}
		// The label must have reached the API server's admission before the pods go.
		if err := w.awaitUnreached(ctx, metav1.NamespaceSystem); err != nil {
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
		if err := answering(0); err != nil {
			return err
		}
		if err := w.deleteConfiguration(ctx); err != nil {
			return err
		}
		if err := w.nudge(ctx, metav1.NamespaceSystem, "k8s-app=kube-dns"); err != nil {
			return err
		}
		return answering(int(*dns.Spec.Replicas))
	}
	return w.unlabelled(ctx, metav1.NamespaceSystem, show())
}

// nudge makes the controller of ReplicaSets look at once, which waits longer after each failure.
func (w *world) nudge(ctx context.Context, namespace, selector string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"outrigger.dev/nudge":%q}}}`, time.Now().Format(time.RFC3339Nano))
	sets, err := w.client.AppsV1().ReplicaSets(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return fmt.Errorf("list the ReplicaSets %s of %s: %w", selector, namespace, err)
	}
	for _, set := range sets.Items {
		if _, err := w.client.AppsV1().ReplicaSets(namespace).Patch(ctx, set.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("nudge ReplicaSet %s: %w", set.Name, err)
		}
	}
	return nil
}

// unlabelled takes the label that asks for injection away from a namespace that is not the proof's own, whatever err is.
func (w *world) unlabelled(ctx context.Context, namespace string, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, w.label(ctx, namespace, "null"))
}

// replaceSecret gives the injector certificates of an authority that its webhook configuration does not trust, and takes
// away the right to write there whom to trust. Its pods are deleted: connections that stand would go on.
func replaceSecret(ctx context.Context, w *world) error {
	verbs := []byte(`[{"op":"replace","path":"/rules/0/verbs","value":["get","list","watch"]}]`)
	if _, err := w.client.RbacV1().ClusterRoles().Patch(ctx, deploy.DefaultNamespace, types.JSONPatchType, verbs, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("take the right to write caBundles from the injector: %w", err)
	}
	before, err := w.certificates(ctx)
	if err != nil {
		return err
	}
	leaf := before.Certificate().Leaf
	foreign, err := certs.New(certs.Terms{Hosts: leaf.DNSNames, Leaf: 24 * time.Hour * 365, Authority: 24 * time.Hour * 3650}, time.Now())
	if err != nil {
		return err
	}
	data, err := foreign.Data()
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		return fmt.Errorf("write the Secret's patch: %w", err)
	}
	if _, err := w.client.CoreV1().Secrets(deploy.DefaultNamespace).Patch(ctx, deploy.CertificateSecret, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("replace the injector's certificates: %w", err)
	}
	return w.deletePods(ctx)
}

// deletePods deletes all pods of the injector at once.
func (w *world) deletePods(ctx context.Context) error {
	now := int64(0)
	err := w.client.CoreV1().Pods(deploy.DefaultNamespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now},
		metav1.ListOptions{LabelSelector: deploy.Label + "=" + deploy.LabelValue})
	if err != nil {
		return fmt.Errorf("delete the injector's pods: %w", err)
	}
	return nil
}

// triesRefused is how often the controller of the injector's pods must have been refused one until it is believed that it does
// not get any: it tries again after 5 ms, and waits twice as long each time.
const triesRefused = 6

func deadlocked(ctx context.Context, w *world) error {
	show := func(ns string) error {
		// What kept its own namespace out goes, as when somebody widens a selector to cover everything.
		if err := w.changeConfiguration(ctx, `[{"op":"remove","path":"/webhooks/0/namespaceSelector/matchExpressions"}]`); err != nil {
			return err
		}
		if err := w.label(ctx, deploy.DefaultNamespace, `"enabled"`); err != nil {
			return err
		}
		// While the injector is there that is not noticed: a replica that ends still answers for its successor. So all of them
		// must have ended, to the last container, before the Deployment asks for others.
		if err := w.awaitInjecting(ctx, deploy.DefaultNamespace); err != nil {
			return err
		}
		if err := w.scale(ctx, 0); err != nil {
			return err
		}
		if err := w.awaitUnreached(ctx, ns); err != nil {
			return err
		}
		if err := w.ask(ctx, deploy.DefaultReplicas); err != nil {
			return err
		}
		if err := await(ctx, fmt.Sprintf("the injector has no pods, and was refused one %d times", triesRefused), w.stuck); err != nil {
			return err
		}
		if err := w.awaitUnreached(ctx, ns); err != nil {
			return err
		}
		if err := w.recovered(ctx, ns); err != nil {
			return err
		}
		if err := w.nudge(ctx, deploy.DefaultNamespace, deploy.Label+"="+deploy.LabelValue); err != nil {
			return err
		}
		return w.settled(ctx, deploy.DefaultReplicas)
	}
	return w.with(ctx, enabled, func(ns string) error {
		if err := w.awaitInjecting(ctx, ns); err != nil {
			return err
		}
		return w.unlabelled(ctx, deploy.DefaultNamespace, show(ns))
	})
}

// stuck says what is missing until the injector has no pods, and has been refused new ones again and again.
func (w *world) stuck(ctx context.Context) (missing string, err error) {
	pods, err := w.client.CoreV1().Pods(deploy.DefaultNamespace).List(ctx, metav1.ListOptions{LabelSelector: deploy.Label + "=" + deploy.LabelValue})
	if err != nil {
		return "", err
	}
	events, err := w.client.CoreV1().Events(deploy.DefaultNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	refused := int32(0)
	for _, e := range events.Items {
		if e.InvolvedObject.Kind == "ReplicaSet" && e.Reason == "FailedCreate" && strings.Contains(e.Message, `failed calling webhook "injector.outrigger.dev"`) {
			refused += max(e.Count, 1)
		}
	}
	if len(pods.Items) > 0 || refused < triesRefused {
		return fmt.Sprintf("it has %d, and was refused %d", len(pods.Items), refused), nil
	}
	return "", nil
}

func curedOtherwise(ctx context.Context, w *world) error {
	return w.with(ctx, enabled, func(ns string) error {
		if err := w.awaitInjecting(ctx, ns); err != nil {
			return err
		}
		if err := w.ask(ctx, 0); err != nil {
			return err
		}
		policy := func(value string) error {
			return w.changeConfiguration(ctx, fmt.Sprintf(`[{"op":"replace","path":"/webhooks/0/failurePolicy","value":%q}]`, value))
		}
		for _, cure := range []struct {
			what     string
			do, undo func() error
		}{
			{"failurePolicy Ignore", func() error { return policy("Ignore") }, func() error { return policy("Fail") }},
			{"the label taken away", func() error { return w.label(ctx, ns, "null") }, func() error { return w.label(ctx, ns, `"enabled"`) }},
		} {
			for _, step := range []func() error{
				func() error { return w.awaitUnreached(ctx, ns) }, cure.do, func() error { return w.awaitUntouched(ctx, ns) }, cure.undo,
			} {
				if err := step(); err != nil {
					return fmt.Errorf("%s: %w", cure.what, err)
				}
			}
		}
		if err := w.awaitUnreached(ctx, ns); err != nil {
			return err
		}
		if err := w.scale(ctx, deploy.DefaultReplicas); err != nil {
			return err
		}
		return w.awaitInjecting(ctx, ns)
	})
}
