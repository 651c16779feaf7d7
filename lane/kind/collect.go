// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	kinderrors "sigs.k8s.io/kind/pkg/errors"

	"github.com/outrigger-k8s/outrigger/injector/deploy"
	"github.com/outrigger-k8s/outrigger/probe"
)

// What bounds one log that is collected; its end is kept.
const (
	maxLog   = 16 << 20 // bytes of a file of the node's
	maxLines = 50_000   // of a container's log, whose end the API server knows by lines only
)

// collectTimeout bounds a collection where nobody else does.
const collectTimeout = 2 * time.Minute

// leftByCollect are the patterns of what Collect leaves.
var leftByCollect = []string{"audit.log", "events.json", "injector-*.log", "nodes", "pods.json", "webhooks.json"}

// Collected are the names of what Collect has left in folder, sorted.
func Collected(folder string) (names []string) {
	for _, pattern := range leftByCollect {
		found, _ := filepath.Glob(filepath.Join(folder, pattern)) // of these patterns none is malformed
		for _, file := range found {
			names = append(names, filepath.Base(file))
		}
	}
	slices.Sort(names)
	return names
}

// RemoveCollected removes what Collect has left in folder for an earlier run. What else is there stays.
func RemoveCollected(folder string) error {
	for _, name := range Collected(folder) {
		if err := os.RemoveAll(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}

// Collect leaves what the cluster can tell of itself in folder: kind's own collection (the nodes' journals, kubelet,
// containerd, and the logs of all containers, by node), and beside it
//
//	audit.log            the API server's audit log
//	events.json          all events
//	pods.json            all pods, with their statuses
//	injector-….log       what each of the injector's containers has written, and its predecessor's
//	webhooks.json        the webhook configurations
//
// Whatever cannot be had is missing, and told of in the error; the rest is there. Of a cluster whose API server never was
// to be had, kind's collection is all.
func (c *Cluster) Collect(ctx context.Context, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	errs := []error{c.collectNodes(ctx, folder)}
	if c.plane != nil {
		errs = append(errs, c.auditLog(ctx, folder))
	}
	if c.client == nil {
		return errors.Join(errs...)
	}
	return errors.Join(append(errs,
		c.write(ctx, folder, "events.json", func(ctx context.Context) (any, error) {
			return c.client.CoreV1().Events("").List(ctx, metav1.ListOptions{})
		}),
		c.write(ctx, folder, "pods.json", func(ctx context.Context) (any, error) {
			return c.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		}),
		c.write(ctx, folder, "webhooks.json", func(ctx context.Context) (any, error) {
			mutating, err := c.client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			validating, err := c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
			return []any{mutating, validating}, err
		}),
		c.InjectorLogs(ctx, folder),
	)...)
}

// collectNodes has kind collect what the nodes know, within ctx: the library knows no context.
func (c *Cluster) collectNodes(ctx context.Context, folder string) error {
	done := make(chan error, 1)
	go func() { done <- c.provider.CollectLogs(c.Name(), filepath.Join(folder, "nodes")) }()
	var collected error
	select {
	case collected = <-done:
	case <-ctx.Done():
		return fmt.Errorf("collect the nodes' logs: %w", context.Cause(ctx))
	}
	parts := kinderrors.Errors(collected)
	if parts == nil && collected != nil { // a single one is not taken apart
		parts = []error{collected}
	}
	var errs []error
	for _, err := range parts {
		// kind has crictl list the images, which a node that was built from source does without.
		if !strings.Contains(err.Error(), "crictl") {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c *Cluster) write(ctx context.Context, folder, name string, get func(context.Context) (any, error)) error {
	what, err := get(ctx)
	if err != nil {
		return fmt.Errorf("collect %s: %w", name, err)
	}
	raw, err := json.MarshalIndent(what, "", "  ")
	if err != nil {
		return fmt.Errorf("collect %s: %w", name, err)
	}
	return os.WriteFile(filepath.Join(folder, name), raw, 0o644)
}

// InjectorLogs leaves in folder what each of the injector's containers has written, and its predecessor's.
func (c *Cluster) InjectorLogs(ctx context.Context, folder string) error {
	if err := PodLogs(ctx, c.client, folder, "injector-", deploy.DefaultNamespace, deploy.Label+"="+deploy.LabelValue); err != nil {
		return fmt.Errorf("collect the injector's logs: %w", err)
	}
	return nil
}

// PodLogs leaves in folder the end of what each container of a namespace's pods that the selector selects ("": all) has
// written, and its predecessor's: PREFIX + POD.log, or POD.CONTAINER.log where there are several.
func PodLogs(ctx context.Context, client kubernetes.Interface, folder, prefix, namespace, selector string) error {
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return fmt.Errorf("list the pods in %s: %w", namespace, err)
	}
	var errs []error
	for _, pod := range pods.Items {
		statuses := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses)
		for _, s := range statuses {
			for _, previous := range []bool{false, true} {
				if s.State.Waiting != nil && s.LastTerminationState.Terminated == nil || previous && s.RestartCount == 0 {
					continue // it has not run yet, or once
				}
				name := prefix + pod.Name
				if len(statuses) > 1 {
					name += "." + s.Name
				}
				if previous {
					name += ".previous"
				}
				raw, err := containerLog(ctx, client, &pod, s.Name, maxLines, previous)
				if err != nil {
					errs = append(errs, fmt.Errorf("read the log of container %s of pod %s/%s: %w", s.Name, namespace, pod.Name, err))
					continue
				}
				errs = append(errs, os.WriteFile(filepath.Join(folder, name+".log"), raw, 0o644))
			}
		}
	}
	return errors.Join(errs...)
}

// containerLog is the end of what a container has written: as many lines.
func containerLog(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, container string, lines int64, previous bool) ([]byte, error) {
	return client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, Previous: previous, TailLines: &lines}).DoRaw(ctx)
}

// Bounds of Logs, which is asked for each case that does not hold.
const (
	logLines   = 500
	logTimeout = 5 * time.Second
)

// Logs are the ends of the logs of the injector's containers, n bytes each at most.
func (c *Cluster) Logs(n int64) []probe.Finding {
	ctx, cancel := context.WithTimeout(context.Background(), logTimeout)
	defer cancel()
	pods, err := c.client.CoreV1().Pods(deploy.DefaultNamespace).List(ctx, metav1.ListOptions{LabelSelector: deploy.Label + "=" + deploy.LabelValue})
	if err != nil {
		return []probe.Finding{{Name: "injector.log", Data: fmt.Appendf(nil, "# the injector's pods could not be listed: %v\n", err)}}
	}
	var found []probe.Finding
	for _, pod := range pods.Items {
		for _, s := range pod.Status.ContainerStatuses {
			raw, err := containerLog(ctx, c.client, &pod, s.Name, logLines, false)
			if err != nil {
				raw = fmt.Appendf(nil, "# it could not be read: %v\n", err)
			}
			found = append(found, probe.Finding{Name: "injector-" + pod.Name + ".log", Data: raw[max(0, int64(len(raw))-n):]})
		}
	}
	return found
}

func (c *Cluster) auditLog(ctx context.Context, folder string) (err error) {
	f, err := os.Create(filepath.Join(folder, "audit.log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := c.plane.CommandContext(ctx, "tail", fmt.Sprintf("--bytes=%d", maxLog), auditLogPath).SetStdout(io.Writer(f)).Run(); err != nil {
		return fmt.Errorf("collect the audit log: %w", err)
	}
	return nil
}
