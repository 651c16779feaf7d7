// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// issue writes a new self-signed certificate and its key, key first, each renamed over its predecessor, and returns
// the certificate.
func issue(t *testing.T, dir string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	replaceFile(t, filepath.Join(dir, "tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func replaceFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// TestCertificateReload checks that new connections see a new certificate, and that a broken one is kept out.
func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	first := issue(t, dir, 1)
	c, err := OpenCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", c.Config())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).HandshakeContext(context.Background())
			conn.Close()
		}
	}()
	reports, end := make(chan error, 100), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { end <- c.Follow(ctx, func(err error) { reports <- err }) }()
	defer func() {
		listener.Close()
		<-served
		cancel()
		if err := <-end; err != nil {
			t.Error(err)
		}
	}()
	// expect makes a connection that trusts one certificate only.
	expect := func(cert *x509.Certificate) {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AddCert(cert)
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Errorf("certificate %v is not served: %v", cert.SerialNumber, err)
			return
		}
		conn.Close()
	}
	until := func(failed bool) {
		t.Helper()
		for {
			select {
			case err := <-reports:
				if (err != nil) == failed {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("no report with an error: %v", failed)
			}
		}
	}

	expect(first)
	second := issue(t, dir, 2)
	until(false)
	expect(second)
	replaceFile(t, filepath.Join(dir, "tls.crt"), []byte("no certificate"))
	until(true)
	expect(second)
	third := issue(t, dir, 3)
	until(false)
	expect(third)

	roots := x509.NewCertPool()
	roots.AddCert(third)
	old := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", listener.Addr().String(), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is accepted")
	}
}

func TestOpenCertificate(t *testing.T) {
	dir := t.TempDir()
	issue(t, dir, 1)
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for _, pair := range [][2]string{{key, cert}, {cert, cert}, {filepath.Join(dir, "none"), key}, {cert, dir}} {
		if _, err := OpenCertificate(pair[0], pair[1]); err == nil {
			t.Errorf("%v: want an error", pair)
		}
	}
}
