// SPDX-License-Identifier: Apache-2.0

//go:build unix

package proc

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Port is a TCP port on 127.0.0.1 that the kernel gives to nobody but processes of this user which ask to share it.
type Port struct {
	number int
	once   sync.Once
	fd     int
}

// Number is the port's number.
func (p *Port) Number() int { return p.number }

// Addr is the port with its address: 127.0.0.1:NUMBER.
func (p *Port) Addr() string {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(p.number)).String()
}

// Release gives the port back. Close of the run does so too.
func (p *Port) Release() { p.once.Do(func() { _ = unix.Close(p.fd) }) }

// ReservePort reserves a free port on 127.0.0.1 until the run is closed. The process that is to listen on it must set
// SO_REUSEPORT, and run as the same user. See the package comment for why.
func (r *Run) ReservePort() (*Port, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("reserve a port: %w", errClosed)
	}
	p, err := reservePort()
	if err != nil {
		return nil, fmt.Errorf("reserve a port on 127.0.0.1: %w", err)
	}
	r.reservations = append(r.reservations, p)
	return p, nil
}

func reservePort() (*Port, error) {
	syscall.ForkLock.RLock() // no child may be started in between and inherit the socket
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	// Port 0: the kernel picks one that no other socket has, be it shared or not.
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &Port{number: address.(*unix.SockaddrInet4).Port, fd: fd}, nil
}

// FreePort returns a port on 127.0.0.1 that was free a moment ago. Another process may take it before the caller's
// child listens on it: be ready to try again with another one. Where the child can share a port, use
// [Run.ReservePort].
func FreePort() (int, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port on 127.0.0.1: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
