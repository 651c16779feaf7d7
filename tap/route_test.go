// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/tap"
)

func TestRouteOfOneWebhook(t *testing.T) {
	b := newBench(t, tap.Options{})
	says := func(word string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, word) }
	}
	injector, label := b.target(t, "/inject", says("injector")), b.target(t, "/label", says("label"))
	k := key(1)
	if err := b.tap.Route(k, "label.example.com", label, nil); err == nil || !strings.Contains(err.Error(), "not expected") {
		t.Errorf("a route of a key that nobody expects: %v", err)
	}
	b.expect(t, k, injector)
	if err := b.tap.Route(k, "label.example.com", label, nil); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ webhook, want string }{
		{"inject.example.com", "injector"}, {"label.example.com", "label"}, {"other.example.com", "injector"},
	} {
		if _, got, err := b.post(t, b.tap.URL(row.webhook)+"/more", podReview("", k+"-")); err != nil || got != row.want {
			t.Errorf("webhook %s was answered %q (%v), expected %q", row.webhook, got, err, row.want)
		}
	}
	calls := b.tap.Take(within(t), k)
	if len(calls) != 3 || calls[0].Path != "/inject/more" || calls[1].Path != "/label/more" {
		t.Errorf("recorded %+v", calls)
	}
}

// A key that is retaken stays expected, with other routes and faults from then on; what was recorded before is returned.
func TestRetake(t *testing.T) {
	b := newBench(t, tap.Options{})
	says := func(word string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, word) }
	}
	injector, label := b.target(t, "/inject", says("injector")), b.target(t, "/label", says("label"))
	k := key(1)
	if _, err := b.tap.Retake(within(t), k, tap.Routed{Upstream: injector}, nil); err == nil {
		t.Error("a key that nobody expects can be retaken")
	}
	b.expect(t, k, injector)
	ask := func(webhook, want string) {
		t.Helper()
		if _, got, err := b.post(t, b.tap.URL(webhook), podReview("", k+"-")); err != nil || got != want {
			t.Errorf("webhook %s was answered %q (%v), expected %q", webhook, got, err, want)
		}
	}
	ask("a.example.com", "injector")
	fault, err := tap.ParseFault(map[string]any{"fault": "html"})
	if err != nil {
		t.Fatal(err)
	}
	calls, err := b.tap.Retake(within(t), k, tap.Routed{Upstream: label}, map[string]tap.Routed{"b.example.com": {Upstream: injector, Fault: fault}})
	if err != nil || len(calls) != 1 || calls[0].Path != "/inject" {
		t.Errorf("retaken: %+v (%v)", calls, err)
	}
	ask("a.example.com", "label")
	ask("b.example.com", "<!DOCTYPE html><title>Sign in</title>\n")
	if calls := b.tap.Take(within(t), k); len(calls) != 2 || calls[0].Path != "/label" {
		t.Errorf("taken in the end: %+v", calls)
	}
	if _, total := b.tap.Strays(); total != 0 {
		t.Errorf("%d calls were strays", total)
	}
}

// Of two replicas one is broken: the first call, the third, and so on.
func TestEveryOther(t *testing.T) {
	b := newBench(t, tap.Options{})
	injector := b.target(t, "/inject", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "yes") })
	fault, err := tap.ParseFault(map[string]any{"fault": "every-other"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.tap.ExpectFault(key(1), injector, fault); err != nil {
		t.Fatal(err)
	}
	for i, good := range []bool{false, true, false, true} {
		_, got, err := b.post(t, b.tap.URL("a.example.com"), podReview("", key(1)+"-"))
		if (err == nil && got == "yes") != good {
			t.Errorf("call %d: %q (%v)", i+1, got, err)
		}
	}
}
