// SPDX-License-Identifier: Apache-2.0

// Package patch turns a pod and a template into the JSON patch that injects the one into the other.
//
// The patch is minimal (what is already as it should be is not touched), deterministic (same input, same bytes), and
// idempotent: a patched pod, injected again, gives an empty patch, also when the API server has filled in defaults since.
// A status annotation makes that possible: it names what an injection added. What it names belongs to the injector and is replaced where it stands; everything else is
// the pod's own and keeps its order and content, with one exception: there can be only one container of a name, so a
// container of the pod's own that has the sidecar's name gives way to the template's, wholly or field by field
// (decide.Own).
package patch

import (
	"encoding/json"
	"fmt"

	"github.com/outrigger-k8s/outrigger/injector/decide"
	"github.com/outrigger-k8s/outrigger/injector/pod"
)

// Result is what injecting into one pod takes.
type Result struct {
	// Operations is the patch, in the order in which it must be applied. Empty: the pod is as it should be.
	Operations []Operation
	// Warnings are for the author of the pod.
	Warnings []string
}

// Make returns the patch that injects the template into a pod.
//
// Of the pod, p has the names. What more there is to know of it (only when one of the names is the template's) is read
// from its full JSON, which raw returns; most pods never need it. The only errors are raw's, and of JSON that is not a
// pod's.
func (t *Template) Make(p *pod.Pod, raw func() (json.RawMessage, error)) (Result, error) {
	var result Result
	status, err := claimed(p, t.statusKey)
	if err != nil {
		result.Warnings = append(result.Warnings,
			fmt.Sprintf("annotation %s is ignored and overwritten: %v", t.statusKey, err))
	}
	spec := p.Lists()
	inits := list{path: "initContainers", have: spec.InitContainers, want: t.initContainers,
		claimed: status.InitContainers, keep: t.own == decide.KeepFields, merge: overlay, carry: keepToken}
	containers := list{path: "containers", have: spec.Containers, want: t.containers,
		claimed: status.Containers, keep: t.own == decide.KeepFields, merge: overlay, carry: keepToken}
	inits.twin, containers.twin = &containers, &inits
	volumes := list{path: "volumes", have: spec.Volumes, want: t.volumes,
		claimed: status.Volumes, keep: t.own == decide.KeepFields, merge: keepWhole, carry: asIs}
	secrets := list{path: "imagePullSecrets", have: spec.ImagePullSecrets, want: t.imagePullSecrets,
		claimed: status.ImagePullSecrets, keep: true, merge: keepWhole, carry: asIs}

	if p == nil || p.Spec == nil {
		result.Operations = append(result.Operations, Operation{Op: "add", Path: "/spec", Value: struct{}{}})
	}
	full := contents{fetch: raw}
	for _, l := range []*list{&inits, &containers, &volumes, &secrets} {
		ops, err := l.operations(&full)
		if err != nil {
			return Result{}, fmt.Errorf("inject into the pod's %s: %w", l.path, err)
		}
		result.Operations = append(result.Operations, ops...)
	}
	result.Operations = append(result.Operations, t.annotate(p, Status{
		InitContainers:   inits.injected(),
		Containers:       containers.injected(),
		Volumes:          volumes.injected(),
		ImagePullSecrets: secrets.injected(),
		Revision:         t.revision,
	})...)
	return result, nil
}

// claimed returns what the pod's status annotation names: nothing when there is none or it is malformed.
func claimed(p *pod.Pod, key string) (Status, error) {
	value, present := p.Meta().Annotations[key]
	if !present {
		return Status{}, nil
	}
	return ParseStatus(value)
}

// annotate returns the operations for the annotations: the template's where the pod has none of the key (its author
// knew what he wrote), the status always.
func (t *Template) annotate(p *pod.Pod, status Status) []Operation {
	meta := p.Meta()
	missing := map[string]string{}
	var ops []Operation
	for _, key := range t.annotationKeys {
		if _, present := meta.Annotations[key]; !present && key != t.statusKey {
			missing[key] = t.annotations[key]
			ops = append(ops, Operation{Op: "add", Path: Pointer("metadata", "annotations", key), Value: t.annotations[key]})
		}
	}
	value := status.String()
	missing[t.statusKey] = value
	switch old, present := meta.Annotations[t.statusKey]; {
	case p == nil || p.Metadata == nil:
		return []Operation{{Op: "add", Path: "/metadata", Value: map[string]any{"annotations": missing}}}
	case meta.Annotations == nil:
		return []Operation{{Op: "add", Path: "/metadata/annotations", Value: missing}}
	case !present:
		return append(ops, Operation{Op: "add", Path: Pointer("metadata", "annotations", t.statusKey), Value: value})
	case old != value:
		return append(ops, Operation{Op: "replace", Path: Pointer("metadata", "annotations", t.statusKey), Value: value})
	}
	return ops
}
