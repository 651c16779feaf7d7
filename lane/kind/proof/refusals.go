// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// refusals is about injected pods that other admission plugins refuse, with the messages that users see.
var refusals = []*Proof{
	{
		Name: "pod-security", Title: "under Pod Security restricted a pod and its sidecar that are fit for it run, and a pod that is not is refused", Outcome: "rejected",
		Because:   "Pod Security judges the pod as the webhook left it, and names the containers that are wrong",
		Source:    "kubernetes.io/docs/concepts/security/pod-security-standards",
		Catalogue: []int{30},
		show: func(ctx context.Context, w *world) error {
			return w.with(ctx, restricted, func(ns string) error {
				if _, err := w.ready(ctx, ns, w.app("app")); err != nil {
					return err
				}
				careless := w.app("careless")
				careless.Spec.Containers[0].SecurityContext = nil
				_, err := w.create(ctx, ns, careless)
				return refused("a pod without securityContext", err, 403,
					`violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "app" must set securityContext.allowPrivilegeEscalation=false)`)
			})
		},
	},
	{
		Name: "pod-security-sidecar", Title: "under Pod Security restricted a pod is refused for its sidecar's sake, which its user did not write", Outcome: "rejected",
		Because:   "an init container that sets redirects up needs NET_ADMIN, which restricted forbids: meshes have a network plugin for that",
		Source:    "kubernetes.io/docs/concepts/security/pod-security-standards",
		Catalogue: []int{30},
		Alone:     true, // the injector's settings are others meanwhile
		show: func(ctx context.Context, w *world) error {
			return w.configured(ctx, func(settings map[string]any) {
				init := settings["template"].(map[string]any)["initContainers"].([]any)[0].(map[string]any)
				init["securityContext"].(map[string]any)["capabilities"] = map[string]any{"add": []any{"NET_ADMIN"}, "drop": []any{"ALL"}}
			}, func() error {
				return w.with(ctx, restricted, func(ns string) error {
					_, err := w.create(ctx, ns, w.app("app"))
					if err := refused("a pod that is fit for restricted, with a sidecar that is not", err, 403,
						`violates PodSecurity "restricted:latest": unrestricted capabilities (container "istio-init" must not include "NET_ADMIN" in securityContext.capabilities.add)`); err != nil {
						return err
					}
					// Of a Deployment nobody is told but who reads its ReplicaSet's events.
					if _, err := w.client.AppsV1().Deployments(ns).Create(ctx, deployment("app", 1, template(w.app("app"))), metav1.CreateOptions{}); err != nil {
						return err
					}
					return w.awaitEvent(ctx, ns, "ReplicaSet", "FailedCreate", `violates PodSecurity "restricted:latest"`)
				})
			})
		},
	},
	{
		Name: "quota", Title: "a ResourceQuota that has room for the application alone refuses it with its sidecar", Outcome: "rejected",
		Because:   "quota counts the pod as the webhook left it",
		Source:    "kubernetes.io/docs/concepts/policy/resource-quotas",
		Catalogue: []int{31},
		show: func(ctx context.Context, w *world) error {
			quota := &corev1.ResourceQuota{
				ObjectMeta: metav1.ObjectMeta{Name: "narrow"},
				Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourceRequestsMemory: resource.MustParse("24Mi")}},
			}
			put := func(ns string) error {
				if _, err := w.client.CoreV1().ResourceQuotas(ns).Create(ctx, quota.DeepCopy(), metav1.CreateOptions{}); err != nil {
					return err
				}
				return await(ctx, "the quota is counted", func(ctx context.Context) (string, error) {
					live, err := w.client.CoreV1().ResourceQuotas(ns).Get(ctx, quota.Name, metav1.GetOptions{})
					if err != nil || len(live.Status.Hard) > 0 {
						return "", err
					}
					return "its status is empty", nil
				})
			}
			err := w.with(ctx, nil, func(ns string) error {
				if err := put(ns); err != nil {
					return err
				}
				_, err := w.create(ctx, ns, w.app("app"))
				return err
			})
			if err != nil {
				return fmt.Errorf("without its sidecar: %w", err)
			}
			return w.with(ctx, enabled, func(ns string) error {
				if err := put(ns); err != nil {
					return err
				}
				_, err := w.create(ctx, ns, w.app("app"))
				if err := refused("the pod with its sidecar", err, 403,
					"exceeded quota: narrow, requested: requests.memory=32Mi, used: requests.memory=0, limited: requests.memory=24Mi"); err != nil {
					return err
				}
				if _, err := w.client.AppsV1().Deployments(ns).Create(ctx, deployment("app", 1, template(w.app("app"))), metav1.CreateOptions{}); err != nil {
					return err
				}
				return w.awaitEvent(ctx, ns, "ReplicaSet", "FailedCreate", "exceeded quota: narrow")
			})
		},
	},
	{
		Name: "limit-range", Title: "a LimitRange that the sidecar is above refuses the pod", Outcome: "rejected",
		Because:   "the limits of every container are checked in the pod as the webhook left it",
		Source:    "kubernetes.io/docs/concepts/policy/limit-range",
		Catalogue: []int{32},
		show: func(ctx context.Context, w *world) error {
			return w.with(ctx, enabled, func(ns string) error {
				_, err := w.client.CoreV1().LimitRanges(ns).Create(ctx, &corev1.LimitRange{
					ObjectMeta: metav1.ObjectMeta{Name: "low"},
					Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
						Type: corev1.LimitTypeContainer, Max: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("48Mi")},
					}}},
				}, metav1.CreateOptions{})
				if err != nil {
					return err
				}
				app := w.app("app")
				app.Spec.Containers[0].Resources.Limits[corev1.ResourceMemory] = resource.MustParse("32Mi")
				const message = "maximum memory usage per Container is 48Mi, but limit is 64Mi"
				// The admission plugin has the LimitRange from a cache.
				return await(ctx, "the LimitRange is enforced", func(ctx context.Context) (string, error) {
					_, err := w.client.CoreV1().Pods(ns).Create(ctx, app, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
					if err == nil {
						return "the pod was admitted", nil
					}
					return "", refused("a pod with a sidecar above the limit", err, 403, message)
				})
			})
		},
	},
}

var restricted = map[string]string{"istio-injection": "enabled", "pod-security.kubernetes.io/enforce": "restricted"}

// awaitEvent waits for an event about an object of the kind.
func (w *world) awaitEvent(ctx context.Context, namespace, kind, reason, message string) error {
	return await(ctx, fmt.Sprintf("an event %s about a %s in %s says %q", reason, kind, namespace, message), func(ctx context.Context) (string, error) {
		list, err := w.client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		for _, e := range list.Items {
			if e.InvolvedObject.Kind == kind && e.Reason == reason && strings.Contains(e.Message, message) {
				return "", nil
			}
		}
		return fmt.Sprintf("none of %d events does", len(list.Items)), nil
	})
}
