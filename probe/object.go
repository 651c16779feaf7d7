// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/outrigger-k8s/outrigger/table"
)

// SubjectLabel is what the selector of a workload asks for and its pods carry, with the case's key as value. It is on
// the pods of workloads only: a workload cannot be without a selector.
const SubjectLabel = "outrigger.dev/case"

// forms keeps what is common to many cases of a table: what each variant of a document is, decoded.
type forms struct {
	table *table.Table
	pods  map[int]*corev1.Pod

	requests map[int]*table.Request
}

// attempt is the request that tries the case. Its object is new and the lane's to change.
func (f *forms) attempt(p *Planned) (*Attempt, error) {
	if doc := p.Case.Document(table.ApplySection); len(doc) > 0 {
		return applied(doc, p.Key), nil
	}
	request, err := f.request(p.Case)
	if err != nil {
		return nil, err
	}
	if !request.OfPod() {
		return asked(request, p)
	}
	pod, err := f.pod(p.Case, request)
	if err != nil {
		return nil, err
	}
	at := &Attempt{Key: p.Key, Namespace: p.Namespace, Timeout: request.Within(), DryRun: request.ByDryRun(), Rehearsed: request.Rehearsed}
	if workload := p.Case.Document(table.WorkloadSection); len(workload) > 0 {
		object, err := workloadOf(workload, p.Key, pod)
		if err != nil {
			return nil, fmt.Errorf("workload: %w", err)
		}
		at.Object, at.Pods, at.DryRun, at.Condition = object, true, false, p.Then().Condition
		return at, nil
	}
	if request.GenerateName {
		pod.GenerateName = p.Key + "-"
	} else {
		pod.Name = p.Key
	}
	at.Object = pod
	return at, nil
}

// pod is a new copy of the pod that the request creates, without a name.
func (f *forms) pod(c table.Case, request *table.Request) (*corev1.Pod, error) {
	variant := c.Variant(table.PodSection, table.RequestSection)
	pod := f.pods[variant]
	if pod == nil {
		pod = &corev1.Pod{}
		if _, err := into(table.Overlaid(c.Document(table.PodSection), request.Object), pod); err != nil {
			return nil, fmt.Errorf("pod: %w", err)
		}
		pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		f.pods[variant] = pod
	}
	return pod.DeepCopy(), nil
}

// applied is the attempt to apply the webhook configuration that doc describes. What it holds is sent as it is: what is
// wrong with it the API server is to say.
func applied(doc map[string]any, key string) *Attempt {
	object := runtime.DeepCopyJSON(table.Overlaid(map[string]any{
		"apiVersion": admissionregistrationv1.SchemeGroupVersion.String(), "kind": "MutatingWebhookConfiguration",
	}, doc))
	byName, _ := object["webhooks"].(map[string]any)
	webhooks := make([]any, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		webhooks = append(webhooks, byName[name])
	}
	object["webhooks"] = webhooks
	resource := "mutatingwebhookconfigurations"
	if object["kind"] == "ValidatingWebhookConfiguration" {
		resource = "validatingwebhookconfigurations"
	}
	return &Attempt{
		Key: key, Resource: admissionregistrationv1.SchemeGroupVersion.WithResource(resource),
		Object: called(object, key), DryRun: true,
	}
}

// yearly is when a CronJob runs by itself. A lane makes it due at once. If it ran every minute, a case whose time a full
// minute falls into would meet a second pod.
const yearly = "0 0 1 1 *"

// workloadOf makes the workload that doc describes around the pod template: what doc says of metadata and spec, and
// under it what its kind cannot be without.
func workloadOf(doc map[string]any, key string, pod *corev1.Pod) (runtime.Object, error) {
	labels := map[string]string{SubjectLabel: key}
	template := corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}
	template.Labels = with(template.Labels, labels)
	selector := &metav1.LabelSelector{MatchLabels: labels}
	one := int32(1)

	var object runtime.Object
	var meta *metav1.ObjectMeta
	switch kind := doc["kind"]; kind {
	case "Deployment":
		w := &appsv1.Deployment{}
		w.Spec.Replicas, w.Spec.Selector, w.Spec.Template = &one, selector, template
		object, meta = w, &w.ObjectMeta
	case "ReplicaSet":
		w := &appsv1.ReplicaSet{}
		w.Spec.Replicas, w.Spec.Selector, w.Spec.Template = &one, selector, template
		object, meta = w, &w.ObjectMeta
	case "StatefulSet":
		w := &appsv1.StatefulSet{}
		w.Spec.Replicas, w.Spec.Selector, w.Spec.Template = &one, selector, template
		object, meta = w, &w.ObjectMeta
	case "DaemonSet":
		w := &appsv1.DaemonSet{}
		w.Spec.Selector, w.Spec.Template = selector, template
		object, meta = w, &w.ObjectMeta
	case "ReplicationController":
		w := &corev1.ReplicationController{}
		w.Spec.Replicas, w.Spec.Selector, w.Spec.Template = &one, labels, &template
		object, meta = w, &w.ObjectMeta
	case "Job":
		w := &batchv1.Job{}
		w.Spec = jobSpec(template)
		object, meta = w, &w.ObjectMeta
	case "CronJob":
		w := &batchv1.CronJob{}
		w.Spec.Schedule = yearly
		w.Spec.JobTemplate.Spec = jobSpec(template)
		object, meta = w, &w.ObjectMeta
	default:
		return nil, fmt.Errorf("kind %v is none that outrigger knows how to make a pod of", kind)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, object); err != nil {
		return nil, err
	}
	meta.Name = key
	return object, nil
}

func jobSpec(template corev1.PodTemplateSpec) batchv1.JobSpec {
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return batchv1.JobSpec{Template: template}
}

func with(labels, more map[string]string) map[string]string {
	out := make(map[string]string, len(labels)+len(more))
	for k, v := range labels {
		out[k] = v
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}
