// SPDX-License-Identifier: Apache-2.0

package report

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Check says what is wrong with a report as a whole: an index that points nowhere, an order that is not the promised
// one, a case without a result. A report that [Read] gave, or a [Builder], is sound.
func (r *Report) Check() error {
	if err := checkSchema(r.Schema); err != nil {
		return err
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.ID == "" {
			return fmt.Errorf("run %d has no id", i)
		}
		if i > 0 && r.Runs[i-1].ID >= run.ID {
			return fmt.Errorf("runs %s and %s are not in order, or twice there", r.Runs[i-1].ID, run.ID)
		}
		if run.Ended != Complete && run.Ended != Interrupted && run.Ended != Infrastructure {
			return fmt.Errorf("run %s: ended is %q, not complete, interrupted or infrastructure", run.ID, run.Ended)
		}
		for j, s := range run.Shards {
			if s.Index < 1 || s.Index > s.Of || s.Of != run.Shards[0].Of || j > 0 && run.Shards[j-1].Index >= s.Index {
				return fmt.Errorf("run %s: shard %d/%d is out of bounds or out of order", run.ID, s.Index, s.Of)
			}
		}
	}
	tables := make(map[string]*Table, len(r.Tables))
	rules := make(map[string]map[string]bool, len(r.Tables))
	for i := range r.Tables {
		t := &r.Tables[i]
		if i > 0 && r.Tables[i-1].ID >= t.ID {
			return fmt.Errorf("tables %s and %s are not in order, or twice there", r.Tables[i-1].ID, t.ID)
		}
		if err := t.check(); err != nil {
			return err
		}
		tables[t.ID], rules[t.ID] = t, map[string]bool{}
		for _, rule := range t.Rules {
			rules[t.ID][rule.Name] = true
		}
	}
	for i := range r.Effects {
		if i > 0 && r.Effects[i-1].Digest >= r.Effects[i].Digest {
			return fmt.Errorf("the effects %s and %s are not in order, or twice there", r.Effects[i-1].Digest, r.Effects[i].Digest)
		}
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		if i > 0 && r.Cases[i-1].ID >= c.ID {
			return fmt.Errorf("cases %s and %s are not in order, or twice there", r.Cases[i-1].ID, c.ID)
		}
		t := tables[c.Table]
		if t == nil {
			return fmt.Errorf("case %s: no table %q", c.ID, c.Table)
		}
		if !strings.HasPrefix(c.ID, c.Table+"/") {
			return fmt.Errorf("case %s: the ID does not begin with its table, %s", c.ID, c.Table)
		}
		if err := c.check(t, rules[c.Table], len(r.Runs)); err != nil {
			return fmt.Errorf("case %s: %w", c.ID, err)
		}
	}
	if own := r.judgement(); own.Exit != r.Verdict.Exit {
		return fmt.Errorf("its verdict is %s (exit %d), and what it holds makes it %s (exit %d: %s)",
			r.Verdict.Conclusion, r.Verdict.Exit, own.Conclusion, own.Exit, own.Because)
	}
	return nil
}

func (c *Case) check(t *Table, rules map[string]bool, runs int) error {
	if len(c.Values) != len(t.Dimensions) {
		return fmt.Errorf("%s for %s", plural(len(c.Values), "value"), plural(len(t.Dimensions), "dimension"))
	}
	for i, v := range c.Values {
		if int(v) >= len(t.Dimensions[i].Values) {
			return fmt.Errorf("dimension %s has no value of index %d", t.Dimensions[i].Name, v)
		}
	}
	if !rules[c.Rule] {
		return fmt.Errorf("no rule %q in table %s", c.Rule, t.ID)
	}
	if len(c.Results) == 0 {
		return errors.New("it has no result")
	}
	for i := range c.Results {
		res := &c.Results[i]
		if res.Run < 0 || res.Run >= runs {
			return fmt.Errorf("no run of index %d", res.Run)
		}
		if i > 0 && c.Results[i-1].Run >= res.Run {
			return errors.New("its results are not sorted by run, or twice there")
		}
		if res.Rule != "" && !rules[res.Rule] {
			return fmt.Errorf("no rule %q in table %s", res.Rule, t.ID)
		}
		if err := res.check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Result) check() error {
	if !slices.Contains(Statuses, r.Status) {
		return fmt.Errorf("unknown status %q", r.Status)
	}
	if !slices.Contains(Outcomes, r.Observed.Outcome) {
		return fmt.Errorf("unknown observed outcome %q", r.Observed.Outcome)
	}
	if r.Attempted < -1 || r.Received < -1 || r.Latency < 0 || r.Recovery < 0 || r.Nudged < 0 || r.Held < 0 || r.Tries < 0 {
		return errors.New("a negative number in the result")
	}
	return nil
}

func (t *Table) check() error {
	if t.ID == "" || strings.HasSuffix(t.ID, "/") {
		return fmt.Errorf("a table has the ID %q; it should be like istio-classic/decision", t.ID)
	}
	seen := map[string]bool{}
	for _, d := range t.Dimensions {
		if seen[d.Name] {
			return fmt.Errorf("table %s: the dimension %s is there twice", t.ID, d.Name)
		}
		seen[d.Name] = true
		if len(d.Values) == 0 || len(d.Values) > 1<<16 {
			return fmt.Errorf("table %s: the dimension %s has %d values; it needs 1 to 65,536", t.ID, d.Name, len(d.Values))
		}
		values := map[string]bool{}
		for _, v := range d.Values {
			if values[v] {
				return fmt.Errorf("table %s: the dimension %s has the value %s twice", t.ID, d.Name, v)
			}
			values[v] = true
		}
	}
	names := map[string]bool{}
	for _, rule := range t.Rules {
		if names[rule.Name] {
			return fmt.Errorf("table %s: the rule %s is there twice", t.ID, rule.Name)
		}
		names[rule.Name] = true
	}
	return nil
}

// checkSchema says whether this package can read that version of the format.
func checkSchema(s string) error {
	rest, ok := strings.CutPrefix(s, schemaPrefix)
	if !ok {
		if s == "" {
			return errors.New("it is not an Outrigger report: it has no schema")
		}
		return fmt.Errorf("it is not an Outrigger report: its schema is %.60q, not %sN.N", s, schemaPrefix)
	}
	majorText, minorText, _ := strings.Cut(rest, ".")
	major, err1 := strconv.Atoi(majorText)
	minor, err2 := strconv.Atoi(minorText)
	if err1 != nil || err2 != nil || major < 0 || minor < 0 {
		return fmt.Errorf("it is not an Outrigger report: its schema is %.60q, not %sN.N", s, schemaPrefix)
	}
	if major != schemaMajor || minor > schemaMinor {
		return fmt.Errorf("its format is %.60s, and this outrigger reads %s%d.0 to %s: use the outrigger that wrote it, "+
			"or a newer one", s, schemaPrefix, schemaMajor, SchemaVersion)
	}
	return nil
}
