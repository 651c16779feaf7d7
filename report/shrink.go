// SPDX-License-Identifier: Apache-2.0

package report

import (
	"container/heap"
	"fmt"
	"math/bits"
	"slices"
	"sort"
	"strings"
)

// A Description says in few words which cases fail: those for which one of its Alternatives holds. It covers every
// failing case but the scattered ones, and no case that passed.
type Description struct {
	account
	Table    string // ID of the table
	Run      int    // index of the run
	Failing  int    // cases that fail or are flaky
	Ran      int    // cases that were run
	Mismatch string // what all of them have in common: "expected injected, observed untouched"; or empty
}

// An account says in few words which cases are some and not others.
type account struct {
	Alternatives [][]Term // each a conjunction; none at all for no case, an empty one for every case
	Covers       []int    // cases for which each alternative holds
	Scattered    int      // cases that none of them covers: so many without a pattern that words would not be few
	Minimal      bool     // proved: no account of at most four alternatives, of at most three plain terms each, has fewer words
}

// ruleDimension and expectedDimension are dimensions that every table has besides its own: by which rule a case is
// decided, and to which outcome. They are used where they say more in fewer words.
const (
	ruleDimension     = "rule"
	expectedDimension = "expected"
)

// String is the description as a sentence: fails whenever policy=disabled and label=true.
func (d Description) String() string {
	if d.Failing == 0 {
		return "nothing fails"
	}
	return "fails " + d.whenever()
}

// whenever puts an account into words: always, or whenever a=b and c=d, or e=f, or in 300 scattered cases.
func (a account) whenever() string {
	scattered := ""
	if a.Scattered > 0 {
		scattered = fmt.Sprintf("in %s (no short description)", plural(a.Scattered, "scattered case"))
		if len(a.Alternatives) == 0 {
			return scattered
		}
		scattered = ", and " + scattered
	}
	var alts []string
	for _, a := range a.Alternatives {
		if len(a) == 0 {
			return "always"
		}
		var terms []string
		for _, t := range a {
			terms = append(terms, t.String())
		}
		alts = append(alts, strings.Join(terms, " and "))
	}
	const shown = 6
	if n := len(alts) - shown; n > 0 {
		alts = append(alts[:shown], plural(n, "other alternative"))
	}
	return "whenever " + strings.Join(alts, ", or ") + scattered
}

// Describe gives the smallest description of what fails for each table and run in which anything does; runs in their
// order within each table. Quarantined results count as failing here: it says what is, not what is forgiven.
func (r *Report) Describe() []Description {
	var all []Description
	for i := range r.Tables {
		for run := range r.Runs {
			if d := r.describe(&r.Tables[i], run); d.Failing > 0 {
				all = append(all, d)
			}
		}
	}
	return all
}

// A subject is one case as describing sees it: a value index for each dimension, the two extra ones last.
type subject []uint16

// A space is a table's dimensions and the two extra ones.
type space struct {
	dims     []Dimension
	rules    map[string]uint16
	outcomes map[Outcome]uint16
}

func newSpace(t *Table) *space {
	s := &space{dims: make([]Dimension, 0, len(t.Dimensions)+2), rules: map[string]uint16{}, outcomes: map[Outcome]uint16{}}
	s.dims = append(s.dims, t.Dimensions...)
	outcomes, rules := Dimension{Name: expectedDimension}, Dimension{Name: ruleDimension}
	for i, o := range Outcomes {
		s.outcomes[o] = uint16(i)
		outcomes.Values = append(outcomes.Values, string(o))
	}
	for i, rule := range t.Rules {
		s.rules[rule.Name] = uint16(i)
		rules.Values = append(rules.Values, rule.Name)
	}
	s.dims = append(s.dims, outcomes, rules)
	return s
}

func (s *space) subject(c *Case, res *Result) subject {
	rule, exp := c.Expectation(res)
	sub := make(subject, len(s.dims))
	copy(sub, c.Values)
	sub[len(s.dims)-2], sub[len(s.dims)-1] = s.outcomes[exp.Outcome], s.rules[rule]
	return sub
}

// account says which cases in are, as apart from those that are out.
func (s *space) account(in, out []subject) account {
	var a account
	cubes, scattered, minimal := smallest(s.dims, in, out)
	a.Scattered, a.Minimal = scattered, minimal
	for _, q := range cubes {
		n := 0
		for _, sub := range in {
			if q.holds(sub) {
				n++
			}
		}
		a.Alternatives, a.Covers = append(a.Alternatives, q.terms(s.dims)), append(a.Covers, n)
	}
	return a
}

func (r *Report) describe(t *Table, run int) Description {
	d := Description{Table: t.ID, Run: run}
	sp := newSpace(t)
	var failing, passing []subject
	mismatch, same := "", true
	for i := range r.Cases {
		c := &r.Cases[i]
		if c.Table != t.ID {
			continue
		}
		res := c.Result(run)
		if res == nil || res.Status == NotRun || res.Status == Error {
			continue
		}
		d.Ran++
		if res.Status == Pass {
			passing = append(passing, sp.subject(c, res))
			continue
		}
		failing = append(failing, sp.subject(c, res))
		_, exp := c.Expectation(res)
		m := mismatchOf(exp, res.Observed)
		same = same && (mismatch == "" || m == mismatch)
		mismatch = m
	}
	d.Failing = len(failing)
	if d.Failing == 0 {
		return d
	}
	if same {
		d.Mismatch = mismatch
	}
	d.account = sp.account(failing, passing)
	return d
}

func mismatchOf(e Expected, o Observed) string {
	seen := string(o.Outcome)
	if seen == "" {
		seen = "nothing"
	}
	if string(e.Outcome) == seen {
		return "expected and observed " + seen + ", yet not in every particular"
	}
	return "expected " + string(e.Outcome) + ", observed " + seen
}

// A cube is a conjunction: for each dimension the allowed values, nil for any.
type cube [][]uint16

func (q cube) holds(s subject) bool {
	for d, allowed := range q {
		if allowed != nil && !slices.Contains(allowed, s[d]) {
			return false
		}
	}
	return true
}

func (q cube) terms(dims []Dimension) []Term {
	terms := []Term{}
	for d, allowed := range q {
		if allowed == nil {
			continue
		}
		t := Term{Dimension: dims[d].Name}
		for _, v := range allowed {
			t.Values = append(t.Values, dims[d].Values[v])
		}
		terms = append(terms, t)
	}
	return terms
}

// An implicant is a conjunction of plain terms that holds for failing cases only.
type implicant struct {
	dims   []int
	values []uint16
	covers bitset
	count  int
	cost   int // literals, an extra dimension counting a little more than one of the table's own
}

const (
	literalCost      = 4
	extraLiteralCost = 5    // ties go to the table's own dimensions
	maxConjunction   = 3    // conjunctions up to this length are all looked at; of longer ones some
	maxImplicants    = 4096 // of those, the best are kept
	maxTuples        = 1 << 14
	exactDepth       = 4 // up to so many alternatives the search is exact
	exactNodes       = 200_000
	maxExtraPrimes   = 64 // long conjunctions beyond those that are needed
	alternativeCost  = 4  // an "or" is a word too

	// More alternatives than this, before those that differ in one dimension are joined, are no description; nor would
	// anybody read it. Four of them, which the exact search could yet find, greed would have covered by fewer.
	maxAlternatives = 256
	// Where it is given up on, an alternative stays if it covers this share of what fails, and the rest is scattered.
	leastShare = 50
)

// smallest finds few conjunctions that together hold for all failing subjects and for no passing one. All conjunctions
// of up to three terms are candidates, and for cases that none of them covers the shortest one found by dropping terms
// from the case itself. A greedy cover is a first answer, which a bounded exact search then improves on. Where the few
// would be too many, only those stay that cover much, and scattered is how many cases are left.
func smallest(dims []Dimension, failing, passing []subject) (cubes []cube, scattered int, minimal bool) {
	if len(passing) == 0 {
		return []cube{make(cube, len(dims))}, 0, true
	}
	short, all := implicants(dims, failing, passing)
	candidates, allPrimed, enough := addPrimes(dims, short, failing, passing, all)
	var chosen []int
	if enough {
		chosen, enough = greedy(candidates, len(failing), maxAlternatives, 1)
	}
	if !enough {
		candidates = short
		chosen, _ = greedy(candidates, len(failing), maxAlternatives, max(2, len(failing)/leastShare))
		left := newBitset(len(failing))
		left.fill(len(failing))
		for _, i := range chosen {
			left.without(candidates[i].covers)
		}
		scattered = left.len()
	}
	minimal = len(chosen) == 1 && candidates[chosen[0]].cost <= literalCost && scattered == 0
	if !minimal && scattered == 0 {
		if better, finished := exact(candidates, len(failing), chosen); finished {
			chosen, minimal = better, allPrimed && len(better) <= exactDepth
		} else {
			chosen = better
		}
	}
	for _, i := range chosen {
		q := make(cube, len(dims))
		for k, d := range candidates[i].dims {
			q[d] = []uint16{candidates[i].values[k]}
		}
		cubes = append(cubes, q)
	}
	return withoutIdle(merge(cubes), failing), scattered, minimal
}

// withoutIdle drops alternatives whose cases the others cover: greed leaves some behind, and so does merging.
func withoutIdle(cubes []cube, failing []subject) []cube {
	holds := make([]int, len(failing)) // by how many alternatives each case is covered
	for i, s := range failing {
		for _, q := range cubes {
			if q.holds(s) {
				holds[i]++
			}
		}
	}
	for c := len(cubes) - 1; c >= 0; c-- {
		idle := true
		for i, s := range failing {
			if holds[i] == 1 && cubes[c].holds(s) {
				idle = false
				break
			}
		}
		if !idle {
			continue
		}
		for i, s := range failing {
			if cubes[c].holds(s) {
				holds[i]--
			}
		}
		cubes = slices.Delete(cubes, c, c+1)
	}
	return cubes
}

// implicants enumerates the conjunctions of up to three terms that hold for failing subjects only, leaving out those
// that a shorter one implies. all says whether none was dropped for their number.
func implicants(dims []Dimension, failing, passing []subject) (found []implicant, all bool) {
	all = true
	known := map[string]bool{} // shorter implicants, by key
	for size := 1; size <= min(maxConjunction, len(dims)); size++ {
		combinations(len(dims), size, func(ds []int) {
			product := 1
			for _, d := range ds {
				product *= len(dims[d].Values)
			}
			if product > maxTuples {
				all = false
				return
			}
			at := func(s subject) int {
				p := 0
				for _, d := range ds {
					p = p*len(dims[d].Values) + int(s[d])
				}
				return p
			}
			passes := make([]bool, product)
			for _, s := range passing {
				passes[at(s)] = true
			}
			where := map[int]int{} // tuple to index in found
			for i, s := range failing {
				p := at(s)
				if passes[p] {
					continue
				}
				k, ok := where[p]
				if !ok {
					values := make([]uint16, len(ds))
					for j, d := range ds {
						values[j] = s[d]
					}
					if implied(known, ds, values) {
						where[p] = -1
						continue
					}
					k = len(found)
					where[p] = k
					found = append(found, implicant{dims: slices.Clone(ds), values: values,
						covers: newBitset(len(failing)), cost: costOf(ds, len(dims))})
				}
				if k >= 0 {
					found[k].covers.set(i)
					found[k].count++
				}
			}
			// Bitsets of many candidates over many cases are the one thing here that can grow large.
			if len(found) > 2*maxImplicants {
				sortImplicants(found)
				found, all = slices.Delete(found, maxImplicants, len(found)), false
			}
		})
		for _, f := range found {
			if len(f.dims) == size {
				known[implicantKey(f.dims, f.values)] = true
			}
		}
	}
	sortImplicants(found)
	return found, all
}

func costOf(ds []int, n int) int {
	cost := 0
	for _, d := range ds {
		if d >= n-2 {
			cost += extraLiteralCost
		} else {
			cost += literalCost
		}
	}
	return cost
}

// implied says whether a shorter conjunction that is known to fail is part of this one.
func implied(known map[string]bool, ds []int, values []uint16) bool {
	if len(ds) < 2 || len(known) == 0 {
		return false
	}
	for mask := 1; mask < 1<<len(ds)-1; mask++ {
		var sub []int
		var vals []uint16
		for i := range ds {
			if mask&(1<<i) != 0 {
				sub, vals = append(sub, ds[i]), append(vals, values[i])
			}
		}
		if known[implicantKey(sub, vals)] {
			return true
		}
	}
	return false
}

func implicantKey(ds []int, values []uint16) string {
	b := make([]byte, 0, len(ds)*4)
	for i, d := range ds {
		b = append(b, byte(d), byte(d>>8), byte(values[i]), byte(values[i]>>8))
	}
	return string(b)
}

// addPrimes gives a conjunction to every failing subject that has none yet, and to some more: its own values, less every
// term without which the conjunction still holds for no passing subject. That finds the long ones. enough is false
// when more were needed than a description may have.
func addPrimes(dims []Dimension, short []implicant, failing, passing []subject, all bool) (found []implicant, _, enough bool) {
	found = slices.Clone(short)
	covered, primed := newBitset(len(failing)), newBitset(len(failing))
	for _, f := range found {
		covered.or(f.covers)
	}
	extra, needed := 0, 0
	for i, s := range failing {
		if primed.has(i) || covered.has(i) && extra >= maxExtraPrimes {
			continue
		}
		if covered.has(i) {
			extra++
		} else {
			if needed++; needed > maxAlternatives {
				return nil, false, false
			}
			all = false
		}
		keep := make([]bool, len(dims))
		for d := range keep {
			keep[d] = true
		}
		for d := len(dims) - 1; d >= 0; d-- { // the extra dimensions go first
			keep[d] = false
			if slices.ContainsFunc(passing, func(p subject) bool { return agrees(s, p, keep) }) {
				keep[d] = true
			}
		}
		f := implicant{covers: newBitset(len(failing))}
		for d := range keep {
			if keep[d] {
				f.dims, f.values = append(f.dims, d), append(f.values, s[d])
			}
		}
		f.cost = costOf(f.dims, len(dims))
		for j, other := range failing {
			if agrees(s, other, keep) {
				f.covers.set(j)
				f.count++
			}
		}
		covered.or(f.covers)
		primed.or(f.covers)
		if len(f.dims) > maxConjunction { // the shorter ones are there already
			found = append(found, f)
		}
	}
	sortImplicants(found)
	return found, all, true
}

func agrees(a, b subject, on []bool) bool {
	for d := range on {
		if on[d] && a[d] != b[d] {
			return false
		}
	}
	return true
}

// sortImplicants puts those first that cover most with the fewest terms, in a stable order.
func sortImplicants(f []implicant) {
	sort.SliceStable(f, func(i, j int) bool {
		if f[i].count != f[j].count {
			return f[i].count > f[j].count
		}
		if f[i].cost != f[j].cost {
			return f[i].cost < f[j].cost
		}
		if c := slices.Compare(f[i].dims, f[j].dims); c != 0 {
			return c < 0
		}
		return slices.Compare(f[i].values, f[j].values) < 0
	})
}

// greedy covers 0..n-1, always taking the candidate that covers most of what is left, at least so many. It is done
// when no candidate does, or with so many candidates; enough says whether all are covered. What a candidate covers of
// the rest only ever gets less, so one is counted again only when by its last count it would be the next.
func greedy(candidates []implicant, n, most, least int) (chosen []int, enough bool) {
	left := newBitset(n)
	left.fill(n)
	next := &byGain{}
	for i := range candidates { // in order already
		next.index, next.gain = append(next.index, i), append(next.gain, candidates[i].count)
	}
	heap.Init(next)
	for rest := n; rest > 0; {
		if len(chosen) == most || next.Len() == 0 {
			slices.Sort(chosen)
			return chosen, false
		}
		best := next.index[0]
		if now := left.common(candidates[best].covers); now < next.gain[0] {
			next.gain[0] = now
			heap.Fix(next, 0)
			continue
		}
		if next.gain[0] < least {
			slices.Sort(chosen)
			return chosen, false
		}
		chosen, rest = append(chosen, best), rest-next.gain[0]
		left.without(candidates[best].covers)
	}
	slices.Sort(chosen)
	return chosen, true
}

// byGain is a heap of candidates: those first that cover most of what is left as of their last count, then by index.
type byGain struct{ index, gain []int }

func (h *byGain) Len() int { return len(h.index) }
func (h *byGain) Less(i, j int) bool {
	return h.gain[i] > h.gain[j] || h.gain[i] == h.gain[j] && h.index[i] < h.index[j]
}
func (h *byGain) Swap(i, j int) {
	h.index[i], h.index[j] = h.index[j], h.index[i]
	h.gain[i], h.gain[j] = h.gain[j], h.gain[i]
}
func (h *byGain) Push(any) { panic("candidates are all there from the start") }
func (h *byGain) Pop() any { panic("candidates stay") }

// exact looks for the cheapest cover of at most exactDepth candidates that is cheaper than the one given. finished is
// false when it gave up on the way.
func exact(candidates []implicant, n int, given []int) (best []int, finished bool) {
	nodes, bestCost := 0, 0
	best = given
	for _, i := range given {
		bestCost += candidates[i].cost + alternativeCost
	}
	var search func(left bitset, chosen []int, cost int) bool
	search = func(left bitset, chosen []int, cost int) bool {
		if cost >= bestCost {
			return true
		}
		if left.empty() {
			best, bestCost = slices.Clone(chosen), cost
			return true
		}
		if len(chosen) == exactDepth {
			return true
		}
		remaining, slots := left.len(), exactDepth-len(chosen)
		hard := left.first()
		for i := range candidates {
			if candidates[i].count*slots < remaining { // sorted by count: the rest cannot cover it all
				break
			}
			if !candidates[i].covers.has(hard) {
				continue
			}
			if nodes++; nodes > exactNodes/max(1, n/64) {
				return false
			}
			next := slices.Clone(left)
			next.without(candidates[i].covers)
			if !search(next, append(chosen, i), cost+candidates[i].cost+alternativeCost) {
				return false
			}
		}
		return true
	}
	left := newBitset(n)
	left.fill(n)
	finished = search(left, nil, 0)
	best = slices.Clone(best)
	slices.Sort(best)
	return best, finished
}

// merge joins conjunctions that differ in one dimension's values only: policy=a and policy=b become policy=(a|b). It
// joins the first pair there is, until there is none; after a join only pairs with the joined one can be new.
func merge(cubes []cube) []cube {
	join := func(i, j int) bool {
		d := onlyDifference(cubes[i], cubes[j])
		if d < 0 {
			return false
		}
		joined := append(slices.Clone(cubes[i][d]), cubes[j][d]...)
		slices.Sort(joined)
		cubes[i][d] = slices.Compact(joined)
		cubes = slices.Delete(cubes, j, j+1)
		return true
	}
	for i := 0; i < len(cubes); i++ {
		for j := i + 1; j < len(cubes); {
			if !join(i, j) {
				j++
				continue
			}
			for a := 0; a < i; a++ {
				if join(a, i) {
					i, a = a, -1
				}
			}
			j = i + 1
		}
	}
	return cubes
}

// onlyDifference is the one dimension in which two cubes differ and that both restrict, or -1.
func onlyDifference(a, b cube) int {
	found := -1
	for d := range a {
		if slices.Equal(a[d], b[d]) && (a[d] == nil) == (b[d] == nil) {
			continue
		}
		if found >= 0 || a[d] == nil || b[d] == nil {
			return -1
		}
		found = d
	}
	return found
}

// combinations calls f with every ascending choice of k out of n.
func combinations(n, k int, f func([]int)) {
	choice := make([]int, k)
	var rec func(at, from int)
	rec = func(at, from int) {
		if at == k {
			f(choice)
			return
		}
		for i := from; i <= n-(k-at); i++ {
			choice[at] = i
			rec(at+1, i+1)
		}
	}
	rec(0, 0)
}

type bitset []uint64

func newBitset(n int) bitset      { return make(bitset, (n+63)/64) }
func (b bitset) set(i int)        { b[i/64] |= 1 << (i % 64) }
func (b bitset) has(i int) bool   { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitset) or(o bitset)      { each(b, o, func(x, y uint64) uint64 { return x | y }) }
func (b bitset) without(o bitset) { each(b, o, func(x, y uint64) uint64 { return x &^ y }) }

func each(b, o bitset, f func(x, y uint64) uint64) {
	for i := range b {
		b[i] = f(b[i], o[i])
	}
}

func (b bitset) fill(n int) {
	for i := range n {
		b.set(i)
	}
}

func (b bitset) empty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

func (b bitset) len() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

func (b bitset) common(o bitset) int {
	n := 0
	for i, w := range b {
		n += bits.OnesCount64(w & o[i])
	}
	return n
}

func (b bitset) first() int {
	for i, w := range b {
		if w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	return -1
}
