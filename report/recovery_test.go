// SPDX-License-Identifier: Apache-2.0

package report

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func recovered(t *testing.T, times map[string]time.Duration) *Report {
	t.Helper()
	dims := []Dimension{{Name: "fault", Values: []string{"a", "b", "c"}}, {Name: "recovery", Values: []string{"restore", "delete"}}}
	rules := []Rule{{Name: "r", Outcome: Injected}}
	b, err := NewBuilder(Run{Lane: "l", Kubernetes: "1", Planned: 6}, []Table{{ID: "p/t", Profile: "p", Name: "t", Dimensions: dims, Rules: rules, Total: 6}})
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range dims[0].Values {
		for _, recovery := range dims[1].Values {
			err := b.Add(CaseResult{ID: "p/t/fault=" + fault + ",recovery=" + recovery, Table: "p/t", Values: []string{fault, recovery}, Rule: "r",
				Expected: Expected{Outcome: Injected}, Result: Result{Status: Pass, Observed: Observed{Outcome: Injected}, Recovery: times[fault+" "+recovery]}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return b.Finish()
}

func TestRecoveries(t *testing.T) {
	r := recovered(t, map[string]time.Duration{
		"a delete": 3 * time.Second, "b delete": time.Second, "c delete": 2 * time.Second, "b restore": 5 * time.Millisecond,
	})
	got := r.Recoveries()
	want := []Recovery{
		{"p/t", 0, "restore", false, 1, 5 * time.Millisecond, 5 * time.Millisecond}, {"p/t", 0, "delete", false, 3, 2 * time.Second, 3 * time.Second},
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("recoveries %+v\nexpected %+v", got, want)
	}
	for name, render := range map[string]func(*strings.Builder) error{
		"terminal": func(b *strings.Builder) error { return Terminal(b, r, Options{}) },
		"markdown": func(b *strings.Builder) error { return Markdown(b, r, Options{}) },
	} {
		var b strings.Builder
		if err := render(&b); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"delete", "2s", "3s"} {
			if !strings.Contains(b.String(), text) {
				t.Errorf("the %s does not say %s", name, text)
			}
		}
	}
	if list := recovered(t, nil).Recoveries(); list != nil {
		t.Errorf("recoveries where nothing recovered: %+v", list)
	}
}

// Kinds that several tables have come once more over all of them, and controllers that were nudged by themselves.
func TestRecoveriesOverAllTables(t *testing.T) {
	dims := []Dimension{{Name: "recovery", Values: []string{"restore", "delete"}}}
	tables := []Table{
		{ID: "p/s", Profile: "p", Name: "s", Dimensions: dims, Rules: []Rule{{Name: "r", Outcome: Injected}}, Total: 2},
		{ID: "p/t", Profile: "p", Name: "t", Dimensions: dims, Rules: []Rule{{Name: "r", Outcome: Injected}}, Total: 2},
	}
	b, err := NewBuilder(Run{Lane: "l", Kubernetes: "1", Planned: 3}, tables)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		table, recovery string
		took, nudged    time.Duration
	}{{"p/s", "delete", time.Second, 0}, {"p/t", "delete", 3 * time.Second, time.Millisecond}, {"p/t", "restore", 2 * time.Second, 0}} {
		err := b.Add(CaseResult{ID: c.table + "/recovery=" + c.recovery, Table: c.table, Values: []string{c.recovery}, Rule: "r", Expected: Expected{Outcome: Injected},
			Result: Result{Status: Pass, Observed: Observed{Outcome: Injected}, Recovery: c.took, Nudged: c.nudged}})
		if err != nil {
			t.Fatal(err)
		}
	}
	r := b.Finish()
	want := []Recovery{
		{"", 0, "delete", false, 2, time.Second, 3 * time.Second},
		{"p/s", 0, "delete", false, 1, time.Second, time.Second},
		{"p/t", 0, "restore", false, 1, 2 * time.Second, 2 * time.Second},
		{"p/t", 0, "delete", false, 1, 3 * time.Second, 3 * time.Second},
		{"p/t", 0, "delete", true, 1, time.Millisecond, time.Millisecond},
	}
	if got := r.Recoveries(); !slices.Equal(got, want) {
		t.Errorf("recoveries %+v\nexpected %+v", got, want)
	}
	var text strings.Builder
	if err := Terminal(&text, r, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"delete           all tables", "delete, nudged   p/t"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("the terminal does not say %q:\n%s", part, text.String())
		}
	}
}
