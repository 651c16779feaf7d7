// SPDX-License-Identifier: Apache-2.0

//go:build unix

package proc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"
)

const (
	lockFile     = "lock"
	logsDir      = "logs"
	processesDir = "processes"

	// runEnv marks every child, and what the child starts, with the run it belongs to.
	runEnv = "OUTRIGGER_RUN"

	// closeGrace is how long Close waits for each process after SIGTERM.
	closeGrace = 5 * time.Second
)

// A Run is a private directory and the processes that were started in it. Safe for concurrent use.
type Run struct {
	id   string
	dir  string
	lock *os.File

	swept  []string
	starts chan func() // to the thread that starts every child, see startThread

	mu           sync.Mutex
	processes    []*Process // in order of start
	names        map[string]bool
	reservations []*Port
	closed       bool
	closeOnce    sync.Once
	closeErr     error
	done         chan struct{} // closed when the starting thread may end
}

// DefaultBase is the directory that run directories are made in unless the caller names another:
// $XDG_RUNTIME_DIR/outrigger, or outrigger-<uid> in the directory for temporary files.
func DefaultBase() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return filepath.Join(dir, "outrigger")
		}
	}
	return filepath.Join(os.TempDir(), "outrigger-"+strconv.Itoa(os.Getuid()))
}

// Open makes a run directory under base ("" means [DefaultBase]) with mode 0700, holds its lock, and sweeps what
// earlier runs left there: [Run.Swept] says what. ctx bounds the opening only; the run lasts until [Run.Close].
func Open(ctx context.Context, base string) (*Run, error) {
	if base == "" {
		base = DefaultBase()
	}
	if err := makeBase(base); err != nil {
		return nil, err
	}
	// The base's lock makes "sweep, make a directory, lock it" one step: no other Open can take the new directory,
	// not locked yet, for one left behind.
	baseLock, err := lockWait(ctx, filepath.Join(base, lockFile))
	if err != nil {
		return nil, fmt.Errorf("open a run under %s: %w", base, err)
	}
	defer baseLock.Close()

	swept, err := sweep(base)
	if err != nil {
		return nil, err
	}
	id, err := newID()
	if err != nil {
		return nil, fmt.Errorf("open a run under %s: name it: %w", base, err)
	}
	dir := filepath.Join(base, id)
	for _, d := range []string{dir, filepath.Join(dir, logsDir), filepath.Join(dir, processesDir)} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("open a run: %w", err), os.RemoveAll(dir))
		}
	}
	lock, held, err := tryLock(filepath.Join(dir, lockFile))
	if err != nil || held {
		return nil, errors.Join(fmt.Errorf("open a run: lock %s (held by another: %t): %w", dir, held, err), os.RemoveAll(dir))
	}
	r := &Run{
		id: id, dir: dir, lock: lock, swept: swept,
		starts: make(chan func()), names: map[string]bool{}, done: make(chan struct{}),
	}
	go r.startThread()
	return r, nil
}

// ID is the run's name, unique on this machine: time of start and a random part.
func (r *Run) ID() string { return r.id }

// Dir is the run's own directory, mode 0700. Close removes it.
func (r *Run) Dir() string { return r.dir }

// Logs are the files that the processes' output goes to, sorted; Close removes them with the directory.
func (r *Run) Logs() []string {
	files, _ := filepath.Glob(filepath.Join(r.dir, logsDir, "*.log")) // the pattern is well-formed
	return files
}

// Swept says, one line each, what Open found of earlier runs and removed. Empty as a rule.
func (r *Run) Swept() []string { return r.swept }

// Close stops every process in reverse order of start (SIGTERM, after 5 s SIGKILL), gives reserved ports back and
// removes the directory. A second call waits for the first and returns what it returned.
func (r *Run) Close() error {
	r.closeOnce.Do(func() { r.closeErr = r.close() })
	return r.closeErr
}

func (r *Run) close() error {
	r.mu.Lock()
	r.closed = true // from here on Start refuses, so the list is complete
	processes := r.processes
	reservations := r.reservations
	r.mu.Unlock()

	var errs []error
	for i := len(processes) - 1; i >= 0; i-- {
		processes[i].Stop(closeGrace)
	}
	for _, left := range marked(r.id) { // grandchildren that left their group
		if err := left.kill(); err != nil {
			errs = append(errs, fmt.Errorf("close run %s: %w", r.id, err))
		}
	}
	for _, p := range reservations {
		p.Release()
	}
	close(r.done)

	if err := os.RemoveAll(r.dir); err != nil {
		errs = append(errs, fmt.Errorf("close run %s: remove its directory: %w", r.id, err))
	}
	errs = append(errs, r.lock.Close())
	return errors.Join(errs...)
}

// startThread runs every start of a child on one thread that lives as long as the run. Linux sends the parent death
// signal when the thread that started the child ends, not the process; Go ends threads as it sees fit, unless a
// goroutine is locked to them.
func (r *Run) startThread() {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine, after all children
	for {
		select {
		case start := <-r.starts:
			start()
		case <-r.done:
			return
		}
	}
}

func newID() (string, error) {
	var random [5]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	return time.Now().UTC().Format("20060102t150405") + "-" + hex.EncodeToString(random[:]), nil
}

// makeBase makes sure that base is a directory of ours that nobody else can write to: a fixed name in a directory
// that is open to all could have been made by somebody else first.
func makeBase(base string) error {
	if err := os.MkdirAll(base, 0o700); err != nil {
		return fmt.Errorf("make the directory for runs: %w; TMPDIR, or XDG_RUNTIME_DIR, says where it is", err)
	}
	info, err := os.Lstat(base)
	if err != nil {
		return fmt.Errorf("look at the directory for runs: %w", err)
	}
	if !info.IsDir() || ownerOf(info) != os.Getuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("open a run under %s: it must be a directory (no link) that belongs to you (uid %d) and that "+
			"nobody else can write to; it is %s of uid %d: remove it or name another one",
			base, os.Getuid(), info.Mode(), ownerOf(info))
	}
	return nil
}
