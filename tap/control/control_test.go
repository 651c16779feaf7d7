// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/mutator"
	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/tap"
)

const key = "or-aaaaaaaaaaaaa"

// bed is a tap, its server, a client, and a target that answers every review with yes.
type bed struct {
	client    *Client
	target    *tap.Upstream
	authority *pki.Authority // of the tap's own certificates
	address   string         // of the server
	harness   *pki.Authority
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{authority: pkitest.Authority(t), harness: pkitest.Authority(t)}
	listening, err := tap.Listen(tap.Options{Certificate: pkitest.Certificate(t, b.authority, "127.0.0.1"), Authority: b.authority})
	if err != nil {
		t.Fatal(err)
	}
	mutators, err := mutator.Listen(b.authority)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	server := &Server{Tap: listening, Mutators: mutators, State: State{CABundle: b.authority.CABundle()}}
	certificate := pkitest.Certificate(t, b.harness, "tap")
	go func() { served <- server.Serve(ctx, listener, certificate, b.harness.Pool()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = mutators.Close(closing)
		_ = listening.Close(closing)
	})
	b.client = b.newClient(t, b.harness)
	b.client.options.Webhooks = listening.URL("")[:len(listening.URL(""))-1]

	target := pkitest.Serve(t, b.harness, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Request struct {
				UID string `json:"uid"`
			} `json:"request"`
		}
		_ = json.NewDecoder(r.Body).Decode(&asked)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true}}`, asked.Request.UID)
	}))
	at, err := url.Parse(target.URL + "/inject")
	if err != nil {
		t.Fatal(err)
	}
	if b.target, err = tap.NewUpstream(at, b.harness.CABundle()); err != nil {
		t.Fatal(err)
	}
	return b
}

// newClient is one whose certificate is by's.
func (b *bed) newClient(t *testing.T, by *pki.Authority) *Client {
	t.Helper()
	pair, err := by.IssueClient("harness")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(ClientOptions{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", b.address)
		},
		Certificate: certificate, Servers: b.harness.Pool(), ServerName: "tap",
	})
	t.Cleanup(c.Close)
	return c
}

// call posts a review as the API server does.
func (b *bed) call(t *testing.T, at string) (*http.Response, error) {
	t.Helper()
	pool := x509.NewCertPool()
	state, err := b.client.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(state.CABundle)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	review := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","name":"` + key + `"}}`
	return client.Post(at, "application/json", strings.NewReader(review))
}

func TestTapElsewhere(t *testing.T) {
	b := newBed(t)
	if err := b.client.ExpectFault(t.Context(), key, b.target, nil); err != nil {
		t.Fatal(err)
	}
	answer, err := b.call(t, b.client.URL("a.b.c"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	calls, err := b.client.Take(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(calls) != 1 || calls[0].Webhook != "a.b.c" || calls[0].Status != 200 || calls[0].Err != nil || !bytes.Equal(calls[0].Response, body) {
		t.Errorf("the records %+v, and the answer %s", calls, body)
	}
	if again, err := b.client.Take(t.Context(), key); err != nil || again != nil {
		t.Errorf("taken twice: %v, %v", again, err)
	}
}

func TestReach(t *testing.T) {
	b := newBed(t)
	if err := b.client.Reach(t.Context(), b.target, 10*time.Second); err != nil {
		t.Error(err)
	}
	stranger := pkitest.Authority(t)
	untrusted, err := tap.NewUpstream(b.target.URL(), stranger.CABundle())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.client.Reach(t.Context(), untrusted, 10*time.Second); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a target of another authority: %v", err)
	}
	nobody, err := tap.NewUpstream(&url.URL{Scheme: "https", Host: "127.0.0.1:1"}, b.harness.CABundle())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.client.Reach(t.Context(), nobody, 10*time.Second); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("where nothing listens: %v", err)
	}
	if err := b.client.Reach(t.Context(), nobody.At(b.target.URL().Host), 10*time.Second); err != nil {
		t.Errorf("dialled at an address of its own: %v", err)
	}
}

func TestFaultElsewhere(t *testing.T) {
	b := newBed(t)
	fault, err := tap.ParseFault(map[string]any{"fault": "status", "status": 503, "retryAfter": 0})
	if err != nil {
		t.Fatal(err)
	}
	at, err := b.client.FaultURL(t.Context(), fault, "a.b.c")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.client.ExpectFault(t.Context(), key, b.target, fault); err != nil {
		t.Fatal(err)
	}
	answer, err := b.call(t, at)
	if err != nil || answer.StatusCode != 503 || answer.Header.Get("Retry-After") != "0" {
		t.Errorf("answer %v, %v", answer, err)
	}
	if calls, err := b.client.Take(t.Context(), key); err != nil || len(calls) != 1 {
		t.Errorf("the records %v, %v", calls, err)
	}
}

func TestRetakeElsewhere(t *testing.T) {
	b := newBed(t)
	if err := b.client.ExpectFault(t.Context(), key, b.target, nil); err != nil {
		t.Fatal(err)
	}
	if answer, err := b.call(t, b.client.URL("a.b.c")); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("answer %v, %v", answer, err)
	}
	fault, err := tap.ParseFault(map[string]any{"fault": "status", "status": 503})
	if err != nil {
		t.Fatal(err)
	}
	calls, err := b.client.Retake(t.Context(), key, tap.Routed{Upstream: b.target, Fault: fault}, map[string]tap.Routed{"other.b.c": {Upstream: b.target}})
	if err != nil || len(calls) != 1 {
		t.Errorf("the records so far %v, %v", calls, err)
	}
	for webhook, status := range map[string]int{"a.b.c": 503, "other.b.c": 200} {
		if answer, err := b.call(t, b.client.URL(webhook)); err != nil || answer.StatusCode != status {
			t.Errorf("%s: answer %v, %v", webhook, answer, err)
		}
	}
	if calls, err := b.client.Take(t.Context(), key); err != nil || len(calls) != 2 {
		t.Errorf("the records since %v, %v", calls, err)
	}
}

func TestMutatorElsewhere(t *testing.T) {
	b := newBed(t)
	up, err := b.client.Answering(t.Context(), json.RawMessage(`[{"op":"add","path":"/metadata/labels","value":{}}]`))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.client.ExpectFault(t.Context(), key, b.target, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.client.Route(t.Context(), key, "other.b.c", up, nil); err != nil {
		t.Fatal(err)
	}
	answer, err := b.call(t, b.client.URL("other.b.c"))
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(answer.Body); !bytes.Contains(body, []byte("JSONPatch")) {
		t.Errorf("the mutator's answer is %s", body)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	b := newBed(t)
	if _, err := b.newClient(t, pkitest.Authority(t)).State(t.Context()); err == nil {
		t.Error("a client of another authority was heard")
	}
	stranger := b.newClient(t, b.harness)
	stranger.http.Transport.(*http.Transport).TLSClientConfig.RootCAs = pkitest.Authority(t).Pool()
	if _, err := stranger.State(t.Context()); err == nil {
		t.Error("the client spoke to a server of another authority")
	}
}

func TestMistakesAreTold(t *testing.T) {
	b := newBed(t)
	if err := b.client.ExpectFault(t.Context(), "short", b.target, nil); err == nil || !strings.Contains(err.Error(), "a key has 16 characters") {
		t.Errorf("the tap's own refusal does not arrive: %v", err)
	}
	broken := NewClient(ClientOptions{Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("no way there") }, ServerName: "tap"})
	if _, err := broken.Take(t.Context(), key); err == nil || !strings.Contains(err.Error(), "no way there") {
		t.Errorf("records that cannot be had read as none: %v", err)
	}
}

// Which of the tap's own errors a record has is told apart on the other side too.
func TestErrorsKeepTheirMeaning(t *testing.T) {
	for _, want := range []error{tap.ErrHungUp, tap.ErrUnfinished} {
		raw, err := json.Marshal(packed(tap.Call{Key: key, Err: errors.Join(want, errors.New("more"))}))
		if err != nil {
			t.Fatal(err)
		}
		var c call
		if err := json.Unmarshal(raw, &c); err != nil {
			t.Fatal(err)
		}
		got := c.unpacked()
		if !errors.Is(got.Err, want) || !strings.Contains(got.Err.Error(), "more") || got.Key != key {
			t.Errorf("%v arrived as %+v", want, got)
		}
	}
}
