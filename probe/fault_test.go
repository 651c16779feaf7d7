// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// What a rule says of one side of the wire is held against that side alone.
func TestJudgeOneSided(t *testing.T) {
	for _, row := range []struct {
		name, then string
		attempted  int
		received   int
		events     []string
		want       string // in the fault; "": the case holds
	}{
		{"as expected", "{outcome: untouched, attempted: 1, received: 11}", 1, 11, nil, ""},
		{"none received", "{outcome: untouched, attempted: 1, received: 0}", 1, 0, nil, ""},
		{"one too few attempted", "{outcome: untouched, attempted: 2}", 1, 2, nil, "call the webhook 2 times, its audit annotations tell of 1"},
		{"received though it should not be", "{outcome: untouched, received: 0}", 1, 1, nil, "receive 0 calls, it received 1"},
		{"one received too many", "{outcome: untouched, received: 1}", 1, 2, nil, "receive 1 call, it received 2"},
		{"the event", "{outcome: untouched, events: Error creating}", 1, 1, []string{"other", "Error creating: x"}, ""},
		{"another event", "{outcome: untouched, events: Error creating}", 1, 1, []string{"other"}, `a Warning event with "Error creating"`},
		{"no event", "{outcome: untouched, events: Error creating}", 1, 1, nil, `a Warning event with "Error creating"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := &Observation{Pod: podOf(t, plainPod), Attempts: tried(row.attempted, false), Events: row.events}
			why := strings.Join(Judge(plannedFor(t, row.then), o, received(row.received)).Why, "; ")
			if row.want == "" && why != "" || !strings.Contains(why, row.want) {
				t.Errorf("why is %q, want %q in it", why, row.want)
			}
		})
	}
}

// A patch that the wire put into the answer is none of the target's; one that came through a healthy wire is.
func TestJudgeForgivesForgedPatches(t *testing.T) {
	o := &Observation{Pod: podOf(t, plainPod), Attempts: tried(1, false)}
	calls := []tap.Call{call(plainPod, `[{"op":"replace","path":"/spec/containers/0/image","value":"other"}]`)}
	for fault, holds := range map[string]bool{"none": false, "truncated": false, "invalid-patch": true} {
		p := plannedFor(t, "untouched")
		var err error
		if p.Wire.Fault, err = tap.ParseFault(map[string]any{"fault": fault}); err != nil {
			t.Fatal(err)
		}
		if j := Judge(p, o, calls); j.Holds() != holds {
			t.Errorf("with the fault %s: holds %v, want %v: %q", fault, j.Holds(), holds, j.Why)
		}
	}
}

// Faults of the answer share an arrangement; each fault of the connection has its own, and so has a healthy wire.
func TestPlanGroupsByListener(t *testing.T) {
	tb := loaded(t, `
dimensions:
  - dimension: wire
    values:
      - {value: unsaid}
      - {value: none, wire: {fault: none}}
      - {value: empty, wire: {fault: empty}}
      - {value: expired, wire: {fault: expired}}
      - {value: refused, wire: {fault: refused}}
  - dimension: other
    values: [{value: a}, {value: b}]
rules: [{rule: r, then: untouched, because: b}]
`)
	plan, err := NewPlan([]*table.Table{tb}, Facts{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, a := range plan.Arrangements {
		for _, p := range a.Cases {
			if p.Wire.listener() != a.Wire.listener() {
				t.Errorf("%s needs the listener %q, and its arrangement has %q", p.Case.ID(), p.Wire.listener(), a.Wire.listener())
			}
		}
		got[a.Wire.listener()] += len(a.Cases)
	}
	for listener, cases := range map[string]int{"": 2, "none": 4, "expired": 2, "refused": 2} {
		if got[listener] != cases {
			t.Errorf("%d cases at listener %q, want %d", got[listener], listener, cases)
		}
	}
	if len(plan.Arrangements) != 4 {
		t.Errorf("%d arrangements, want 4", len(plan.Arrangements))
	}
}

func TestPlanRefusesUnknownFaults(t *testing.T) {
	tb := loaded(t, "dimensions: [{dimension: d, values: [{value: v, wire: {fault: nonsense}}]}]\nrules: [{rule: r, then: untouched, because: b}]\n")
	if _, err := NewPlan([]*table.Table{tb}, Facts{}, nil); err == nil || !strings.Contains(err.Error(), "p/t/d=v") || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("NewPlan: %v, want an error that names the case and the fault", err)
	}
}

// A wire that breaks the calls of some webhooks leaves the others' alone, and needs an arrangement of its own.
func TestWireOfSomeWebhooks(t *testing.T) {
	w, err := readWire(map[string]any{"fault": "denial", "webhooks": []any{"b.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	for webhook, forged := range map[string]bool{"a.example.com": false, "b.example.com": true} {
		if got := w.forges(webhook, true); got != forged {
			t.Errorf("answers of %s are forged: %v, want %v", webhook, got, forged)
		}
	}
	all, err := readWire(map[string]any{"fault": "denial"})
	if err != nil {
		t.Fatal(err)
	}
	if all.forges("b.example.com", true) || !all.forges("b.example.com", false) || all.listener() == w.listener() {
		t.Errorf("a wire of all webhooks breaks all but mutators, at a listener of its own: %q, %q", all.listener(), w.listener())
	}
	for _, bad := range []any{"b.example.com", []any{}, []any{1}} {
		if _, err := readWire(map[string]any{"fault": "denial", "webhooks": bad}); err == nil {
			t.Errorf("webhooks: %v is read as if it were a list of names", bad)
		}
	}
}

// Cases whose webhooks trust different authorities cannot share a configuration, and each gets the bundle that it states.
func TestTrust(t *testing.T) {
	authority, err := pki.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	r := &Runner{CABundle: authority.CABundle()}
	if _, err := r.bundle(TrustCluster); err == nil || !strings.Contains(err.Error(), FeatureClusterAuthority) {
		t.Errorf("the cluster's authority where there is none: %v, want an error with the feature that is needed", err)
	}
	r.Cluster = []byte("the cluster's")
	other, err := r.bundle(TrustAnother)
	if err != nil || len(other) == 0 || bytes.Contains(other, r.CABundle) {
		t.Fatalf("another authority's bundle is %d bytes: %v", len(other), err)
	}
	for trust, want := range map[Trust][]byte{
		TrustTap: r.CABundle, TrustNobody: nil, TrustAnother: other, TrustBoth: slices.Concat(other, r.CABundle),
		TrustCluster: r.Cluster,
	} {
		if got, err := r.bundle(trust); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %d bytes, expected %d: %v", trust, len(got), len(want), err)
		}
	}
	listeners := map[string]bool{}
	for _, doc := range []map[string]any{
		{}, {"caBundle": "none"}, {"caBundle": "cluster"}, {"caBundle": "other"}, {"caBundle": "both"}, {"caBundle": "both", "fault": "refused"}, {"fault": "refused"},
	} {
		w, err := readWire(doc)
		if err != nil {
			t.Fatal(err)
		}
		if listeners[w.listener()] {
			t.Errorf("%v shares its listener's name %q", doc, w.listener())
		}
		listeners[w.listener()] = true
	}
	if _, err := readWire(map[string]any{"caBundle": "right"}); err == nil || !strings.Contains(err.Error(), "none of none, other, both") {
		t.Errorf("a trust that there is not: %v", err)
	}
}
