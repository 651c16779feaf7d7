// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// workloads is about pods that controllers make.
var workloads = []*Proof{
	{
		Name: "rollout", Title: "after its namespace is labelled, a Deployment's old pods stay as they are, and a rollout's are injected", Outcome: "injected",
		Because:   "injection happens when a pod is created, and never again",
		Source:    "istio.io/latest/docs/setup/additional-setup/sidecar-injection",
		Catalogue: []int{23},
		show:      rollout,
	},
	{
		Name: "deployment", Title: "a Deployment comes up with the sidecar", Outcome: "injected",
		Because: "its ReplicaSet's pods are admitted like any other", Source: "kubernetes.io/docs/concepts/workloads/controllers/deployment",
		show: comesUp(func(ctx context.Context, w *world, ns string, pod corev1.PodTemplateSpec) error {
			_, err := w.client.AppsV1().Deployments(ns).Create(ctx, deployment("app", 2, pod), metav1.CreateOptions{})
			return err
		}, 2),
	},
	{
		Name: "statefulset", Title: "a StatefulSet comes up with the sidecar, one pod after another", Outcome: "injected",
		Because: "its next pod is made when the one before is Ready, sidecar included", Source: "kubernetes.io/docs/concepts/workloads/controllers/statefulset",
		Long: true,
		show: comesUp(func(ctx context.Context, w *world, ns string, pod corev1.PodTemplateSpec) error {
			two := int32(2)
			_, err := w.client.AppsV1().StatefulSets(ns).Create(ctx, &appsv1.StatefulSet{
				ObjectMeta: metav1.ObjectMeta{Name: "app"},
				Spec:       appsv1.StatefulSetSpec{Replicas: &two, Selector: &metav1.LabelSelector{MatchLabels: pod.Labels}, Template: pod},
			}, metav1.CreateOptions{})
			return err
		}, 2),
	},
	{
		Name: "daemonset", Title: "a DaemonSet comes up with the sidecar", Outcome: "injected",
		Because: "its pods are admitted like any other", Source: "kubernetes.io/docs/concepts/workloads/controllers/daemonset",
		show: comesUp(func(ctx context.Context, w *world, ns string, pod corev1.PodTemplateSpec) error {
			pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
			_, err := w.client.AppsV1().DaemonSets(ns).Create(ctx, &appsv1.DaemonSet{
				ObjectMeta: metav1.ObjectMeta{Name: "app"},
				Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: pod.Labels}, Template: pod},
			}, metav1.CreateOptions{})
			return err
		}, 1),
	},
	{
		Name: "job", Title: "a Job with an ordinary sidecar does its work, and does not complete until the sidecar ends", Outcome: "injected",
		Because:   "a pod has succeeded when all its containers have ended, and an ordinary sidecar does not end by itself",
		Source:    "kubernetes.io/docs/concepts/workloads/pods/sidecar-containers",
		Catalogue: []int{33},
		show: func(ctx context.Context, w *world) error {
			return w.with(ctx, enabled, func(ns string) error {
				job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "task"}, Spec: batchv1.JobSpec{Template: template(w.task())}}
				if _, err := w.client.BatchV1().Jobs(ns).Create(ctx, job, metav1.CreateOptions{}); err != nil {
					return err
				}
				return w.heldUp(ctx, ns, "task")
			})
		},
	},
	{
		Name: "cronjob", Title: "a CronJob's Jobs come up with the sidecar", Outcome: "injected",
		Because: "their pods are admitted like any other", Source: "kubernetes.io/docs/concepts/workloads/controllers/cron-jobs",
		Long: true,
		show: cronJob,
	},
	{
		Name: "job-native", Title: "a Job with a native sidecar completes", Outcome: "injected",
		Because:   "an init container with restartPolicy Always is ended by the kubelet when the containers have ended",
		Source:    "kubernetes.io/docs/concepts/workloads/pods/sidecar-containers",
		Catalogue: []int{33},
		Alone:     true, // the injector's settings are others meanwhile
		show: func(ctx context.Context, w *world) error {
			return w.configured(ctx, func(settings map[string]any) {
				settings["template"].(map[string]any)["native"] = true
			}, func() error {
				return w.with(ctx, enabled, func(ns string) error {
					job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "task"}, Spec: batchv1.JobSpec{Template: template(w.task())}}
					if _, err := w.client.BatchV1().Jobs(ns).Create(ctx, job, metav1.CreateOptions{}); err != nil {
						return err
					}
					if err := w.completes(ctx, ns, "task"); err != nil {
						return err
					}
					pods, err := w.podsOf(ctx, ns, "task")
					if err != nil {
						return err
					}
					return must(len(pods) == 1 && injected(&pods[0].Spec), "the Job's %d pods have no sidecar", len(pods))
				})
			})
		},
	},
}

func template(pod *corev1.Pod) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels}, Spec: pod.Spec}
}

// deployment is one whose pods are all replaced at once when it is rolled out.
func deployment(name string, replicas int32, pod corev1.PodTemplateSpec) *appsv1.Deployment {
	all, none := intstr.FromString("100%"), intstr.FromInt32(0)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: pod.Labels}, Template: pod,
			Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &all, MaxUnavailable: &none}},
		},
	}
}

// comesUp shows that what make makes has count pods, which become Ready, all with the sidecar.
func comesUp(make func(context.Context, *world, string, corev1.PodTemplateSpec) error, count int) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		return w.with(ctx, enabled, func(ns string) error {
			if err := make(ctx, w, ns, template(w.app("app"))); err != nil {
				return err
			}
			pods, err := w.awaitPods(ctx, ns, "app", count)
			if err != nil {
				return err
			}
			for _, pod := range pods {
				if err := initFirst(&pod); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// podsOf are the pods of app that there are to stay: for one that has failed its controller makes another.
func (w *world) podsOf(ctx context.Context, namespace, app string) ([]corev1.Pod, error) {
	list, err := w.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return nil, fmt.Errorf("list the pods of %s in %s: %w", app, namespace, err)
	}
	var pods []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodFailed {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// awaitPods waits until there are exactly count pods of app, all Ready.
func (w *world) awaitPods(ctx context.Context, namespace, app string, count int) ([]corev1.Pod, error) {
	var pods []corev1.Pod
	err := await(ctx, fmt.Sprintf("%d pods of %s in %s are Ready", count, app, namespace), func(ctx context.Context) (string, error) {
		var err error
		if pods, err = w.podsOf(ctx, namespace, app); err != nil {
			return "", err
		}
		for _, pod := range pods {
			if lacks := notReady(&pod); lacks != "" {
				return "pod " + pod.Name + ": " + lacks, nil
			}
		}
		if len(pods) != count {
			return fmt.Sprintf("there are %d", len(pods)), nil
		}
		return "", nil
	})
	return pods, err
}

// heldUp shows of a Job's pod that its application ends, its sidecar does not, and the Job completes once that is told to.
func (w *world) heldUp(ctx context.Context, namespace, job string) error {
	var pod corev1.Pod
	err := await(ctx, "the application of Job "+job+" has ended, and its sidecar runs", func(ctx context.Context) (string, error) {
		pods, err := w.podsOf(ctx, namespace, "task")
		if err != nil || len(pods) == 0 {
			return "no pod", err
		}
		pod = pods[0]
		ended, runs := false, false
		for _, s := range pod.Status.ContainerStatuses {
			ended = ended || s.Name == "app" && s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
			runs = runs || s.Name == sidecar && s.State.Running != nil && s.Ready
		}
		if !ended || !runs {
			return fmt.Sprintf("ended %t, runs %t: %s", ended, runs, notReady(&pod)), nil
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	if pod.Status.Phase != corev1.PodRunning {
		return fmt.Errorf("the pod's phase is %s though its sidecar runs", pod.Status.Phase)
	}
	live, err := w.client.BatchV1().Jobs(namespace).Get(ctx, job, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if live.Status.CompletionTime != nil || live.Status.Succeeded > 0 {
		return fmt.Errorf("the Job has completed though its sidecar runs: %+v", live.Status)
	}
	if err := w.quit(ctx, namespace, pod.Name); err != nil {
		return err
	}
	return w.completes(ctx, namespace, job)
}

func (w *world) completes(ctx context.Context, namespace, job string) error {
	return await(ctx, "Job "+namespace+"/"+job+" completes", func(ctx context.Context) (string, error) {
		live, err := w.client.BatchV1().Jobs(namespace).Get(ctx, job, metav1.GetOptions{})
		if err != nil || live.Status.CompletionTime != nil {
			return "", err
		}
		pods, err := w.podsOf(ctx, namespace, "task")
		if err != nil || len(pods) == 0 {
			return fmt.Sprintf("%+v", live.Status), err
		}
		return notReady(&pods[0]), nil
	})
}

func cronJob(ctx context.Context, w *world) error {
	return w.with(ctx, enabled, func(ns string) error {
		jobs := w.client.BatchV1().CronJobs(ns)
		_, err := jobs.Create(ctx, &batchv1.CronJob{
			ObjectMeta: metav1.ObjectMeta{Name: "task"},
			Spec: batchv1.CronJobSpec{
				Schedule: "* * * * *", ConcurrencyPolicy: batchv1.ForbidConcurrent,
				JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template(w.task())}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		// As if it had run two minutes ago: it is due at once, and not at the next full minute.
		past := metav1.NewTime(time.Now().Add(-2 * time.Minute))
		patch, err := json.Marshal(map[string]any{"status": batchv1.CronJobStatus{LastScheduleTime: &past}})
		if err != nil {
			return err
		}
		if _, err := jobs.Patch(ctx, "task", types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			return fmt.Errorf("make the CronJob due: %w", err)
		}
		job := ""
		if err := await(ctx, "the CronJob has made a Job", func(ctx context.Context) (string, error) {
			list, err := w.client.BatchV1().Jobs(ns).List(ctx, metav1.ListOptions{})
			if err != nil || len(list.Items) == 0 {
				return "none", err
			}
			job = list.Items[0].Name
			return "", nil
		}); err != nil {
			return err
		}
		return w.heldUp(ctx, ns, job)
	})
}

func rollout(ctx context.Context, w *world) error {
	return w.with(ctx, nil, func(ns string) error {
		deployments := w.client.AppsV1().Deployments(ns)
		if _, err := deployments.Create(ctx, deployment("app", 2, template(w.app("app"))), metav1.CreateOptions{}); err != nil {
			return err
		}
		old, err := w.awaitPods(ctx, ns, "app", 2)
		if err != nil {
			return err
		}
		known := map[types.UID]bool{}
		for _, pod := range old {
			if known[pod.UID] = true; injected(&pod.Spec) {
				return fmt.Errorf("pod %s was injected though its namespace has no label", pod.Name)
			}
		}
		label := []byte(`{"metadata":{"labels":{"istio-injection":"enabled"}}}`)
		if _, err := w.client.CoreV1().Namespaces().Patch(ctx, ns, types.MergePatchType, label, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("label the namespace: %w", err)
		}
		// The API server has the label in its cache once a new pod is injected: by then the old ones have had their chance.
		if err := w.awaitInjecting(ctx, ns); err != nil {
			return err
		}
		pods, err := w.podsOf(ctx, ns, "app")
		if err != nil {
			return err
		}
		for _, pod := range pods {
			if !known[pod.UID] || injected(&pod.Spec) {
				return fmt.Errorf("labelling the namespace changed pod %s (injected %t)", pod.Name, injected(&pod.Spec))
			}
		}
		restart := []byte(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}`)
		if _, err := deployments.Patch(ctx, "app", types.MergePatchType, restart, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("restart the Deployment: %w", err)
		}
		return await(ctx, "the rollout has replaced both pods by injected ones", func(ctx context.Context) (string, error) {
			pods, err := w.podsOf(ctx, ns, "app")
			if err != nil {
				return "", err
			}
			for _, pod := range pods {
				switch {
				case known[pod.UID] && injected(&pod.Spec):
					return "", fmt.Errorf("old pod %s has a sidecar now", pod.Name)
				case known[pod.UID]:
					return "old pod " + pod.Name + " is still there", nil
				case !injected(&pod.Spec):
					return "new pod " + pod.Name + " has no sidecar", nil
				case notReady(&pod) != "":
					return "new pod " + pod.Name + ": " + notReady(&pod), nil
				}
			}
			return map[bool]string{true: "", false: fmt.Sprintf("there are %d pods", len(pods))}[len(pods) == 2], nil
		})
	})
}

// awaitInjecting waits until a pod that would be created in the namespace is injected.
func (w *world) awaitInjecting(ctx context.Context, namespace string) error {
	return await(ctx, "pods in "+namespace+" are injected", func(ctx context.Context) (string, error) {
		pod, err := w.client.CoreV1().Pods(namespace).Create(ctx, w.app("trial"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil || injected(&pod.Spec) {
			return "", err
		}
		return "it is not", nil
	})
}
