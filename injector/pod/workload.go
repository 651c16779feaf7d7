// SPDX-License-Identifier: Apache-2.0

package pod

import "strings"

// Workload is the thing that people know a pod by: a pod made by a controller has no name yet when admission looks
// at it, and its ReplicaSet's or Job's name tells nobody anything.
type Workload struct {
	// Kind is the workload's kind: Deployment, CronJob, StatefulSet …, or Pod for a pod without a controller.
	Kind string
	// Name is the workload's name. For a pod with neither controller nor name, the prefix of its name (generateName).
	Name string
}

// String returns "Kind/Name".
func (w Workload) String() string { return w.Kind + "/" + w.Name }

// hashLabel is what the Deployment controller labels pods with, and appends to the name of their ReplicaSet.
const hashLabel = "pod-template-hash"

// minuteDigits and secondDigits are how long the time is that the CronJob controller appends to a Job's name: minutes
// since 1970 (since Kubernetes 1.22), seconds before that.
const minuteDigits, secondDigits = 8, 10

// Owner derives the workload that a pod belongs to from what is known at admission: the owner reference that is the
// controller, the label pod-template-hash (ReplicaSet to Deployment), and the time at the end of a Job's name (Job to
// CronJob). An owner reference without the field controller is not a controller.
func (p *Pod) Owner() Workload {
	meta := p.Meta()
	for _, ref := range meta.OwnerReferences {
		if ref.Controller != nil && *ref.Controller {
			return behind(ref, meta.Labels)
		}
	}
	if meta.Name != "" {
		return Workload{Kind: "Pod", Name: meta.Name}
	}
	return Workload{Kind: "Pod", Name: meta.GenerateName}
}

// behind returns what stands behind a controller, where its name gives that away.
func behind(ref OwnerReference, labels map[string]string) Workload {
	switch ref.Kind {
	case "ReplicaSet":
		if name, ok := strings.CutSuffix(ref.Name, "-"+labels[hashLabel]); ok && name != "" && labels[hashLabel] != "" {
			return Workload{Kind: "Deployment", Name: name}
		}
	case "Job":
		if i := strings.LastIndexByte(ref.Name, '-'); i > 0 && isTime(ref.Name[i+1:]) {
			return Workload{Kind: "CronJob", Name: ref.Name[:i]}
		}
	}
	return Workload{Kind: ref.Kind, Name: ref.Name}
}

// isTime reports whether a suffix is a time as the CronJob controller writes it.
func isTime(suffix string) bool {
	return (len(suffix) == minuteDigits || len(suffix) == secondDigits) && strings.Trim(suffix, "0123456789") == ""
}
