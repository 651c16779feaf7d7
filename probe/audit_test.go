// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestReadAudit(t *testing.T) {
	const attempt = `{"configuration":"c","webhook":"w","mutated":false}`
	const mutation = `{"configuration":"c","webhook":"w","mutated":true}`
	plain := WebhookAttempt{Configuration: "c", Webhook: "w"}
	at := func(round, index int, mutated, open bool) WebhookAttempt {
		a := plain
		a.Round, a.Index, a.Mutated, a.FailedOpen = round, index, mutated, open
		return a
	}
	const m, f = mutationAnnotation, failedOpenAnnotation
	// So many that Go's random order of a map is never the right one by chance.
	many := map[string]string{}
	var inOrder []WebhookAttempt
	for round := range 2 {
		for index := range 12 {
			many[fmt.Sprintf("%sround_%d_index_%d", m, round, index)] = attempt
			inOrder = append(inOrder, at(round, index, false, false))
		}
	}
	for _, row := range []struct {
		name  string
		audit map[string]string
		want  []WebhookAttempt
		open  []string
		err   string
	}{
		{name: "nothing"},
		{name: "other annotations", audit: map[string]string{"pod-security.kubernetes.io/enforce-policy": "x", "patch.webhook.admission.k8s.io/round_0_index_0": "{}"}},
		{name: "a call", audit: map[string]string{m + "round_0_index_0": attempt}, want: []WebhookAttempt{plain}},
		{name: "a mutation", audit: map[string]string{m + "round_0_index_0": mutation}, want: []WebhookAttempt{at(0, 0, true, false)}},
		{name: "in the order of rounds, then indices, by number",
			audit: map[string]string{m + "round_1_index_0": attempt, m + "round_0_index_10": attempt, m + "round_0_index_2": mutation},
			want:  []WebhookAttempt{at(0, 2, true, false), at(0, 10, false, false), at(1, 0, false, false)}},
		{name: "in order, however many", audit: many, want: inOrder},
		{name: "failed open", audit: map[string]string{m + "round_0_index_0": attempt, m + "round_0_index_1": attempt, f + "round_0_index_1": "w"},
			want: []WebhookAttempt{at(0, 0, false, false), at(0, 1, false, true)}, open: []string{"w"}},
		{name: "a validating one failed open", audit: map[string]string{failedOpenValidatingAnnotation + "round_0_index_0": "v"}, open: []string{"v"}},
		{name: "a place that cannot be read", audit: map[string]string{m + "round_x": attempt}, err: "read audit annotation " + m + "round_x"},
		{name: "a value that cannot be read", audit: map[string]string{m + "round_0_index_0": "{"}, err: "read audit annotation " + m + "round_0_index_0={"},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := Observation{Audit: row.audit, Attempts: tried(5, true), FailedOpen: []string{"from before"}}
			err := o.ReadAudit()
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Fatalf("error %v, expected one with %s", err, row.err)
				}
				return
			}
			if err != nil || !slices.Equal(o.Attempts, row.want) || !slices.Equal(o.FailedOpen, row.open) {
				t.Errorf("%+v, failed open %q, error %v\nexpected %+v, %q", o.Attempts, o.FailedOpen, err, row.want, row.open)
			}
		})
	}
}

func FuzzReadAudit(f *testing.F) {
	f.Add("round_0_index_0", `{"mutated":true}`)
	f.Fuzz(func(t *testing.T, place, value string) {
		o := Observation{Audit: map[string]string{mutationAnnotation + place: value}}
		if err := o.ReadAudit(); err == nil && len(o.Attempts) != 1 {
			t.Fatalf("%s=%s: read without an error, and counted %d times", place, value, len(o.Attempts))
		}
	})
}
