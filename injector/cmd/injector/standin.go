// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-k8s/outrigger/injector/standin"
)

// proxyGrace is how long connections through a proxy may stay open once it is asked to end.
const proxyGrace = 10 * time.Second

// initCommand stands in for a sidecar's init container: it writes down what it sees, and ends.
func initCommand(_ context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("init", flag.ContinueOnError)
	out := flags.String("out", "", "the `FILE` to write to, as JSON; required")
	if err := parse(flags, args, stderr, "out"); err != nil {
		return err
	}
	if err := standin.Look().WriteFile(*out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "wrote %s\n", *out)
	return err
}

// proxyCommand stands in for a sidecar.
func proxyCommand(ctx context.Context, args []string, _, stderr io.Writer) error {
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	address := flags.String("listen", ":15006", "`HOST:PORT` to take connections at")
	forward := flags.String("forward", "127.0.0.1:8080", "the application's `HOST:PORT`, to pass them on to")
	statusAddress := flags.String("status-listen", ":15021", "`HOST:PORT` for /healthz/ready, /stats and /quitquitquit")
	seen := flags.String("seen", "", "the `FILE` that injector init wrote; without it the proxy is not ready; empty: it needs none")
	if err := parse(flags, args, stderr, "listen", "forward", "status-listen"); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	proxy := &standin.Proxy{Forward: *forward, SeenFile: *seen}
	face, err := listen(*statusAddress, proxy.Status(), nil, log)
	if err != nil {
		return err
	}
	connections, err := net.Listen("tcp", *address)
	if err != nil {
		face.listener.Close()
		return fmt.Errorf("listen on %s: %w", *address, err)
	}
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	tasks, running := errgroup.WithContext(ctx)
	tasks.Go(func() error {
		select {
		case <-proxy.Quitting():
			quit()
		case <-running.Done():
		}
		return nil
	})
	tasks.Go(func() error { return proxy.Serve(running, connections, proxyGrace) })
	return serveUntil(running, tasks, face, log, "connections", connections.Addr().String(), "forward", *forward)
}

// appCommand stands in for an application.
func appCommand(ctx context.Context, args []string, _, stderr io.Writer) error {
	flags := flag.NewFlagSet("app", flag.ContinueOnError)
	address := flags.String("listen", ":8080", "`HOST:PORT` to answer at, over HTTP")
	if err := parse(flags, args, stderr, "listen"); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	app, err := listen(*address, standin.App(), nil, log)
	if err != nil {
		return err
	}
	tasks, running := errgroup.WithContext(ctx)
	return serveUntil(running, tasks, app, log)
}

// serveUntil serves, beside the tasks that run already, until running is done, and waits for all.
func serveUntil(running context.Context, tasks *errgroup.Group, s *server, log *slog.Logger, about ...any) error {
	tasks.Go(s.serve)
	tasks.Go(func() error {
		<-running.Done()
		log.Info("stopping")
		return s.stop()
	})
	log.Info("serving", append([]any{"listen", s.address()}, about...)...)
	err := tasks.Wait()
	log.Info("stopped")
	return err
}
