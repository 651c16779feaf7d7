// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/outrigger-k8s/outrigger/probe"
)

// BenchmarkPods compares the lane with a bare client-go loop that creates the same pods by dry run, through the same
// webhook, from as many goroutines. Machines vary: run it with -count=5 and compare medians.
func BenchmarkPods(b *testing.B) {
	cp := startControlPlane(b, Options{})
	l := NewLane(cp, LaneOptions{})
	b.Cleanup(l.events.stop)
	w := startWebhook(b)
	err := l.Arrange(b.Context(), &probe.Arrangement{
		Name:       "benchmark",
		Webhooks:   arrangement{w.configuration("hooks", "/annotate", admissionregistrationv1.Fail)},
		Namespaces: []*corev1.Namespace{namespace("on", "inject=yes")},
	})
	if err != nil {
		b.Fatal(err)
	}
	bare := func(contentType string) func(context.Context, *probe.Attempt) error {
		config := cp.RESTConfig()
		config.ContentType, config.AcceptContentTypes = contentType, contentType
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			b.Fatal(err)
		}
		return func(ctx context.Context, at *probe.Attempt) error {
			_, err := client.CoreV1().Pods(at.Namespace).Create(ctx, at.Object.(*corev1.Pod),
				metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		}
	}
	for _, way := range []struct {
		name string
		try  func(context.Context, *probe.Attempt) error
	}{
		{"bare-protobuf", bare("application/vnd.kubernetes.protobuf")},
		{"bare-json", bare("application/json")},
		{"lane", func(ctx context.Context, at *probe.Attempt) error { _, err := l.Probe(ctx, at); return err }},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.SetParallelism(4) // times GOMAXPROCS
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := way.try(b.Context(), podAttempt("on", true)); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
		})
	}
}

// BenchmarkArrange measures one arrangement: a webhook configuration that changes, as most arrangements do, and a namespace
// that changes with it.
func BenchmarkArrange(b *testing.B) {
	cp := startControlPlane(b, Options{})
	l := NewLane(cp, LaneOptions{})
	b.Cleanup(l.events.stop)
	w := startWebhook(b)
	for _, what := range []struct {
		name string
		odd  []string // labels of the namespace in every other arrangement
	}{
		{"configuration", nil},
		{"configuration-and-namespace", []string{"inject=yes"}},
	} {
		b.Run(what.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				ns, path := namespace("turn", what.odd...), "/annotate"
				if i%2 == 0 {
					ns, path = namespace("turn"), "/deny"
				}
				err := l.Arrange(b.Context(), &probe.Arrangement{
					Name: "benchmark", Webhooks: arrangement{w.configuration("hooks", path, admissionregistrationv1.Fail)},
					Namespaces: []*corev1.Namespace{ns},
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
