// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	kadmission "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"

	"github.com/outrigger-k8s/outrigger/lane/admission"
	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/lane/source"
	"github.com/outrigger-k8s/outrigger/probe"
)

// The bars: of the bare loop's cases a second.
const (
	admissionBar    = 0.70
	controlplaneBar = 0.90
)

// How many cases a block has, about: enough for a second or more.
const (
	admissionCases    = 5000
	admissionRounds   = 4
	controlplaneCases = 2700
)

// concurrency is what a run takes by default.
func concurrency() int { return 4 * runtime.GOMAXPROCS(0) }

// measureAdmission compares the runner in the admission lane with a loop of Admit calls.
func measureAdmission(ctx context.Context, o *options) (m *Measurement, err error) {
	b, err := newBed(ctx, o.injector)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	lane := &admission.Lane{}
	b.closers = append(b.closers, func(context.Context) error { return lane.Close() })
	plan, err := slicePlan(lane.Facts(), admissionCases)
	if err != nil {
		return nil, err
	}
	requester := &user.DefaultInfo{Name: "bench", Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}
	kind, resource := corev1.SchemeGroupVersion.WithKind("Pod"), corev1.SchemeGroupVersion.WithResource("pods")
	c := &contest{bed: b, lane: lane, plan: plan, concurrency: concurrency(), rounds: admissionRounds}
	c.create = func(ctx context.Context, at *probe.Attempt, object kruntime.Object) error {
		admit, objects := lane.Chain()
		pod := object.(*corev1.Pod)
		pod.Namespace = at.Namespace
		err := admit.Admit(ctx, kadmission.NewAttributesRecord(pod, nil, kind, at.Namespace, pod.Name, resource, "",
			kadmission.Create, createOptions(at), at.DryRun, requester), objects)
		return unlessRefused(err)
	}
	return c.compare(ctx, o, "bare loop of Admit", admissionBar)
}

// measureControlplane compares the runner in the controlplane lane with a loop of client-go's Create.
func measureControlplane(ctx context.Context, o *options) (m *Measurement, err error) {
	b, err := newBed(ctx, o.injector)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	binaries, err := source.Ensure(ctx, source.Options{Progress: o.progress})
	if err != nil {
		return nil, err
	}
	cp, err := controlplane.Start(ctx, b.processes, controlplane.Options{Binaries: binaries})
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, func(context.Context) error { cp.Stop(); return nil })
	lane := controlplane.NewLane(cp, controlplane.LaneOptions{})
	b.closers = append(b.closers, lane.Close)
	plan, err := slicePlan(lane.Facts(), controlplaneCases)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cp.RESTConfig())
	if err != nil {
		return nil, fmt.Errorf("make a client for the bare loop: %w", err)
	}
	c := &contest{bed: b, lane: lane, plan: plan, concurrency: concurrency(), rounds: 1}
	c.create = func(ctx context.Context, at *probe.Attempt, object kruntime.Object) error {
		_, err := client.CoreV1().Pods(at.Namespace).Create(ctx, object.(*corev1.Pod), *createOptions(at))
		return unlessRefused(err)
	}
	return c.compare(ctx, o, "bare loop of client-go", controlplaneBar)
}

func createOptions(at *probe.Attempt) *metav1.CreateOptions {
	options := &metav1.CreateOptions{}
	if at.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	return options
}

func unlessRefused(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return nil
	}
	return err
}

// measureStartup starts control planes one after another.
func measureStartup(ctx context.Context, o *options) (m *Measurement, err error) {
	b, err := newBed(ctx, o.injector)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	binaries, err := source.Ensure(ctx, source.Options{Progress: o.progress})
	if err != nil {
		return nil, err
	}
	var times []float64
	for n := range o.pairs {
		cp, err := controlplane.Start(ctx, b.processes, controlplane.Options{Binaries: binaries})
		if err != nil {
			return nil, err
		}
		cp.Stop()
		times = append(times, cp.Startup().Seconds())
		fmt.Fprintf(o.progress, "  start %d of %d: %s\n", n+1, o.pairs, format(times[n], "s"))
	}
	m = &Measurement{Title: fmt.Sprintf("a control plane of Kubernetes %s, %d times", binaries.Version, o.pairs)}
	m.figure("start to ready", "s", times, nil)
	return m, nil
}
