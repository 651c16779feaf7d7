// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/outrigger-k8s/outrigger/injector/pod"
)

// Encode is like Make, and returns the patch as JSON: nil when the pod is as it should be. Do not change what it
// returns.
//
// Most pods are fresh: nothing in them has a name of the template's. Their patch depends on no more than which lists
// and maps they lack, so it is made and encoded once for each such shape.
func (t *Template) Encode(p *pod.Pod, raw func() (json.RawMessage, error)) (patch []byte, warnings []string, err error) {
	if !t.fresh(p) {
		return t.encode(p, raw)
	}
	slot := &t.encoded[shape(p)]
	if patch := slot.Load(); patch != nil {
		return *patch, nil, nil
	}
	if patch, warnings, err = t.encode(p, raw); err == nil {
		slot.Store(&patch)
	}
	return patch, warnings, err
}

func (t *Template) encode(p *pod.Pod, raw func() (json.RawMessage, error)) ([]byte, []string, error) {
	result, err := t.Make(p, raw)
	if err != nil || len(result.Operations) == 0 {
		return nil, result.Warnings, err
	}
	text, err := json.Marshal(result.Operations)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the patch: %w", err)
	}
	return text, result.Warnings, nil
}

// fresh reports whether nothing in a pod has a name of the template's, the status annotation included.
func (t *Template) fresh(p *pod.Pod) bool {
	spec, annotations := p.Lists(), p.Meta().Annotations
	if _, injected := annotations[t.statusKey]; injected {
		return false
	}
	for _, key := range t.annotationKeys {
		if _, present := annotations[key]; present {
			return false
		}
	}
	return !meet(spec.InitContainers, t.initContainers) && !meet(spec.InitContainers, t.containers) &&
		!meet(spec.Containers, t.initContainers) && !meet(spec.Containers, t.containers) &&
		!meet(spec.Volumes, t.volumes) && !meet(spec.ImagePullSecrets, t.imagePullSecrets)
}

// meet reports whether a name is in both lists.
func meet(have []pod.Named, want []part) bool {
	return slices.ContainsFunc(want, func(w part) bool {
		return slices.ContainsFunc(have, func(h pod.Named) bool { return h.Name == w.name })
	})
}

// shapes is how many shapes of fresh pods there are: seven things that a pod can lack.
const shapes = 1 << 7

// shape returns a number for what a pod lacks.
func shape(p *pod.Pod) int {
	spec, meta := p.Lists(), p.Meta()
	bits := 0
	for i, lacks := range [...]bool{
		p == nil || p.Metadata == nil, meta.Annotations == nil, p == nil || p.Spec == nil,
		spec.InitContainers == nil, spec.Containers == nil, spec.Volumes == nil, spec.ImagePullSecrets == nil,
	} {
		if lacks {
			bits |= 1 << i
		}
	}
	return bits
}

// cache holds the patches for fresh pods.
type cache [shapes]atomic.Pointer[[]byte]
