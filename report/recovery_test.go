// SPDX-License-Identifier: Apache-2.0

package report

import (
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
		{"p/t", 0, "restore", 1, 5 * time.Millisecond, 5 * time.Millisecond}, {"p/t", 0, "delete", 3, 2 * time.Second, 3 * time.Second},
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
