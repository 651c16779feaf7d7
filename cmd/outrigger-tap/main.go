// SPDX-License-Identifier: Apache-2.0

// Outrigger-tap is the tap of a lane whose API server runs in a cluster: it stands in the cluster, on the node of the API
// server, and is told by the harness, through a control listener of its own, what to expect. See package tap/control.
//
// It makes an authority of its own for the certificates that the API server sees, broken ones among them: that key never
// leaves the process.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-k8s/outrigger/mutator"
	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/tap"
	"github.com/outrigger-k8s/outrigger/tap/control"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.listen, "listen", ":15443", "`HOST:PORT` at which the API server calls webhooks")
	flag.StringVar(&o.names, "names", "127.0.0.1", "host `NAMES` that the certificate is for, with commas between")
	flag.StringVar(&o.faultHost, "fault-host", "127.0.0.1", "`HOST` of the listeners of connections that are to fail")
	flag.StringVar(&o.control, "control", "127.0.0.1:15444", "`HOST:PORT` at which the harness is heard")
	flag.StringVar(&o.identity, "identity", "", "`FOLDER` with tls.crt, tls.key, which the harness is shown, and ca.crt, which its own certificate must lead to; required")
	flag.Parse()
	if err := serve(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "outrigger-tap:", err)
		os.Exit(3)
	}
}

type options struct{ listen, names, faultHost, control, identity string }

func serve(ctx context.Context, o options) error {
	if o.identity == "" {
		return errors.New("--identity names no folder")
	}
	identity, err := tls.LoadX509KeyPair(filepath.Join(o.identity, "tls.crt"), filepath.Join(o.identity, "tls.key"))
	if err != nil {
		return fmt.Errorf("read the identity: %w", err)
	}
	bundle, err := os.ReadFile(filepath.Join(o.identity, "ca.crt"))
	if err != nil {
		return fmt.Errorf("read the harness's authority: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("read the harness's authority: %s holds no certificate", filepath.Join(o.identity, "ca.crt"))
	}
	authority, err := pki.NewAuthority()
	if err != nil {
		return err
	}
	pair, err := authority.Issue(strings.Split(o.names, ",")...)
	if err != nil {
		return err
	}
	certificate, err := pair.TLS()
	if err != nil {
		return err
	}
	t, err := tap.Listen(tap.Options{Certificate: certificate, Address: o.listen, FaultHost: o.faultHost, Authority: authority})
	if err != nil {
		return err
	}
	mutators, err := mutator.Listen(authority)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.control)
	if err != nil {
		return fmt.Errorf("listen for the harness on %s: %w", o.control, err)
	}
	log.Printf("taking webhooks' calls on %s, and orders on %s", o.listen, listener.Addr())
	server := &control.Server{Tap: t, Mutators: mutators, State: control.State{CABundle: authority.CABundle()}}
	err = server.Serve(ctx, listener, identity, clients)
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(err, mutators.Close(closing), t.Close(closing))
}
