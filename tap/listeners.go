// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-k8s/outrigger/pki"
)

// A connectionFault stands in the way of a connection: a listener of its own, which stops with the tap.
type connectionFault interface {
	open(t *Tap) (*listener, error)
}

// A listener is where webhooks with one fault are called.
type listener struct {
	address string
	stop    func(context.Context) error
}

// FaultURL is where the API server reaches the target as webhook with fault f in the way, as [Tap.URL] is without one.
// What of f is in the answer must be given to [Tap.ExpectFault] as well. The listener is opened by the first call, and
// closed by [Tap.Close]. Faults that rotate a certificate share a listener, which serves as the last of them says.
func (t *Tap) FaultURL(f *Fault, webhook string) (string, error) {
	t.opening.Lock()
	defer t.opening.Unlock()
	name := f.Listener()
	l := t.listeners[name]
	if l == nil {
		fault := f.connection
		if fault == nil {
			fault = serving{}
		}
		var err error
		if l, err = fault.open(t); err != nil {
			return "", fmt.Errorf("opening the tap's listener for the fault %s: %w", name, err)
		}
		if t.listeners == nil {
			t.listeners = map[string]*listener{}
		}
		t.listeners[name] = l
	}
	if r, ok := f.connection.(rotating); ok {
		r.rotate(t)
	}
	return "https://" + l.address + "/" + url.PathEscape(webhook), nil
}

// closeListeners stops all listeners but the tap's own.
func (t *Tap) closeListeners(ctx context.Context) error {
	t.opening.Lock()
	defer t.opening.Unlock()
	var errs []error
	for _, l := range t.listeners {
		errs = append(errs, l.stop(ctx))
	}
	for _, l := range t.stands {
		errs = append(errs, l.stop(ctx))
	}
	t.listeners, t.stands = nil, nil
	return errors.Join(errs...)
}

// listen opens a free port on the host of failing connections.
func (t *Tap) listen() (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(t.host(), "0"))
}

func (t *Tap) host() string {
	if t.options.FaultHost != "" {
		return t.options.FaultHost
	}
	host, _, err := net.SplitHostPort(t.address)
	if err != nil { // it is a listener's
		return t.address
	}
	return host
}

// nothing is an address at which nothing listens: a port that only root may listen on, of a service that is dead.
type nothing struct{}

func (nothing) open(t *Tap) (*listener, error) {
	return &listener{address: net.JoinHostPort(t.host(), "1"), stop: func(context.Context) error { return nil }}, nil
}

// nameless is an address whose host has a label longer than the 63 bytes that DNS allows: Go's resolver says that there is
// no such host, as of any name that DNS does not know, before it asks anybody. So nobody waits for DNS, and no query
// leaves the machine.
type nameless struct{}

func (nameless) open(*Tap) (*listener, error) {
	host := strings.Repeat("x", maxLabel+1) + ".invalid"
	return &listener{address: net.JoinHostPort(host, "443"), stop: func(context.Context) error { return nil }}, nil
}

// maxLabel is how many bytes a label of a host's name may have (RFC 1035, section 2.3.4).
const maxLabel = 63

// noHandshake reads what comes, and never says a word.
type noHandshake struct{}

func (noHandshake) open(t *Tap) (*listener, error) {
	l, err := t.listen()
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	closed := false
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			mu.Lock()
			if closed {
				mu.Unlock()
				conn.Close()
				return
			}
			open[conn] = true
			mu.Unlock()
			wg.Go(func() {
				_, _ = io.Copy(io.Discard, conn) // until the API server hangs up
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
				conn.Close()
			})
		}
	})
	return &listener{address: l.Addr().String(), stop: func(context.Context) error {
		err := l.Close()
		mu.Lock()
		closed = true
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
		return err
	}}, nil
}

// serving takes calls as the tap does, over HTTP/1.1 and a TLS of another kind. The zero value is a good one.
type serving struct {
	authority *pki.Authority                // of the certificate; default: the tap's
	stranger  bool                          // the certificate is of an authority that nobody trusts
	cluster   bool                          // the certificate is of the cluster's authority
	host      string                        // that the certificate names; default: the one it listens on
	terms     func(now time.Time) pki.Terms // of the certificate
	newest    uint16                        // version of TLS, and no newer
	bare      bool                          // no TLS at all
}

func (s serving) open(t *Tap) (*listener, error) {
	config, err := s.config(t)
	if err != nil {
		return nil, err
	}
	return t.serveOn(config, nil, s.bare)
}

// serveOn takes calls on a free port, over HTTP/1.1; adjust, where there is any, sets the server up further. bare is
// without TLS.
func (t *Tap) serveOn(config *tls.Config, adjust func(*http.Server), bare bool) (*listener, error) {
	l, err := t.listen()
	if err != nil {
		return nil, err
	}
	server := t.newServer(config)
	if adjust != nil {
		adjust(server)
	}
	return serving{bare: bare}.serve(server, l), nil
}

func (s serving) config(t *Tap) (*tls.Config, error) {
	if !s.stranger && !s.cluster && s.host == "" && s.terms == nil && s.newest == 0 && t.options.FaultHost == "" {
		return t.tlsConfig(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.newest != 0 {
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, s.newest
	}
	authority := s.authority
	if authority == nil {
		authority = t.options.Authority
	}
	switch {
	case s.cluster && t.options.Cluster == nil:
		return nil, errors.New("the tap was given no Options.Cluster, the cluster's authority, to issue its certificate")
	case s.cluster:
		authority = t.options.Cluster
	case s.stranger:
		var err error
		if authority, err = pki.NewAuthority(); err != nil {
			return nil, err
		}
	}
	if authority == nil {
		return nil, errors.New("the tap was given no Options.Authority to issue its certificate")
	}
	host, terms := s.host, pki.Terms{}
	if host == "" {
		host = t.host()
	}
	if s.terms != nil {
		terms = s.terms(time.Now())
	}
	pair, err := authority.IssueOn(terms, host)
	if err != nil {
		return nil, err
	}
	certificate, err := pair.TLS()
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{certificate}
	return config, nil
}

// newServer serves the tap's calls with config.
func (t *Tap) newServer(config *tls.Config) *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(t.serve),
		TLSConfig:         config,
		ReadHeaderTimeout: time.Minute, // nothing may hold a connection for ever without a word
		MaxHeaderBytes:    256 << 10,
		ErrorLog:          log.New(t.options.ErrorLog, "tap: ", 0),
	}
}

func (t *Tap) tlsConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{t.options.Certificate}}
}

// stopServer waits for calls under way until ctx ends, then hangs up on what is left, and returns ctx's error if it
// had to.
func stopServer(ctx context.Context, server *http.Server, address string) error {
	err := server.Shutdown(ctx)
	if err != nil {
		_ = server.Close()
		err = fmt.Errorf("stopping the tap on %s: calls were still under way: %w", address, err)
	}
	return err
}
