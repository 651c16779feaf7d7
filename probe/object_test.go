// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"regexp"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/table"
)

// attemptOf is the attempt of the only case of a table with this base; beside it the case's key.
func attemptOf(t *testing.T, base string) (*Attempt, string) {
	t.Helper()
	tb := loaded(t, "base: "+base+"\ndimensions: [{dimension: d, values: [{value: v}]}]\nrules: [{rule: r, then: injected, because: b}]\n")
	plan, err := NewPlan([]*table.Table{tb}, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := plan.Arrangements[0].Cases[0]
	at, err := newForms(tb).attempt(p)
	if err != nil {
		t.Fatal(err)
	}
	if at.Key != p.Key || at.Namespace != p.Namespace || len(at.Key) != table.KeyLength {
		t.Errorf("key %q in namespace %q, planned were %q and %q", at.Key, at.Namespace, p.Key, p.Namespace)
	}
	return at, p.Key
}

func TestAttemptOfPod(t *testing.T) {
	for _, row := range []struct {
		name, base   string
		generate     bool
		dryRun, pods bool
	}{
		{"a pod", "{pod: {metadata: {labels: {a: b}}}}", false, true, false},
		{"a generated name", "{request: {generateName: true}}", true, true, false},
		{"stored", "{request: {dryRun: false}}", false, false, false},
		{"a dry run, said so", "{request: {dryRun: true}}", false, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			at, key := attemptOf(t, row.base)
			pod, ok := at.Object.(*corev1.Pod)
			if !ok {
				t.Fatalf("a %T", at.Object)
			}
			name, generated := key, ""
			if row.generate {
				name, generated = "", key+"-"
			}
			if pod.Name != name || pod.GenerateName != generated {
				t.Errorf("name %q, generateName %q; expected %q, %q", pod.Name, pod.GenerateName, name, generated)
			}
			if at.DryRun != row.dryRun || at.Pods != row.pods {
				t.Errorf("dry run %v, pods %v", at.DryRun, at.Pods)
			}
			if pod.Kind != "Pod" || pod.APIVersion != "v1" || len(pod.Spec.Containers) != 1 {
				t.Errorf("%+v", pod)
			}
			if _, added := pod.Labels[SubjectLabel]; added || len(pod.Annotations) > 0 {
				t.Errorf("labels %v, annotations %v: the pod must be the case's alone", pod.Labels, pod.Annotations)
			}
		})
	}
}

// onceAYear are the schedules of a minute, an hour, a day and a month.
var onceAYear = regexp.MustCompile(`^(\d+ ){4}\*$`)

// Every kind that makes pods selects them by the case's key, carries the case's template and nothing else.
func TestAttemptOfWorkload(t *testing.T) {
	for _, row := range []struct{ kind, version string }{
		{"Deployment", "apps/v1"}, {"ReplicaSet", "apps/v1"}, {"StatefulSet", "apps/v1"}, {"DaemonSet", "apps/v1"},
		{"ReplicationController", "v1"}, {"Job", "batch/v1"}, {"CronJob", "batch/v1"},
	} {
		t.Run(row.kind, func(t *testing.T) {
			at, key := attemptOf(t, fmt.Sprintf(
				"{workload: {apiVersion: %s, kind: %s, metadata: {annotations: {own: x}}}, pod: {metadata: {labels: {app: subject}, annotations: {inject: yes}}}}", row.version, row.kind))
			if !at.Pods || at.DryRun {
				t.Errorf("pods %v, dry run %v: it is the pods that are observed, and a dry run makes none", at.Pods, at.DryRun)
			}
			var template *corev1.PodTemplateSpec
			var selector map[string]string
			chosen := func(s *metav1.LabelSelector) map[string]string { return s.MatchLabels }
			switch w := at.Object.(type) {
			case *appsv1.Deployment:
				template, selector = &w.Spec.Template, chosen(w.Spec.Selector)
			case *appsv1.ReplicaSet:
				template, selector = &w.Spec.Template, chosen(w.Spec.Selector)
			case *appsv1.StatefulSet:
				template, selector = &w.Spec.Template, chosen(w.Spec.Selector)
			case *appsv1.DaemonSet:
				template, selector = &w.Spec.Template, chosen(w.Spec.Selector)
			case *corev1.ReplicationController:
				template, selector = w.Spec.Template, w.Spec.Selector
			case *batchv1.Job: // makes its own selector
				template = &w.Spec.Template
			case *batchv1.CronJob:
				template = &w.Spec.JobTemplate.Spec.Template
				if !onceAYear.MatchString(w.Spec.Schedule) {
					t.Errorf("schedule %q: the next run may fall into the case", w.Spec.Schedule)
				}
			default:
				t.Fatalf("a %T", at.Object)
			}
			meta := at.Object.(metav1.Object)
			if meta.GetName() != key || meta.GetAnnotations()["own"] != "x" {
				t.Errorf("name %q, annotations %v", meta.GetName(), meta.GetAnnotations())
			}
			if kind := at.Object.GetObjectKind().GroupVersionKind(); kind.Kind != row.kind || kind.GroupVersion().String() != row.version {
				t.Errorf("it says that it is a %v", kind)
			}
			if selector != nil && (len(selector) != 1 || selector[SubjectLabel] != key) {
				t.Errorf("selector %v", selector)
			}
			if _, own := template.Annotations["own"]; own || template.Annotations["inject"] != "yes" {
				t.Errorf("annotations of the template: %v", template.Annotations)
			}
			if template.Labels["app"] != "subject" || selector != nil && template.Labels[SubjectLabel] != key || len(template.Spec.Containers) != 1 {
				t.Errorf("template %+v", template)
			}
			never := row.kind == "Job" || row.kind == "CronJob"
			if (template.Spec.RestartPolicy == corev1.RestartPolicyNever) != never {
				t.Errorf("restartPolicy %q", template.Spec.RestartPolicy)
			}
		})
	}
}

func TestAttemptOfAnUnknownKind(t *testing.T) {
	if _, err := workloadOf(map[string]any{"kind": "Rollout"}, "key", &corev1.Pod{}); err == nil {
		t.Error("a Rollout was made")
	}
}

// Cases share the decoded pod, and must not share the object: the lane changes it.
func TestAttemptsAreApart(t *testing.T) {
	p := plannedFor(t, "injected")
	f := newForms(p.Case.Table)
	first, err := f.attempt(p)
	if err != nil {
		t.Fatal(err)
	}
	first.Object.(*corev1.Pod).Spec.Containers[0].Image = "changed"
	second, err := f.attempt(p)
	if err != nil {
		t.Fatal(err)
	}
	if image := second.Object.(*corev1.Pod).Spec.Containers[0].Image; image != "i" {
		t.Errorf("the second attempt has image %q of the first", image)
	}
}
