// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/table"
)

// describe is the column of the report that this session fills.
func (s *Session) describe(ctx context.Context) (report.Run, error) {
	version, err := s.fleet.Version(ctx)
	if err != nil {
		return report.Run{}, err
	}
	f := s.lane.Facts()
	return report.Run{
		Lane: f.Lane, Provider: f.Provider, Kubernetes: f.Kubernetes, Routing: f.Routing, Features: f.Features,
		Target:    report.TargetInfo{Name: s.subject.Name, Version: version},
		Outrigger: Version(),
		Started:   s.started.UTC(),
		Host:      report.Host{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()},
		Selection: s.selection(),
		Planned:   s.plan.Len() + len(s.plan.NotRun),
		Rerun:     s.options.Rerun,
	}, nil
}

func (s *Session) selection() string {
	var parts []string
	if s.options.Profile != "" {
		parts = append(parts, "profile "+s.options.Profile)
	}
	if s.options.Focus != "" {
		parts = append(parts, "focus "+s.options.Focus)
	}
	if s.options.Selects != nil {
		parts = append(parts, "a selection of specs")
	}
	if s.kind != nil && s.options.Focus == "" && !s.options.Full {
		parts = append(parts, "every combination of three values")
	}
	if len(parts) == 0 {
		return "full"
	}
	return strings.Join(parts, ", ")
}

// Finish closes the report over how the run ended (the error of Run), writes it and its renderings to the artefacts'
// folder, and closes the session. A session that cannot be closed leaves something behind: the report says so then, and is
// not conformant.
func (s *Session) Finish(ended error) (*report.Report, error) {
	s.builder.Update(func(r *report.Run) {
		r.Phases, r.Times, r.Duration = s.phases, s.clock.times(), now().Sub(s.started)
		if s.evidence != nil {
			r.NoEvidence = s.evidence.left
		}
		switch {
		case ended == nil:
		case errors.Is(ended, context.Canceled) || errors.Is(ended, ErrInterrupted):
			r.Ended, r.Problem = report.Interrupted, ended.Error()
		default:
			r.Ended, r.Problem = report.Infrastructure, ended.Error()
		}
	})
	r := s.builder.Finish()
	if r.Verdict.Exit != report.ExitConformant {
		r.Runs[0].Artefacts = s.collect()
	}
	if r.Runs[0].Ended == report.Infrastructure {
		r.Runs[0].Artefacts = append(r.Runs[0].Artefacts, s.keepLogs()...)
		slices.Sort(r.Runs[0].Artefacts)
	}
	write := func() error {
		if s.options.Artifacts == "" {
			return nil
		}
		return WriteArtifacts(s.options.Artifacts, r)
	}
	err := write()
	if closing := s.Close(); closing != nil {
		broke(&r.Runs[0], fmt.Errorf("take away what the run started: %w", closing))
		r.Judge()
		err = errors.Join(err, write())
	}
	return r, err
}

// broke notes what broke a run, beside what had done so already.
func broke(r *report.Run, err error) {
	r.Ended = report.Infrastructure
	if r.Problem != "" {
		r.Problem += "; "
	}
	r.Problem += err.Error()
}

// WriteArtifacts writes the report into the folder, and each of its renderings beside it.
func WriteArtifacts(folder string, r *report.Report) error {
	errs := []error{report.Write(ReportFile(folder), r)}
	o := report.Options{Findings: r.Findings()}
	for _, renderer := range report.Renderers {
		if renderer.Name == "json" {
			continue
		}
		file := filepath.Join(folder, fileOf(renderer))
		errs = append(errs, report.WriteFile(file, renderTo(renderer, r, o)))
	}
	return errors.Join(errs...)
}

// fileOf is what a rendering is called in the artefacts' folder.
func fileOf(r report.Renderer) string {
	if r.Name == "junit" {
		return "junit.xml" // what CI systems look for
	}
	return "report" + r.Extension
}

// ReportTables are the tables as a report tells of them.
func ReportTables(tables []*table.Table) []report.Table {
	list := make([]report.Table, len(tables))
	for i, t := range tables {
		rt := report.Table{ID: t.ID(), Profile: string(t.Profile), Name: string(t.Name), Title: t.Title, Digest: t.Digest(), Total: t.Len()}
		if len(t.View.Rows) > 0 {
			rt.View = &report.View{Rows: names(t.View.Rows), Columns: names(t.View.Columns)}
		}
		for _, d := range t.Dimensions {
			rt.Dimensions = append(rt.Dimensions, report.Dimension{Name: string(d.Name), Title: d.Title, Values: d.Slugs()})
		}
		for _, s := range t.Course {
			rt.Course = append(rt.Course, report.Step{Name: string(s.Name), Title: s.Title, Does: string(s.Does), Of: string(s.Of)})
		}
		for _, r := range t.Rules {
			source := r.Source
			if source == "" {
				source = t.Source
			}
			rule := report.Rule{
				Name: string(r.Name), When: r.When.String(), Given: r.Given.String(), Because: r.Because, Source: source,
			}
			if then := t.Then(r); then != nil {
				rule.Outcome = report.Outcome(then.Outcome)
			}
			for _, s := range t.Course {
				if then := r.Then.Course[s.Name]; then != nil {
					rule.Course = append(rule.Course, report.StepOutcome{Step: string(s.Name), Outcome: report.Outcome(then.Outcome)})
				}
			}
			rt.Rules = append(rt.Rules, rule)
		}
		for n, x := range t.Excluded {
			rt.Excluded = append(rt.Excluded, report.Exclusion{When: terms(x.When), Because: x.Because, Count: t.Barred(n)})
		}
		list[i] = rt
	}
	return list
}

func names(words []table.Word) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = string(w)
	}
	return list
}

func terms(when table.When) []report.Term {
	var list []report.Term
	for _, d := range slices.Sorted(maps.Keys(when)) {
		list = append(list, report.Term{Dimension: string(d), Values: names(when[d])})
	}
	return list
}

func caseResult(c table.Case, rule *table.Rule) report.CaseResult {
	values := make([]string, len(c.Table.Dimensions))
	for d := range values {
		values[d] = string(c.Value(d).Slug)
	}
	then := c.Table.Then(rule)
	expected := report.Expected{
		Outcome: report.Outcome(then.Outcome), Code: then.Code, Reason: then.Reason, Message: then.Message.String(), FailedOpen: then.FailedOpen,
	}
	switch {
	case then.Calls != nil:
		expected.Attempted = strconv.Itoa(then.Calls.Sum)
		expected.Received = expected.Attempted
	case then.Called != nil:
		expected.Attempted = strconv.Itoa(len(then.Called))
		expected.Received = expected.Attempted
	}
	if then.Attempted != nil {
		expected.Attempted = strconv.Itoa(*then.Attempted)
	}
	if then.Received != nil {
		expected.Received = strconv.Itoa(*then.Received)
	}
	return report.CaseResult{ID: c.ID(), Table: c.Table.ID(), Values: values, Rule: string(rule.Name), Expected: expected}
}

func notRun(n probe.NotRun) report.CaseResult {
	c := caseResult(n.Case, n.Rule)
	c.Result = report.Result{Status: report.NotRun, Why: NotRunReason(n)}
	return c
}

// NotRunReason says in a sentence why a case is not run in the lane.
func NotRunReason(n probe.NotRun) string {
	why := fmt.Sprintf("the lane lacks %q", n.Missing)
	if n.Missing == probe.FeatureLong {
		why += " unless LONG=1 (--long) asks for it"
	}
	return why
}

// Result is a judgement as a report tells of it.
func Result(j *probe.Judgement) report.CaseResult {
	c := caseResult(j.Planned.Case, j.Planned.Rule)
	c.Result = report.Result{
		Status: report.Pass,
		Observed: report.Observed{
			Outcome: report.Outcome(j.Observed), Code: int(j.Code), Reason: j.Reason, Message: j.Message, FailedOpen: j.FailedOpen,
			Digest: j.Digest,
		},
		Attempted: j.Attempted, Received: j.Received, Latency: j.Latency, Recovery: j.Recovery, Nudged: j.Nudged, Held: j.Held, Timeline: timeline(j),
	}
	switch {
	case j.NotRun != "":
		c.Result = report.Result{Status: report.NotRun, Why: j.NotRun}
	case j.Err != nil:
		c.Result = report.Result{Status: report.Error, Why: j.Err.Error()}
	case !j.Holds():
		c.Result.Status = report.Fail
		c.Result.Why = strings.Join(j.Why, "; ")
		for i := range j.Calls {
			c.Result.Review = string(j.Calls[i].Request)
			c.Result.Patch = string(probe.Patch(&j.Calls[i]))
		}
	}
	c.Result.Artefacts = j.Artefacts
	return c
}

// timeline is what was seen of a scenario, step by step.
func timeline(j *probe.Judgement) (moments []report.Moment) {
	for i, s := range j.Course {
		step := &j.Planned.Case.Table.Course[i]
		what := step.Title
		if what == "" {
			what = string(step.Does)
			if step.Of != "" {
				what += " of " + string(step.Of)
			}
		}
		if s.Beside != nil {
			what += "; " + s.Beside.String()
		}
		moments = append(moments, report.Moment{
			At: s.At, What: what, Outcome: report.Outcome(s.Observed), Step: string(step.Name), Rule: string(s.Planned.Rule.Name),
			Expected: report.Outcome(s.Planned.Then().Outcome), Message: s.Message, Recovery: s.Recovery, Held: s.Held, Why: strings.Join(s.Why, "; "),
		})
	}
	return moments
}
