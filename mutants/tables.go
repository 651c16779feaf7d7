// SPDX-License-Identifier: Apache-2.0

package mutants

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/table"
)

// A failure is the case that noticed a mutant.
type failure struct {
	table, rule, id, why string
}

// What is tried first. The small tables of the injectors' profiles come before anything else, since nearly every mutant
// of the patch and the protocol shows there at once. Of larger ones every sampleStep-th case comes next: a step that
// shares no factor with the size of any dimension walks through all their combinations evenly. Only a mutant that both
// miss meets every case. The tables about the API server alone have faults and timeouts of their own and say nothing of
// an injector: they are for the harness's mutants.
const (
	small      = 1000
	sampleStep = 13
	apiServer  = "webhook" // the profile whose tables are not about an injector
)

func quick(t *table.Table) bool { return t.Len() <= small && t.Profile != apiServer }
func quickly(c table.Case) bool { return quick(c.Table) }
func large(t *table.Table) bool { return t.Len() > small && t.Profile != apiServer }
func sample(c table.Case) bool  { return large(c.Table) && c.Number()%sampleStep == 0 }
func all(c table.Case) bool     { return c.Table.Profile != apiServer }

// injectorFails runs the tables against an injector until one notices: nil if none does. An error says that nothing
// can be said: infrastructure.
func injectorFails(ctx context.Context, binary string) (*failure, error) {
	for _, stage := range []probe.Selects{quickly, sample, all} {
		f, err := tablesFail(ctx, run.Options{Injector: binary, Selects: stage, FailFast: true})
		if f != nil || err != nil {
			return f, err
		}
	}
	return nil, nil
}

// tablesFail is a run in this process.
func tablesFail(ctx context.Context, o run.Options) (*failure, error) {
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

// programFails runs the tables with a program of its own, which has them embedded, until one notices m: nil if none
// does.
func (w *workshop) programFails(ctx context.Context, m *Mutant, dir, program string) (*failure, error) {
	for _, focus := range w.focuses(m) {
		if f, err := w.programRunFails(ctx, m.Name, dir, program, focus); f != nil || err != nil {
			return f, err
		}
	}
	return nil, nil
}

// focuses are the selections of cases that are tried in turn: the table that is wrong itself, the quick tables, those of
// the profile that is wrong itself, those about the API server, all.
func (w *workshop) focuses(m *Mutant) []string {
	var list, few []string
	for _, t := range w.tables.Tables {
		id := regexp.QuoteMeta(t.ID())
		if "scenarios/"+t.ID()+".yaml" == m.File {
			list = append(list, "^"+id+"/")
		}
		if quick(t) {
			few = append(few, id)
		}
	}
	list = append(list, "^("+strings.Join(few, "|")+")/")
	if profile, is := strings.CutSuffix(strings.TrimPrefix(m.File, "scenarios/"), "/profile.yaml"); is {
		list = append(list, "^"+regexp.QuoteMeta(profile)+"/")
	}
	return append(list, "^"+apiServer+"/", "")
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
