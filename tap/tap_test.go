// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/tap"
)

// A bench is a tap, the authority it serves under, and a client that stands for the API server.
type bench struct {
	authority *pki.Authority
	tap       *tap.Tap
	client    *http.Client
}

func newBench(t testing.TB, o tap.Options) *bench {
	t.Helper()
	authority := pkitest.Authority(t)
	b := &bench{authority: authority}
	o.Certificate = b.certificate(t, "127.0.0.1")
	var err error
	if b.tap, err = tap.Listen(o); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12},
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64,
	}
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

func (b *bench) certificate(t testing.TB, hosts ...string) tls.Certificate {
	t.Helper()
	return pkitest.Certificate(t, b.authority, hosts...)
}

// target starts a TLS server that stands for an instance of the target, and describes it with path.
func (b *bench) target(t testing.TB, path string, h http.HandlerFunc) *tap.Upstream {
	t.Helper()
	up := b.upstream(t, pkitest.Serve(t, b.authority, h).URL+path)
	t.Cleanup(up.Close)
	return up
}

func (b *bench) upstream(t testing.TB, raw string) *tap.Upstream {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	up, err := tap.NewUpstream(u, b.authority.CABundle())
	if err != nil {
		t.Fatal(err)
	}
	return up
}

func (b *bench) expect(t testing.TB, key string, up *tap.Upstream) {
	t.Helper()
	if err := b.tap.Expect(key, up); err != nil {
		t.Fatal(err)
	}
}

// post calls the tap as the API server would.
func (b *bench) post(t testing.TB, url, body string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp, string(got), err
}

// within is a context that ends before the test binary's own deadline does, so that a hang names its test.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func key(n int) string { return fmt.Sprintf("or-%013d", n) }

func podReview(name, generateName string) string {
	return fmt.Sprintf(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1",`+
		`"resource":{"group":"","version":"v1","resource":"pods"},"name":%q,"namespace":"shop","operation":"CREATE",`+
		`"object":{"metadata":{"name":%q,"generateName":%q}}}}`, name, name, generateName)
}

func TestCallPassesBothWaysUnchanged(t *testing.T) {
	b := newBench(t, tap.Options{})
	type seen struct {
		Path, Query, Body string
		Header            http.Header
	}
	var got seen
	// Bytes that a decoder and encoder would not give back as they are.
	const answer = "{\"b\":1,  \"a\":\"\\u0041\"}\n\n"
	up := b.target(t, "/inject", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = seen{r.URL.EscapedPath(), r.URL.RawQuery, string(body), r.Header}
		w.Header()["Content-Type"] = nil
		w.Header()["Date"] = nil
		w.Header().Set("X-Target", "yes")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, answer)
	})
	b.expect(t, key(1), up)

	review := podReview(key(1)+"-0", "")
	before := time.Now()
	req, _ := http.NewRequestWithContext(within(t), http.MethodPost,
		b.tap.URL("rev.namespace.sidecar-injector.istio.io")+"/cluster/a%2Fb?timeout=10s", strings.NewReader(review))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Traced", "1")
	req.Header.Set("Connection", "X-Hop")
	req.Header.Set("X-Hop", "for the tap alone")
	req.Header.Set("User-Agent", "kube-apiserver-admission")
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}

	want := seen{"/inject/cluster/a%2Fb", "timeout=10s", review, http.Header{
		"Content-Type": {"application/json"}, "X-Traced": {"1"}, "User-Agent": {"kube-apiserver-admission"},
		"Content-Length": {fmt.Sprint(len(review))},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the target saw another call (-want +got):\n%s", diff)
	}
	if resp.StatusCode != http.StatusTeapot || string(body) != answer {
		t.Errorf("the API server saw %d %q, want %d %q", resp.StatusCode, body, http.StatusTeapot, answer)
	}
	wantHeader := http.Header{"X-Target": {"yes"}, "Content-Length": {fmt.Sprint(len(answer))}}
	if diff := cmp.Diff(wantHeader, resp.Header); diff != "" {
		t.Errorf("the API server saw other headers (-want +got):\n%s", diff)
	}

	calls := b.tap.Take(within(t), key(1))
	if len(calls) != 1 {
		t.Fatalf("%d calls recorded, want 1", len(calls))
	}
	call := calls[0]
	if call.Received.Before(before) || call.Latency <= 0 || call.Latency > time.Since(before) {
		t.Errorf("received %v, latency %v: not within the test's own time", call.Received, call.Latency)
	}
	call.Received, call.Latency = time.Time{}, 0
	if diff := cmp.Diff(tap.Call{
		Key: key(1), Webhook: "rev.namespace.sidecar-injector.istio.io", Path: "/inject/cluster/a/b",
		Asked: "/rev.namespace.sidecar-injector.istio.io/cluster/a%2Fb",
		Query: "timeout=10s", Proto: "HTTP/1.1", Request: []byte(review), Response: []byte(answer),
		Header: wantHeader, Status: http.StatusTeapot,
	}, call); diff != "" {
		t.Errorf("the record differs (-want +got):\n%s", diff)
	}
	if again := b.tap.Take(within(t), key(1)); again != nil {
		t.Errorf("a second Take returned %d calls; the first was to remove them", len(again))
	}
}

func TestCompressedAnswerPassesAsItIs(t *testing.T) {
	b := newBench(t, tap.Options{})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(`{"response":{}}`))
	_ = z.Close()
	b.expect(t, key(1), b.target(t, "/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Errorf("the target saw Accept-Encoding %q, want the client's", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	}))
	req, _ := http.NewRequest(http.MethodPost, b.tap.URL("w"), strings.NewReader(podReview(key(1), "")))
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); !bytes.Equal(got, packed.Bytes()) {
		t.Errorf("the API server saw %x, want %x", got, packed.Bytes())
	}
	if call := b.tap.Take(within(t), key(1))[0]; call.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("the record says encoding %q, want gzip", call.Header.Get("Content-Encoding"))
	}
}

func TestRoutesByKeyAndCountsByWebhook(t *testing.T) {
	b := newBench(t, tap.Options{})
	echo := func(name string) *tap.Upstream {
		return b.target(t, "/"+name, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	}
	ups := []*tap.Upstream{echo("a"), echo("b"), echo("c")}
	const cases = 60
	for i := range cases {
		b.expect(t, key(i), ups[i%len(ups)])
	}
	var wg sync.WaitGroup
	for i := range cases {
		wg.Go(func() {
			for _, webhook := range []string{"first", "second", "first"} {
				_, body, err := b.post(t, b.tap.URL(webhook), podReview("", key(i)+"-x"))
				if want := ups[i%len(ups)].URL().Path; err != nil || body != want {
					t.Errorf("case %d: answered %q (%v), want %q", i, body, err, want)
				}
			}
		})
	}
	wg.Wait()
	for i := range cases {
		var webhooks []string
		for _, call := range b.tap.Take(within(t), key(i)) {
			webhooks = append(webhooks, call.Webhook)
		}
		if diff := cmp.Diff([]string{"first", "second", "first"}, webhooks); diff != "" {
			t.Errorf("case %d: calls in another order (-want +got):\n%s", i, diff)
		}
	}
	if _, strays := b.tap.Strays(); strays != 0 || b.tap.Calls() != 3*cases {
		t.Errorf("%d strays and %d calls, want 0 and %d", strays, b.tap.Calls(), 3*cases)
	}
}

func TestStrays(t *testing.T) {
	for _, tc := range []struct {
		name, method, body string
		status             int
		answer             string
		want               tap.Stray
		wantErr            string
	}{
		{
			name: "pod of nobody's", body: podReview("coredns-abcdefghij", ""), status: 200,
			answer: `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u-1","allowed":true}}`,
			want: tap.Stray{Webhook: "w", Operation: "CREATE", Resource: "pods", Namespace: "shop",
				Name: "coredns-abcdefghij", UID: "u-1"},
		},
		{
			name: "another group and version, answered in kind", status: 200,
			body: `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"u\"2",` +
				`"operation":"DELETE","resource":{"group":"apps","resource":"deployments"},"name":"short"}}`,
			answer: `{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview",` +
				`"response":{"uid":"u\"2","allowed":true}}`,
			want: tap.Stray{Webhook: "w", Operation: "DELETE", Resource: "deployments.apps", Name: "short", UID: `u"2`},
		},
		{
			name: "no request", body: `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":null}`,
			status: 200, want: tap.Stray{Webhook: "w"},
			answer: `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"","allowed":true}}`,
		},
		{name: "not JSON", body: "<html>", status: 400, want: tap.Stray{Webhook: "w"}, wantErr: "reading an AdmissionReview"},
		{name: "empty", body: "", status: 400, want: tap.Stray{Webhook: "w"}, wantErr: "0 bytes"},
		{name: "another kind", body: `{"kind":"Pod"}`, status: 400, want: tap.Stray{Webhook: "w"}, wantErr: `kind is "Pod"`},
		{
			name: "too large", body: strings.Repeat(" ", 2001), status: 413, want: tap.Stray{Webhook: "w"},
			wantErr: "larger than the tap's limit",
		},
		{name: "GET", method: "GET", status: 405, want: tap.Stray{Webhook: "w"}, wantErr: `method is "GET"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, tap.Options{MaxRequest: 2000})
			if tc.method == "" {
				tc.method = http.MethodPost
			}
			req, _ := http.NewRequestWithContext(within(t), tc.method, b.tap.URL("w"), strings.NewReader(tc.body))
			resp, err := b.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tc.status {
				t.Errorf("status %d, want %d; body %s", resp.StatusCode, tc.status, body)
			}
			if tc.answer != "" && string(body) != tc.answer {
				t.Errorf("answered\n%s\nwant\n%s", body, tc.answer)
			}
			strays, total := b.tap.Strays()
			if len(strays) != 1 || total != 1 {
				t.Fatalf("%d strays kept, %d counted, want 1", len(strays), total)
			}
			stray := strays[0]
			if stray.Received.IsZero() {
				t.Error("the stray does not say when it was received")
			}
			if tc.wantErr == "" && stray.Err != nil || tc.wantErr != "" &&
				(stray.Err == nil || !strings.Contains(stray.Err.Error(), tc.wantErr)) {
				t.Errorf("error %v, want one with %q", stray.Err, tc.wantErr)
			}
			stray.Received, stray.Err = time.Time{}, nil
			if diff := cmp.Diff(tc.want, stray); diff != "" {
				t.Errorf("the stray differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStraysAreBounded(t *testing.T) {
	b := newBench(t, tap.Options{MaxStrays: 2})
	for i := range 5 {
		if _, _, err := b.post(t, b.tap.URL("w"), podReview(fmt.Sprintf("pod-number-%08d", i), "")); err != nil {
			t.Fatal(err)
		}
	}
	strays, total := b.tap.Strays()
	if len(strays) != 2 || total != 5 || strays[0].Name != "pod-number-00000000" {
		t.Errorf("%d kept (first %q) of %d, want the first 2 of 5", len(strays), strays[0].Name, total)
	}
}

func TestLateCallIsAStray(t *testing.T) {
	b := newBench(t, tap.Options{})
	b.expect(t, key(1), b.target(t, "/", func(http.ResponseWriter, *http.Request) { t.Error("the target was called") }))
	if calls := b.tap.Take(within(t), key(1)); calls != nil {
		t.Errorf("%d calls, want none", len(calls))
	}
	if _, _, err := b.post(t, b.tap.URL("w"), podReview(key(1), "")); err != nil {
		t.Fatal(err)
	}
	if _, total := b.tap.Strays(); total != 1 {
		t.Errorf("%d strays, want 1", total)
	}
}

func TestExpectRefuses(t *testing.T) {
	b := newBench(t, tap.Options{})
	up := b.upstream(t, "https://127.0.0.1:1/inject")
	for _, bad := range []string{"", "short", key(1) + "x"} {
		if err := b.tap.Expect(bad, up); err == nil || !strings.Contains(err.Error(), "16 characters") {
			t.Errorf("Expect(%q): %v, want an error about its length", bad, err)
		}
	}
	b.expect(t, key(1), up)
	if err := b.tap.Expect(key(1), up); err == nil || !strings.Contains(err.Error(), key(1)) {
		t.Errorf("expecting a key twice: %v, want an error that names it", err)
	}
	_ = b.tap.Take(within(t), key(1))
	b.expect(t, key(1), up)
}

// What the target does to the connection, the API server must feel, and the record must tell.
func TestFailuresOfTheTarget(t *testing.T) {
	hijack := func(w http.ResponseWriter, say string) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, say)
		_ = conn.Close()
	}
	for _, tc := range []struct {
		name         string
		handler      http.HandlerFunc
		status       int // as the API server and the record see it; 0: hung up without one
		body         string
		err, recErr  string
		wantResponse string
	}{
		{
			name:    "hangs up at once",
			handler: func(w http.ResponseWriter, _ *http.Request) { hijack(w, "") },
			err:     "EOF", recErr: "calling the target at https://127.0.0.1",
		},
		{
			name:    "panics",
			handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			err:     "EOF", recErr: "EOF",
		},
		{
			name:    "not HTTP",
			handler: func(w http.ResponseWriter, _ *http.Request) { hijack(w, "220 mail.example.org ESMTP\r\n") },
			err:     "EOF", recErr: "malformed HTTP",
		},
		{
			name: "half the announced body",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			},
			status: 200, body: "half", err: "unexpected EOF", recErr: "reading the answer", wantResponse: "half",
		},
		{
			name: "half a chunked body",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				hijack(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
			},
			status: 200, body: "half", err: "unexpected EOF", recErr: "reading the answer", wantResponse: "half",
		},
		{
			name: "too large, announced",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(make([]byte, 1001))
			},
			status: 200, err: "EOF", recErr: "larger than the tap's limit (1001 bytes announced, limit 1000)",
		},
		{
			name: "too large, chunked",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).Flush()
				_, _ = io.WriteString(w, strings.Repeat("x", 5000))
			},
			status: 200, body: strings.Repeat("x", 1000), err: "EOF", recErr: "larger than the tap's limit (limit 1000)",
			wantResponse: strings.Repeat("x", 1000),
		},
		{
			name:    "redirect is not followed",
			handler: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
			status:  302,
		},
		{
			name:    "500",
			handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = w.Write([]byte("oh")) },
			status:  500, body: "oh", wantResponse: "oh",
		},
		{
			name:    "204",
			handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
			status:  204,
		},
		{
			name: "chunked without end of headers' length",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).Flush()
				_, _ = io.WriteString(w, "chunked")
			},
			status: 200, body: "chunked", wantResponse: "chunked",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, tap.Options{MaxResponse: 1000})
			b.expect(t, key(1), b.target(t, "/inject", tc.handler))
			resp, body, err := b.post(t, b.tap.URL("w"), podReview(key(1), ""))
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("the API server's error is %v, want one with %q", err, tc.err)
			}
			status := 0
			if resp != nil {
				status = resp.StatusCode
			}
			if status != tc.status || body != tc.body {
				t.Errorf("the API server saw %d %q, want %d %q", status, body, tc.status, tc.body)
			}
			calls := b.tap.Take(within(t), key(1))
			if len(calls) != 1 {
				t.Fatalf("%d calls recorded, want 1", len(calls))
			}
			call := calls[0]
			if tc.recErr == "" && call.Err != nil || tc.recErr != "" &&
				(call.Err == nil || !strings.Contains(call.Err.Error(), tc.recErr)) {
				t.Errorf("the record's error is %v, want one with %q", call.Err, tc.recErr)
			}
			if errors.Is(call.Err, tap.ErrHungUp) {
				t.Errorf("the record blames the API server: %v", call.Err)
			}
			if call.Status != tc.status || tc.wantResponse != "" && string(call.Response) != tc.wantResponse {
				t.Errorf("recorded %d %q, want %d %q", call.Status, call.Response, tc.status, tc.wantResponse)
			}
		})
	}
}

func TestTLSOfTheTargetIsVerified(t *testing.T) {
	b := newBench(t, tap.Options{})
	up := b.target(t, "/", func(http.ResponseWriter, *http.Request) { t.Error("the target was called") })

	byName := *up.URL()
	byName.Host = strings.Replace(byName.Host, "127.0.0.1", "localhost", 1) // its certificate has the address alone
	stranger := pkitest.Authority(t)
	for i, tc := range []struct {
		name   string
		url    *url.URL
		bundle []byte
		want   string
	}{
		{"another authority", up.URL(), stranger.CABundle(), "unknown authority"},
		{"another host", &byName, b.authority.CABundle(), "not valid for any names, but wanted to match localhost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			up, err := tap.NewUpstream(tc.url, tc.bundle)
			if err != nil {
				t.Fatal(err)
			}
			b.expect(t, key(i), up)
			if _, _, err := b.post(t, b.tap.URL("w"), podReview(key(i), "")); err == nil {
				t.Error("the call went through")
			}
			call := b.tap.Take(within(t), key(i))[0]
			if call.Err == nil || !strings.Contains(call.Err.Error(), tc.want) {
				t.Errorf("the record's error is %v, want one with %q", call.Err, tc.want)
			}
		})
	}
}

// Dialled at an address, the target is still asked and verified by its URL's host.
func TestUpstreamAt(t *testing.T) {
	b := newBench(t, tap.Options{})
	up := b.target(t, "/", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	address := up.URL().Host

	elsewhere := *up.URL()
	elsewhere.Host = "127.0.0.1:1" // its certificate has the address, and nothing listens there
	other, err := tap.NewUpstream(&elsewhere, b.authority.CABundle())
	if err != nil {
		t.Fatal(err)
	}
	other = other.At("127.0.0.1:2").At(address)
	if other.Address() != address || up.Address() != "" {
		t.Errorf("the addresses are %q and %q", other.Address(), up.Address())
	}
	if err := other.Reach(t.Context()); err != nil {
		t.Error(err)
	}
	b.expect(t, key(1), other)
	if _, body, err := b.post(t, b.tap.URL("w"), podReview(key(1), "")); err != nil || body != "127.0.0.1:1" {
		t.Errorf("answered %q, %v", body, err)
	}

	elsewhere.Host = "localhost:1" // which its certificate does not have
	if other, err = tap.NewUpstream(&elsewhere, b.authority.CABundle()); err != nil {
		t.Fatal(err)
	}
	other = other.At(address)
	var foreign x509.HostnameError
	if err := other.Reach(t.Context()); !errors.As(err, &foreign) {
		t.Errorf("reached under a name that its certificate does not have: %v", err)
	}
	b.expect(t, key(2), other)
	_, _, _ = b.post(t, b.tap.URL("w"), podReview(key(2), ""))
	if call := b.tap.Take(within(t), key(2))[0]; !errors.As(call.Err, &foreign) {
		t.Errorf("called under a name that its certificate does not have: %v", call.Err)
	}
}

func TestAPIServerHangsUp(t *testing.T) {
	b := newBench(t, tap.Options{})
	arrived, cancelled := make(chan struct{}), make(chan struct{})
	b.expect(t, key(1), b.target(t, "/", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
		close(cancelled)
	}))
	ctx, hangUp := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, b.tap.URL("w"), strings.NewReader(podReview(key(1), "")))
	go func() { <-arrived; hangUp() }()
	if _, err := b.client.Do(req); !errors.Is(err, context.Canceled) {
		t.Fatalf("the call ended with %v, want context.Canceled", err)
	}
	calls := b.tap.Take(within(t), key(1)) // at once: it must wait for the tap to see what happened
	if len(calls) != 1 || !errors.Is(calls[0].Err, tap.ErrHungUp) || calls[0].Status != 0 {
		t.Errorf("recorded %+v, want one call with ErrHungUp", calls)
	}
	select {
	case <-cancelled:
	case <-within(t).Done():
		t.Error("the target's request was not cancelled")
	}
}

func TestTakeWaitsForCallsUnderWay(t *testing.T) {
	b := newBench(t, tap.Options{})
	arrived, release := make(chan struct{}), make(chan struct{})
	up := b.target(t, "/", func(http.ResponseWriter, *http.Request) { close(arrived); <-release })
	b.expect(t, key(1), up)
	done := make(chan struct{})
	go func() { defer close(done); _, _, _ = b.post(t, b.tap.URL("w"), podReview(key(1), "")) }()
	<-arrived
	taken := make(chan []tap.Call)
	go func() { taken <- b.tap.Take(within(t), key(1)) }()
	for b.tap.Expect(key(1), up) != nil { // once the key is free again, Take is waiting
		runtime.Gosched()
	}
	close(release)
	if calls := <-taken; len(calls) != 1 || calls[0].Err != nil || calls[0].Status != 200 {
		t.Errorf("recorded %+v, want one whole call", calls)
	}
	<-done
}

func TestTakeDoesNotWaitForEver(t *testing.T) {
	b := newBench(t, tap.Options{})
	arrived, release := make(chan struct{}), make(chan struct{})
	b.expect(t, key(1), b.target(t, "/", func(http.ResponseWriter, *http.Request) { close(arrived); <-release }))
	done := make(chan struct{})
	go func() { defer close(done); _, _, _ = b.post(t, b.tap.URL("w"), podReview(key(1), "")) }()
	<-arrived
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	calls := b.tap.Take(ctx, key(1))
	if len(calls) != 1 || !errors.Is(calls[0].Err, tap.ErrUnfinished) {
		t.Errorf("recorded %+v, want one call with ErrUnfinished", calls)
	}
	close(release)
	<-done
}

func TestHTTP2FromTheAPIServer(t *testing.T) {
	b := newBench(t, tap.Options{})
	b.client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	b.expect(t, key(1), b.target(t, "/", func(w http.ResponseWriter, r *http.Request) {
		if r.Proto != "HTTP/1.1" {
			t.Errorf("the target was called with %s, want HTTP/1.1", r.Proto)
		}
		_, _ = io.WriteString(w, "yes")
	}))
	b.expect(t, key(2), b.upstream(t, "https://127.0.0.1:1/"))
	if _, body, err := b.post(t, b.tap.URL("w"), podReview(key(1), "")); err != nil || body != "yes" {
		t.Errorf("answered %q, %v", body, err)
	}
	if _, _, err := b.post(t, b.tap.URL("w"), podReview(key(2), "")); err == nil {
		t.Error("the API server did not see the target's failure")
	}
	if call := b.tap.Take(within(t), key(1))[0]; call.Proto != "HTTP/2.0" {
		t.Errorf("recorded protocol %s, want HTTP/2.0", call.Proto)
	}
}

func TestNewUpstreamRefuses(t *testing.T) {
	authority := pkitest.Authority(t)
	for _, tc := range []struct {
		url    string
		bundle []byte
		want   string
	}{
		{"http://127.0.0.1/inject", authority.CABundle(), "https"},
		{"https:///inject", authority.CABundle(), "no host"},
		{"https://u:secret@h/inject", authority.CABundle(), "neither user"},
		{"https://h/inject", nil, "no PEM certificate"},
		{"https://h/inject", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "no PEM certificate"},
	} {
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tap.NewUpstream(u, tc.bundle); err == nil || !strings.Contains(err.Error(), tc.want) ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("NewUpstream(%s): %v, want an error with %q and without the password", tc.url, err, tc.want)
		}
	}
	// What url.URL.JoinPath makes of a URL without a path; it would be a malformed request on the wire.
	rootless := &url.URL{Scheme: "https", Host: "h", Path: "inject"}
	if _, err := tap.NewUpstream(rootless, authority.CABundle()); err == nil || !strings.Contains(err.Error(), "slash") {
		t.Errorf("NewUpstream(%#v): %v, want an error about the slash", rootless, err)
	}
	if _, err := tap.NewUpstream(nil, authority.CABundle()); err == nil {
		t.Error("NewUpstream(nil) succeeded")
	}
}

func TestListenRefuses(t *testing.T) {
	if _, err := tap.Listen(tap.Options{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without a certificate: %v", err)
	}
	b := newBench(t, tap.Options{})
	u, _ := url.Parse(b.tap.URL("w"))
	_, err := tap.Listen(tap.Options{Address: u.Host, Certificate: b.certificate(t, "127.0.0.1")})
	if err == nil || !strings.Contains(err.Error(), u.Host) {
		t.Errorf("on a port in use: %v, want an error that names %s", err, u.Host)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("run", func(t *testing.T) {
		b := newBench(t, tap.Options{})
		up := b.target(t, "/", func(http.ResponseWriter, *http.Request) {})
		var wg sync.WaitGroup
		for i := range 20 {
			b.expect(t, key(i), up)
			wg.Go(func() { _, _, _ = b.post(t, b.tap.URL("w"), podReview(key(i), "")) })
		}
		wg.Wait()
	})
	// The runtime takes a moment to bury goroutines whose work is done: yield, bounded by the test's own deadline.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after Close:\n%s", before, runtime.NumGoroutine(),
				stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestCloseHangsUpWhenItMust(t *testing.T) {
	b := newBench(t, tap.Options{})
	arrived := make(chan struct{})
	b.expect(t, key(1), b.target(t, "/", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
	}))
	done := make(chan error)
	go func() { _, _, err := b.post(t, b.tap.URL("w"), podReview(key(1), "")); done <- err }()
	<-arrived
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.tap.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close returned %v, want the context's error", err)
	}
	if err := <-done; err == nil {
		t.Error("the call under way was answered; it was to be cut off")
	}
	u, _ := url.Parse(b.tap.URL("w"))
	if conn, err := net.Dial("tcp", u.Host); err == nil {
		conn.Close()
		t.Error("the tap still listens")
	}
}
