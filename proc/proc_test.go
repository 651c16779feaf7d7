// SPDX-License-Identifier: Apache-2.0

//go:build unix

package proc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is its own cast: OUTRIGGER_PROC_TEST says which part it plays.
const roleEnv = "OUTRIGGER_PROC_TEST"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleEnv); role {
	case "":
		os.Exit(m.Run())
	case "parent": // opens a run in its first argument, starts a child there, says the child's ID, and lives on
		r, err := Open(context.Background(), os.Args[1])
		exitOn(err)
		out := newLines()
		p, err := r.Start(Spec{Name: "child", Path: os.Args[0], Args: []string{os.Args[2]}, Env: roles("sleeper"), Stdout: out})
		exitOn(err)
		<-out.c // from here on it does not write, so that no broken pipe can end it
		fmt.Println(p.PID(), r.Dir())
		select {}
	case "sleeper": // lives until it is killed; with "stubborn" it takes no notice of SIGTERM
		if len(os.Args) > 1 && os.Args[1] == "stubborn" {
			signal.Ignore(syscall.SIGTERM)
		}
		fmt.Println("sleeping")
		block()
	case "breeder": // starts a sleeper in its own group, says its ID, and ends when told to
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), roleEnv+"=sleeper")
		exitOn(child.Start())
		fmt.Println(child.Process.Pid)
		if len(os.Args) > 1 && os.Args[1] == "leave" {
			os.Exit(0)
		}
		block()
	case "complainer":
		for i := range 30 {
			fmt.Fprintln(os.Stderr, "complaint", i)
		}
		os.Exit(7)
	default:
		exitOn(fmt.Errorf("no role %q", role))
	}
}

// block waits for a signal that never comes: select{} alone would be a deadlock to the runtime.
func block() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	<-c
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func roles(role string) []string { return append(os.Environ(), roleEnv+"="+role) }

func openRun(t *testing.T, base string) *Run {
	t.Helper()
	r, err := Open(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// eventually looks until look says true, or fails the test after 10 s.
func eventually(t *testing.T, what string, look func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !look() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not so after 10 s: %s", what)
		}
	}
}

func alive(pid int) bool { _, err := identify(pid); return err == nil }

// lines is an io.Writer that hands on whole lines.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
	c   chan string
}

func newLines() *lines { return &lines{c: make(chan string, 100)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	for {
		line, err := l.buf.ReadString('\n')
		if err != nil {
			l.buf.WriteString(line)
			return len(p), nil
		}
		l.c <- strings.TrimSpace(line)
	}
}

func startParent(t *testing.T, base, childArg string) (parent *exec.Cmd, child int, dir string) {
	t.Helper()
	parent = exec.Command(os.Args[0], base, childArg)
	parent.Env = roles("parent")
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = parent.Process.Kill(); _ = parent.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &child, &dir); err != nil {
		t.Fatal(err)
	}
	if !alive(child) {
		t.Fatalf("child %d does not live", child)
	}
	return parent, child, dir
}

func TestKilledParentLeavesNoChild(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no parent death signal on this system: the sweep is tested below")
	}
	parent, child, _ := startParent(t, t.TempDir(), "stubborn")
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	eventually(t, "the child is gone", func() bool { return !alive(child) })
}

// The death signal comes when the thread that started the child ends. Go ends the thread of a goroutine that is locked
// to it and returns.
func TestChildOutlivesTheThreadThatAskedForIt(t *testing.T) {
	r := openRun(t, t.TempDir())
	out := newLines()
	started := make(chan *Process)
	go func() {
		runtime.LockOSThread()
		p, err := r.Start(Spec{Name: "sleeper", Path: os.Args[0], Env: roles("sleeper"), Stdout: out})
		if err != nil {
			t.Error(err)
		}
		started <- p
	}()
	p := <-started
	select {
	case <-out.c:
	case <-p.Done():
		t.Fatalf("the child died with the thread: %v", p.Err())
	}
	// Once the signal is sent there is nothing to wait for but the end itself: a child that lives gets 300 ms to die.
	select {
	case <-p.Done():
		t.Errorf("the child died with the thread: %v", p.Err())
	case <-time.After(300 * time.Millisecond):
	}
}

func TestOpenSweeps(t *testing.T) {
	base := t.TempDir()
	parent, child, dir := startParent(t, base, "")

	// A run whose parent lives is left alone.
	if r := openRun(t, base); len(r.Swept()) != 0 {
		t.Fatalf("swept a living run: %q", r.Swept())
	}
	if !alive(child) {
		t.Fatal("the child of a living run was killed")
	}
	// A child that survives its parent: as the parent death signal works here, a stand-in is put on record.
	sleeper := exec.Command(os.Args[0])
	sleeper.Env = roles("sleeper")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- sleeper.Wait() }()
	if _, err := recordProcess(dir, "sleeper", sleeper.Process.Pid); err != nil {
		t.Fatal(err)
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()

	r := openRun(t, base)
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the recorded process survived the sweep")
	}
	if len(r.Swept()) != 1 || !strings.Contains(r.Swept()[0], strconv.Itoa(sleeper.Process.Pid)) {
		t.Errorf("swept: %q, want one line with process %d", r.Swept(), sleeper.Process.Pid)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", dir, err)
	}
}

func TestSweepKillsGrandchildrenByTheirMark(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("environments of other processes can be read on Linux only")
	}
	base := t.TempDir()
	dir := filepath.Join(base, "earlier")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, lockFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command(os.Args[0])
	sleeper.Env = append(roles("sleeper"), runEnv+"=earlier")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- sleeper.Wait() }()
	r := openRun(t, base)
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		_ = sleeper.Process.Kill()
		t.Fatalf("the marked process survived the sweep (%q)", r.Swept())
	}
}

func TestRecycledIDIsNotKilled(t *testing.T) {
	sleeper := exec.Command(os.Args[0])
	sleeper.Env = roles("sleeper")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() })
	real, err := identify(sleeper.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*identity){
		"other start time": func(id *identity) { id.Start += "1" },
		"other executable": func(id *identity) { id.Executable = "/usr/bin/somebody-else" },
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "earlier", processesDir)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(base, "earlier", lockFile), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			id := real
			change(&id)
			data, err := json.Marshal(id)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "1.json"), data, 0o600); err != nil {
				t.Fatal(err)
			}
			r := openRun(t, base)
			if !real.lives() {
				t.Fatal("a process that was not the one recorded was killed")
			}
			if len(r.Swept()) != 1 {
				t.Errorf("swept %q, want the directory alone", r.Swept())
			}
		})
	}
}

func TestConcurrentOpens(t *testing.T) {
	base := t.TempDir()
	var wg sync.WaitGroup
	runs := make([]*Run, 20)
	for i := range runs {
		wg.Go(func() {
			r, err := Open(t.Context(), base)
			if err != nil {
				t.Error(err)
				return
			}
			runs[i] = r
			p, err := r.Start(Spec{Name: "sleeper", Path: os.Args[0], Env: roles("sleeper")})
			if err != nil {
				t.Error(err)
				return
			}
			if !alive(p.PID()) {
				t.Error("a process was swept by another Open")
			}
		})
	}
	wg.Wait()
	for _, r := range runs {
		if r == nil {
			continue
		}
		if len(r.Swept()) != 0 {
			t.Errorf("one Open swept another's run: %q", r.Swept())
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 { // the base's own lock
		t.Errorf("left behind: %v", entries)
	}
}

func TestStopAsksThenKills(t *testing.T) {
	r := openRun(t, t.TempDir())
	for _, test := range []struct {
		name, arg string
		code      int
	}{{"willing", "", -1}, {"unwilling", "stubborn", -1}} {
		t.Run(test.name, func(t *testing.T) {
			out := newLines()
			p, err := r.Start(Spec{Name: "sleeper", Path: os.Args[0], Args: []string{test.arg}, Env: roles("sleeper"), Stdout: out})
			if err != nil {
				t.Fatal(err)
			}
			<-out.c // the signal's handling is set by now
			start := time.Now()
			p.Stop(200 * time.Millisecond)
			took := time.Since(start)
			if stubborn := test.arg == "stubborn"; stubborn != (took >= 200*time.Millisecond) {
				t.Errorf("stopped after %v", took)
			}
			if err := p.Err(); err != nil {
				t.Errorf("Err after Stop: %v", err)
			}
			p.Stop(time.Second) // again: no harm
		})
	}
}

func TestGroupDiesWithItsLeader(t *testing.T) {
	r := openRun(t, t.TempDir())
	for _, arg := range []string{"stay", "leave"} {
		out := newLines()
		p, err := r.Start(Spec{Name: "breeder", Path: os.Args[0], Args: []string{arg}, Env: roles("breeder"), Stdout: out})
		if err != nil {
			t.Fatal(err)
		}
		grandchild, err := strconv.Atoi(<-out.c)
		if err != nil {
			t.Fatal(err)
		}
		if arg == "stay" {
			p.Stop(5 * time.Second)
		}
		<-p.Done()
		eventually(t, "the grandchild is gone", func() bool { return !alive(grandchild) })
	}
}

func TestErrNamesTheLogAndShowsItsEnd(t *testing.T) {
	r := openRun(t, t.TempDir())
	copied := newLines()
	p, err := r.Start(Spec{Name: "complainer", Path: os.Args[0], Env: roles("complainer"), Stderr: copied})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if len(copied.c) != 30 {
		t.Errorf("%d lines were copied, want 30", len(copied.c))
	}
	if p.ExitCode() != 7 {
		t.Errorf("exit code %d, want 7", p.ExitCode())
	}
	for _, want := range []string{"complainer", "exit status 7", p.LogPath(), "complaint 29", "complaint 20"} {
		if !strings.Contains(fmt.Sprint(p.Err()), want) {
			t.Errorf("the error lacks %q:\n%v", want, p.Err())
		}
	}
	if strings.Contains(p.Err().Error(), "complaint 19") {
		t.Errorf("the error shows more than 10 lines:\n%v", p.Err())
	}
}

func TestCloseIsIdempotentAndFinal(t *testing.T) {
	r := openRun(t, t.TempDir())
	p, err := r.Start(Spec{Name: "sleeper", Path: os.Args[0], Env: roles("sleeper")})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if alive(p.PID()) {
				t.Error("the process outlived Close")
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(r.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory: %v", err)
	}
	if _, err := r.Start(Spec{Name: "late", Path: os.Args[0]}); !errors.Is(err, errClosed) {
		t.Errorf("start after close: %v", err)
	}
}

func TestStartFailureLeavesNothing(t *testing.T) {
	r := openRun(t, t.TempDir())
	if _, err := r.Start(Spec{Name: "nothing", Path: "/does/not/exist"}); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("error %v, want one that names the path", err)
	}
	if _, err := r.Start(Spec{Name: "../up", Path: os.Args[0]}); err == nil {
		t.Error("a name that leads out of the run's directory was taken")
	}
}

func TestStartOfWhatEndsAtOnce(t *testing.T) {
	truePath, err := exec.LookPath("true")
	if err != nil {
		t.Skip(err)
	}
	r := openRun(t, t.TempDir())
	for range 200 {
		p, err := r.Start(Spec{Name: "true", Path: truePath})
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if p.ExitCode() != 0 {
			t.Fatalf("exit code %d: %v", p.ExitCode(), p.Err())
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	log, err := newBoundedLog(path, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for i := range 1000 {
		fmt.Fprintf(log, "line %d\n", i)
	}
	var total int64
	for _, p := range []string{path, path + ".1"} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 2000 {
		t.Errorf("%d bytes, want at most 2000", total)
	}
	if tail := log.tail(3); len(tail) != 3 || tail[2] != "line 999" || tail[0] != "line 997" {
		t.Errorf("tail %q", tail)
	}
}

func TestBaseOpenToOthersIsRefused(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	if err := os.Mkdir(base, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(base, 0o777); err != nil {
		t.Fatal(err)
	}
	if r, err := Open(t.Context(), base); err == nil {
		r.Close()
		t.Error("opened a run where anybody can write")
	}
}

func TestReservePort(t *testing.T) {
	r := openRun(t, t.TempDir())
	port, err := r.ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp4", port.Addr()); err == nil {
		l.Close()
		t.Error("a process that does not share the port could listen on it")
	}
	sharing := net.ListenConfig{Control: shareControl}
	listener, err := sharing.Listen(t.Context(), "tcp4", port.Addr())
	if err != nil {
		t.Fatalf("a process that shares the port: %v", err)
	}
	defer listener.Close()
	for range 20 { // the reserving socket must not take any connection
		c, err := net.Dial("tcp4", port.Addr())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		a, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
	}
	seen := map[int]bool{}
	for range 200 {
		p, err := r.ReservePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[p.Number()] {
			t.Fatalf("port %d was given out twice", p.Number())
		}
		seen[p.Number()] = true
	}
}

func TestLockWaitEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lock(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = Lock(t.Context(), path) // the abandoned wait must not keep it
	if err != nil {
		t.Fatal(err)
	}
	_ = unlock()
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"pid":12,"start":"b/1","executable":"/bin/x"}`))
	f.Add([]byte(`{"pid":-1,"start":"b/1","executable":"/bin/x"}`))
	f.Add([]byte(`{"pid":12`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if id, ok := parseRecord(data); ok && (id.PID <= 1 || id.Start == "" || id.Executable == "") {
			t.Errorf("took %+v for a process", id)
		}
	})
}

func shareControl(_, _ string, c syscall.RawConn) error {
	var err error
	if controlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); controlErr != nil {
		return controlErr
	}
	return err
}
