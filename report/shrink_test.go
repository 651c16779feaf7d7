// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func failing(when func(v map[string]string) bool) func(map[string]string, Outcome) Outcome {
	return func(v map[string]string, want Outcome) Outcome {
		if v["fault"] == "" && when(v) {
			if want == Injected {
				return Untouched
			}
			return Injected
		}
		return want
	}
}

func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		when func(v map[string]string) bool
		want string
	}{
		{func(v map[string]string) bool { return true }, "fails always"},
		{func(v map[string]string) bool { return v["policy"] == "disabled" }, "fails whenever policy=disabled"},
		{func(v map[string]string) bool { return v["policy"] == "disabled" && v["annotation"] == "true" },
			"fails whenever policy=disabled and annotation=true"},
		{func(v map[string]string) bool { return v["annotation"] == "true" || v["annotation"] == "yes" },
			"fails whenever annotation=(true|yes)"},
		{func(v map[string]string) bool { return v["annotation"] == "true" || v["policy"] == "bogus" },
			"fails whenever policy=bogus, or annotation=true"},
		{func(v map[string]string) bool { r, _ := decide(v); return r == "never-selector" }, "fails whenever rule=never-selector"},
		{func(v map[string]string) bool { _, o := decide(v); return o == Injected }, "fails whenever expected=injected"},
		{func(v map[string]string) bool {
			return v["host-network"] == "true" && v["policy"] == "disabled" && v["ns-label"] == "absent" && v["annotation"] == "junk" && v["never"] == "matches"
		}, "fails whenever host-network=true and policy=disabled and ns-label=absent and annotation=junk and never=matches"},
	} {
		all := sample{bug: failing(c.when)}.report(t).Describe()
		if len(all) != 1 {
			t.Errorf("%d descriptions for %q", len(all), c.want)
			continue
		}
		if got := all[0].String(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	if all := (sample{}).report(t).Describe(); len(all) != 0 {
		t.Errorf("nothing fails, but %v", all)
	}
}

// Whatever fails: every failing case is covered, no passing one is, no alternative is idle, and it is the same each time.
func TestDescriptionsAreTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 4), 1, 4).Draw(t, "sizes")
		total := 1
		for _, n := range sizes {
			total *= n
		}
		checkDescription(t, sizes, rapid.SliceOfN(rapid.IntRange(0, 5), total, total).Draw(t, "fate"))
	})
	// Found by the above: greed, and then merging, left an alternative behind that others cover.
	checkDescription(t, []int{2, 3, 3}, []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 1, 1})
}

// checkDescription describes a table of these sizes. A case's fate is to fail (0), not to have run (5), or to pass; to
// give failures some structure, as bugs have it, all of one value fail where the first fate says so.
func checkDescription(t interface {
	Helper()
	Fatalf(string, ...any)
}, sizes, fate []int) {
	t.Helper()
	var dims []Dimension
	for i, n := range sizes {
		d := Dimension{Name: fmt.Sprintf("d%d", i)}
		for v := range n {
			d.Values = append(d.Values, fmt.Sprintf("v%d", v))
		}
		dims = append(dims, d)
	}
	var fails, passes []subject
	for i := range fate {
		s, rest := make(subject, len(dims)+2), i
		for d := range dims {
			s[d] = uint16(rest % sizes[d])
			rest /= sizes[d]
		}
		switch {
		case fate[i] == 5:
		case fate[i] == 0 || s[0] == 1 && fate[0] > 2:
			fails = append(fails, s)
		default:
			passes = append(passes, s)
		}
	}
	if len(fails) == 0 {
		return
	}
	sp := newSpace(&Table{Dimensions: dims, Rules: []Rule{{Name: "r"}}})
	cubes, _, _ := smallest(sp.dims, fails, passes)
	again, _, _ := smallest(sp.dims, fails, passes)
	if fmt.Sprint(cubes) != fmt.Sprint(again) {
		t.Fatalf("two descriptions of the same: %v, %v", cubes, again)
	}
	holds := func(s subject) (n int) {
		for _, q := range cubes {
			if q.holds(s) {
				n++
			}
		}
		return n
	}
	for _, s := range fails {
		if holds(s) == 0 {
			t.Fatalf("%v fails and is not in %v", s, cubes)
		}
	}
	for _, s := range passes {
		if holds(s) > 0 {
			t.Fatalf("%v passes and is in %v", s, cubes)
		}
	}
	for _, q := range cubes {
		if !slices.ContainsFunc(fails, func(s subject) bool { return q.holds(s) && holds(s) == 1 }) {
			t.Fatalf("%v is idle in %v", q, cubes)
		}
	}
}

// By brute force: the combinations that occur in some case that is not excluded, and those in a case that ran.
func TestCoverageByBruteForce(t *testing.T) {
	r := sample{notRun: func(v map[string]string) string {
		if v["policy"] == "bogus" && v["annotation"] != "junk" {
			return "why not"
		}
		return ""
	}}.report(t)
	tab := r.Table("istio-classic/decision")
	tab.Excluded = []Exclusion{{When: []Term{{"host-network", []string{"true"}}, {"never", []string{"matches"}}}, Because: "b"}}
	excluded := func(c *Case) bool { return c.Values[0] == 1 && c.Values[4] == 1 }
	for i := range r.Cases {
		if c := &r.Cases[i]; c.Table == tab.ID && excluded(c) {
			c.Results[0] = Result{Status: NotRun, Why: "excluded"}
		}
	}
	for _, k := range []int{2, 3} {
		possible, touched := map[string]bool{}, map[string]bool{}
		for i := range r.Cases {
			c := &r.Cases[i]
			if c.Table != tab.ID || excluded(c) {
				continue
			}
			combinations(len(tab.Dimensions), k, func(ds []int) {
				key := fmt.Sprint(ds)
				for _, d := range ds {
					key += fmt.Sprint(" ", c.Values[d])
				}
				possible[key] = true
				if c.Results[0].Status != NotRun {
					touched[key] = true
				}
			})
		}
		got := r.Cover(k)[0]
		if got.Possible != len(possible) || got.Touched != len(touched) || !got.Sure || len(touched) == len(possible) {
			t.Errorf("t=%d: %d of %d, by brute force %d of %d", k, got.Touched, got.Possible, len(touched), len(possible))
		}
		if len(got.Missing) == 0 || !strings.Contains(fmt.Sprint(got.Missing), "bogus") {
			t.Errorf("t=%d: missing %v", k, got.Missing)
		}
	}
}
