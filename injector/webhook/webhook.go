// SPDX-License-Identifier: Apache-2.0

// Package webhook answers the API server's admission reviews.
//
// Over HTTPS:
//
//	POST /inject    a MutatingWebhookConfiguration's pods: answered with a patch, or without one
//	POST /validate  a ValidatingWebhookConfiguration's ConfigMaps: one with a broken configuration is denied
//	GET  /healthz   200 while the process can answer
//	GET  /readyz    200 while it should be asked, 503 while it stops; says which configuration is in force
//
// The last two, and /metrics, are on a plain listener too, for kubelet and Prometheus.
//
// What comes in is bounded and not trusted. A request that is no review gets an HTTP error with a text that the API
// server shows to its user; a review of something that the endpoint was not made for is allowed with a warning, since
// a mistake in a webhook's rules must not stop a cluster. Whether a failure of the injector stops the pod is not the
// injector's to decide: that is the failurePolicy.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/outrigger-k8s/outrigger/injector/settings"
)

// DefaultMostBytes is how long a review may be by default: the API server's own limit for an object that a client
// sends is 3 MiB.
const DefaultMostBytes = 3 << 20

// DefaultConfigMapKey is the key of a ConfigMap under which /validate looks by default.
const DefaultConfigMapKey = "config"

// Options are what a webhook is made of.
type Options struct {
	// Settings returns the settings in force. It is asked once for each review. While it returns nil, the webhook is
	// not ready and answers no review of a pod. Required.
	Settings func() *settings.Settings
	// Ready says what else is to be waited for before the webhook is ready. Default: nothing.
	Ready func() error
	// Log is where to log. Default: slog.Default().
	Log *slog.Logger
	// Metrics counts. Default: metrics that nobody reads.
	Metrics *Metrics
	// MostBytes is how long a body may be. Default: DefaultMostBytes.
	MostBytes int64
	// ConfigMapKey is where a ConfigMap holds a configuration. Default: DefaultConfigMapKey.
	ConfigMapKey string
}

// Webhook answers reviews. Any number of goroutines may use it.
type Webhook struct {
	settings     func() *settings.Settings
	ready        func() error
	log          *slog.Logger
	metrics      *Metrics
	mostBytes    int64
	configMapKey string
	draining     atomic.Bool
	buffers      sync.Pool // of *bytes.Buffer
}

// New makes a webhook.
func New(o Options) *Webhook {
	w := &Webhook{
		settings: o.Settings, ready: o.Ready, log: o.Log, metrics: o.Metrics, mostBytes: o.MostBytes, configMapKey: o.ConfigMapKey,
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
	if w.ready == nil {
		w.ready = func() error { return nil }
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	if w.metrics == nil {
		w.metrics = NewMetrics(prometheus.NewRegistry(), o.Settings)
	}
	if w.mostBytes == 0 {
		w.mostBytes = DefaultMostBytes
	}
	if w.configMapKey == "" {
		w.configMapKey = DefaultConfigMapKey
	}
	return w
}

// Drain makes the webhook unready, for good. It answers reviews as before, but asks whoever it answers for another
// connection: an API server would go on with the one it has, which ends when the process does, and closing a connection
// on which a review may be on its way is what net/http's Shutdown does. So Drain first, and Shutdown later.
func (w *Webhook) Drain() { w.draining.Store(true) }

// Handler returns what is served over HTTPS.
func (w *Webhook) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /inject", w.endpoint("inject", w.inject))
	mux.Handle("POST /validate", w.endpoint("validate", w.validate))
	w.health(mux)
	return mux
}

// Plain returns what is served without TLS: nothing that the cluster trusts.
func (w *Webhook) Plain(metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	w.health(mux)
	return mux
}

// health adds the endpoints for probes.
func (w *Webhook) health(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(rw, "ok")
	})
	mux.HandleFunc("GET /readyz", func(rw http.ResponseWriter, _ *http.Request) {
		status, code := w.status(), http.StatusOK
		if !status.Ready {
			code = http.StatusServiceUnavailable
		}
		w.write(rw, code, status)
	})
}

// status is what /readyz answers.
type status struct {
	Ready bool `json:"ready"`
	// Waiting is what the webhook waits for, if it is not ready.
	Waiting string `json:"waiting,omitempty"`
	// Configuration is the SHA-256 of the one in force.
	Configuration string `json:"configuration"`
	Dialect       string `json:"dialect"`
}

func (w *Webhook) status() status {
	var st status
	s, err := w.settings(), w.ready()
	if s != nil {
		st.Configuration, st.Dialect = s.Hash, s.Decision.Dialect.Name
	}
	switch {
	case w.draining.Load():
		st.Waiting = "for its end"
	case err != nil:
		st.Waiting = err.Error()
	case s == nil:
		st.Waiting = errNoSettings
	default:
		st.Ready = true
	}
	return st
}

// errNoSettings is why a webhook is not ready, and what it answers meanwhile.
const errNoSettings = "for a configuration: there has not been a good one yet"

// endpoint makes a handler of a function from a review's body to its answer.
func (w *Webhook) endpoint(name string, review func(context.Context, []byte) (*answer, *refusal)) http.Handler {
	latency := w.metrics.latency.WithLabelValues(name)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		defer func() { latency.Observe(time.Since(start).Seconds()) }()
		defer w.recover(rw, r)
		if w.draining.Load() {
			rw.Header().Set("Connection", "close") // in HTTP/2: GOAWAY, once this is answered
		}
		buffer := w.buffers.Get().(*bytes.Buffer)
		defer w.release(buffer)
		body, refused := w.read(rw, r, buffer)
		if refused != nil {
			w.refuse(rw, r, refused)
			return
		}
		a, refused := review(r.Context(), body)
		if refused != nil {
			w.refuse(rw, r, refused)
			return
		}
		w.write(rw, http.StatusOK, a)
	})
}

// read reads a body into the buffer, within the limit.
func (w *Webhook) read(rw http.ResponseWriter, r *http.Request, into *bytes.Buffer) ([]byte, *refusal) {
	if media := r.Header.Get("Content-Type"); !isJSON(media) {
		return nil, &refusal{code: http.StatusUnsupportedMediaType, kind: notJSON,
			text: fmt.Sprintf("the content type is %.64q, want application/json", media)}
	}
	_, err := into.ReadFrom(http.MaxBytesReader(rw, r.Body, w.mostBytes))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, &refusal{code: http.StatusRequestEntityTooLarge, kind: tooLong,
			text: fmt.Sprintf("the body is longer than %d bytes", w.mostBytes)}
	case err != nil:
		return nil, bad(unread, "cannot read the body: %v", err)
	case into.Len() == 0:
		return nil, bad(empty, "the body is empty, want an AdmissionReview")
	}
	return into.Bytes(), nil
}

// isJSON reports whether a content type is JSON, with or without parameters.
func isJSON(contentType string) bool {
	if contentType == "application/json" { // what the API server sends; parsing it would be needless work
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == "application/json"
}

// release gives a buffer back, unless one rare big review would make it stay big.
func (w *Webhook) release(buffer *bytes.Buffer) {
	const keep = 64 << 10
	if buffer.Cap() <= keep {
		buffer.Reset()
		w.buffers.Put(buffer)
	}
}

// refuse answers with an HTTP error. The API server puts the text into its own error.
func (w *Webhook) refuse(rw http.ResponseWriter, r *http.Request, refused *refusal) {
	w.metrics.errors.WithLabelValues(refused.kind).Inc()
	w.log.Warn("refused a request", "path", r.URL.Path, "from", r.RemoteAddr, "kind", refused.kind, "error", refused.text)
	http.Error(rw, refused.text, refused.code)
}

// recover is the last line: a panic costs one review, not the process, and does not end the connection that other
// reviews share.
func (w *Webhook) recover(rw http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	w.metrics.errors.WithLabelValues(panicked).Inc()
	w.log.Error("panic in a review: please report it", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	http.Error(rw, "the injector failed at this review; its log says why", http.StatusInternalServerError)
}

// write answers with JSON.
func (w *Webhook) write(rw http.ResponseWriter, code int, v any) {
	buffer := w.buffers.Get().(*bytes.Buffer)
	defer w.release(buffer)
	if err := json.NewEncoder(buffer).Encode(v); err != nil {
		panic(err) // strings, numbers and what was JSON before: they always encode
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("Content-Length", strconv.Itoa(buffer.Len()))
	rw.WriteHeader(code)
	_, _ = rw.Write(buffer.Bytes()) // who has gone away needs no answer
}
