// SPDX-License-Identifier: Apache-2.0

package mutants

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/outrigger-k8s/outrigger/proc"
	"github.com/outrigger-k8s/outrigger/table"
)

// A workshop is where mutants are built and tried: a checkout, and a run's directory that everything is written to and
// that holds the processes. What a killed program leaves of it the next run sweeps.
type workshop struct {
	*checkout
	processes *proc.Run
	tables    *table.Set // without a mutation, as all that follows
	injector  string     // the reference injector's program
}

// stopGrace is how long a program may take to end in order once it is asked to. outrigger itself closes within 15 s.
const stopGrace = 20 * time.Second

func openWorkshop(ctx context.Context, c *checkout, tables *table.Set) (*workshop, error) {
	processes, err := proc.Open(ctx, "")
	if err != nil {
		return nil, err
	}
	return &workshop{checkout: c, processes: processes, tables: tables}, nil
}

// Close ends what still runs and removes all that was built.
func (w *workshop) Close() error { return w.processes.Close() }

// bench is a new directory within the run's.
func (w *workshop) bench(name string) (string, error) {
	dir := filepath.Join(w.processes.Dir(), "mutant-"+name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a place for %s: %w", name, err)
	}
	return dir, nil
}

// An end is how a program ended.
type end struct {
	code   int    // -1: by a signal
	output []byte // standard output, cut to its beginning
	told   string // the last lines of its log, which has standard error
}

// do runs a program to its end, with env beside the environment. The error is of starting it, or ctx's: the program is
// then stopped.
func (w *workshop) do(ctx context.Context, name, dir string, env []string, program string, args ...string) (*end, error) {
	var output head
	p, err := w.processes.Start(proc.Spec{Name: name, Path: program, Args: args, Dir: dir, Env: append(environment(), env...), Stdout: &output})
	if err != nil {
		return nil, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop(stopGrace)
		return nil, context.Cause(ctx)
	}
	e := &end{code: p.ExitCode(), output: output.bytes()}
	if e.code != 0 {
		e.told = p.LastLines(20)
	}
	return e, nil
}

// errBuild marks what the toolchain refuses: a broken mutant, or a checkout that does not build.
var errBuild = errors.New("it does not build")

// unlabelled leaves symbols and debug information out, which halves what linking costs; the compiled packages are the
// same, so the build cache is shared.
const unlabelled = "-ldflags=-s -w"

// build makes a program of the checkout under an overlay ("" is none).
func (w *workshop) build(ctx context.Context, name, overlay, into, pkg string) error {
	return w.compile(ctx, name, "build", "-overlay="+overlay, unlabelled, "-o", into, pkg)
}

// buildTests makes the test program of a package of the checkout under an overlay ("" is none).
func (w *workshop) buildTests(ctx context.Context, name, overlay, into, pkg string) error {
	return w.compile(ctx, name, "test", "-c", "-overlay="+overlay, unlabelled, "-o", into, pkg)
}

func (w *workshop) compile(ctx context.Context, name string, args ...string) error {
	// The toolchain, when it is stopped, leaves its work behind: in our directory.
	e, err := w.do(ctx, name+"-build", w.root, []string{"GOTMPDIR=" + w.processes.Dir()}, w.tool, args...)
	if err != nil {
		return err
	}
	if e.code != 0 {
		return fmt.Errorf("%w: go %s ended with %d%s", errBuild, args[0], e.code, e.told)
	}
	return nil
}

// head keeps the beginning of what is written to it.
type head struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// headLimit is how many bytes are kept: a failing test can say much.
const headLimit = 4 << 20

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf.Write(p[:min(len(p), headLimit-h.buf.Len())])
	return len(p), nil
}

func (h *head) bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.Bytes()
}
