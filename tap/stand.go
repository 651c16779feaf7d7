// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"context"
	"fmt"
	"net"
	"net/http"
)

// A Stand is another place at which the tap takes calls: behind a Service, or at a url whose port and path are the case's.
// It takes those of one webhook, whatever path they ask for, over HTTP/1.1, and ends the connection after each: the API
// server would keep it, and call the webhook through it long after its Service is gone.
type Stand struct {
	Webhook string
	Address string // host and port to listen on; port 0 is a free one
	Host    string // name or address that the certificate is for
	Fault   *Fault // what is wrong with the certificate, or TLS; nil: nothing. Other faults of the connection cannot stand here
}

// Stand opens a stand, and says where it listens. It is there until [Tap.Close]. What of the fault is in the answer must be
// given to [Tap.ExpectFault] as well.
func (t *Tap) Stand(s Stand) (address string, err error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("opening a stand of the tap at %s, for %s as %s: %w", s.Address, s.Webhook, s.Host, err)
	}
	with := serving{host: s.Host}
	if s.Fault != nil && s.Fault.connection != nil {
		fault, ok := s.Fault.connection.(serving)
		if !ok {
			return fail(fmt.Errorf("with the fault %s nobody listens, or never says a word", s.Fault.Name))
		}
		if fault.host == "" { // else the certificate is another's on purpose
			fault.host = s.Host
		}
		with = fault
	}
	config, err := with.config(t)
	if err != nil {
		return fail(err)
	}
	l, err := net.Listen("tcp", s.Address)
	if err != nil {
		return fail(err)
	}
	server := t.newServer(config)
	server.Handler = t.serveAs(s.Webhook)
	server.SetKeepAlivesEnabled(false)
	opened := with.serve(server, l)
	t.opening.Lock()
	defer t.opening.Unlock()
	t.stands = append(t.stands, opened)
	return opened.address, nil
}

// serve serves l until the listener is stopped, over HTTP/1.1.
func (s serving) serve(server *http.Server, l net.Listener) *listener {
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if s.bare {
			_ = server.Serve(l)
			return
		}
		_ = server.ServeTLS(l, "", "")
	}()
	return &listener{address: l.Addr().String(), stop: func(ctx context.Context) error {
		defer func() { <-served }()
		return stopServer(ctx, server, l.Addr().String())
	}}
}
