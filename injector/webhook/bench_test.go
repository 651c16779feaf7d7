// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/injector/settings"
)

// bigReview is a review of about 4 KB, as the API server sends it for a pod of a Deployment.
func bigReview(t testing.TB) []byte {
	var env []string
	for i := range 38 {
		env = append(env, fmt.Sprintf(`{"name":"SETTING_%d","value":"the value of setting number %d"}`, i, i))
	}
	pod := `{"kind":"Pod","apiVersion":"v1","metadata":{"generateName":"web-5d4f-","namespace":"shop","creationTimestamp":null,
		"labels":{"app":"web","pod-template-hash":"5d4f"},"annotations":{"prometheus.io/scrape":"true"},"ownerReferences":[{"apiVersion":"apps/v1",
		"kind":"ReplicaSet","name":"web-5d4f","uid":"7f9d0fd4-5f5f-4f6c-9c3e-3a2b1c0d9e8f","controller":true,"blockOwnerDeletion":true}]},
		"spec":{"volumes":[{"name":"kube-api-access-x","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}}],
		"defaultMode":420}}],"containers":[{"name":"app","image":"example.org/app:1","ports":[{"containerPort":8080,"protocol":"TCP"}],"env":[` +
		strings.Join(env, ",") + `],"resources":{},"volumeMounts":[{"name":"kube-api-access-x","readOnly":true,
		"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],"terminationMessagePath":"/dev/termination-log",
		"terminationMessagePolicy":"File","imagePullPolicy":"Always"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,
		"dnsPolicy":"ClusterFirst","serviceAccountName":"default","serviceAccount":"default","securityContext":{},
		"schedulerName":"default-scheduler","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute",
		"tolerationSeconds":300}],"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority"},"status":{}}`
	r := podReview(pod)
	r.Request.UserInfo.Username = "system:serviceaccount:kube-system:replicaset-controller"
	r.Request.UserInfo.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"}
	body := encode(t, r)
	if len(body) < 3800 || len(body) > 4500 {
		t.Fatalf("the review has %d bytes, want about 4 KB", len(body))
	}
	return body
}

// BenchmarkInject is the handler alone.
func BenchmarkInject(b *testing.B) {
	s, err := settings.Parse("bench", []byte("dialect: istio-classic"))
	if err != nil {
		b.Fatal(err)
	}
	hook := New(Options{Settings: func() *settings.Settings { return s }, Log: slog.New(slog.DiscardHandler)})
	handler, body := hook.Handler(), bigReview(b)
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/inject", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}

// BenchmarkServe compares the endpoint with one that reads the body and answers nothing: over TLS, HTTP/1.1, with four
// connections that are kept alive. Machines are noisy: the two take turns in short blocks, and the medians of what is
// measured in the blocks, and of their ratios, are reported. The bar: ratio at least 0.45, p99-ratio at most 2.5.
//
//	go test -run=- -bench=Serve -benchtime=20x ./injector/webhook
func BenchmarkServe(b *testing.B) {
	s, err := settings.Parse("bench", []byte("dialect: istio-classic"))
	if err != nil {
		b.Fatal(err)
	}
	hook := New(Options{Settings: func() *settings.Settings { return s }, Log: slog.New(slog.DiscardHandler)})
	injector := httptest.NewTLSServer(hook.Handler())
	defer injector.Close()
	nothing := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer nothing.Close()
	body := bigReview(b)

	var rates, empties, ratios, tails []float64
	block(b, injector, body) // warm up
	block(b, nothing, body)
	for b.Loop() {
		empty, emptyTail := block(b, nothing, body)
		rate, tail := block(b, injector, body)
		rates, empties = append(rates, rate), append(empties, empty)
		ratios, tails = append(ratios, rate/empty), append(tails, float64(tail)/float64(emptyTail))
	}
	b.ReportMetric(median(empties), "empty-req/s")
	b.ReportMetric(median(rates), "req/s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(tails), "p99-ratio")
}

// block sends reviews for a while over four connections. It returns how many were answered a second, and the time
// within which 99 % of them were.
func block(b *testing.B, server *httptest.Server, body []byte) (rate float64, p99 time.Duration) {
	const connections, each = 4, 500
	roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	var clients [connections]*http.Client
	for i := range clients {
		clients[i] = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
		defer clients[i].CloseIdleConnections()
		send(b, clients[i], server.URL, body)
	}
	var failed atomic.Bool
	var times [connections][]time.Duration
	var all sync.WaitGroup
	start := time.Now()
	for i := range clients {
		all.Go(func() {
			for range each {
				begin := time.Now()
				if !send(b, clients[i], server.URL, body) {
					failed.Store(true)
					return
				}
				times[i] = append(times[i], time.Since(begin))
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	if failed.Load() {
		b.FailNow()
	}
	sorted := slices.Sorted(slices.Values(slices.Concat(times[:]...)))
	return connections * each / took.Seconds(), sorted[len(sorted)*99/100]
}

func send(b *testing.B, client *http.Client, url string, body []byte) bool {
	r, err := client.Post(url+"/inject", "application/json", bytes.NewReader(body))
	if err != nil {
		b.Error(err)
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	r.Body.Close()
	if err != nil || r.StatusCode != http.StatusOK {
		b.Errorf("got %d, %v", r.StatusCode, err)
		return false
	}
	return true
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
