// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/outrigger-k8s/outrigger/injector/watch"
)

// Certificate is the certificate that is served. OpenCertificate reads it from two files (PEM), and it is the last pair
// they held that fits together; the zero value has none, for whoever has certificates to Use.
//
// controller-runtime's certwatcher follows files too and also polls, but links all of client-go, which would double the
// process.
type Certificate struct {
	certFile, keyFile string
	read              watch.Snapshot
	current           atomic.Pointer[tls.Certificate]
}

// OpenCertificate reads a certificate and its key.
func OpenCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	snapshot, err := watch.Read(certFile, keyFile)
	if err == nil {
		err = c.use(snapshot)
	}
	if err != nil {
		return nil, fmt.Errorf("read certificate %s and key %s: %w", certFile, keyFile, err)
	}
	c.read = snapshot
	return c, nil
}

func (c *Certificate) use(snapshot watch.Snapshot) error {
	pair, err := tls.X509KeyPair(snapshot.Files[0], snapshot.Files[1])
	if err != nil {
		return err
	}
	c.Use(&pair)
	return nil
}

// Use puts a certificate in force for the connections that begin from now on.
func (c *Certificate) Use(pair *tls.Certificate) { c.current.Store(pair) }

// Config returns a TLS configuration that presents whichever certificate is in force when a connection begins. While
// there is none, handshakes fail.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if pair := c.current.Load(); pair != nil {
				return pair, nil
			}
			return nil, errors.New("there is no certificate yet")
		},
	}
}

// Follow puts a new certificate in force as the files change, until the context is done, and reports every change:
// with the error that kept a new pair out, if there is one. It returns an error only when it cannot watch. Call it once.
func (c *Certificate) Follow(ctx context.Context, report func(error)) error {
	return watch.Follow(ctx, c.read, func(now watch.Snapshot, err error) {
		if err == nil {
			err = c.use(now)
		}
		if err != nil {
			err = fmt.Errorf("read certificate %s and key %s: %w", c.certFile, c.keyFile, err)
		}
		report(err)
	}, c.certFile, c.keyFile)
}
