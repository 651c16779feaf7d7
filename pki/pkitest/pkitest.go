// SPDX-License-Identifier: Apache-2.0

// Package pkitest is TLS for tests: authorities, certificates and servers of theirs, so that a test verifies what it
// talks to like everything else does. Whatever goes wrong fails the test at once.
package pkitest

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/outrigger-k8s/outrigger/pki"
)

// Authority is a new one.
func Authority(t testing.TB) *pki.Authority {
	t.Helper()
	a, err := pki.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Certificate is one of a's for hosts, names or addresses.
func Certificate(t testing.TB, a *pki.Authority, hosts ...string) tls.Certificate {
	t.Helper()
	pair, err := a.Issue(hosts...)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// Serve starts a server on 127.0.0.1 with a certificate of a's for that address, until the test ends. It logs nothing:
// clients that hang up are what many tests are about.
func Serve(t testing.TB, a *pki.Authority, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{Certificate(t, a, "127.0.0.1")}, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}
