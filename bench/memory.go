// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/outrigger-k8s/outrigger/proc"
)

// suiteMemoryBar is for the process that judges 36,000 cases, in MiB, and judgedProfile has so many. Most of it is
// Ginkgo's own report of each spec: it grows with their number.
const (
	suiteMemoryBar = 450.0
	judgedProfile  = "istio-classic"
)

// peakMemory is the most resident memory that a running process had, in MiB; 0 where the system does not say (it is
// Linux that does).
func peakMemory(pid int) (float64, error) {
	if runtime.GOOS != "linux" {
		return 0, nil
	}
	file := fmt.Sprintf("/proc/%d/status", pid)
	f, err := os.Open(file)
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		value, found := strings.CutPrefix(lines.Text(), "VmHWM:")
		if !found {
			continue
		}
		kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
		if err != nil {
			return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
		}
		return kib / 1024, nil
	}
	return 0, errors.Join(fmt.Errorf("read the memory of process %d: no VmHWM in %s", pid, file), lines.Err())
}

// measureMemory runs the suite in the admission lane, with the cases that the bar is for and with all. Its report's
// artefacts are written too: rendering them is part of what the process needs memory for.
func measureMemory(ctx context.Context, o *options) (m *Measurement, err error) {
	b, err := newBed(ctx, o.injector)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := func(name string) string { return filepath.Join(b.processes.Dir(), name) }
	fmt.Fprintln(o.progress, "  compiling the suite")
	suite := file("e2e.test")
	if err := finish(ctx, b.processes, proc.Spec{Name: "compile", Path: "go", Args: []string{"test", "-c", "-o", suite, "./e2e"}, Dir: here}); err != nil {
		return nil, fmt.Errorf("compile the suite (run this in outrigger's source): %w", err)
	}
	m = &Measurement{Title: "the process of the suite in the admission lane"}
	weigh := func(profile string) (mebibytes []float64, err error) {
		fmt.Fprintln(o.progress, "  running the suite", profile)
		result := file("memory" + profile)
		if err := finish(ctx, b.processes, proc.Spec{Name: "suite" + profile, Path: self, Args: []string{
			weighCommand, result, suite, "--outrigger.lane=admission", "--outrigger.profile=" + profile,
			"--outrigger.injector=" + o.injector, "--outrigger.artifacts=" + file("artifacts"),
		}, Dir: filepath.Join(here, "e2e")}); err != nil {
			return nil, fmt.Errorf("run the suite: %w", err)
		}
		raw, err := os.ReadFile(result)
		if err != nil {
			return nil, err
		}
		peak, err := strconv.ParseFloat(strings.TrimSpace(string(raw)), 64)
		if err != nil {
			return nil, fmt.Errorf("read the suite's memory: %w", err)
		}
		return []float64{peak / (1 << 20)}, nil
	}
	peak, err := weigh(judgedProfile)
	if err != nil {
		return nil, err
	}
	m.figure("most resident memory, the 36,000 cases of "+judgedProfile, "MiB", peak, atMost(suiteMemoryBar))
	if peak, err = weigh(""); err != nil {
		return nil, err
	}
	m.figure("most resident memory, every case", "MiB", peak, nil)
	return m, nil
}

// finish starts a program and waits until it has ended well.
func finish(ctx context.Context, processes *proc.Run, spec proc.Spec) error {
	p, err := processes.Start(spec)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if p.ExitCode() != 0 {
		return p.Err()
	}
	return nil
}
