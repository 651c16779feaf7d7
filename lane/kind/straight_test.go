// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/outrigger-k8s/outrigger/pki"
)

// The straight way is taken only to whoever is expected there: another machine may have the node's address.
func TestStraight(t *testing.T) {
	authority, err := pki.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := pki.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue("node.test")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = conn.(*tls.Conn).Handshake()
				_ = conn.Close()
			}()
		}
	}()
	address := listener.Addr().String()

	var s straight
	if _, ok := s.dial(t.Context()); ok {
		t.Error("it leads somewhere before it was tried")
	}
	for _, wrong := range []*tls.Config{
		{RootCAs: stranger.Pool(), ServerName: "node.test"}, {RootCAs: authority.Pool(), ServerName: "other.test"},
	} {
		if s.try(t.Context(), address, wrong) {
			t.Errorf("taken to one who is not %s", wrong.ServerName)
		}
	}
	if _, ok := s.dial(t.Context()); ok {
		t.Error("it leads to a stranger")
	}
	if !s.try(t.Context(), address, &tls.Config{RootCAs: authority.Pool(), ServerName: "node.test"}) {
		t.Fatal("not taken to the one who is expected")
	}
	conn, ok := s.dial(t.Context())
	if !ok {
		t.Fatal("it leads there no more")
	}
	_ = conn.Close()
	_ = listener.Close()
	if conn, ok := s.dial(t.Context()); ok {
		t.Errorf("it leads to %v, where nobody listens", conn.RemoteAddr())
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("somebody listens after all")
	}
}
