// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/injector/decide"
)

// Spec is what is to be injected, as an operator writes it.
type Spec struct {
	InitContainers   []corev1.Container
	Containers       []corev1.Container
	Volumes          []corev1.Volume
	ImagePullSecrets []corev1.LocalObjectReference
	// Annotations are added where the pod does not have them.
	Annotations map[string]string
	// Native makes the containers init containers with restartPolicy Always: sidecars that Kubernetes knows as such.
	Native bool
	// Revision goes into the status annotation.
	Revision string
	// StatusKey is the annotation that marks what was injected.
	StatusKey string
	// Own is what becomes of a pod's own container or volume of an injected name.
	Own decide.Own
}

// Template is a Spec made ready: every item is JSON already, so that a review costs no encoding of containers.
// Any number of goroutines may use it.
type Template struct {
	initContainers, containers, volumes, imagePullSecrets []part
	annotations                                           map[string]string
	annotationKeys                                        []string // sorted
	revision, statusKey                                   string
	own                                                   decide.Own
	encoded                                               cache
}

// part is one item of one of the lists.
type part struct {
	name string
	json json.RawMessage
}

// New makes a template ready.
func New(spec Spec) (*Template, error) {
	t := &Template{
		annotations:    spec.Annotations,
		annotationKeys: slices.Sorted(maps.Keys(spec.Annotations)),
		revision:       spec.Revision,
		statusKey:      spec.StatusKey,
		own:            spec.Own,
	}
	inits, containers := spec.InitContainers, spec.Containers
	if spec.Native {
		inits, containers = append(slices.Clone(inits), native(containers)...), nil
	}
	var errs [4]error
	t.initContainers, errs[0] = parts(inits, func(c corev1.Container) string { return c.Name })
	t.containers, errs[1] = parts(containers, func(c corev1.Container) string { return c.Name })
	t.volumes, errs[2] = parts(spec.Volumes, func(v corev1.Volume) string { return v.Name })
	t.imagePullSecrets, errs[3] = parts(spec.ImagePullSecrets, func(r corev1.LocalObjectReference) string { return r.Name })
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("encode the template: %w", err)
		}
	}
	return t, nil
}

// native returns containers as native sidecars (Kubernetes 1.28 and later).
func native(containers []corev1.Container) []corev1.Container {
	always := corev1.ContainerRestartPolicyAlways
	containers = slices.Clone(containers)
	for i := range containers {
		containers[i].RestartPolicy = &always
	}
	return containers
}

func parts[T any](items []T, name func(T) string) ([]part, error) {
	var out []part
	for _, item := range items {
		text, err := json.Marshal(item)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name(item), err)
		}
		out = append(out, part{name: name(item), json: text})
	}
	return out, nil
}
