// SPDX-License-Identifier: Apache-2.0

// Package run puts a run together: tables, target, tap and lane from a few options, through the runner, to a report
// and a verdict. The command line and the Ginkgo suites are two faces of it; neither knows more than the other.
package run

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
	"unicode"

	"github.com/outrigger-k8s/outrigger/lane/admission"
	"github.com/outrigger-k8s/outrigger/lane/kind"
	"github.com/outrigger-k8s/outrigger/lane/kind/proof"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/target"
)

// Options say what to run, where, and what becomes of it. The zero value runs every embedded table in the admission
// lane against the reference injector.
type Options struct {
	// Lane is "admission" (the default), "controlplane" or "kind".
	Lane string
	// Profile selects the tables of one profile; "" is all.
	Profile string
	// Focus is a regular expression that a case's ID must match somewhere, or the whole ID of one case; "" is all.
	Focus string
	// Scenarios are the tables that are selected from; nil is the embedded ones.
	Scenarios *table.Set
	// Selects narrows the selection further; nil is all.
	Selects probe.Selects
	// Kubernetes is the version of the control plane, "1.37.2"; "" is the lane's default.
	Kubernetes string
	// Routing is how the control plane reaches Services: "clusterip" (the default) or "endpoints".
	Routing string
	// Full has the kind lane run every case, and not a selection in which every combination of three values occurs. The
	// other lanes always do; a focus does too.
	Full bool
	// KindConfig is the file that the kind cluster is made from; "" is the one that this program carries.
	KindConfig string
	// NodeImage is the image of the kind cluster's nodes; "" is one that is found, or built.
	NodeImage string
	// Tap is the program of the tap in the cluster; "" looks beside the running program, then on PATH.
	Tap string
	// Keep leaves the kind cluster running, Reuse takes one that was kept.
	Keep, Reuse bool
	// SelectsProof narrows down what is shown beside the tables' cases; nil is all.
	SelectsProof func(*proof.Proof) bool
	// Long has the kind lane run the tables that wait for the back-off of controllers, as Full does, and show the proofs that
	// take long.
	Long bool
	// Target is the file that describes the injector under test; "" is the reference injector.
	Target string
	// Injector is the reference injector's binary; "" looks beside the running program, then on PATH.
	Injector string
	// Artifacts is the folder for the report and its renderings; "" writes none.
	Artifacts string
	// Concurrency is how many cases are under way at once; 0 is a number that keeps the lane busy on this machine.
	Concurrency int
	// Timeout bounds one case; 0 is a minute.
	Timeout time.Duration
	// FailFast stops at the first case that does not hold.
	FailFast bool
	// Repeat is how often every case is tried; 0 is once. A case with both outcomes is flaky.
	Repeat int
	// Retries is how often a case that failed at every try is tried again; 0 is never. A case that fails first and
	// passes then is flaky, never a pass.
	Retries int
	// Shard is which part of the cases to run; the zero value is all.
	Shard report.Shard
	// Timings is a report by whose times the shards are balanced; "" balances them by the number of cases. All shards
	// must have the same.
	Timings string
	// Quarantine is a file of cases whose failures do not count; "" is none.
	Quarantine string
	// Budgets are bounds on latency that are part of the verdict.
	Budgets []report.Budget
	// Progress takes progress lines; nil is nowhere.
	Progress io.Writer
	// Rerun is the command that reruns one case, {case} standing for its quoted ID.
	Rerun string
}

// UsageError is a mistake in what was asked for: exit code 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

func usage(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// NoCase is the mistake of a selection that no case meets.
func NoCase(o *Options) error {
	return usage("no case matches: profile %q, focus %q; `outrigger list` prints every case", o.Profile, o.Focus)
}

// Tables that the options select, of the profiles that the target speaks, and which of their cases; nil is all.
func (o *Options) Tables() ([]*table.Table, probe.Selects, error) {
	set := o.Scenarios
	if set == nil {
		var err error
		if set, err = scenarios.Load(); err != nil {
			return nil, nil, usage("load the embedded tables: %w", err)
		}
	}
	tables, err := set.Select(o.Profile)
	if err != nil {
		return nil, nil, &UsageError{err}
	}
	if o.Target != "" {
		t, err := target.Load(o.Target)
		if err != nil {
			return nil, nil, &UsageError{err}
		}
		for _, profile := range t.Profiles {
			if _, err := set.Select(profile); err != nil {
				return nil, nil, usage("target %s: profiles: %w", o.Target, err)
			}
		}
		if tables = spoken(tables, t); len(tables) == 0 {
			return nil, nil, usage("target %s speaks %s (profiles in its file), which is not profile %q", t.Name, strings.Join(t.Profiles, ", "), o.Profile)
		}
	}
	if o.Focus == "" && (o.Lane != kind.Name || o.Full) {
		return tables, o.Selects, nil
	}
	if o.Focus == "" {
		return tables, o.covering(tables), nil
	}
	// A whole ID is that case alone: others may begin with it (review=v1 and review=v1beta1), and the command in a report
	// promises to run just the one.
	if one, err := set.Find(o.Focus); err == nil {
		return tables, func(c table.Case) bool { return (o.Selects == nil || o.Selects(c)) && c.ID() == one.ID() }, nil
	}
	pattern, err := regexp.Compile(o.Focus)
	if err != nil {
		return nil, nil, usage("focus %q is not a regular expression: %w", o.Focus, err)
	}
	return tables, func(c table.Case) bool {
		return (o.Selects == nil || o.Selects(c)) && pattern.MatchString(c.ID())
	}, nil
}

// Check finds mistakes in usage that can be found before anything is started.
func (o *Options) Check() error {
	p, err := o.place()
	if err != nil {
		return err
	}
	return p.check(o)
}

func (o *Options) defaults() error {
	if o.Lane == "" {
		o.Lane = admission.Name
	}
	if err := o.Check(); err != nil {
		return err
	}
	if o.Concurrency < 0 || o.Timeout < 0 {
		return usage("concurrency and timeout must not be negative")
	}
	if o.Concurrency == 0 {
		o.Concurrency = 4 * runtime.GOMAXPROCS(0)
	}
	if o.Repeat < 0 || o.Retries < 0 {
		return usage("repeat and retries must not be negative")
	}
	if o.FailFast && o.Retries > 0 {
		return usage("--fail-fast stops at the first failure, so --retries could never try again: leave one out")
	}
	if o.Timings != "" && o.Shard.Of == 0 {
		return usage("--timings balances shards: say which with --shard i/n, or leave it out")
	}
	if o.Repeat == 0 {
		o.Repeat = 1
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Rerun == "" {
		o.Rerun = o.rerun()
	}
	return o.checkArtifacts()
}

// rerun is the command line that runs one case just so again.
func (o *Options) rerun() string {
	words := []string{"outrigger run --lane " + o.Lane}
	for _, f := range []struct{ flag, value string }{
		{"--k8s-version", o.Kubernetes}, {"--node-image", o.NodeImage}, {"--routing", o.Routing}, {"--target", o.Target},
	} {
		if f.value != "" {
			words = append(words, f.flag+" "+shellWord(f.value))
		}
	}
	if o.Long || o.Full { // what is long would not be run without it
		words = append(words, "--long")
	}
	return strings.Join(append(words, "--focus {case}"), " ")
}

// shellWord makes s one word for a POSIX shell, quoted where it must be.
func shellWord(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./:", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// checkArtifacts finds out before the run, not after it, that its report could not be written.
func (o *Options) checkArtifacts() error {
	if o.Artifacts == "" {
		return nil
	}
	if err := os.MkdirAll(o.Artifacts, 0o755); err != nil {
		return fmt.Errorf("make the artefacts' folder: %w; name another with --artifacts", err)
	}
	f, err := os.CreateTemp(o.Artifacts, ".writable-*")
	if err != nil {
		return fmt.Errorf("write to the artefacts' folder %s: %w; name another with --artifacts", o.Artifacts, err)
	}
	_, err = f.WriteString("writable\n")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// ReportFile is where a run with these artefacts leaves its report.
func ReportFile(artifacts string) string { return filepath.Join(artifacts, "report.json") }
