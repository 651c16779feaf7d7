// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
	"testing"
)

// pictured is what the terminal shows of a table with these numbers of values of its dimensions, all cases observed as
// outcome says.
func pictured(t *testing.T, view *View, values []int, outcome func(values []int) Outcome) string {
	t.Helper()
	tab := Table{ID: "p/t", Profile: "p", Name: "t", View: view, Rules: []Rule{{Name: "r", Outcome: Injected}}, Total: 1}
	for d, n := range values {
		dim := Dimension{Name: string(rune('a' + d))}
		for v := range n {
			dim.Values = append(dim.Values, fmt.Sprintf("%c%d", 'a'+d, v))
		}
		tab.Dimensions = append(tab.Dimensions, dim)
		tab.Total *= n
	}
	b, err := NewBuilder(Run{Lane: "l", Kubernetes: "1", Target: TargetInfo{Name: "x"}, Planned: tab.Total}, []Table{tab})
	if err != nil {
		t.Fatal(err)
	}
	for i := range tab.Total {
		at, rest := make([]int, len(values)), i
		for d := len(values) - 1; d >= 0; d-- {
			at[d], rest = rest%values[d], rest/values[d]
		}
		c := CaseResult{ID: "p/t/", Table: "p/t", Rule: "r", Expected: Expected{Outcome: outcome(at)},
			Result: Result{Status: Pass, Observed: Observed{Outcome: outcome(at)}}}
		for d, v := range at {
			c.ID += fmt.Sprintf("%s=%s,", tab.Dimensions[d].Name, tab.Dimensions[d].Values[v])
			c.Values = append(c.Values, tab.Dimensions[d].Values[v])
		}
		if err := b.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := Terminal(&out, b.Finish(), Options{}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPictureOfATable(t *testing.T) {
	injected := func([]int) Outcome { return Injected }
	for _, row := range []struct {
		name   string
		view   *View
		values []int
		want   string // the picture's heading; none: no picture
		rows   int
	}{
		{"as the view says", &View{Rows: []string{"b"}, Columns: []string{"a"}}, []int{2, 3}, "p/t: b, across a", 3},
		{"a long list of one thing", &View{Rows: []string{"a"}, Columns: []string{"b"}}, []int{60, 3}, "p/t: a, across b", 60},
		{"too long a list", &View{Rows: []string{"a"}, Columns: []string{"b"}}, []int{90, 3}, "p/t: across b, folded over 1 other dimension", 1},
		{"too long a list beside another", &View{Rows: []string{"a", "b"}, Columns: []string{"c"}}, []int{90, 3, 2}, "p/t: b, across c, folded over 1 other dimension", 3},
		{"too many columns", &View{Rows: []string{"a"}, Columns: []string{"b"}}, []int{3, 30}, "p/t: a, folded over 1 other dimension", 3},
		{"nothing that fits", &View{Rows: []string{"a"}, Columns: []string{"b"}}, []int{90, 30}, "", 0},
		{"no view", nil, []int{2, 3}, "p/t: b, across a", 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			out := pictured(t, row.view, row.values, injected)
			heading, rest, found := strings.Cut(out[strings.LastIndex(out[:strings.Index(out, "verdict:")], "p/t: ")+1:], "\n")
			if !found || row.want == "" {
				if strings.Contains(out, "across") {
					t.Errorf("a picture:\n%s", out)
				}
				return
			}
			if "p"+heading != row.want {
				t.Errorf("%q, expected %q", "p"+heading, row.want)
			}
			picture, _, _ := strings.Cut(rest, "\n●")
			if n := strings.Count(picture, "\n"); n != row.rows {
				t.Errorf("%d rows, expected %d:\n%s", n, row.rows, picture)
			}
		})
	}
}

// A mark stands for all cases of its cell, or says that they differ.
func TestMarksOfAPicture(t *testing.T) {
	all := []Outcome{Injected, Untouched, Failed, Denied}
	for _, row := range []struct {
		name string
		cell []Outcome
		want string
	}{
		{"all injected", []Outcome{Injected, Injected}, "●"},
		{"none", []Outcome{Untouched, Untouched}, "·"},
		{"all refused", []Outcome{Failed, Denied}, "○"},
		{"some injected", []Outcome{Injected, Untouched}, "◐"},
		{"some refused, the others not", []Outcome{Untouched, Failed}, "◐"},
		{"some refused, the others injected", []Outcome{Injected, Denied}, "◐"},
	} {
		out := pictured(t, &View{Rows: []string{"a"}}, []int{2, 2}, func(v []int) Outcome {
			if v[0] == 0 {
				return row.cell[v[1]]
			}
			return all[v[1]]
		})
		if !strings.Contains(out, "\na0 "+row.want) && !strings.Contains(out, "\na0  "+row.want) {
			t.Errorf("%s: expected %s:\n%s", row.name, row.want, out)
		}
	}
}
