// SPDX-License-Identifier: Apache-2.0

package mutants

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing/fstest"

	"github.com/outrigger-k8s/outrigger/lane/admission"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
)

// A failure is the case that noticed a mutant.
type failure struct {
	table, rule, id, why string
}

// What is tried first. A case that the row's own rules decide notices soonest. The small tables of the injectors'
// profiles come next, since nearly every mutant of the patch and the protocol shows there at once, then of larger ones
// every sampleStep-th case: a step that shares no factor with the size of any dimension walks through all their
// combinations evenly. Only a mutant that all these miss meets every case. The tables about the API server alone have
// faults and timeouts of their own and say nothing of an injector: they are for the harness's mutants.
const (
	small      = 1000
	sampleStep = 13
	apiServer  = "webhook" // the profile whose tables are not about an injector
)

func sampled(c table.Case) bool            { return c.Table.Len() <= small || c.Number()%sampleStep == 0 }
func ofInjectors(c table.Case) bool        { return c.Table.Profile != apiServer }
func quickly(c table.Case) bool            { return ofInjectors(c) && c.Table.Len() <= small }
func sampledOfInjectors(c table.Case) bool { return ofInjectors(c) && sampled(c) }

// decidedBy are the cases that one of rules decides in the admission lane, of large tables a sample.
func decidedBy(rules []string) probe.Selects {
	facts := admission.Facts()
	return func(c table.Case) bool { return sampled(c) && slices.Contains(rules, string(c.Rule(facts).Name)) }
}

// from are the cases of the tables that are wrong if a file of scenarios is: the table of that name, or, of a profile's
// file, all of the profile.
func from(file string) probe.Selects {
	return func(c table.Case) bool { return c.Table.File == file || c.Table.Profile == profileOf(file) }
}

// profileOf is the profile that a file declares, "" if it does not.
func profileOf(file string) table.Word {
	if path.Base(file) != "profile.yaml" {
		return ""
	}
	return table.Word(path.Base(path.Dir(file)))
}

// inScenarios tells whether the mutant is wrong in a file that tables are read from. Such a one needs no build.
func (m *Mutant) inScenarios() bool {
	return m.NoticedBy == Tables && strings.HasPrefix(m.File, scenariosDir) && path.Ext(m.File) == ".yaml"
}

// scenariosDir is where tables are in a checkout.
const scenariosDir = "scenarios/"

// wrongTables are the tables with one of their files as m has it. An error says that they do not load.
func (m *Mutant) wrongTables() (*table.Set, error) {
	files := fstest.MapFS{}
	err := fs.WalkDir(scenarios.FS, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(scenarios.FS, file)
		if scenariosDir+file == m.File && err == nil {
			text, err = m.Apply(text)
		}
		files[file] = &fstest.MapFile{Data: text}
		return err
	})
	if err != nil {
		return nil, err
	}
	set, err := table.Load(files, path.Clean(scenariosDir))
	if err != nil {
		return nil, fmt.Errorf("load the tables with mutant %s: %w", m.Name, err)
	}
	return set, nil
}

// selections are what is tried in turn to notice m.
func selections(m *Mutant) []probe.Selects {
	if m.inScenarios() {
		everything := func(table.Case) bool { return true }
		return []probe.Selects{decidedBy(m.Rules), from(m.File), quickly, everything}
	}
	return []probe.Selects{decidedBy(m.Rules), quickly, sampledOfInjectors, ofInjectors}
}

// tablesFail runs selections of set's cases one after another, until a case fails: nil if none does.
func tablesFail(ctx context.Context, set *table.Set, injector string, selections ...probe.Selects) (*failure, error) {
	for _, selects := range selections {
		if !selectsAny(set, selects) {
			continue
		}
		f, err := selectionFails(ctx, run.Options{Scenarios: set, Injector: injector, Selects: selects, FailFast: true})
		if f != nil || err != nil {
			return f, err
		}
	}
	return nil, nil
}

func selectsAny(set *table.Set, selects probe.Selects) bool {
	for _, t := range set.Tables {
		for c := range t.Cases() {
			if selects(c) {
				return true
			}
		}
	}
	return false
}

// selectionFails is a run in this process.
func selectionFails(ctx context.Context, o run.Options) (*failure, error) {
	s, err := run.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var failed []*probe.Judgement
	err = s.Run(ctx, func(j *probe.Judgement) {
		if j.Err == nil && len(j.Why) > 0 {
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, j)
		}
	})
	closed := s.Close()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(failed) > 0 {
		// Several were under way when the first was judged: name the one that comes first in the tables.
		first := slices.MinFunc(failed, func(a, b *probe.Judgement) int { return a.Planned.Case.Number() - b.Planned.Case.Number() })
		c := first.Planned.Case
		return &failure{c.Table.ID(), string(first.Planned.Rule.Name), c.ID(), first.Why[0]}, closed
	}
	return nil, errors.Join(err, closed)
}

// programFails runs the tables with a program of its own until one notices m: nil if none does. First come the cases that
// the row's own rules decide, and no others of their tables: which of those that fail is judged first is not certain. Then
// come the quick tables, those about the API server, and all.
func (w *workshop) programFails(ctx context.Context, m *Mutant, dir, program string) (*failure, error) {
	for _, focus := range []string{w.focusOn(decidedBy(m.Rules)), w.focusOn(quickly), "^" + apiServer + "/", ".*"} {
		if focus == "" {
			continue
		}
		if f, err := w.programRunFails(ctx, m.Name, dir, program, focus); f != nil || err != nil {
			return f, err
		}
	}
	return nil, nil
}

// focusOn is the expression that the IDs of these cases match and of no others; "" if there are none.
func (w *workshop) focusOn(these probe.Selects) string {
	var ids []string
	for _, t := range w.tables.Tables {
		var of []string
		for c := range t.Cases() {
			if these(c) {
				of = append(of, regexp.QuoteMeta(c.ID()))
			}
		}
		if len(of) == t.Len() { // they would not all fit into an argument
			of = []string{regexp.QuoteMeta(t.ID()+"/") + ".*"}
		}
		ids = append(ids, of...)
	}
	if ids == nil {
		return ""
	}
	return "^(" + strings.Join(ids, "|") + ")$"
}

func (w *workshop) programRunFails(ctx context.Context, name, dir, program, focus string) (*failure, error) {
	artifacts := filepath.Join(dir, "artifacts")
	e, err := w.do(ctx, name, dir, nil, program, "run", "--quiet", "--fail-fast", "--focus", focus, "--injector", w.injector, "--artifacts", artifacts)
	if err != nil {
		return nil, err
	}
	switch e.code {
	case report.ExitConformant:
		return nil, nil
	case report.ExitNotConformant:
	default:
		return nil, fmt.Errorf("run the tables: exit code %d%s", e.code, e.told)
	}
	r, err := report.Read(run.ReportFile(artifacts))
	if err != nil {
		return nil, err
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		if result := c.Result(0); result != nil && result.Status == report.Fail {
			rule, _ := c.Expectation(result)
			return &failure{c.Table, rule, c.ID, result.Why}, nil
		}
	}
	return nil, fmt.Errorf("run the tables: exit code %d, but the report has no case that failed", e.code)
}
