// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"
)

// straight is the way to a port of the node by the node's own address, which is reached where the engine is on this very
// Linux machine. The ways that always work go through more processes, and each request through all of them: a port of this
// machine that the engine leads into the node, or a forward through API server and kubelet.
type straight struct {
	address atomic.Pointer[string] // HOST:PORT; nil where it was not tried, or did not lead there
}

// straightWithin bounds one connection: it takes well below a millisecond where it can be had.
const straightWithin = time.Second

// try takes the way from now on, and tells whether it does: if whoever answers at address is who config says.
func (s *straight) try(ctx context.Context, address string, config *tls.Config) bool {
	ctx, cancel := context.WithTimeout(ctx, straightWithin)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close()
	s.address.Store(&address)
	return true
}

// forget takes the way no more.
func (s *straight) forget() { s.address.Store(nil) }

// dial connects, if the way has been taken and still leads there.
func (s *straight) dial(ctx context.Context) (net.Conn, bool) {
	address := s.address.Load()
	if address == nil {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, straightWithin)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", *address)
	return conn, err == nil
}
