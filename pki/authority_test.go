// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/pki"
)

func authority(t *testing.T) *pki.Authority {
	t.Helper()
	a, err := pki.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestIssueServesExactlyItsHosts(t *testing.T) {
	a := authority(t)
	long := strings.Repeat("long-service-name.", 4) + "namespace.svc"
	pair, err := a.Issue("127.0.0.1", "::1", "injector.mesh.svc", long)
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafOf(t, pair)
	for _, tc := range []struct {
		host string
		good bool
	}{
		{"127.0.0.1", true}, {"::1", true}, {"injector.mesh.svc", true}, {long, true},
		{"127.0.0.2", false}, {"other.mesh.svc", false}, {"localhost", false},
	} {
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: tc.host, Roots: a.Pool()})
		if (err == nil) != tc.good {
			t.Errorf("verifying the certificate for host %s: error %v, want good=%v", tc.host, err, tc.good)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: authority(t).Pool()}); err == nil {
		t.Error("another run's authority verifies the certificate; it must not")
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err == nil {
		t.Error("a serving certificate verifies as a client's; it must not")
	}
}

func TestIssueClient(t *testing.T) {
	a := authority(t)
	pair, err := a.IssueClient("admin", "system:masters")
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafOf(t, pair)
	if leaf.Subject.CommonName != "admin" || len(leaf.Subject.Organization) != 1 ||
		leaf.Subject.Organization[0] != "system:masters" {
		t.Errorf("subject %s, want CN=admin,O=system:masters", leaf.Subject)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		t.Error(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: a.Pool()}); err == nil {
		t.Error("a client certificate verifies as a server's; it must not")
	}
}

func TestIssueRefuses(t *testing.T) {
	a := authority(t)
	for _, hosts := range [][]string{nil, {""}, {"good", ""}} {
		if _, err := a.Issue(hosts...); err == nil {
			t.Errorf("Issue(%q) succeeded, want an error", hosts)
		}
	}
}

func TestHandshake(t *testing.T) {
	a := authority(t)
	pair, err := a.Issue("127.0.0.1")
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
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	defer func() { _ = listener.Close(); <-done }()
	shake := func(bundle []byte) error {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(bundle)
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: pool})
		if err != nil {
			return err
		}
		return conn.Close()
	}
	if err := shake(a.CABundle()); err != nil {
		t.Errorf("handshake against the run's own bundle: %v", err)
	}
	var unknown x509.UnknownAuthorityError
	if err := shake(authority(t).CABundle()); !errors.As(err, &unknown) {
		t.Errorf("handshake against another run's bundle: %v, want x509.UnknownAuthorityError", err)
	}
}

func TestWrite(t *testing.T) {
	pair, err := authority(t).Issue("localhost")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificateFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := pair.Write(certificateFile, keyFile); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]byte{certificateFile: pair.Certificate, keyFile: pair.Key} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o, want 600", filepath.Base(file), info.Mode().Perm())
		}
		if got, _ := os.ReadFile(file); !bytes.Equal(got, want) {
			t.Errorf("%s does not hold what was issued", filepath.Base(file))
		}
	}
	if err := pair.Write(filepath.Join(dir, "missing", "tls.crt"), keyFile); err == nil {
		t.Error("writing into a folder that does not exist succeeded")
	}
}

func leafOf(t *testing.T, pair *pki.Pair) *x509.Certificate {
	t.Helper()
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// What terms make of a certificate its verifier must see, and refuse in those words.
func TestIssueOnTerms(t *testing.T) {
	a := authority(t)
	now := time.Now()
	for _, tc := range []struct {
		name  string
		terms pki.Terms
		want  string // in the verifier's error; "" if it must verify
	}{
		{"none", pki.Terms{}, ""},
		{"expired", pki.Terms{NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}, "expired"},
		{"not yet valid", pki.Terms{NotBefore: now.Add(time.Hour)}, "not yet valid"},
		{"common name only", pki.Terms{CommonNameOnly: true}, "legacy Common Name"},
	} {
		pair, err := a.IssueOn(tc.terms, "injector.mesh.svc")
		if err != nil {
			t.Fatal(err)
		}
		_, err = leafOf(t, pair).Verify(x509.VerifyOptions{DNSName: "injector.mesh.svc", Roots: a.Pool()})
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: verifying says %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}
