// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/outrigger-k8s/outrigger/proc"
)

// golang runs the go command. When ctx ends, go and every compiler that it has started are stopped.
func (b *build) golang(ctx context.Context, name, dir string, args []string, stdout, stderr io.Writer) error {
	p, err := b.run.Start(proc.Spec{
		Name: name, Path: b.tool.path, Args: args, Dir: dir, Env: goEnvironment(os.Environ(), b.run.Dir()),
		Stdout: stdout, Stderr: stderr,
	})
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop(time.Second)
		return context.Cause(ctx)
	}
	if p.ExitCode() == 0 {
		return nil
	}
	log := p.LastLines(12)
	if strings.Contains(log, syscall.ENOSPC.Error()) {
		return b.explainFull(fmt.Errorf("%w%s", syscall.ENOSPC, log))
	}
	return fmt.Errorf("go %s: exit status %d%s", args[0], p.ExitCode(), log)
}

// explainFull adds to the error of a full disk what is needed. Measured for Kubernetes: 3.8 GB in GOCACHE, 1.3 GB in
// GOMODCACHE, 0.25 GB of binaries.
func (g group) explainFull(err error) error {
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return fmt.Errorf("the disk is full: a build from source needs about 6 GB where nothing is cached "+
		"(GOCACHE 4 GB, GOMODCACHE 1.5 GB, binaries and temporary files the rest). Free some, or point GOCACHE, GOMODCACHE "+
		"and XDG_CACHE_HOME to another disk; what has been compiled so far is kept by go.%s: %w", after(g.otherwise), err)
}

// explainDownload adds what to do about it to what go says of a module that it cannot get.
func (g group) explainDownload(said string) error {
	said = strings.TrimRight(strings.Join(strings.Fields(said), " "), ".")
	for _, sign := range []string{
		"404 Not Found", "410 Gone", "403 Forbidden", "not found", "unknown revision", "invalid version", // go's and proxies' words
	} {
		if strings.Contains(said, sign) {
			return fmt.Errorf("the Go module proxy does not serve it (%s).%s%s", said, after(g.served), after(g.otherwise))
		}
	}
	if strings.Contains(said, syscall.ENOSPC.Error()) {
		return g.explainFull(fmt.Errorf("%w (%s)", syscall.ENOSPC, said))
	}
	return fmt.Errorf("%s. Is the Go module proxy within reach (go env GOPROXY)?%s", said, after(g.otherwise))
}

// after is a sentence to follow another.
func after(sentence string) string {
	if sentence == "" {
		return ""
	}
	return " " + sentence
}

// A counter counts what "go build -v" reports on standard error: packages compiled, modules downloaded.
type counter struct {
	mu       sync.Mutex
	line     []byte
	packages int
	modules  int
}

func (c *counter) counts() (packages, modules int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.packages, c.modules
}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, part := range bytes.SplitAfter(p, []byte("\n")) {
		if len(c.line) < 4096 {
			c.line = append(c.line, part...)
		}
		if !bytes.HasSuffix(part, []byte("\n")) {
			continue
		}
		line := strings.TrimSpace(string(c.line))
		c.line = c.line[:0]
		switch {
		case strings.HasPrefix(line, "go: downloading "):
			c.modules++
		case line != "" && !strings.ContainsAny(line, " :#\t"): // an import path
			c.packages++
		}
	}
	return len(p), nil
}

// limited passes on the first bytes and drops the rest.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
