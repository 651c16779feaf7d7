// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-k8s/outrigger/pki"
)

// Defaults of [Options].
const (
	DefaultAddress = "127.0.0.1:0"
	DefaultLimit   = 4 << 20
	DefaultStrays  = 1000
)

// Options say how a tap listens. Certificate is required.
type Options struct {
	// Certificate is what the tap serves with; its names must cover the host of Address.
	Certificate tls.Certificate
	// Address is the host and port to listen on. Default: DefaultAddress, a free port on loopback.
	Address string
	// FaultHost is the host that the listeners of connections which are to fail listen on. Default: that of Address.
	FaultHost string
	// MaxRequest and MaxResponse bound the bodies, in bytes. Default: DefaultLimit each, above what the API server
	// sends (3 MiB).
	MaxRequest, MaxResponse int64
	// Authority issues the certificates of connections that are to fail ([Tap.FaultURL]); it is the one that Certificate
	// is of. Faults of the connection need it; may be nil where there are none.
	Authority *pki.Authority
	// Cluster is the cluster's own authority, which issues the certificate of the fault cluster-authority; may be nil where
	// there is none, or its key is out of reach.
	Cluster *pki.Authority
	// MaxStrays is how many strays are kept; all are counted. Default: DefaultStrays.
	MaxStrays int
	// ErrorLog takes what goes wrong below the level of calls, such as failed TLS handshakes. Default: nowhere, as a
	// case whose point is a failed handshake makes many.
	ErrorLog io.Writer
}

// A Tap records the calls of the API server to the target. All methods are safe for concurrent use.
type Tap struct {
	options Options
	address string
	server  *http.Server
	served  chan struct{} // closed when the server's loop has ended

	opening   sync.Mutex           // guards listeners and stands
	listeners map[string]*listener // of faults, by their names; opened when wanted
	stands    []*listener          // in the order of opening
	rotation  *rotation            // of the listener of rotating; nil until that is opened
	heir      heir

	mu       sync.Mutex
	expected map[string]*expectation
	strays   []Stray
	total    int // of strays
	calls    int // of calls that were expected
}

// Listen starts a tap. It serves until Close.
func Listen(o Options) (*Tap, error) {
	if o.Address == "" {
		o.Address = DefaultAddress
	}
	if o.MaxRequest <= 0 {
		o.MaxRequest = DefaultLimit
	}
	if o.MaxResponse <= 0 {
		o.MaxResponse = DefaultLimit
	}
	if o.MaxStrays <= 0 {
		o.MaxStrays = DefaultStrays
	}
	if o.ErrorLog == nil {
		o.ErrorLog = io.Discard
	}
	if len(o.Certificate.Certificate) == 0 {
		return nil, fmt.Errorf("starting the tap on %s: no certificate to serve with", o.Address)
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("starting the tap on %s: %w", o.Address, err)
	}
	t := &Tap{
		options:  o,
		address:  listener.Addr().String(),
		served:   make(chan struct{}),
		expected: map[string]*expectation{},
	}
	t.server = t.newServer(t.tlsConfig())
	go func() {
		defer close(t.served)
		_ = t.server.ServeTLS(listener, "", "") // always ends with http.ErrServerClosed, or after Close
	}()
	return t, nil
}

// URL is where the API server reaches the target as webhook, any name without a slash at its head: what a webhook
// configuration's clientConfig.url takes. Calls to it have Call.Webhook == webhook.
func (t *Tap) URL(webhook string) string {
	return "https://" + t.address + "/" + url.PathEscape(webhook)
}

// Close stops the tap: it listens no more, waits for calls under way until ctx ends, then hangs up on what is left.
// It returns ctx's error if it had to.
func (t *Tap) Close(ctx context.Context) error {
	err := errors.Join(stopServer(ctx, t.server, t.address), t.closeListeners(ctx))
	<-t.served
	return err
}

// Expect says that calls for the case with this key go to up, from now until Take. A key that is expected already is
// an error: two cases with one key could not be told apart.
func (t *Tap) Expect(key string, up *Upstream) error { return t.ExpectFault(key, up, nil) }

// ExpectFault is Expect, with what of fault is in the answer put into each of the calls (nil: nothing). What of it is
// in the connection is put there by [Tap.FaultURL].
func (t *Tap) ExpectFault(key string, up *Upstream, fault *Fault) error {
	if len(key) != KeyLength {
		return fmt.Errorf("expecting calls for key %q: a key has %d characters, this one has %d",
			key, KeyLength, len(key))
	}
	r := t.routeTo(up, fault)
	e := &expectation{path: r.path, exchange: r.exchange}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.expected[key] != nil {
		return fmt.Errorf("expecting calls for key %q: it is expected already; take its records first", key)
	}
	t.expected[key] = e
	return nil
}

// Take ends the expectation of key and returns the records of its calls, in order of arrival; the tap forgets them.
// It waits for calls under way to end, since the API server may have given up, and answered its client, a moment
// before the tap could see it; when ctx ends first, those have the error [ErrUnfinished]. nil if key was never
// expected, or never called.
func (t *Tap) Take(ctx context.Context, key string) []Call {
	t.mu.Lock()
	e := t.expected[key]
	delete(t.expected, key)
	t.mu.Unlock()
	if e == nil {
		return nil
	}
	return t.finish(ctx, e)
}

// finish waits for the calls of an expectation that has ended, and returns its records.
func (t *Tap) finish(ctx context.Context, e *expectation) []Call {
	t.mu.Lock()
	if e.open > 0 {
		idle := make(chan struct{})
		e.idle = idle
		t.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
		}
		t.mu.Lock()
	}
	defer t.mu.Unlock()
	if len(e.calls) == 0 {
		return nil
	}
	return e.taken()
}

// Strays returns the first of the calls that no case expected (at most Options.MaxStrays), in order of arrival, and
// how many there were in all.
func (t *Tap) Strays() (first []Stray, total int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Stray(nil), t.strays...), t.total
}

// Calls returns how many calls were expected ones, since the tap was started.
func (t *Tap) Calls() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls
}

// serve handles one call, of the webhook that is at the head of its path.
func (t *Tap) serve(w http.ResponseWriter, r *http.Request) {
	webhook, q := splitRequest(r)
	t.receive(w, r, webhook, q)
}

// serveAs handles calls that are all of one webhook, whatever path they ask for.
func (t *Tap) serveAs(webhook string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, q := splitRequest(r)
		q.rest, q.rawRest = "", ""
		t.receive(w, r, webhook, q)
	})
}

// receive handles one call of webhook.
func (t *Tap) receive(w http.ResponseWriter, r *http.Request, webhook string, q *query) {
	stray := Stray{Received: time.Now(), Webhook: webhook}
	if r.Method != http.MethodPost {
		t.refuse(w, stray, http.StatusMethodNotAllowed, fmt.Errorf("the method is %s; webhooks are called with POST",
			quoteShort(r.Method)))
		return
	}
	var err error
	q.body, err = readBounded(r.Body, r.ContentLength, t.options.MaxRequest)
	switch {
	case errors.Is(err, errTooLarge):
		t.refuse(w, stray, http.StatusRequestEntityTooLarge, fmt.Errorf("reading the request: %w", err))
		return
	case err != nil:
		t.refuse(w, stray, http.StatusBadRequest, fmt.Errorf("reading the request: %w", err))
		return
	}
	asked, err := readReview(q.body)
	if err != nil {
		t.refuse(w, stray, http.StatusBadRequest, err)
		return
	}

	call := &Call{
		Key: asked.key(), Webhook: webhook, Query: r.URL.RawQuery, Proto: r.Proto, Asked: r.URL.EscapedPath(),
		Request: q.body, Received: stray.Received,
	}
	e, to := t.arrive(call, q)
	if e == nil {
		stray.Operation, stray.Resource = asked.Request.Operation, asked.Request.Resource.Resource
		if group := asked.Request.Resource.Group; group != "" {
			stray.Resource += "." + group
		}
		stray.Namespace, stray.Name, stray.UID = asked.Request.Namespace, asked.name(), asked.Request.UID
		t.stray(stray)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(asked.allowed())
		return
	}

	answer, err := to.exchange(r.Context(), q)
	if answer != nil && answer.ending != nil {
		err = errors.Join(err, end(r.Context(), w, answer))
		t.depart(e, call, answer, hungUp(r.Context(), err))
		panic(http.ErrAbortHandler) // hangs up: see passOn
	}
	err = hungUp(r.Context(), err)
	t.depart(e, call, answer, err)
	passOn(w, answer, err)
}

// arrive enters call into the record of its case and says where it goes, or returns nil if no case expects it.
func (t *Tap) arrive(call *Call, q *query) (*expectation, route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.expected[call.Key]
	if e == nil {
		return nil, route{}
	}
	to := e.to(call.Webhook)
	call.Path = to.path + q.rest
	e.calls = append(e.calls, call)
	e.open++
	t.calls++
	return e, to
}

// depart completes the record of call. It does so before the answer goes out: once the API server has it, the case may
// be judged.
func (t *Tap) depart(e *expectation, call *Call, answer *reply, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	call.Latency = max(time.Since(call.Received), 1) // 0 means unfinished
	call.Err = err
	if answer != nil {
		call.Status, call.Header, call.Response = answer.status, answer.header, answer.body
	}
	e.open--
	if e.open == 0 && e.idle != nil {
		close(e.idle)
	}
}

// stray keeps s, if there is room.
func (t *Tap) stray(s Stray) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total++
	if len(t.strays) < t.options.MaxStrays {
		t.strays = append(t.strays, s)
	}
}

// refuse answers a call that is no review, and keeps it as a stray.
func (t *Tap) refuse(w http.ResponseWriter, s Stray, status int, err error) {
	s.Err = err
	t.stray(s)
	http.Error(w, "outrigger tap: "+err.Error(), status)
}

// passOn sends answer to the API server as it came. Where it did not come whole, the API server must see that too.
func passOn(w http.ResponseWriter, answer *reply, err error) {
	if answer == nil {
		panic(http.ErrAbortHandler) // net/http's way to hang up; it is neither logged nor does it end the program
	}
	write(w, answer)
	if err != nil {
		// Out with what there is: a status line and half a body are another failure than none.
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// end sends answer, and then ends the call as its fault has it.
func end(ctx context.Context, w http.ResponseWriter, answer *reply) error {
	if answer.status != 0 {
		write(w, answer)
		_ = http.NewResponseController(w).Flush()
	}
	return answer.ending(ctx, w)
}

func write(w http.ResponseWriter, answer *reply) {
	header := w.Header()
	for name, values := range answer.header {
		header[name] = values
	}
	// What the target did not say the server must not add.
	for _, name := range []string{"Content-Type", "Date"} {
		if _, said := header[name]; !said {
			header[name] = nil
		}
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body)
}

// splitRequest takes the webhook off the head of the path.
func splitRequest(r *http.Request) (webhook string, q *query) {
	raw := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	head, rest, found := strings.Cut(raw, "/")
	if found {
		rest = "/" + rest
	}
	webhook, err := url.PathUnescape(head)
	if err != nil { // EscapedPath gives valid escapes only
		webhook = head
	}
	decoded, err := url.PathUnescape(rest)
	if err != nil {
		decoded = rest
	}
	header := r.Header.Clone()
	dropHopByHop(header)
	if _, said := header["User-Agent"]; !said {
		header["User-Agent"] = nil // or the transport adds its own
	}
	return webhook, &query{
		method: r.Method, rest: decoded, rawRest: rest, rawQuery: r.URL.RawQuery, header: header,
	}
}
