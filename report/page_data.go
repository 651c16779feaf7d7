// SPDX-License-Identifier: Apache-2.0

package report

import (
	"slices"
	"strings"
)

// Page data is the report as the page wants it: by column, because equal neighbours compress to nearly nothing and
// because the page filters columns, with every string that occurs often written once.
type pageData struct {
	Verdict      Verdict             `json:"verdict"`
	Runs         []pageRun           `json:"runs"`
	Tables       []pageTable         `json:"tables"`
	Expected     []Expected          `json:"expected"`
	Observed     []Observed          `json:"observed"`
	ObservedKeys []int               `json:"observedKeys"` // for each of Observed, equal numbers where a comparison sees no difference
	Strings      []string            `json:"strings"`      // the first is empty
	Effects      map[string][]string `json:"effects"`      // what digests stand for
	Quarantine   []QuarantineEntry   `json:"quarantine"`
	Descriptions []pageDescription   `json:"descriptions"`
	Coverage     []Coverage          `json:"coverage"`
	Comparison   *Comparison         `json:"comparison,omitempty"` // without its changes, which the page finds itself
	Gone         []string            `json:"gone,omitempty"`       // cases of the baseline that have no place in the tables of today
	LeftOut      int                 `json:"leftOut,omitempty"`    // results whose patch and review did not find room
}

type pageRun struct {
	Run
	Before  bool `json:"before,omitempty"` // from the baseline
	Partner int  `json:"partner"`          // index of the run to compare with; -1 for none
}

type pageDescription struct {
	Table        string   `json:"table"`
	Runs         []int    `json:"runs"`
	Alternatives [][]Term `json:"alternatives"`
}

type pageTable struct {
	Table
	N        int            `json:"n"`
	Values   [][]int        `json:"values"` // by dimension, then case
	CaseRule []int          `json:"caseRule"`
	CaseExp  []int          `json:"caseExpected"`
	IDs      map[int]string `json:"ids,omitempty"` // of cases whose ID is not table/dimension=value,…
	Results  []*pageColumn  `json:"results"`       // by run
}

// A pageColumn is one run's results of one table; each slice has an element for each case, or none at all where all
// would be zero.
type pageColumn struct {
	Status    string           `json:"status"` // a letter for each case: . p f k e n, upper case when quarantined
	Observed  []int            `json:"observed,omitempty"`
	Attempted []int            `json:"attempted,omitempty"`
	Received  []int            `json:"received,omitempty"`
	Latency   []int            `json:"latency,omitempty"` // microseconds
	Recovery  []int            `json:"recovery,omitempty"`
	Tries     []int            `json:"tries,omitempty"`
	Why       []int            `json:"why,omitempty"`  // index into Strings
	Rule      map[int]int      `json:"rule,omitempty"` // where it is not the case's
	Expected  map[int]int      `json:"expected,omitempty"`
	More      map[int]pageMore `json:"more,omitempty"`

	status []byte
}

type pageMore struct {
	Patch     int      `json:"patch,omitempty"`
	Review    int      `json:"review,omitempty"`
	Timeline  []Moment `json:"timeline,omitempty"`
	Artefacts []string `json:"artefacts,omitempty"`
	Rerun     string   `json:"rerun,omitempty"`
}

const (
	maxPageDetails = 5000     // results with a patch or a review
	maxPageText    = 16 << 20 // bytes of different patches and reviews
	maxGone        = 500
)

var statusLetters = map[Status]byte{Pass: 'p', Fail: 'f', Flaky: 'k', Error: 'e', NotRun: 'n'}

type pageBuilder struct {
	d        *pageData
	expected map[Expected]int
	observed map[Observed]int
	keys     map[Observed]int
	strings  map[string]int
	details  int
	text     int
}

func newPageData(r, baseline *Report, c *Comparison, descriptions []sharedDescription) *pageData {
	b := &pageBuilder{
		d: &pageData{Verdict: r.Verdict, Strings: []string{""}, Quarantine: r.Quarantine, Descriptions: []pageDescription{},
			Coverage: append(append([]Coverage{}, r.Cover(2)...), r.Cover(3)...), Expected: []Expected{}, Observed: []Observed{}, ObservedKeys: []int{},
			Effects: map[string][]string{}},
		expected: map[Expected]int{}, observed: map[Observed]int{}, keys: map[Observed]int{}, strings: map[string]int{"": 0},
	}
	d := b.d
	for _, run := range r.Runs {
		d.Runs = append(d.Runs, pageRun{Run: run, Partner: -1})
		d.LeftOut += run.LeftOut
	}
	for _, x := range descriptions { // in the order of the static page's list
		d.Descriptions = append(d.Descriptions, pageDescription{Table: x.Table, Runs: x.runs, Alternatives: append([][]Term{}, x.Alternatives...)}) // never null
	}
	if baseline != nil {
		without := *c
		without.Changes = nil
		d.Comparison = &without
		for i, run := range baseline.Runs {
			before := pageRun{Run: run, Before: true, Partner: -1}
			for _, p := range c.Pairs {
				if p.Old == run.ID {
					d.Runs[indexOfRun(r.Runs, p.New)].Partner = len(r.Runs) + i
				}
			}
			d.Runs = append(d.Runs, before)
		}
	}
	b.effects(r)
	if baseline != nil {
		b.effects(baseline)
	}
	b.tables(r, baseline)
	for i := range d.Tables {
		for _, col := range d.Tables[i].Results {
			if col != nil {
				col.finish()
			}
		}
	}
	return d
}

func (b *pageBuilder) effects(r *Report) {
	for _, e := range r.Effects {
		b.d.Effects[e.Digest] = e.Changes
	}
}

func (b *pageBuilder) tables(r, baseline *Report) {
	index := map[string]int{}
	var position map[string]int // of cases in their page table, by ID; only needed with a baseline
	if baseline != nil {
		position = make(map[string]int, len(r.Cases))
	}
	open := func(t Table) *pageTable {
		index[t.ID] = len(b.d.Tables)
		t.Dimensions = slices.Clone(t.Dimensions)
		b.d.Tables = append(b.d.Tables, pageTable{Table: t, Values: make([][]int, len(t.Dimensions)), Results: make([]*pageColumn, len(b.d.Runs)),
			CaseRule: []int{}, CaseExp: []int{}})
		return &b.d.Tables[len(b.d.Tables)-1]
	}
	for i := range r.Tables {
		t := r.Tables[i]
		if t.View == nil {
			rows, cols := r.picture(&t, markdownMaxR, markdownMaxC)
			t.View = &View{Rows: names(&t, rows), Columns: names(&t, cols)}
		}
		open(t)
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		t := &b.d.Tables[index[c.Table]]
		at := b.addCase(t, c, c.Values)
		if position != nil {
			position[c.ID] = at
		}
		for j := range c.Results {
			b.addResult(t, at, c, &c.Results[j], 0)
		}
	}
	if baseline == nil {
		return
	}
	for i := range baseline.Tables {
		if _, ok := index[baseline.Tables[i].ID]; !ok {
			open(baseline.Tables[i])
		}
	}
	for i := range baseline.Cases {
		c := &baseline.Cases[i]
		t := &b.d.Tables[index[c.Table]]
		at, ok := position[c.ID]
		if !ok {
			values, fits := fit(t, baseline.Table(c.Table), c.Values)
			if !fits {
				if len(b.d.Gone) < maxGone {
					b.d.Gone = append(b.d.Gone, c.ID)
				}
				continue
			}
			at = b.addCase(t, c, values)
		}
		for j := range c.Results {
			b.addResult(t, at, c, &c.Results[j], len(r.Runs))
		}
	}
}

func names(t *Table, dims []int) []string {
	var n []string
	for _, d := range dims {
		n = append(n, t.Dimensions[d].Name)
	}
	return n
}

// fit finds the place of an old table's case in today's table, which grows by values that it lacks. A case of a table
// with other dimensions has no place.
func fit(t *pageTable, old *Table, values []uint16) ([]uint16, bool) {
	if len(t.Dimensions) != len(old.Dimensions) {
		return nil, false
	}
	out := make([]uint16, len(values))
	for d := range values {
		if t.Dimensions[d].Name != old.Dimensions[d].Name {
			return nil, false
		}
		v := old.Dimensions[d].Values[values[d]]
		at := slices.Index(t.Dimensions[d].Values, v)
		if at < 0 {
			at = len(t.Dimensions[d].Values)
			t.Dimensions[d].Values = append(slices.Clone(t.Dimensions[d].Values), v)
		}
		out[d] = uint16(at)
	}
	return out, true
}

func (b *pageBuilder) addCase(t *pageTable, c *Case, values []uint16) int {
	at := t.N
	t.N++
	var id strings.Builder
	id.WriteString(t.ID)
	for d, v := range values {
		t.Values[d] = append(t.Values[d], int(v))
		if d == 0 {
			id.WriteByte('/')
		} else {
			id.WriteByte(',')
		}
		id.WriteString(t.Dimensions[d].Name + "=" + t.Dimensions[d].Values[v])
	}
	if id.String() != c.ID {
		if t.IDs == nil {
			t.IDs = map[int]string{}
		}
		t.IDs[at] = c.ID
	}
	t.CaseRule = append(t.CaseRule, ruleIndex(t, c.Rule))
	t.CaseExp = append(t.CaseExp, b.ofExpected(c.Expected))
	return at
}

// ruleIndex is -1 for a rule of the baseline's that today's table has not.
func ruleIndex(t *pageTable, name string) int {
	return slices.IndexFunc(t.Rules, func(r Rule) bool { return r.Name == name })
}

func (b *pageBuilder) ofExpected(e Expected) int {
	i, ok := b.expected[e]
	if !ok {
		i = len(b.d.Expected)
		b.expected[e] = i
		b.d.Expected = append(b.d.Expected, e)
	}
	return i
}

func (b *pageBuilder) ofObserved(o Observed) int {
	i, ok := b.observed[o]
	if !ok {
		i = len(b.d.Observed)
		b.observed[o] = i
		b.d.Observed = append(b.d.Observed, o)
		o.Message = ""
		k, ok := b.keys[o]
		if !ok {
			k = len(b.keys)
			b.keys[o] = k
		}
		b.d.ObservedKeys = append(b.d.ObservedKeys, k)
	}
	return i
}

func (b *pageBuilder) ofString(s string) int {
	i, ok := b.strings[s]
	if !ok {
		i = len(b.d.Strings)
		b.strings[s] = i
		b.d.Strings = append(b.d.Strings, s)
	}
	return i
}

func (b *pageBuilder) addResult(t *pageTable, at int, c *Case, res *Result, firstRun int) {
	col := t.Results[firstRun+res.Run]
	if col == nil {
		col = &pageColumn{}
		t.Results[firstRun+res.Run] = col
	}
	letter := statusLetters[res.Status]
	if res.Forgiven() {
		letter -= 'a' - 'A'
	}
	for len(col.status) <= at {
		col.status = append(col.status, '.')
	}
	col.status[at] = letter
	set := func(s *[]int, v int) {
		for len(*s) <= at {
			*s = append(*s, 0)
		}
		(*s)[at] = v
	}
	set(&col.Observed, b.ofObserved(res.Observed))
	set(&col.Attempted, res.Attempted)
	set(&col.Received, res.Received)
	set(&col.Latency, int(res.Latency.Microseconds()))
	set(&col.Recovery, int(res.Recovery.Microseconds()))
	set(&col.Tries, res.Tries)
	set(&col.Why, b.ofString(res.Why))
	rule, e := c.Expectation(res)
	if i := ruleIndex(t, rule); i != t.CaseRule[at] {
		if col.Rule == nil {
			col.Rule = map[int]int{}
		}
		col.Rule[at] = i
	}
	if i := b.ofExpected(e); i != t.CaseExp[at] {
		if col.Expected == nil {
			col.Expected = map[int]int{}
		}
		col.Expected[at] = i
	}
	b.addMore(col, at, res)
}

func (b *pageBuilder) addMore(col *pageColumn, at int, res *Result) {
	m := pageMore{Timeline: res.Timeline, Artefacts: res.Artefacts, Rerun: res.Rerun}
	if res.Patch != "" || res.Review != "" {
		if b.details < maxPageDetails && b.text < maxPageText {
			b.details++
			before := len(b.d.Strings)
			m.Patch, m.Review = b.ofString(res.Patch), b.ofString(res.Review)
			for _, s := range b.d.Strings[before:] {
				b.text += len(s)
			}
		} else {
			b.d.LeftOut++
		}
	}
	if m.Patch+m.Review+len(m.Timeline)+len(m.Artefacts)+len(m.Rerun) == 0 {
		return
	}
	if col.More == nil {
		col.More = map[int]pageMore{}
	}
	col.More[at] = m
}

// finish drops columns that are all zero.
func (col *pageColumn) finish() {
	col.Status = string(col.status)
	for _, s := range []*[]int{&col.Observed, &col.Attempted, &col.Received, &col.Latency, &col.Recovery, &col.Tries, &col.Why} {
		if !slices.ContainsFunc(*s, func(v int) bool { return v != 0 }) {
			*s = nil
		}
	}
}
