// SPDX-License-Identifier: Apache-2.0

package standin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// dialTimeout is how long the application may take to accept a connection that is passed on.
const dialTimeout = 10 * time.Second

// Proxy is a sidecar: it passes TCP connections on to an application's port. Options are fields; set them before Serve.
type Proxy struct {
	// Forward is the application's HOST:PORT. It need not listen yet: a connection meets it when it comes.
	Forward string
	// SeenFile is what the init container wrote (Seen.WriteFile). The proxy is not ready without it; "": it needs none.
	SeenFile string

	passed   atomic.Int64 // connections that reached the application
	refused  atomic.Int64 // connections that did not
	quitting chan struct{}
	quit     sync.Once
	once     sync.Once
}

func (p *Proxy) init() { p.once.Do(func() { p.quitting = make(chan struct{}) }) }

// Quitting is closed when somebody has asked the proxy to end, at /quitquitquit.
func (p *Proxy) Quitting() <-chan struct{} {
	p.init()
	return p.quitting
}

// Serve passes on the connections that come to a listener, until the context is done: then it takes no more, and those
// that are open may end by themselves within the grace.
func (p *Proxy) Serve(ctx context.Context, listener net.Listener, grace time.Duration) error {
	open, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	var all sync.WaitGroup
	var err error
	for {
		var conn net.Conn
		if conn, err = listener.Accept(); err != nil {
			break
		}
		all.Go(func() { p.pass(open, conn) })
	}
	timer := time.AfterFunc(grace, cut)
	defer timer.Stop()
	all.Wait()
	if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("accept connections: %w", err)
}

// pass passes one connection on, both ways, until both have ended or the context is done.
func (p *Proxy) pass(ctx context.Context, from net.Conn) {
	defer from.Close()
	to, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", p.Forward)
	if err != nil {
		p.refused.Add(1)
		return
	}
	defer to.Close()
	p.passed.Add(1)
	stop := context.AfterFunc(ctx, func() { from.Close(); to.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { half(to, from) })
	both.Go(func() { half(from, to) })
	both.Wait()
}

// half copies one direction, and hands its end on.
func half(to, from net.Conn) {
	_, _ = io.Copy(to, from) // a connection that breaks off is no error of the proxy's
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

// status is what a proxy says of itself.
type status struct {
	Ready   bool   `json:"ready"`
	Waiting string `json:"waiting,omitempty"`
	Forward string `json:"forward"`
	Passed  int64  `json:"passed"`
	Refused int64  `json:"refused"`
	Init    *Seen  `json:"init,omitempty"` // what the init container saw
}

// Status is the proxy's own face:
//
//	GET  /healthz/ready   200 once the init container has run, else 503
//	GET  /stats           how many connections it has passed on; what the init container saw; what it sees itself
//	POST /quitquitquit    asks it to end, as a Job's application does that has no native sidecar
func (p *Proxy) Status() http.Handler {
	p.init()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		s := p.status()
		s.Init = nil
		code := http.StatusOK
		if !s.Ready {
			code = http.StatusServiceUnavailable
		}
		answer(w, code, s)
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, struct {
			status
			Self Seen `json:"self"`
		}{p.status(), Look()})
	})
	mux.HandleFunc("POST /quitquitquit", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, p.status())
		p.quit.Do(func() { close(p.quitting) })
	})
	return mux
}

func (p *Proxy) status() status {
	s := status{Ready: true, Forward: p.Forward, Passed: p.passed.Load(), Refused: p.refused.Load()}
	if p.SeenFile == "" {
		return s
	}
	text, err := os.ReadFile(p.SeenFile)
	if err == nil {
		err = json.Unmarshal(text, &s.Init)
	}
	if err != nil {
		s.Ready, s.Waiting = false, "for the init container: "+err.Error()
	}
	return s
}
