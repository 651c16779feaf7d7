// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/injector/settings"
)

// TestDrainMovesConnections: who is answered while the webhook drains comes with another connection the next time, over
// HTTP/2 and over HTTP/1.1, so that none is in use when the process ends.
func TestDrainMovesConnections(t *testing.T) {
	for _, version := range []int{1, 2} {
		s, err := settings.Parse("test", []byte("dialect: istio-classic"))
		if err != nil {
			t.Fatal(err)
		}
		hook := New(Options{Settings: func() *settings.Settings { return s }, Log: slog.New(slog.DiscardHandler)})
		server := httptest.NewUnstartedServer(hook.Handler())
		server.EnableHTTP2 = version == 2
		server.StartTLS()
		defer server.Close()
		body := bigReview(t)
		reused := func() (again bool) {
			trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { again = i.Reused }}
			request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, server.URL+"/inject", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			r, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			if _, err := io.Copy(io.Discard, r.Body); err != nil || r.StatusCode != 200 || r.ProtoMajor != version {
				t.Fatalf("%s %d, %v", r.Proto, r.StatusCode, err)
			}
			return again
		}
		reused()
		if !reused() {
			t.Errorf("HTTP/%d: every review has its own connection", version)
		}
		hook.Drain()
		reused() // is answered, and told
		for deadline := time.Now().Add(20 * time.Second); reused(); {
			// The GOAWAY may come a moment after the answer; from then on every connection is new.
			if time.Now().After(deadline) {
				t.Fatalf("HTTP/%d: while it drains, connections are used on", version)
			}
		}
	}
}

// TestReadiness: what is waited for is named, and no review of a pod is answered without settings.
func TestReadiness(t *testing.T) {
	var current *settings.Settings
	waiting := errors.New("for the tide")
	hook := New(Options{
		Settings: func() *settings.Settings { return current }, Ready: func() error { return waiting },
		Log: slog.New(slog.DiscardHandler),
	})
	server := httptest.NewServer(hook.Handler())
	defer server.Close()
	expect := func(code int, text string) {
		t.Helper()
		r, err := http.Get(server.URL + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var st status
		if err := json.NewDecoder(r.Body).Decode(&st); err != nil || r.StatusCode != code || st.Ready != (code == 200) || st.Waiting != text {
			t.Errorf("%d %+v, %v; want %d, waiting %q", r.StatusCode, st, err, code, text)
		}
	}
	expect(503, "for the tide")
	waiting = nil
	expect(503, errNoSettings)
	r, err := http.Post(server.URL+"/inject", "application/json", bytes.NewReader(bigReview(t)))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(r.Body)
	r.Body.Close()
	if r.StatusCode != 503 || !strings.Contains(string(text), errNoSettings) {
		t.Errorf("a review without settings: %d %s", r.StatusCode, text)
	}
	if current, err = settings.Parse("test", []byte("dialect: istio")); err != nil {
		t.Fatal(err)
	}
	expect(200, "")
	hook.Drain()
	expect(503, "for its end")
}
