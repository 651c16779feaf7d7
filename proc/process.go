// SPDX-License-Identifier: Apache-2.0

//go:build unix

package proc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Spec says what to start.
type Spec struct {
	Name   string    // for messages and the log's file name; unique in the run, else a number is added
	Path   string    // executable
	Args   []string  // arguments, without the program's name
	Env    []string  // whole environment, as of os.Environ; nil: this program's own
	Dir    string    // working directory; "": the run's directory
	Stdout io.Writer // where standard output goes; nil: to the log, with standard error. Must not block for long
	Stderr io.Writer // gets a copy of standard error, which goes to the log all the same; nil: no copy
}

// A Process is a child, leader of a process group of its own.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  *boundedLog
	done chan struct{}
	err  error // set before done is closed

	stopOnce sync.Once
	stopping chan struct{}

	mu    sync.Mutex
	ended bool // the process ID may be anybody's from now on
}

// errClosed is what Start answers after Close.
var errClosed = errors.New("the run is closed")

// Start starts a process. Its output goes to Dir()/logs/NAME.log (see [Process.LogPath]). An error means that nothing
// runs.
func (r *Run) Start(spec Spec) (*Process, error) {
	if spec.Name == "" || spec.Name != filepath.Base(spec.Name) {
		return nil, fmt.Errorf("start %s: %q does not serve as a process name", spec.Path, spec.Name)
	}
	r.mu.Lock()
	defer r.mu.Unlock() // one start at a time; Close waits for one under way
	if r.closed {
		return nil, fmt.Errorf("start %s: %w", spec.Name, errClosed)
	}
	name := spec.Name
	for i := 2; r.names[name]; i++ {
		name = spec.Name + "-" + strconv.Itoa(i)
	}
	log, err := newBoundedLog(filepath.Join(r.dir, logsDir, name+".log"), logLimit)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env = spec.Env
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], runEnv+"="+r.id)
	cmd.Dir = spec.Dir
	if cmd.Dir == "" {
		cmd.Dir = r.dir
	}
	cmd.Stdout, cmd.Stderr = spec.Stdout, log
	if spec.Stdout == nil {
		cmd.Stdout = log
	}
	if spec.Stderr != nil {
		cmd.Stderr = io.MultiWriter(log, spec.Stderr)
	}
	cmd.SysProcAttr = childAttributes()
	cmd.WaitDelay = time.Second // for pipes held open by grandchildren that left the group

	p := &Process{name: name, cmd: cmd, log: log, done: make(chan struct{}), stopping: make(chan struct{})}
	var record string
	started := make(chan error)
	r.starts <- func() {
		err := cmd.Start()
		if err == nil {
			record, err = recordProcess(r.dir, name, cmd.Process.Pid)
			if err != nil { // a process that no sweep would find must not be
				err = errors.Join(err, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
				_ = cmd.Wait()
			}
		}
		started <- err
	}
	if err := <-started; err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s (%s): %w", name, spec.Path, err)
	}
	r.names[name] = true
	r.processes = append(r.processes, p)
	go p.wait(record)
	return p, nil
}

func (p *Process) wait(record string) {
	// The leader's ID stays taken until it is waited for, so the group can be killed in between without hitting
	// anybody else.
	stillTaken := awaitExit(p.cmd.Process.Pid)
	if stillTaken {
		p.end()
	}
	err := p.cmd.Wait()
	if !stillTaken {
		p.end()
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	p.log.Close()
	_ = os.Remove(record)
	select {
	case <-p.stopping:
		p.err = nil // it was asked to end: however it did is in order
	default:
		if err == nil {
			err = errors.New("exit status 0")
		}
		p.err = fmt.Errorf("%s ended by itself: %w%s", p.name, err, p.LastLines(10))
	}
	close(p.done)
}

// Name is the process's name in the run.
func (p *Process) Name() string { return p.name }

// PID is the process ID, which is the ID of the process group too.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its group has been killed.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says why the process ended by itself, with its log's file name and last lines; nil while it runs, and after Stop.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// ExitCode is the process's exit code: -1 while it runs, and if a signal ended it.
func (p *Process) ExitCode() int {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}

// LogPath is the file that the output goes to. It holds at most the last 8 MiB; the 8 MiB before that are in the file
// of the same name with ".1" added.
func (p *Process) LogPath() string { return p.log.path }

// LastLines returns the last n lines of the log, under a line that names it, to be put at the end of an error message.
func (p *Process) LastLines(n int) string {
	lines := p.log.tail(n)
	if len(lines) == 0 {
		return "\n  (its log " + p.log.path + " is empty)"
	}
	return "\n  last lines of " + p.log.path + ":\n    " + strings.Join(lines, "\n    ")
}

// LogEnd returns the last n bytes of the log, from the first whole line on.
func (p *Process) LogEnd(n int64) []byte {
	data := p.log.end(n)
	if i := bytes.IndexByte(data, '\n'); int64(len(data)) == n && i >= 0 {
		data = data[i+1:]
	}
	return data
}

// Stop sends SIGTERM to the process group, SIGKILL after grace, and returns when the process has ended. Safe to call
// several times and after the end.
func (p *Process) Stop(grace time.Duration) {
	p.stopOnce.Do(func() { close(p.stopping) })
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// signal sends s to the group, unless its ID may be another's by now.
func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// end kills what is left of the group, and is the last to do so.
func (p *Process) end() {
	p.signal(syscall.SIGKILL)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// recordProcess writes down how to recognise the process, for the sweep of a later run.
func recordProcess(dir, name string, pid int) (string, error) {
	id, err := identify(pid)
	if errors.Is(err, errEnded) { // already: there is nothing left to sweep
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("record process %d: %w", pid, err)
	}
	id.Name = name
	data, err := json.Marshal(id)
	if err != nil {
		return "", fmt.Errorf("record process %d: %w", pid, err)
	}
	path := filepath.Join(dir, processesDir, strconv.Itoa(pid)+".json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("record process %d: %w", pid, err)
	}
	return path, nil
}
