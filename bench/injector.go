// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/outrigger-k8s/outrigger/proc"
)

const (
	connections = 4    // that send reviews, each one after another
	reviewBytes = 4096 // of a review, give or take an environment variable

	injectorRateBar   = 0.45 // of the empty endpoint's requests a second
	injectorTailBar   = 2.5  // times the empty endpoint's p99
	injectorMemoryBar = 64.0 // MiB
)

// review is an AdmissionReview of about reviewBytes for a pod that is to be injected.
func review() ([]byte, error) {
	pod := corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "web-5d4f8c7b9-", Namespace: "shop", Labels: map[string]string{"app": "web", "pod-template-hash": "5d4f8c7b9"},
		},
		Spec: corev1.PodSpec{
			Containers:         []corev1.Container{{Name: "app", Image: "registry.example/app:1", ImagePullPolicy: corev1.PullIfNotPresent}},
			RestartPolicy:      corev1.RestartPolicyAlways,
			ServiceAccountName: "default",
		},
	}
	r := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "705ab4f5-6393-11e8-b7cc-42010a800002", Namespace: "shop", Operation: admissionv1.Create,
			Kind:            metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource:        metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			RequestKind:     &metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			RequestResource: &metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			UserInfo:        authenticationv1.UserInfo{Username: "system:serviceaccount:kube-system:replicaset-controller"},
		},
	}
	for n := 0; ; n++ {
		raw, err := json.Marshal(pod)
		if err != nil {
			return nil, err
		}
		r.Request.Object = kruntime.RawExtension{Raw: raw}
		body, err := json.Marshal(r)
		if err != nil || len(body) >= reviewBytes {
			return body, err
		}
		app := &pod.Spec.Containers[0]
		app.Env = append(app.Env, corev1.EnvVar{Name: "SETTING_" + strconv.Itoa(n), Value: "the value of setting number " + strconv.Itoa(n)})
	}
}

// An endpoint is a server that is sent reviews.
type endpoint struct {
	url     string
	metrics string // URL of its metrics; "": it has none
	process *proc.Process
	clients [connections]*http.Client
	body    []byte
}

func newEndpoint(p *proc.Process, s serving, roots *x509.CertPool, body []byte) *endpoint {
	e := &endpoint{url: "https://" + s.Listen + "/inject", process: p, body: body}
	if s.MetricsListen != "" {
		e.metrics = "http://" + s.MetricsListen + "/metrics"
	}
	for i := range e.clients { // a transport each: one connection, kept
		e.clients[i] = &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxConnsPerHost: 1, DisableCompression: true,
		}}
	}
	return e
}

func (e *endpoint) close() {
	for _, c := range e.clients {
		c.CloseIdleConnections()
	}
}

// send sends a review and reads the whole answer into buffer.
func (e *endpoint) send(ctx context.Context, client *http.Client, buffer *bytes.Buffer) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(e.body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	buffer.Reset()
	if _, err := buffer.ReadFrom(answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %.200q", e.url, answer.Status, buffer)
	}
	return nil
}

// A load is what came of one block of requests.
type load struct {
	rate     float64 // requests a second
	p50, p99 float64 // milliseconds
	// Of the process, for each request; of an endpoint with metrics only.
	allocations, allocated float64
}

// load sends n requests.
func (e *endpoint) load(ctx context.Context, n int) (load, error) {
	var l load
	before, err := e.heap(ctx)
	if err != nil {
		return l, err
	}
	each := n / connections
	times := make([][]time.Duration, connections)
	for i := range times {
		times[i] = make([]time.Duration, 0, each)
	}
	runtime.GC()
	group, running := errgroup.WithContext(ctx)
	start := time.Now()
	for i, client := range e.clients {
		group.Go(func() error {
			var buffer bytes.Buffer
			for range each {
				sent := time.Now()
				if err := e.send(running, client, &buffer); err != nil {
					return err
				}
				times[i] = append(times[i], time.Since(sent))
			}
			return nil
		})
	}
	err = group.Wait()
	took := time.Since(start)
	if err != nil {
		return l, err
	}
	sorted := slices.Sorted(slices.Values(slices.Concat(times...)))
	l.rate = float64(len(sorted)) / took.Seconds()
	l.p50, l.p99 = milliseconds(quantile(sorted, 0.50)), milliseconds(quantile(sorted, 0.99))
	after, err := e.heap(ctx)
	l.allocations = (after.allocations - before.allocations) / float64(len(sorted))
	l.allocated = (after.allocated - before.allocated) / float64(len(sorted))
	return l, err
}

// quantile is the smallest of the sorted values that at least the share q of them does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// heap counts what a process has allocated since its start.
type heap struct{ allocations, allocated float64 }

func (e *endpoint) heap(ctx context.Context) (h heap, err error) {
	if e.metrics == "" {
		return h, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.metrics, nil)
	if err != nil {
		return h, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return h, fmt.Errorf("read the injector's metrics: %w", err)
	}
	defer answer.Body.Close()
	return readHeap(io.LimitReader(answer.Body, 1<<20))
}

// readHeap finds the Go collector's two counters in a text of metrics.
func readHeap(text io.Reader) (h heap, err error) {
	into := map[string]*float64{"go_memstats_mallocs_total": &h.allocations, "go_memstats_alloc_bytes_total": &h.allocated}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v := into[name]; v != nil {
			if *v, err = strconv.ParseFloat(value, 64); err != nil {
				return h, fmt.Errorf("read the injector's metrics: %s: %w", name, err)
			}
			delete(into, name)
		}
	}
	if err := lines.Err(); err != nil {
		return h, fmt.Errorf("read the injector's metrics: %w", err)
	}
	if len(into) > 0 {
		return h, errors.New("read the injector's metrics: go_memstats_mallocs_total or go_memstats_alloc_bytes_total is not among them")
	}
	return h, nil
}

// measureInjector compares the injector with an endpoint that does nothing.
func measureInjector(ctx context.Context, o *options) (m *Measurement, err error) {
	b, err := newBed(ctx, o.injector)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	body, err := review()
	if err != nil {
		return nil, fmt.Errorf("write a review: %w", err)
	}
	dir := b.processes.Dir()
	file := func(name string) string { return filepath.Join(dir, name) }
	pair, err := b.authority.Issue("127.0.0.1")
	if err != nil {
		return nil, err
	}
	if err := pair.Write(file("cert.pem"), file("key.pem")); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file("injector.yaml"), []byte("dialect: istio-classic\npolicy: enabled\n"), 0o600); err != nil {
		return nil, err
	}
	process, at, err := start(ctx, b.processes, proc.Spec{Name: "injector", Path: o.injector, Args: []string{
		"serve", "--config", file("injector.yaml"), "--tls-cert", file("cert.pem"), "--tls-key", file("key.pem"),
		"--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
	}})
	if err != nil {
		return nil, err
	}
	injector := newEndpoint(process, at, b.authority.Pool(), body)
	defer injector.close()

	var answer bytes.Buffer
	if err := injector.send(ctx, injector.clients[0], &answer); err != nil {
		return nil, err
	}
	if !bytes.Contains(answer.Bytes(), []byte(`"patch"`)) {
		return nil, fmt.Errorf("the injector answered without a patch: %.300q", answer.Bytes())
	}
	if err := os.WriteFile(file("answer.json"), answer.Bytes(), 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process, at, err = start(ctx, b.processes, proc.Spec{Name: "empty", Path: self, Args: []string{
		emptyCommand, file("cert.pem"), file("key.pem"), file("answer.json"),
	}})
	if err != nil {
		return nil, err
	}
	empty := newEndpoint(process, at, b.authority.Pool(), body)
	defer empty.close()

	for _, e := range []*endpoint{injector, empty} {
		if _, err := e.load(ctx, o.requests/4); err != nil {
			return nil, fmt.Errorf("warm up: %w", err)
		}
	}
	var ours, theirs []load
	for n := range o.pairs {
		a, err := injector.load(ctx, o.requests)
		if err != nil {
			return nil, err
		}
		z, err := empty.load(ctx, o.requests)
		if err != nil {
			return nil, err
		}
		ours, theirs = append(ours, a), append(theirs, z)
		fmt.Fprintf(o.progress, "  pair %d of %d: %s of %s\n", n+1, o.pairs, format(a.rate, "requests/s"), format(z.rate, "requests/s"))
	}
	peak, err := peakMemory(injector.process.PID())
	if err != nil {
		return nil, err
	}
	rate := func(l load) float64 { return l.rate }
	p50 := func(l load) float64 { return l.p50 }
	p99 := func(l load) float64 { return l.p99 }
	m = &Measurement{Title: fmt.Sprintf("blocks of %d reviews of %d bytes over %d connections, each answered with %d bytes",
		o.requests/connections*connections, len(body), connections, answer.Len())}
	m.figure("injector", "requests/s", each(ours, rate), nil)
	m.figure("empty endpoint", "requests/s", each(theirs, rate), nil)
	m.figure("injector / empty endpoint", percent, ratios(each(ours, rate), each(theirs, rate)), atLeast(injectorRateBar))
	m.figure("injector, p50", "ms", each(ours, p50), nil)
	m.figure("empty endpoint, p50", "ms", each(theirs, p50), nil)
	m.figure("injector, p99", "ms", each(ours, p99), nil)
	m.figure("empty endpoint, p99", "ms", each(theirs, p99), nil)
	m.figure("p99, injector / empty endpoint", "times", ratios(each(ours, p99), each(theirs, p99)), atMost(injectorTailBar))
	m.figure("allocations a review", "", each(ours, func(l load) float64 { return l.allocations }), nil)
	m.figure("allocated a review", "KiB", each(ours, func(l load) float64 { return l.allocated / 1024 }), nil)
	if peak > 0 {
		m.figure("injector, most resident memory", "MiB", []float64{peak}, atMost(injectorMemoryBar))
	}
	return m, nil
}

func each(list []load, of func(load) float64) []float64 {
	values := make([]float64, len(list))
	for i, l := range list {
		values[i] = of(l)
	}
	return values
}
