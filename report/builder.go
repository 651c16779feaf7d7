// SPDX-License-Identifier: Apache-2.0

package report

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// A CaseResult is one case with its result, as a runner knows it: in words.
type CaseResult struct {
	ID       string   // the case's ID; begins with Table and a slash
	Table    string   // ID of one of the builder's tables
	Values   []string // for each dimension of the table, in order, this case's value
	Rule     string   // name of the rule that decides the case; one of the table's
	Expected Expected
	Result   Result // Run, Rule and Expected are ignored: a builder has one run
}

// A Builder collects the results of one run. All its methods may be called concurrently.
type Builder struct {
	mu     sync.Mutex
	run    Run
	tables map[string]*builderTable
	cases  []Case
	seen   map[string]struct{}
	intern interner
	quar   *Quarantine
	now    time.Time
	detail int // bytes of patches and reviews

	effects    map[string][]string // by digest
	effectText int                 // bytes of effects
}

// maxDetailBytes is how much of patches and reviews one run keeps: an injector that fails every case of a large table
// must not fill the memory of what judges it.
const maxDetailBytes = 64 << 20

// maxEffectBytes is how much of effects one run keeps. The cases of all tables have some hundred different ones, of a KiB
// each; a target that makes every pod another would have as many as cases.
const maxEffectBytes = 4 << 20

type builderTable struct {
	Table
	values []map[string]uint16 // per dimension
	rules  map[string]string   // name to the one copy of the name
}

// NewBuilder starts a report of one column. The run's Planned should say how many results will come: fewer of them make
// the report incomplete. The tables may come in any order; two of one ID, or one without dimensions' values, are an
// error.
func NewBuilder(run Run, tables []Table) (*Builder, error) {
	b := &Builder{
		run: run, tables: map[string]*builderTable{}, seen: make(map[string]struct{}, run.Planned),
		intern: interner{}, effects: map[string][]string{}, cases: make([]Case, 0, run.Planned),
	}
	if b.run.Ended == "" {
		b.run.Ended = Complete
	}
	if b.run.ID == "" {
		b.run.ID = RunID(run)
	}
	b.run.Features = slices.Clone(run.Features)
	sort.Strings(b.run.Features)
	for _, t := range tables {
		if b.tables[t.ID] != nil {
			return nil, fmt.Errorf("start the report of %s: the table %s is there twice; leave one out", b.run.ID, t.ID)
		}
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("start the report of %s: %w", b.run.ID, err)
		}
		bt := &builderTable{Table: t, rules: map[string]string{}}
		for _, d := range t.Dimensions {
			index := map[string]uint16{}
			for i, v := range d.Values {
				index[v] = uint16(i)
			}
			bt.values = append(bt.values, index)
		}
		for _, r := range t.Rules {
			bt.rules[r.Name] = r.Name
		}
		b.tables[t.ID] = bt
	}
	return b, nil
}

// RunID is the usual ID of a run: lane/kubernetes/target@version, with the routing where Services are reached by one.
// Shards of a run have the same ID.
func RunID(r Run) string {
	id := r.Lane + "/" + r.Kubernetes
	if r.Routing != "" {
		id += "/" + r.Routing
	}
	id += "/" + r.Target.Name
	if r.Target.Version != "" {
		id += "@" + r.Target.Version
	}
	return id
}

// Quarantine makes the builder mark, as of now, the results that q covers. Call it before the first Add.
func (b *Builder) Quarantine(q *Quarantine, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.quar, b.now = q, now
}

// Add takes the result of one case. The same case twice is an error (join the tries of a case with [Join] first), and
// so is a table, value or rule that the builder's tables do not have. Patches and reviews are kept up to 64 MiB in all.
func (b *Builder) Add(c CaseResult) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tables[c.Table]
	if t == nil {
		return fmt.Errorf("add %s to the report: no table %q was announced to NewBuilder", c.ID, c.Table)
	}
	if !strings.HasPrefix(c.ID, c.Table+"/") {
		return fmt.Errorf("add %s to the report: the ID must begin with the table's, %s/", c.ID, c.Table)
	}
	if len(c.Values) != len(t.Dimensions) {
		return fmt.Errorf("add %s to the report: %s for the %s of table %s", c.ID, plural(len(c.Values), "value"),
			plural(len(t.Dimensions), "dimension"), c.Table)
	}
	if _, twice := b.seen[c.ID]; twice {
		return fmt.Errorf("add %s to the report: it is there already; join several tries with report.Join first", c.ID)
	}
	rule, ok := t.rules[c.Rule]
	if !ok {
		return fmt.Errorf("add %s to the report: table %s has no rule %q", c.ID, c.Table, c.Rule)
	}
	values := make([]uint16, len(c.Values))
	for i, v := range c.Values {
		if values[i], ok = t.values[i][v]; !ok {
			return fmt.Errorf("add %s to the report: dimension %s of table %s has no value %q", c.ID,
				t.Dimensions[i].Name, c.Table, v)
		}
	}
	res := c.Result
	res.Run, res.Rule, res.Expected = 0, "", nil
	res.Latency = res.Latency.Round(time.Microsecond)
	res.Recovery = res.Recovery.Round(time.Microsecond)
	res.Nudged = res.Nudged.Round(time.Microsecond)
	res.Held = res.Held.Round(time.Microsecond)
	if res.Tries == 1 {
		res.Tries = 0
	}
	if err := res.check(); err != nil {
		return fmt.Errorf("add %s to the report: %w", c.ID, err)
	}
	if res.Status.mayBeForgiven() && b.quar.covers(c.ID, b.run.ID, b.now) {
		res.Quarantined = true
	}
	if n := len(res.Patch) + len(res.Review); n > 0 && b.detail+n > maxDetailBytes {
		res.Patch, res.Review = "", ""
		b.run.LeftOut++
	} else {
		b.detail += n
	}
	cs := Case{ID: c.ID, Table: t.ID, Values: values, Rule: rule, Expected: c.Expected, Results: []Result{res}}
	b.intern.inCase(&cs)
	b.seen[c.ID] = struct{}{}
	b.cases = append(b.cases, cs)
	return nil
}

// Effect says what the digest of an observation stands for: text has a line for each change (see [Effect]). It does nothing
// if that is known already, if there is none, or if 4 MiB of them are kept.
func (b *Builder) Effect(digest, text string) {
	if text == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.effects[digest] != nil || b.effectText+len(text) > maxEffectBytes {
		return
	}
	b.effectText += len(text)
	b.effects[digest] = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// Len is how many results there are by now.
func (b *Builder) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.cases)
}

// Update changes what is known of the run, for example its phases or how it ended.
func (b *Builder) Update(change func(*Run)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.run)
}

// Finish sorts what there is, judges it, and gives the report. It takes the results with it: the builder is empty
// afterwards and must not be used again. A run that was interrupted or broke is finished just the same, so that nothing
// found is lost; say so with [Builder.Update] before.
func (b *Builder) Finish() *Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &Report{Schema: SchemaVersion, Runs: []Run{b.run}, Tables: []Table{}, Cases: b.cases}
	for _, t := range b.tables {
		r.Tables = append(r.Tables, t.Table)
	}
	if b.quar != nil {
		r.Quarantine = b.quar.asOf(b.now)
	}
	r.Effects = sortedEffects(b.effects)
	b.cases, b.seen, b.tables, b.effects = nil, nil, nil, nil
	r.sort()
	r.measureBudgets()
	r.Judge()
	return r
}

func sortedEffects(byDigest map[string][]string) []Effect {
	var list []Effect
	for _, digest := range slices.Sorted(maps.Keys(byDigest)) {
		list = append(list, Effect{Digest: digest, Changes: byDigest[digest]})
	}
	return list
}

// Join makes one result of the tries of one case (--repeat, --retries). Tries that agree give their status; passes and
// failures together are flaky, and digests that differ give [Varying]. Errors beside other results are infrastructure and do not hide them: passes with errors
// are an error, failures with errors a failure. The details are those of the first try that was not a pass, the latency
// is the longest.
func Join(tries ...Result) (Result, error) {
	if len(tries) == 0 {
		return Result{}, errors.New("join the tries of a case: there are none")
	}
	var pass, fail, errs, notRun, n int
	worst := -1
	joined := tries[0]
	var longest, recovery, nudged, held time.Duration
	digest := ""
	for i := range tries {
		t := &tries[i]
		n += max(t.Tries, 1)
		switch t.Status {
		case Pass:
			pass++
		case Fail:
			fail++
		case Flaky:
			pass, fail = pass+1, fail+1
		case Error:
			errs++
		case NotRun:
			notRun++
		default:
			return Result{}, fmt.Errorf("join the tries of a case: try %d has the unknown status %q", i+1, t.Status)
		}
		if worst < 0 && (t.Status == Fail || t.Status == Flaky) {
			worst = i
		}
		switch seen := t.Observed.Digest; {
		case digest == "":
			digest = seen
		case seen != "" && seen != digest:
			digest = Varying
		}
		longest, recovery = max(longest, t.Latency), max(recovery, t.Recovery)
		nudged, held = max(nudged, t.Nudged), max(held, t.Held)
	}
	if worst < 0 {
		worst = slices.IndexFunc(tries, func(t Result) bool { return t.Status == Error })
	}
	if worst >= 0 {
		joined = tries[worst]
	}
	joined.Tries, joined.Latency, joined.Recovery, joined.Nudged, joined.Held = n, longest, recovery, nudged, held
	joined.Observed.Digest = digest
	switch {
	case pass > 0 && fail > 0:
		joined.Status = Flaky
		joined.Why = strings.TrimSpace(fmt.Sprintf("passed %d and failed %d of %d tries: %s", pass, fail, n, joined.Why))
	case fail > 0:
		joined.Status = Fail
	case errs > 0:
		joined.Status = Error
	case notRun > 0 && pass == 0:
		joined.Status = NotRun
	default:
		joined.Status = Pass
	}
	return joined, nil
}

// sort brings everything into the order that the format promises.
func (r *Report) sort() {
	sort.Slice(r.Tables, func(i, j int) bool { return r.Tables[i].ID < r.Tables[j].ID })
	sort.Slice(r.Cases, func(i, j int) bool { return r.Cases[i].ID < r.Cases[j].ID })
}

// measureBudgets fills in what was observed for each latency budget.
func (r *Report) measureBudgets() {
	for i := range r.Runs {
		for j := range r.Runs[i].Budgets {
			b := &r.Runs[i].Budgets[j]
			l := r.latencies(i, b.Table)
			b.Observed = quantile(l, b.Quantile)
		}
	}
}

// latencies gives the sorted latencies of one run's cases, of one table or of all.
func (r *Report) latencies(run int, table string) []time.Duration {
	var l []time.Duration
	for i := range r.Cases {
		if table != "" && r.Cases[i].Table != table {
			continue
		}
		if res := r.Cases[i].Result(run); res != nil && res.Latency > 0 {
			l = append(l, res.Latency)
		}
	}
	slices.Sort(l)
	return l
}

// quantile gives the smallest value that at least the share q of the sorted values does not exceed; 0 for none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(float64(len(sorted))*q+0.9999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// An interner gives equal strings the same memory: tens of thousands of results share a few words.
type interner map[string]string

func (in interner) of(s string) string {
	if s == "" || len(s) > 512 {
		return s
	}
	if have, ok := in[s]; ok {
		return have
	}
	s = strings.Clone(s)
	in[s] = s
	return s
}

func (in interner) inCase(c *Case) {
	c.Table, c.Rule = in.of(c.Table), in.of(c.Rule)
	in.inExpected(&c.Expected)
	for i := range c.Results {
		r := &c.Results[i]
		r.Status, r.Rule, r.Why = Status(in.of(string(r.Status))), in.of(r.Rule), in.of(r.Why)
		if r.Expected != nil {
			in.inExpected(r.Expected)
		}
		o := &r.Observed
		o.Outcome = Outcome(in.of(string(o.Outcome)))
		o.Reason, o.Message, o.Digest = in.of(o.Reason), in.of(o.Message), in.of(o.Digest)
	}
}

func (in interner) inExpected(e *Expected) {
	e.Outcome = Outcome(in.of(string(e.Outcome)))
	e.Reason, e.Message = in.of(e.Reason), in.of(e.Message)
	e.Attempted, e.Received = in.of(e.Attempted), in.of(e.Received)
}
