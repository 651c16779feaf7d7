// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/target"
)

// options of the command line.
type options struct {
	only     string
	pairs    int
	json     string
	injector string
	requests int
	profile  string
	progress io.Writer
}

// A subject is one thing to measure.
type subject struct {
	name    string
	measure func(context.Context, *options) (*Measurement, error)
}

var subjects = []subject{
	{"admission", measureAdmission},
	{"controlplane", measureControlplane},
	{"injector", measureInjector},
	{"startup", measureStartup},
	{"memory", measureMemory},
}

// errUsage marks mistakes of the caller's.
var errUsage = errors.New("usage")

func main() {
	if code, ok := asChild(os.Args[1:]); ok {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := bench(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		os.Exit(report.ExitConformant)
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(report.ExitUsage)
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(report.ExitInfrastructure)
}

// asChild runs the program as one of its own children: see emptyCommand and weighCommand.
func asChild(args []string) (code int, ok bool) {
	if len(args) == 0 {
		return 0, false
	}
	var err error
	switch args[0] {
	case emptyCommand:
		err = serveEmpty(args[1:])
	case weighCommand:
		err = weigh(args[1:])
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", args[0], err)
		return report.ExitInfrastructure, true
	}
	return 0, true
}

func names() []string {
	list := make([]string, len(subjects))
	for i, s := range subjects {
		list[i] = s.name
	}
	return list
}

// parse reads the command line.
func parse(args []string, stderr io.Writer) (*options, []subject, error) {
	o := &options{progress: stderr}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.only, "only", "", "measure these alone, separated by commas: "+strings.Join(names(), ", "))
	f.IntVar(&o.pairs, "pairs", 5, "pairs of blocks; medians of fewer than 5 say little")
	f.StringVar(&o.json, "json", "", "write all figures to this `FILE` too, with every block's")
	f.StringVar(&o.injector, "injector", "", "the reference injector's `binary` (default bin/injector, which make bin builds, then PATH)")
	f.IntVar(&o.requests, "requests", 12000, "how many `requests` an injector's block has")
	f.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile of this process to a `FILE`, for go tool pprof")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	if f.NArg() > 0 || o.pairs < 1 || o.requests < connections {
		return nil, nil, fmt.Errorf("%w: there are no arguments; --pairs must be at least 1, --requests at least %d",
			errUsage, connections)
	}
	chosen := subjects
	if o.only != "" {
		chosen = nil
		for name := range strings.SplitSeq(o.only, ",") {
			i := slices.IndexFunc(subjects, func(s subject) bool { return s.name == name })
			if i < 0 {
				return nil, nil, fmt.Errorf("%w: --only %q: there is no such thing to measure: %s", errUsage, name, strings.Join(names(), ", "))
			}
			chosen = append(chosen, subjects[i])
		}
	}
	return o, chosen, nil
}

func bench(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, chosen, err := parse(args, stderr)
	if err != nil {
		return err
	}
	klog.SetLogger(logr.Discard())
	if o.injector == "" {
		if o.injector, err = findInjector(); err != nil {
			return err
		}
	}
	if o.profile != "" {
		stop, err := startProfile(o.profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	results := newResults(o.pairs)
	for _, s := range chosen {
		fmt.Fprintf(stderr, "measuring %s …\n", s.name)
		m, err := s.measure(ctx, o)
		if ctx.Err() != nil {
			return fmt.Errorf("measure %s: interrupted by a signal", s.name)
		}
		if err != nil {
			return fmt.Errorf("measure %s: %w", s.name, err)
		}
		m.Name = s.name
		results.Measurements = append(results.Measurements, m)
		if err := m.print(stdout); err != nil {
			return fmt.Errorf("print what was measured: %w", err)
		}
	}
	if err := results.printVerdict(stdout); err != nil {
		return fmt.Errorf("print what was measured: %w", err)
	}
	if o.json != "" {
		return results.write(o.json)
	}
	return nil
}

// findInjector takes what make bin has just built before what else may be on PATH.
func findInjector() (string, error) {
	const built = "bin/injector"
	if info, err := os.Stat(built); err == nil && info.Mode().IsRegular() {
		return absolute(built)
	}
	return target.FindReference()
}

// startProfile starts a CPU profile; stop ends it.
func startProfile(file string) (stop func(), err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("write a CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("write a CPU profile to %s: %w", file, err), f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintf(os.Stderr, "bench: write a CPU profile to %s: %v\n", file, err)
		}
	}, nil
}
