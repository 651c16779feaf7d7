// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// running is about one pod that was injected, and runs.
var running = []*Proof{
	{
		Name: "ready", Title: "an injected pod becomes Ready, and its init container has run first", Outcome: "injected",
		Because: "init containers end before any container starts, and a pod is Ready when the sidecar is too",
		Source:  "kubernetes.io/docs/concepts/workloads/pods/init-containers",
		show: func(ctx context.Context, w *world) error {
			return w.with(ctx, enabled, func(ns string) error {
				pod, err := w.ready(ctx, ns, w.app("app"))
				if err != nil {
					return err
				}
				return initFirst(pod)
			})
		},
	},
	{
		Name: "as-written", Title: "the application's own container is as its user wrote it", Outcome: "injected",
		Because: "an injector adds its own, and nothing else is any of its business",
		Source:  "outrigger injector/patch",
		show:    asWritten,
	},
	{
		Name: "traffic", Title: "a request to the sidecar's port reaches the application", Outcome: "injected",
		Because: "containers of a pod share its network, so the sidecar passes on to 127.0.0.1 what it takes",
		Source:  "kubernetes.io/docs/concepts/workloads/pods",
		show:    traffic,
	},
	{
		Name: "logs-and-exec", Title: "logs and exec of the application still work", Outcome: "injected",
		Because: "the application's container is called what it was called before",
		Source:  "kubernetes.io/docs/reference/kubectl/generated/kubectl_exec",
		show:    logsAndExec,
	},
	{
		Name: "ephemeral", Title: "an ephemeral container joins an injected pod, and nothing is injected again", Outcome: "injected",
		Because:   "it comes through the subresource pods/ephemeralcontainers, which the webhook's rules do not name",
		Source:    "kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers",
		Catalogue: []int{37},
		show:      ephemeral,
	},
}

// initFirst checks that the init container ended before any other of the pod's started.
func initFirst(pod *corev1.Pod) error {
	if !injected(&pod.Spec) {
		return fmt.Errorf("pod %s has no container %s", pod.Name, sidecar)
	}
	var ended *metav1.Time
	for _, s := range pod.Status.InitContainerStatuses {
		if s.Name == initializer && s.State.Terminated != nil && s.State.Terminated.ExitCode == 0 {
			ended = &s.State.Terminated.FinishedAt
		}
	}
	if ended == nil {
		return fmt.Errorf("init container %s has not ended well: %+v", initializer, pod.Status.InitContainerStatuses)
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Running == nil || s.State.Running.StartedAt.Before(ended) {
			return fmt.Errorf("container %s does not run, or started before %s, when %s ended: %+v", s.Name, ended, initializer, s.State)
		}
	}
	return nil
}

// asWritten holds the application's container in an injected pod against the same in a pod that no webhook has seen.
func asWritten(ctx context.Context, w *world) error {
	container := func(labels map[string]string, expectInjected bool) (c corev1.Container, err error) {
		err = w.with(ctx, labels, func(ns string) error {
			pod, err := w.client.CoreV1().Pods(ns).Create(ctx, w.app("app"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err != nil {
				return err
			}
			if injected(&pod.Spec) != expectInjected {
				return fmt.Errorf("in a namespace with labels %v: injected: %t", labels, !expectInjected)
			}
			for _, c = range pod.Spec.Containers {
				if c.Name == "app" {
					break
				}
			}
			for i := range c.VolumeMounts { // the token's volume has a random name
				if strings.HasPrefix(c.VolumeMounts[i].Name, "kube-api-access-") {
					c.VolumeMounts[i].Name = "kube-api-access"
				}
			}
			return nil
		})
		return c, err
	}
	with, err := container(enabled, true)
	if err != nil {
		return err
	}
	without, err := container(nil, false)
	if err != nil {
		return err
	}
	return must(equality.Semantic.DeepEqual(with, without), "the application's container is %+v in an injected pod, and %+v in another", with, without)
}

// seen is what the stand-ins tell of themselves.
type seen struct {
	Time     time.Time         `json:"time"`
	Hostname string            `json:"hostname"`
	Env      map[string]string `json:"env"`
}

func traffic(ctx context.Context, w *world) error {
	return w.with(ctx, enabled, func(ns string) error {
		pod, err := w.ready(ctx, ns, w.app("app"))
		if err != nil {
			return err
		}
		var app seen
		if err := w.get(ctx, ns, pod.Name, inboundPort, "/", &app); err != nil {
			return err
		}
		if app.Env["OWN"] != "as written" || app.Hostname != pod.Name {
			return fmt.Errorf("at the sidecar's port answers %+v, which is not the application in pod %s", app, pod.Name)
		}
		var stats struct {
			Passed int  `json:"passed"`
			Init   seen `json:"init"`
		}
		if err := w.get(ctx, ns, pod.Name, statusPort, "/stats", &stats); err != nil {
			return err
		}
		if stats.Passed < 1 {
			return fmt.Errorf("the sidecar has passed %d connections on: the answer came past it", stats.Passed)
		}
		return must(stats.Init.Env["POD_NAME"] == pod.Name, "the init container saw the pod %q, not %q", stats.Init.Env["POD_NAME"], pod.Name)
	})
}

func logsAndExec(ctx context.Context, w *world) error {
	return w.with(ctx, enabled, func(ns string) error {
		pod, err := w.ready(ctx, ns, w.app("app"))
		if err != nil {
			return err
		}
		raw, err := w.client.CoreV1().Pods(ns).GetLogs(pod.Name, &corev1.PodLogOptions{Container: "app"}).DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("read the application's log: %w", err)
		}
		if !strings.Contains(string(raw), "serving") {
			return fmt.Errorf("the application's log does not say that it serves: %.200q", raw)
		}
		out, err := w.exec(ctx, ns, pod.Name, "app", "/injector", "version")
		if err != nil {
			return err
		}
		return must(strings.TrimSpace(out) != "", "exec printed nothing")
	})
}

func ephemeral(ctx context.Context, w *world) error {
	return w.with(ctx, enabled, func(ns string) error {
		pod, err := w.ready(ctx, ns, w.app("app"))
		if err != nil {
			return err
		}
		before := len(pod.Spec.Containers) + len(pod.Spec.InitContainers)
		debugger := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "debugger", Image: w.injector.Image, ImagePullPolicy: corev1.PullNever, Args: []string{"app", "--listen=127.0.0.1:8099"},
			SecurityContext: pod.Spec.Containers[0].SecurityContext,
		}}
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, debugger)
		if _, err := w.client.CoreV1().Pods(ns).UpdateEphemeralContainers(ctx, pod.Name, pod, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("add an ephemeral container: %w", err)
		}
		pod, err = w.awaitPod(ctx, ns, pod.Name, "runs its ephemeral container", func(p *corev1.Pod) string {
			for _, s := range p.Status.EphemeralContainerStatuses {
				if s.State.Running != nil {
					return ""
				}
			}
			return fmt.Sprintf("%+v", p.Status.EphemeralContainerStatuses)
		})
		if err != nil {
			return err
		}
		after := len(pod.Spec.Containers) + len(pod.Spec.InitContainers)
		return must(after == before && len(pod.Spec.EphemeralContainers) == 1, "%d containers before, %d after, and %d ephemeral ones",
			before, after, len(pod.Spec.EphemeralContainers))
	})
}
