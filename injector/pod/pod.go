// SPDX-License-Identifier: Apache-2.0

// Package pod is the part of a Kubernetes pod that an injector reads, and no more.
//
// A sidecar injector is asked about every pod of a cluster, so what it decodes is its main cost. A pod of 4 KB has
// hundreds of fields; who gets a sidecar depends on four facts (host network, namespace, labels, annotations), and
// where the sidecar goes on the names in four lists. Everything else stays undecoded text.
//
// Like the API server's own types, the types here tell a missing list (nil) from an empty one (not nil, length 0): a
// JSON patch may append to the second and must create the first.
package pod

import "encoding/json"

// Pod is what an injector reads of a core/v1 Pod.
type Pod struct {
	// Metadata is nil when the pod has none. The API server always sends one.
	Metadata *Metadata `json:"metadata"`
	// Spec is nil when the pod has none. The API server always sends one.
	Spec *Spec `json:"spec"`
}

// Metadata is what an injector reads of a pod's ObjectMeta.
type Metadata struct {
	Name            string            `json:"name"`
	GenerateName    string            `json:"generateName"`
	Namespace       string            `json:"namespace"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	OwnerReferences []OwnerReference  `json:"ownerReferences"`
}

// OwnerReference names an object that owns the pod.
type OwnerReference struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Controller is nil when the reference does not have the field; only true makes the owner the controller.
	Controller *bool `json:"controller"`
}

// Spec is what an injector reads of a PodSpec.
type Spec struct {
	HostNetwork      bool    `json:"hostNetwork"`
	InitContainers   []Named `json:"initContainers"`
	Containers       []Named `json:"containers"`
	Volumes          []Named `json:"volumes"`
	ImagePullSecrets []Named `json:"imagePullSecrets"`
}

// Named is an item of a list, of which only the name matters until it turns out to be the sidecar's.
type Named struct {
	Name string `json:"name"`
}

// Parse reads a pod from its JSON. It reads an incomplete pod too; it does not validate.
func Parse(raw []byte) (*Pod, error) {
	var p Pod
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, err
	}
	return &p, nil
}

// Meta returns the pod's metadata; an empty one when the pod is nil or has none. Do not change it.
func (p *Pod) Meta() *Metadata {
	if p == nil || p.Metadata == nil {
		return &Metadata{}
	}
	return p.Metadata
}

// Lists returns the pod's spec; an empty one when the pod is nil or has none. Do not change it.
func (p *Pod) Lists() *Spec {
	if p == nil || p.Spec == nil {
		return &Spec{}
	}
	return p.Spec
}
