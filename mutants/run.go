// SPDX-License-Identifier: Apache-2.0

package mutants

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
)

// Outcome is what became of a mutant.
type Outcome string

// The outcomes. All but Killed are findings.
const (
	Killed   Outcome = "killed"   // noticed, by who was to notice
	Survived Outcome = "survived" // not noticed
	Misled   Outcome = "misled"   // noticed by a rule other than the row names
	Broken   Outcome = "broken"   // it does not build or does not run: nothing is proved
)

// A Result is what became of one mutant.
type Result struct {
	Mutant   *Mutant
	Outcome  Outcome
	By       string        // rule and case, or test
	Err      error         // of a broken one
	Duration time.Duration // building included
}

// A Summary counts the outcomes of a run.
type Summary struct {
	Mutants, Killed, Survived, Misled, Broken int
	Duration                                  time.Duration

	findings []*Result // all that were not killed
}

// String is the summary in a line: `52 mutants: 52 killed, 0 survived in 4m10s`.
func (s *Summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d mutants: %d killed, %d survived", s.Mutants, s.Killed, s.Survived)
	if s.Misled > 0 {
		fmt.Fprintf(&b, ", %d noticed by the wrong rule", s.Misled)
	}
	if s.Broken > 0 {
		fmt.Fprintf(&b, ", %d broken", s.Broken)
	}
	fmt.Fprintf(&b, " in %s", s.Duration.Round(time.Second))
	return b.String()
}

// atOnce is how many mutants are under way: linking takes one core alone, and some tests wait more than they work.
func atOnce() int { return min(runtime.GOMAXPROCS(0)+1, 4) }

// Run tries every mutant of list and writes a line for each to out, in the order of list, and the summary. dir is a
// folder in the checkout that this program was built from. An error is of infrastructure: the run ended early, or a
// control failed.
func Run(ctx context.Context, dir string, list []Mutant, out io.Writer) (_ *Summary, err error) {
	start := time.Now()
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	c, err := findCheckout(dir)
	if err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	tables, err := scenarios.Load()
	if err != nil {
		return nil, err
	}
	w, err := openWorkshop(ctx, c, tables)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.control(ctx, list, out); err != nil {
		return nil, err
	}

	results := make([]chan *Result, len(list))
	for i := range results {
		results[i] = make(chan *Result, 1)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce() + 1) // and one that prints
	summary := &Summary{Mutants: len(list)}
	group.Go(func() error {
		for _, r := range results {
			select {
			case result := <-r:
				summary.add(result)
				write(out, result)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for i := range list {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			result, err := w.try(ctx, &list[i])
			if err != nil {
				return err
			}
			results[i] <- result
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	summary.Duration = time.Since(start)
	summary.write(out)
	return summary, nil
}

// control tries what the mutants are tried with on the source as it is.
func (w *workshop) control(ctx context.Context, list []Mutant, out io.Writer) error {
	start := time.Now()
	dir, err := w.bench("control")
	if err != nil {
		return err
	}
	w.injector = filepath.Join(dir, "injector")
	sets := map[string][]string{} // what is run of each package's tests
	for _, m := range list {
		if m.NoticedBy == Tests && !slices.Contains(sets[m.Package], m.Run) {
			sets[m.Package] = append(sets[m.Package], m.Run)
		}
	}
	count := 0
	controls, ctx := errgroup.WithContext(ctx)
	controls.SetLimit(atOnce())
	controls.Go(func() error {
		if err := w.build(ctx, "injector", "", w.injector, injectorPackage); err != nil {
			return fmt.Errorf("build the reference injector: %w", err)
		}
		if !slices.ContainsFunc(list, func(m Mutant) bool { return m.NoticedBy == Tables }) {
			return nil
		}
		f, err := tablesFail(ctx, w.tables, w.injector, ofInjectors)
		if err != nil {
			return fmt.Errorf("try the injector without a mutation: %w", err)
		}
		if f != nil {
			return fmt.Errorf("try the injector without a mutation: %s: %s: mend that first (outrigger run)", f.id, f.why)
		}
		return nil
	})
	for n, pkg := range slices.Sorted(maps.Keys(sets)) {
		count += len(sets[pkg])
		controls.Go(func() error { return w.controlTests(ctx, fmt.Sprintf("control-%d", n), dir, pkg, sets[pkg]) })
	}
	if err := controls.Wait(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "control  the source as it is holds, every table of an injector and %d sets of tests  %s\n", count, since(start))
	return err
}

// controlTests builds the tests of a package of the source as it is in dir, and runs each set of them.
func (w *workshop) controlTests(ctx context.Context, name, dir, pkg string, sets []string) error {
	program := filepath.Join(dir, name+".test")
	if err := w.buildTests(ctx, name, "", program, pkg); err != nil {
		return fmt.Errorf("build the tests of %s: %w", pkg, err)
	}
	for n, run := range slices.Sorted(slices.Values(sets)) {
		failed, err := w.testsFail(ctx, fmt.Sprintf("%s-%d", name, n), program, pkg, run)
		if err != nil {
			return err
		}
		if failed != "" {
			return fmt.Errorf("run the tests of %s without a mutation: %s fails: mend that first (go test %s)", pkg, failed, pkg)
		}
	}
	return nil
}

// Programs of the checkout.
const (
	injectorPackage  = "./injector/cmd/injector"
	outriggerPackage = "./cmd/outrigger"
)

// try builds one mutant and shows it to who must notice. An error ends the run.
func (w *workshop) try(ctx context.Context, m *Mutant) (*Result, error) {
	start := time.Now()
	dir, err := w.bench(m.Name)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // what is left on an error the workshop's end removes
	result := &Result{Mutant: m, Outcome: Survived}
	var f *failure
	if m.inScenarios() {
		var wrong *table.Set
		if wrong, err = m.wrongTables(); err == nil {
			f, err = tablesFail(ctx, wrong, w.injector, selections(m)...)
		}
	} else {
		f, err = w.tryBuilt(ctx, m, dir, result)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if f != nil {
		result.Outcome, result.By = Killed, fmt.Sprintf("%s rule %s (case %s)", f.table, f.rule, f.id)
		if len(m.Rules) > 0 && !slices.Contains(m.Rules, f.rule) {
			result.Outcome = Misled
		}
	}
	if err != nil {
		result.Outcome, result.Err = Broken, err
	}
	result.Duration = time.Since(start)
	return result, nil
}

// tryBuilt builds a mutant of code in dir. What tests notice it says in result; what a case does, it returns.
func (w *workshop) tryBuilt(ctx context.Context, m *Mutant, dir string, result *Result) (*failure, error) {
	overlay, err := w.overlay(m, dir)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, "program")
	switch {
	case m.NoticedBy == Tests:
		if err := w.buildTests(ctx, m.Name, overlay, program, m.Package); err != nil {
			return nil, err
		}
		test, err := w.testsFail(ctx, m.Name, program, m.Package, m.Run)
		if test != "" {
			result.Outcome, result.By = Killed, m.Package+" "+test
		}
		return nil, err
	case m.Of == Injector:
		if err := w.build(ctx, m.Name, overlay, program, injectorPackage); err != nil {
			return nil, err
		}
		return tablesFail(ctx, w.tables, program, selections(m)...)
	default:
		if err := w.build(ctx, m.Name, overlay, program, outriggerPackage); err != nil {
			return nil, err
		}
		return w.programFails(ctx, m, dir, program)
	}
}

func (s *Summary) add(r *Result) {
	switch r.Outcome {
	case Killed:
		s.Killed++
	case Survived:
		s.Survived++
	case Misled:
		s.Misled++
	case Broken:
		s.Broken++
	}
	if r.Outcome != Killed {
		s.findings = append(s.findings, r)
	}
}

// write ends with the summary. The findings come once more before it: they stand far apart in hundreds of lines, of which
// a CI system may show the last.
func (s *Summary) write(out io.Writer) {
	if len(s.findings) > 0 && s.Mutants > 1 {
		fmt.Fprintf(out, "\nof %d mutants these were not killed:\n", s.Mutants)
		for _, r := range s.findings {
			write(out, r)
		}
	}
	fmt.Fprintln(out, s)
}

// write tells of one mutant; of a finding also what was wrong in it, and where it is declared.
func write(out io.Writer, r *Result) {
	m := r.Mutant
	by := ""
	if r.By != "" {
		by = "by " + r.By + "  "
	}
	fmt.Fprintf(out, "%-8s %-36s %s%s\n", r.Outcome, m.Name, by, r.Duration.Round(100*time.Millisecond))
	if r.Outcome == Killed {
		return
	}
	fmt.Fprintf(out, "         %s\n         %s, mutants/mutants.yaml:%d; go on with: outrigger mutants --only '^%s$'\n", m.What, m.File, m.line, m.Name)
	switch {
	case r.Err != nil:
		fmt.Fprintf(out, "         %s\n", strings.ReplaceAll(r.Err.Error(), "\n", "\n         "))
	case r.Outcome == Misled:
		fmt.Fprintf(out, "         expected it to be noticed by %s\n", strings.Join(m.Rules, " or "))
	case r.Outcome == Survived && m.NoticedBy == Tests:
		fmt.Fprintf(out, "         no test of %s notices: add one\n", m.Package)
	case r.Outcome == Survived:
		fmt.Fprintf(out, "         no case of the tables notices: add a value, a rule or a check that does\n")
	}
}

func since(start time.Time) time.Duration { return time.Since(start).Round(100 * time.Millisecond) }
