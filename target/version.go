// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/outrigger-k8s/outrigger/proc"
)

// maxVersion bounds what a version command may print, in bytes; the first line counts.
const maxVersion = 4 << 10

// Version asks the target for its own version, with the command that its file declares: the first line of what that
// prints to standard output. "" if none is declared.
func (f *Fleet) Version(ctx context.Context) (string, error) {
	words := f.target.Version
	if len(words) == 0 {
		return "", nil
	}
	program, err := lookPath(words[0], f.target.file)
	if err != nil {
		return "", fmt.Errorf("asking target %s for its version: %w", f.target.Name, err)
	}
	if f.run == nil {
		return "", fmt.Errorf("asking target %s for its version: the fleet has no run to start %s in", f.target.Name, program)
	}
	out := &firstBytes{limit: maxVersion}
	process, err := f.run.Start(proc.Spec{
		Name: f.target.Name + "-version", Path: program, Args: words[1:], Stdout: out,
	})
	if err != nil {
		return "", fmt.Errorf("asking target %s for its version: %w", f.target.Name, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, versionTimeout, fmt.Errorf("it has not said it within %s", versionTimeout))
	defer cancel()
	select {
	case <-process.Done():
	case <-ctx.Done():
		process.Stop(0)
		return "", fmt.Errorf("asking target %s for its version with %s: %w", f.target.Name, program, context.Cause(ctx))
	}
	if code := process.ExitCode(); code != 0 {
		return "", fmt.Errorf("asking target %s for its version: %w", f.target.Name, endOf(process))
	}
	line, _, _ := strings.Cut(strings.TrimSpace(out.kept.String()), "\n")
	return strings.TrimSpace(line), nil
}

// versionTimeout bounds how long a target's program may take to say its version.
const versionTimeout = 30 * time.Second

// firstBytes keeps the first limit bytes of what is written to it.
type firstBytes struct {
	limit int
	kept  bytes.Buffer // not embedded: io.Copy would take its ReadFrom, which knows no limit
}

func (b *firstBytes) Write(p []byte) (int, error) {
	_, _ = b.kept.Write(p[:min(len(p), b.limit-b.kept.Len())])
	return len(p), nil
}

// lookPath finds a program: a bare name on PATH, a relative path from the folder of the Target file that names it.
func lookPath(program, file string) (string, error) {
	if strings.ContainsRune(program, filepath.Separator) && !filepath.IsAbs(program) && file != "" {
		program = filepath.Join(filepath.Dir(file), program)
	}
	found, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("finding the target's program: %w", err)
	}
	return filepath.Abs(found)
}
