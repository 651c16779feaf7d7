// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// scattered makes subjects of a table as large as the largest real one, n of them failing at random, besides all for
// which bug says so.
func scattered(n int, bug func(subject) bool) (sp *space, fails, passes []subject) {
	sizes := []int{3, 3, 6, 2, 2, 5, 11, 3, 2} // 35,640 and their two shapes
	t := &Table{Rules: []Rule{{Name: "a"}, {Name: "b"}, {Name: "c"}}}
	total := 1
	for i, size := range sizes {
		d := Dimension{Name: "d" + string(rune('a'+i))}
		for v := range size {
			d.Values = append(d.Values, "v"+string(rune('a'+v)))
		}
		t.Dimensions = append(t.Dimensions, d)
		total *= size
	}
	sp = newSpace(t)
	random := rand.New(rand.NewPCG(1, 2))
	fate := random.Perm(total)
	for i := range total {
		s, rest := make(subject, len(sizes)+2), i
		for d, size := range sizes {
			s[d] = uint16(rest % size)
			rest /= size
		}
		s[len(sizes)], s[len(sizes)+1] = s[2]%2, s[6]%3
		if fate[i] < n || bug != nil && bug(s) {
			fails = append(fails, s)
		} else {
			passes = append(passes, s)
		}
	}
	return sp, fails, passes
}

// However many cases fail without a pattern, it is soon said, and the same each time; what has a pattern is said too.
func TestScatteredFailuresAreSoonGivenUpOn(t *testing.T) {
	allowed := time.Duration(slack(t) * float64(time.Second))
	policy := func(s subject) bool { return s[0] == 1 && s[3] == 0 }
	for _, c := range []struct {
		failing int
		bug     func(subject) bool
		want    string
	}{
		{2, nil, "whenever da=vb and db=vc and "},
		{1000, nil, "in 1,000 scattered cases (no short description)"},
		{10_000, nil, "in 10,000 scattered cases (no short description)"},
		{71_000, nil, "in 71,000 scattered cases (no short description)"},
		{1000, policy, "whenever da=vb and dd=va, and in 846 scattered cases (no short description)"},
		{0, policy, "whenever da=vb and dd=va"},
	} {
		sp, fails, passes := scattered(c.failing, c.bug)
		start := time.Now()
		a := sp.account(fails, passes)
		if took := time.Since(start); took > allowed {
			t.Errorf("%d at random: it takes %v", c.failing, took)
		}
		if got := a.whenever(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%d at random:\ngot  %s\nwant %s", c.failing, got, c.want)
		}
		if again := sp.account(fails, passes); !reflect.DeepEqual(a, again) {
			t.Errorf("%d at random: two accounts of the same: %v, %v", c.failing, a, again)
		}
	}
}

// Renderings that share findings are as others are, and take those.
func TestRenderingsShareFindings(t *testing.T) {
	r := sample{bug: emptyIsTrue}.report(t)
	asked := 0
	shared := r.Findings()
	found := shared.descriptions()
	shared.descriptions = func() []sharedDescription { asked++; return found }
	for _, x := range Renderers {
		before := asked
		if render(t, x.Render, r, Options{}) != render(t, x.Render, r, Options{Findings: shared}) {
			t.Errorf("%s is another with findings that are shared", x.Name)
		}
		if describes := x.Name != "json" && x.Name != "junit"; describes != (asked > before) {
			t.Errorf("%s took the findings %d times", x.Name, asked-before)
		}
	}
}

// Greed takes what covers most of the rest, the first of equals, and stops where that is too little or they are too many.
func TestGreed(t *testing.T) {
	var candidates []implicant
	for _, covers := range [][]int{{0, 1, 2, 3}, {2, 3, 4}, {4, 5}, {5, 6}, {6}} {
		c := implicant{covers: newBitset(7), count: len(covers)}
		for _, i := range covers {
			c.covers.set(i)
		}
		candidates = append(candidates, c)
	}
	for _, c := range []struct {
		most, least int
		want        []int
		enough      bool
	}{{9, 1, []int{0, 2, 3}, true}, {9, 2, []int{0, 2}, false}, {1, 1, []int{0}, false}, {3, 1, []int{0, 2, 3}, true}} {
		if got, enough := greedy(candidates, 7, c.most, c.least); !reflect.DeepEqual(got, c.want) || enough != c.enough {
			t.Errorf("at most %d, each at least %d: %v, %v", c.most, c.least, got, enough)
		}
	}
}
