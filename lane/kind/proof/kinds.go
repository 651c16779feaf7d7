// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/outrigger-k8s/outrigger/lane/kind"
)

// kinds is about pods that the injector must leave alone.
var kinds = []*Proof{
	{
		Name: "static-pod", Title: "a static pod runs as its file says, and its mirror appears, without a sidecar", Outcome: "untouched",
		Because:   "the kubelet runs the file, whatever becomes of the mirror, and a mirror that was changed would be refused",
		Source:    "kubernetes.io/docs/tasks/configure-pod-container/static-pod",
		Catalogue: []int{35},
		show:      staticPod,
	},
	{
		Name: "host-network", Title: "a pod in its host's network becomes Ready without a sidecar", Outcome: "untouched",
		Because:   "redirecting its traffic would redirect its node's",
		Source:    "istio/istio release-1.8 pkg/kube/inject/inject.go",
		Catalogue: []int{36},
		show: func(ctx context.Context, w *world) error {
			return w.with(ctx, enabled, func(ns string) error {
				const port = 28080 // of the node's own: nothing of a kind node's has it
				pod := w.app("app")
				pod.Spec.HostNetwork = true
				c := &pod.Spec.Containers[0]
				c.Args = []string{"app", fmt.Sprintf("--listen=127.0.0.1:%d", port)}
				c.Ports = nil
				c.ReadinessProbe.HTTPGet.Port, c.ReadinessProbe.HTTPGet.Host = intstr.FromInt32(port), "127.0.0.1"
				made, err := w.ready(ctx, ns, pod)
				if err != nil {
					return err
				}
				return must(!injected(&made.Spec), "the pod was injected")
			})
		},
	},
}

func staticPod(ctx context.Context, w *world) error {
	return w.with(ctx, enabled, func(ns string) error {
		name := "static-" + strings.TrimPrefix(ns, "proof-")
		pod := w.app(name)
		pod.APIVersion, pod.Kind, pod.Namespace = "v1", "Pod", ns
		raw, err := yaml.Marshal(pod)
		if err != nil {
			return err
		}
		node := w.cluster.Node()
		file := kind.Manifests + "/" + kind.ManifestPrefix + name + ".yaml"
		if err := node.CommandContext(ctx, "cp", "/dev/stdin", file).SetStdin(bytes.NewReader(raw)).Run(); err != nil {
			return fmt.Errorf("write %s on node %s: %w", file, node, err)
		}
		mirror := name + "-" + node.String()
		made, err := w.awaitPod(ctx, ns, mirror, "is Ready", func(p *corev1.Pod) string { return notReady(p) })
		if err == nil {
			err = must(!injected(&made.Spec) && made.Annotations[corev1.MirrorPodAnnotationKey] != "", "the mirror has annotations %v, and was injected: %t",
				made.Annotations, injected(&made.Spec))
		}
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if gone := node.CommandContext(cleaning, "rm", "-f", file).Run(); gone != nil {
			err = errors.Join(err, fmt.Errorf("remove %s from node %s: %w", file, node, gone))
		}
		return err
	})
}
