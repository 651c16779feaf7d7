// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"github.com/outrigger-k8s/outrigger/proc"
)

// Commands by which the program is started again, as its own child.
const (
	emptyCommand = "child:empty" // CERT KEY ANSWER: the endpoint that does nothing
	weighCommand = "child:weigh" // RESULT PROGRAM ARGS…: run a program, and write down the most memory that it had
)

// serving is what a server says on its standard error once it listens; the injector does, and so does the empty
// endpoint.
type serving struct {
	Msg           string `json:"msg"`
	Listen        string `json:"listen"`
	MetricsListen string `json:"metricsListen"`
}

// serveEmpty is an HTTPS server that reads the body of whatever it is asked, and always answers the same. It ends when
// it is killed.
func serveEmpty(args []string) error {
	if len(args) != 3 {
		return errors.New("want CERT KEY ANSWER")
	}
	answer, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	line, err := json.Marshal(serving{Msg: "serving", Listen: listener.Addr().String()})
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s\n", line)
	server := &http.Server{
		ErrorLog: log.New(os.Stderr, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(answer)
		}),
	}
	return server.ServeTLS(listener, args[0], args[1])
}

// announced waits for a line of serving among what is written to it.
type announced struct {
	mu   sync.Mutex
	line []byte
	once sync.Once
	said chan serving
}

func newAnnounced() *announced { return &announced{said: make(chan serving, 1)} }

func (a *announced) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	const most = 64 << 10
	for _, b := range p {
		if b != '\n' {
			if len(a.line) < most {
				a.line = append(a.line, b)
			}
			continue
		}
		var s serving
		if json.Unmarshal(bytes.TrimSpace(a.line), &s) == nil && s.Msg == "serving" && s.Listen != "" {
			a.once.Do(func() { a.said <- s })
		}
		a.line = a.line[:0]
	}
	return len(p), nil
}

// start starts a server and returns once it says where it listens.
func start(ctx context.Context, processes *proc.Run, spec proc.Spec) (*proc.Process, serving, error) {
	said := newAnnounced()
	spec.Stderr = said
	p, err := processes.Start(spec)
	if err != nil {
		return nil, serving{}, err
	}
	select {
	case s := <-said.said:
		return p, s, nil
	case <-p.Done():
		return nil, serving{}, fmt.Errorf("wait until %s serves: it has ended%s", spec.Name, p.LastLines(10))
	case <-ctx.Done():
		return nil, serving{}, fmt.Errorf("wait until %s serves: %w", spec.Name, context.Cause(ctx))
	}
}

// weigh runs a program and writes the most memory that it had at once, in bytes, to a file. It is a process of its own
// because Linux counts among a child's memory that of its parent at the moment of the fork (setmax_mm_hiwater_rss in
// exec_mmap): this one has next to none.
func weigh(args []string) error {
	if len(args) < 2 {
		return errors.New("want RESULT PROGRAM ARGS…")
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", args[1], err)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system does not say how much memory a process had")
	}
	bytes := int64(usage.Maxrss)
	if runtime.GOOS != "darwin" { // in KiB everywhere else
		bytes <<= 10
	}
	return os.WriteFile(args[0], fmt.Appendf(nil, "%d\n", bytes), 0o600)
}
