// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/lane/admission"
	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// The eleven annotation values of the decision table must reach the injector as the eleven different words they are:
// a YAML reader that takes yes and on for true would test one value five times, and pass.
func TestElevenAnnotationsStayApartOnTheWire(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	const rest = "policy=enabled,ns-label=enabled,host-network=no,namespace=ordinary,never=none,always=none"
	words := map[string]*string{"absent": nil}
	for slug, word := range map[string]string{
		"empty": "", "true": "true", "True": "True", "yes": "yes", "y": "y", "on": "on",
		"false": "false", "no": "no", "off": "off", "random": "sidecar",
	} {
		words[slug] = &word
	}
	var ids []string
	for slug := range words {
		c, err := set.Find("istio-classic/decision/annotation=" + slug + "," + rest)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, c.ID())
	}
	seen := received(t, set, ids)
	for slug, want := range words {
		c, _ := set.Find("istio-classic/decision/annotation=" + slug + "," + rest)
		got, called := seen[c.Key()]
		switch {
		case !called:
			t.Errorf("annotation=%s: the webhook was never called", slug)
		case (got == nil) != (want == nil) || got != nil && *got != *want:
			t.Errorf("annotation=%s: on the wire it is %s, expected %s", slug, show(got), show(want))
		}
	}
	if len(seen) != 11 {
		t.Errorf("%d pods on the wire, expected 11", len(seen))
	}
}

func show(s *string) string {
	if s == nil {
		return "absent"
	}
	return "'" + *s + "'"
}

// received takes the cases through the admission lane, and returns by key the annotation that a webhook, which allows
// everything, saw on each pod; nil where there was none.
func received(t *testing.T, set *table.Set, ids []string) map[string]*string {
	t.Helper()
	var mu sync.Mutex
	seen := map[string]*string{}
	authority := pkitest.Authority(t)
	webhook := pkitest.Serve(t, authority, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			t.Error(err)
		}
		var review struct {
			Request struct {
				UID    string
				Name   string
				Object struct {
					Metadata struct{ Annotations map[string]string }
				}
			}
		}
		if err := json.Unmarshal(body, &review); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		seen[review.Request.Name] = nil
		if value, ok := review.Request.Object.Metadata.Annotations["sidecar.istio.io/inject"]; ok {
			seen[review.Request.Name] = &value
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
			"response": map[string]any{"uid": review.Request.UID, "allowed": true},
		})
	}))
	tp, err := tap.Listen(tap.Options{Certificate: pkitest.Certificate(t, authority, "127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tp.Close(context.Background()) })
	lane := &admission.Lane{}
	t.Cleanup(func() { _ = lane.Close() })

	plan, err := probe.NewPlan(set.Tables, lane.Facts(), func(c table.Case) bool { return slices.Contains(ids, c.ID()) })
	if err != nil {
		t.Fatal(err)
	}
	runner := &probe.Runner{
		Lane: lane, Tap: probe.Here(tp), CABundle: authority.CABundle(), Injector: one{webhook.URL + "/inject", authority.CABundle()}, Concurrency: 4, Timeout: time.Minute,
	}
	if err := runner.Run(t.Context(), plan, func(j *probe.Judgement) {
		if j.Err != nil {
			t.Error(j.Err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return seen
}

// one is an injector with one instance whatever the settings.
type one struct {
	address string
	bundle  []byte
}

func (o one) Instance(context.Context, map[string]any) (*tap.Upstream, func(), error) {
	u, err := url.Parse(o.address)
	if err != nil {
		return nil, nil, err
	}
	up, err := tap.NewUpstream(u, o.bundle)
	return up, func() {}, err
}
