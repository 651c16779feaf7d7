// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/outrigger-k8s/outrigger/probe"
)

// probeWorkload creates the workload for real, and waits until a controller has created a pod of it or was refused one.
// The observation's Cleanup deletes it with its pods; after an error it is deleted at once.
func (l *Lane) probeWorkload(ctx context.Context, at *probe.Attempt) (_ *probe.Observation, err error) {
	client, resource, into, err := l.workload(at.Object)
	if err != nil {
		return nil, err
	}
	at.DryRun = false
	l.holdWorkload(at.Object)
	event, forget := l.cluster.Audit.expectKey(at.Key)
	defer forget()
	defer l.events.forget(at.Key)
	if err := l.events.expect(ctx, at.Key); err != nil {
		return nil, err
	}
	forgetTrail := func() {}
	if at.Keep {
		forgetTrail = l.cluster.Audit.follow(at.Key)
	}
	began := time.Now()
	made, err := l.create(ctx, at, client, resource, at.Object, into)
	if err != nil || made.Refused != nil {
		forgetTrail()
		return made.Observation, err
	}
	cleanup := func(ctx context.Context) error {
		forgetTrail()
		err := l.delete(ctx, client, resource, at.Namespace, at.Key)
		if at.Keep { // other pods than the first may have come
			err = errors.Join(err, l.deleteAll(ctx, l.rest(), "pods", at))
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, cleanup(ctx))
		}
	}()
	if _, ok := at.Object.(*batchv1.CronJob); ok {
		if err := l.fire(ctx, client, at); err != nil {
			return nil, err
		}
	}

	e, err := l.awaitEvent(ctx, event)
	if err != nil {
		return nil, fmt.Errorf("wait until a controller creates a pod of %s %s: %w%s", resource, at.Key, err, l.seenSoFar(at.Key))
	}
	o := &probe.Observation{Latency: time.Since(began), Warnings: made.Warnings, Audit: e.Annotations}
	if err := o.ReadAudit(); err != nil {
		return nil, err
	}
	if o.Pod, o.Refused, err = e.outcome(); err != nil {
		return nil, err
	}
	o.Cleanup = cleanup
	if o.Pod != nil {
		o.Cleanup = func(ctx context.Context) error {
			// The workload first, or its controller would make another pod. A webhook may have changed the pod's
			// labels, and then its controller has released it: the garbage collector will not find it.
			return errors.Join(cleanup(ctx), l.delete(ctx, l.rest(), "pods", at.Namespace, o.Pod.Name))
		}
	}
	if o.Refused != nil {
		o.Retried = true
		o.Events = l.events.await(ctx, at.Key, l.options.EventWait)
		if at.Condition != "" {
			if o.Conditions, err = l.awaitCondition(ctx, client, resource, at); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

// awaitCondition returns the conditions of the workload that are True once the one that the attempt names is among them, or
// when as much time is over as events are waited for.
func (l *Lane) awaitCondition(ctx context.Context, client rest.Interface, resource string, at *probe.Attempt) ([]string, error) {
	until := time.Now().Add(l.options.EventWait)
	var conditions []string
	what := fmt.Sprintf("condition %s of %s %s is True", at.Condition, resource, at.Key)
	err := l.cluster.awaitEvery(ctx, lookInterval, what, func(ctx context.Context) (bool, error) {
		raw, err := client.Get().Namespace(at.Namespace).Resource(resource).Name(at.Key).SetHeader("Accept", runtime.ContentTypeJSON).DoRaw(ctx)
		if err != nil {
			return false, err
		}
		var workload struct {
			Status struct {
				Conditions []struct {
					Type   string
					Status corev1.ConditionStatus
				}
			}
		}
		if err := json.Unmarshal(raw, &workload); err != nil {
			return false, err
		}
		conditions = nil
		for _, c := range workload.Status.Conditions {
			if c.Status == corev1.ConditionTrue {
				conditions = append(conditions, c.Type)
			}
		}
		slices.Sort(conditions)
		return slices.Contains(conditions, at.Condition) || time.Now().After(until), nil
	})
	return conditions, err
}

// hold keeps a pod that will be stored from being started.
func (l *Lane) hold(kind string, pod *corev1.PodSpec) {
	if l.options.Hold != nil {
		l.options.Hold(kind, pod)
	}
}

func (l *Lane) holdWorkload(object runtime.Object) {
	switch w := object.(type) {
	case *appsv1.Deployment:
		l.hold("Deployment", &w.Spec.Template.Spec)
	case *appsv1.ReplicaSet:
		l.hold("ReplicaSet", &w.Spec.Template.Spec)
	case *appsv1.StatefulSet:
		l.hold("StatefulSet", &w.Spec.Template.Spec)
	case *appsv1.DaemonSet:
		l.hold("DaemonSet", &w.Spec.Template.Spec)
	case *batchv1.Job:
		l.hold("Job", &w.Spec.Template.Spec)
	case *batchv1.CronJob:
		l.hold("CronJob", &w.Spec.JobTemplate.Spec.Template.Spec)
	case *corev1.ReplicationController:
		l.hold("ReplicationController", &w.Spec.Template.Spec)
	}
}

// fire makes a CronJob due at once, as if its last run had been before the latest turn of the year, at which those of the
// probe run: no second run comes in the middle of the case.
func (l *Lane) fire(ctx context.Context, client rest.Interface, at *probe.Attempt) error {
	past := metav1.NewTime(beforeTurn(time.Now()))
	patch, err := json.Marshal(map[string]any{"status": batchv1.CronJobStatus{LastScheduleTime: &past}})
	if err != nil {
		return err
	}
	err = client.Patch(types.MergePatchType).
		Namespace(at.Namespace).
		Resource("cronjobs").
		Name(at.Key).
		SubResource("status").
		Body(patch).
		Do(ctx).
		Error()
	if err != nil {
		return fmt.Errorf("make CronJob %s due: %w", at.Key, orCause(ctx, err))
	}
	return nil
}

// beforeTurn is a time before the latest turn of a year, in whatever time zone.
func beforeTurn(now time.Time) time.Time { return now.AddDate(-1, 0, -2) }

func (l *Lane) seenSoFar(key string) string {
	events := l.events.seen(key)
	if len(events) == 0 {
		return " (no Warning event about it)"
	}
	return fmt.Sprintf(" (Warning events about it: %q)", events)
}

// workload is where objects of this kind are created, and an empty one for the answer.
func (l *Lane) workload(object runtime.Object) (client rest.Interface, resource string, into runtime.Object, err error) {
	apps, batch, core := l.client.AppsV1().RESTClient(), l.client.BatchV1().RESTClient(), l.client.CoreV1().RESTClient()
	switch object.(type) {
	case *appsv1.Deployment:
		return apps, "deployments", &appsv1.Deployment{}, nil
	case *appsv1.ReplicaSet:
		return apps, "replicasets", &appsv1.ReplicaSet{}, nil
	case *appsv1.StatefulSet:
		return apps, "statefulsets", &appsv1.StatefulSet{}, nil
	case *appsv1.DaemonSet:
		return apps, "daemonsets", &appsv1.DaemonSet{}, nil
	case *batchv1.Job:
		return batch, "jobs", &batchv1.Job{}, nil
	case *batchv1.CronJob:
		return batch, "cronjobs", &batchv1.CronJob{}, nil
	case *corev1.ReplicationController:
		return core, "replicationcontrollers", &corev1.ReplicationController{}, nil
	}
	return nil, "", nil, fmt.Errorf("a %T is no workload whose pods can be tried", object)
}
