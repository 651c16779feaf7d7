// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/tap"
)

const goodReview = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":true,"patch":"W10=","patchType":"JSONPatch"}}`

// Every fault must be seen by a client that stands for the API server, as what it says it is.
func TestFaults(t *testing.T) {
	authority := pkitest.Authority(t)
	retry := map[string]any{"status": 429, "retryAfter": 7}
	for _, tc := range []struct {
		name       string
		parameters map[string]any
		status     int    // 0: no answer
		body       string // in the body
		err        string // in the client's error, of the call or of reading the body
		received   int    // calls that the tap saw
		recorded   string // in the record's error
		patience   bool   // the client gives up
	}{
		{name: "none", status: 200, body: goodReview, received: 1},
		{name: "status", parameters: retry, status: 429, received: 1},
		{name: "redirect", status: 302, received: 1},
		{name: "empty", status: 200, received: 1},
		{name: "html", status: 200, body: "<!DOCTYPE html>", received: 1},
		{name: "truncated", status: 200, body: goodReview[:len(goodReview)/2], received: 1},
		{name: "endless", status: 200, body: "   ", err: "deadline", received: 1, recorded: "hung up", patience: true},
		{name: "cut-in-body", status: 200, body: goodReview[:len(goodReview)/2], err: "unexpected EOF", received: 1, recorded: "cut-in-body"},
		{name: "cut-after-body", status: 200, body: goodReview, received: 1, recorded: "cut-after-body"},
		{name: "cut-before-end", status: 200, body: goodReview, err: "unexpected EOF", received: 1, recorded: "cut-before-end"},
		{name: "hang-up", err: "EOF", received: 1, recorded: "hang-up"},
		{name: "every-other", err: "EOF", received: 1, recorded: "every-other"},
		{name: "reset", err: "connection reset by peer", received: 1, recorded: "was reset"},
		{name: "reset-in-body", status: 200, body: goodReview[:len(goodReview)/2], err: "connection reset by peer", received: 1, recorded: "was reset"},
		{name: "reset-before-end", status: 200, body: goodReview, err: "connection reset by peer", received: 1, recorded: "was reset"},
		{name: "reset-after-body", status: 200, body: goodReview, received: 1, recorded: "was reset"},
		{name: "silent", err: "deadline", received: 1, recorded: "hung up", patience: true},
		{name: "slow", parameters: map[string]any{"delay": "1m"}, err: "deadline", received: 1, recorded: "hung up", patience: true},
		{name: "no-response", status: 200, body: `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, received: 1},
		{name: "no-uid", status: 200, body: `"response":{"allowed":true,"patch"`, received: 1},
		{name: "wrong-uid", status: 200, body: `"uid":"00000000-0000-0000-0000-000000000000"`, received: 1},
		{name: "no-kind", status: 200, body: `{"response":{`, received: 1},
		{name: "wrong-version", status: 200, body: `"admission.k8s.io/v1beta1"`, received: 1},
		{name: "wrong-kind", status: 200, body: `"kind":"Pod"`, received: 1},
		{name: "patch-without-type", status: 200, body: `"patch":"W10=","uid"`, received: 1},
		{name: "type-without-patch", status: 200, body: `"allowed":true,"patchType"`, received: 1},
		{name: "unknown-patch-type", status: 200, body: `"patchType":"MergePatch"`, received: 1},
		{name: "undecodable-patch", status: 200, body: `"patch":"eyJvcCI6ICJhZGQifQ=="`, received: 1},
		{name: "unappliable-patch", status: 200, body: `"patch":"W3s`, received: 1},
		{name: "mistyped-patch", status: 200, body: `"patch":"W3s`, received: 1},
		{name: "invalid-patch", status: 200, body: `"patch":"W3s`, received: 1},
		{name: "namespace-patch", status: 200, body: `"patch":"W3s`, received: 1},
		{name: "denial", status: 200, body: `"response":{"allowed":false,"uid"`, received: 1},
		{name: "denial-message", status: 200, body: `"message":"no sidecars today"`, received: 1},
		{name: "denial-reason", status: 200, body: `"reason":"Conflict"`, received: 1},
		{name: "denial-code", status: 200, body: `"code":418`, received: 1},
		{name: "denial-success", status: 200, body: `"status":"Success"`, received: 1},
		{name: "denial-details", status: 200, body: `"causes":[`, received: 1},
		{name: "denial-with-patch", status: 200, body: `"allowed":false,"patch"`, received: 1},
		{name: "warning", status: 200, body: `"warnings":["`, received: 1},
		{name: "no-such-host", err: "xxx.invalid: no such host"},
		{name: "refused", err: "connection refused"},
		{name: "no-handshake", err: "deadline", patience: true},
		{name: "other-authority", err: "unknown authority"},
		{name: "cluster-authority", err: "unknown authority"}, // the client trusts the other one
		{name: "first-certificate", status: 200, body: `"allowed":true`, received: 1},
		{name: "rotated-certificate", err: "unknown authority"}, // the client trusts the first one's
		{name: "expired", err: "expired"},
		{name: "not-yet-valid", err: "not yet valid"},
		{name: "common-name-only", err: "legacy Common Name"},
		{name: "wrong-host", err: "cannot validate certificate for 127.0.0.1"},
		{name: "old-tls", err: "protocol version"},
		{name: "no-tls", err: "gave HTTP response"},
	} {
		seen[tc.name] = true
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBenchOf(t, authority)
			b.client.Transport.(*http.Transport).ForceAttemptHTTP2 = true // the fault must see to HTTP/1.1 itself
			doc := map[string]any{"fault": tc.name}
			for k, v := range tc.parameters {
				doc[k] = v
			}
			fault, err := tap.ParseFault(doc)
			if err != nil {
				t.Fatal(err)
			}
			up := b.target(t, "/inject", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, goodReview) })
			if err := b.tap.ExpectFault(key(1), up, fault); err != nil {
				t.Fatal(err)
			}
			url, err := b.tap.FaultURL(fault, "w")
			if err != nil {
				t.Fatal(err)
			}
			ctx := within(t)
			if tc.patience {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
			}
			status, header, body, err := b.call(ctx, url)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("the API server's error is %v, want one with %q", err, tc.err)
			}
			if status != tc.status || !strings.Contains(body, tc.body) {
				t.Errorf("the API server saw %d %.300q, want %d with %q", status, body, tc.status, tc.body)
			}
			if tc.parameters["retryAfter"] != nil && header.Get("Retry-After") != fmt.Sprint(tc.parameters["retryAfter"]) {
				t.Errorf("Retry-After is %q, want %v", header.Get("Retry-After"), tc.parameters["retryAfter"])
			}
			calls := b.tap.Take(within(t), key(1))
			if len(calls) != tc.received {
				t.Fatalf("%d calls recorded, want %d", len(calls), tc.received)
			}
			if len(calls) == 0 {
				return
			}
			if got := fmt.Sprint(calls[0].Err); tc.recorded == "" && calls[0].Err != nil || !strings.Contains(got, tc.recorded) {
				t.Errorf("the record's error is %v, want one with %q", got, tc.recorded)
			}
			if calls[0].Proto != "HTTP/1.1" {
				t.Errorf("the call came over %s, want HTTP/1.1", calls[0].Proto)
			}
		})
	}
	for _, f := range tap.Faults {
		if !seen[f.Name] {
			t.Errorf("fault %q has no row here", f.Name)
		}
	}
}

var seen = map[string]bool{}

func newBenchOf(t *testing.T, authority *pki.Authority) *bench {
	t.Helper()
	pair, err := authority.Issue("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{authority: authority}
	if b.tap, err = tap.Listen(tap.Options{Certificate: certificate, Authority: authority, Cluster: pkitest.Authority(t)}); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}}
	b.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := b.tap.Close(within(t)); err != nil {
			t.Error(err)
		}
	})
	return b
}

// call makes a call, and returns what came of its answer, with the error that ended it.
func (b *bench) call(ctx context.Context, url string) (int, http.Header, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(podReview(key(1), "")))
	if err != nil {
		return 0, nil, "", err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(body), err
}

func TestParseFaultRefuses(t *testing.T) {
	for _, tc := range []struct {
		doc  map[string]any
		want string
	}{
		{map[string]any{}, "there is none of this name"},
		{map[string]any{"fault": "statu"}, "there is none of this name"},
		{map[string]any{"fault": "empty", "colour": "red"}, "unknown field"},
		{map[string]any{"fault": "empty", "delay": "1s"}, "takes no parameter delay"},
		{map[string]any{"fault": "empty", "retryAfter": 1}, "goes with a status"},
		{map[string]any{"fault": "status"}, "needs the parameter status"},
		{map[string]any{"fault": "status", "status": 99}, "not 200 to 599"},
		{map[string]any{"fault": "status", "status": 429, "retryAfter": -1}, "not 0 to 60"},
		{map[string]any{"fault": "slow"}, "needs the parameter delay"},
		{map[string]any{"fault": "slow", "delay": "2h"}, "up to a minute"},
		{map[string]any{"fault": "slow", "delay": "soon"}, "invalid duration"},
	} {
		if _, err := tap.ParseFault(tc.doc); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("ParseFault(%v): %v, want an error with %q", tc.doc, err, tc.want)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	f.Add("status", 429, "1s", 1)
	f.Add("slow", 0, "700ms", 0)
	f.Fuzz(func(t *testing.T, name string, status int, delay string, retryAfter int) {
		fault, err := tap.ParseFault(map[string]any{"fault": name, "status": status, "delay": delay, "retryAfter": retryAfter})
		if err == nil && (fault.Name != name || fault.Status != status) {
			t.Errorf("read as %+v", fault)
		}
	})
}

// A target that answers with no review must not pass for one with the fault: the record says so.
func TestFaultNeedsAReview(t *testing.T) {
	b := newBench(t, tap.Options{})
	fault, err := tap.ParseFault(map[string]any{"fault": "wrong-uid"})
	if err != nil {
		t.Fatal(err)
	}
	up := b.target(t, "/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	if err := b.tap.ExpectFault(key(1), up, fault); err != nil {
		t.Fatal(err)
	}
	_, _, _ = b.post(t, b.tap.URL("w"), podReview(key(1), ""))
	if calls := b.tap.Take(within(t), key(1)); len(calls) != 1 || calls[0].Err == nil || !strings.Contains(calls[0].Err.Error(), "a review is needed") {
		t.Errorf("recorded %+v, want an error that a review is needed", calls)
	}
}

// No query for a name of the fault no-such-host leaves the machine, so that nobody waits for an answer.
func TestNoSuchHostAsksNobody(t *testing.T) {
	b := newBench(t, tap.Options{})
	fault, err := tap.ParseFault(map[string]any{"fault": "no-such-host"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.tap.FaultURL(fault, "w")
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(_ context.Context, _, server string) (net.Conn, error) {
		t.Errorf("the name server %s was asked for %s", server, at.Hostname())
		return nil, errors.New("nobody may be asked")
	}}
	var refused *net.DNSError
	if _, err := resolver.LookupHost(within(t), at.Hostname()); !errors.As(err, &refused) || !refused.IsNotFound {
		t.Errorf("looking %s up: %v, want that there is no such host", at.Hostname(), err)
	}
}

func TestFaultURLNeedsAnAuthority(t *testing.T) {
	b := newBench(t, tap.Options{})
	fault, err := tap.ParseFault(map[string]any{"fault": "expired"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.tap.FaultURL(fault, "w"); err == nil || !strings.Contains(err.Error(), "Options.Authority") {
		t.Errorf("FaultURL without an authority: %v", err)
	}
}

// Whatever was under way when the tap is closed, nothing of a fault is left.
func TestFaultsEndWithTheTap(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("run", func(t *testing.T) {
		authority := pkitest.Authority(t)
		b := newBenchOf(t, authority)
		up := b.target(t, "/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, goodReview) })
		gone, cancel := context.WithCancel(context.Background())
		done := make(chan error, 3)
		for i, name := range []string{"silent", "endless", "no-handshake"} {
			fault, err := tap.ParseFault(map[string]any{"fault": name})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.tap.ExpectFault(key(i+1), up, fault); err != nil {
				t.Fatal(err)
			}
			url, err := b.tap.FaultURL(fault, "w")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				_, _, _, err := b.call(context.Background(), url)
				done <- err
			}()
		}
		cancel()
		if err := b.tap.Close(gone); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for range 3 {
			select {
			case err := <-done:
				if err == nil {
					t.Error("a call was answered after all")
				}
			case <-within(t).Done():
				t.Fatal("a call outlived the tap")
			}
		}
	})
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}
