// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"crypto/tls"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/outrigger-k8s/outrigger/pki"
)

// rotating takes calls at one address, whose certificate is of the tap's authority first and of its successor once it is
// rotated. Each call has a connection of its own, and so meets the certificate of the moment; a connection from before
// would go on with the old one.
type rotating struct {
	successor bool // whose certificate it serves from now on
}

// rotation is what the listener of rotating serves with.
type rotation struct {
	certificates [2]tls.Certificate // of the tap's authority, of the successor
	now          atomic.Int32       // which of them
}

// open opens the listener with the certificate that r says.
func (r rotating) open(t *Tap) (*listener, error) {
	successor, err := t.successor()
	if err != nil {
		return nil, err
	}
	t.rotation = &rotation{}
	for i, authority := range []*pki.Authority{t.options.Authority, successor} {
		config, err := serving{authority: authority, host: t.host()}.config(t)
		if err != nil {
			return nil, err
		}
		t.rotation.certificates[i] = config.Certificates[0]
	}
	at := t.rotation
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &at.certificates[at.now.Load()], nil
	}}
	return t.serveOn(config, func(server *http.Server) { server.SetKeepAlivesEnabled(false) }, false)
}

// rotate has the listener, which is open, serve as r says from now on.
func (r rotating) rotate(t *Tap) {
	n := int32(0)
	if r.successor {
		n = 1
	}
	t.rotation.now.Store(n)
}

// heir is the authority that is to follow the tap's own, made when wanted.
type heir struct {
	once      sync.Once
	authority *pki.Authority
	err       error
}

func (t *Tap) successor() (*pki.Authority, error) {
	t.heir.once.Do(func() { t.heir.authority, t.heir.err = pki.NewAuthority() })
	return t.heir.authority, t.heir.err
}

// SuccessorBundle is the caBundle of the authority whose certificate the fault rotated-certificate serves with.
func (t *Tap) SuccessorBundle() ([]byte, error) {
	successor, err := t.successor()
	if err != nil {
		return nil, err
	}
	return successor.CABundle(), nil
}
