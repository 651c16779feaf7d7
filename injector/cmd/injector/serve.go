// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/outrigger-k8s/outrigger/injector/settings"
	"github.com/outrigger-k8s/outrigger/injector/webhook"
)

// Limits of a connection. The API server waits 30 s at most for a webhook (timeoutSeconds), and closes its own idle
// connections after 90 s: closing later than it means that a review never meets a connection that is about to end.
const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second
	idleTimeout   = 3 * time.Minute
	// finishTimeout is how long reviews may take that have begun when the server stops.
	finishTimeout = 30 * time.Second
	// leaveTimeout is how long the last requests to the API server may take.
	leaveTimeout    = 5 * time.Second
	mostHeaderBytes = 64 << 10
)

// serveFlags are what serve is told.
type serveFlags struct {
	config, cert, key     string
	listen, metricsListen string
	drain                 time.Duration
	logLevel              slog.Level
	mostBytes             int64
	configMapKey          string
	follow                bool
	cluster               clusterFlags
}

// serveCommand serves until the context is done.
func serveCommand(ctx context.Context, args []string, _, stderr io.Writer) error {
	var f serveFlags
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.StringVar(&f.config, "config", "", "the configuration `FILE`; required without --namespace; read again when it changes")
	flags.StringVar(&f.cert, "tls-cert", "", "the server's certificate, a PEM `FILE`; required without --namespace; read again when it changes")
	flags.StringVar(&f.key, "tls-key", "", "the certificate's key, a PEM `FILE`; required without --namespace; read again when it changes")
	flags.StringVar(&f.listen, "listen", ":8443", "`HOST:PORT` for HTTPS; port 0 takes a free one, which the log names")
	flags.StringVar(&f.metricsListen, "metrics-listen", "",
		"`HOST:PORT` for /metrics, /healthz and /readyz without TLS; empty: nowhere")
	flags.DurationVar(&f.drain, "drain", 0,
		"how `long` to go on serving, but not ready, after SIGTERM: until the Service has stopped sending")
	flags.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "debug (every decision), info, warn or error")
	flags.Int64Var(&f.mostBytes, "most-bytes", webhook.DefaultMostBytes, "how many `bytes` a review may have")
	flags.StringVar(&f.configMapKey, "configmap-key", webhook.DefaultConfigMapKey,
		"the `key` under which the ConfigMaps that /validate sees hold a configuration")
	flags.BoolVar(&f.follow, "follow", true, "read the configuration and the certificate again when their files change")
	f.cluster.add(flags)
	if err := parse(flags, args, stderr, "listen"); err != nil {
		return err
	}
	if err := f.cluster.check(flags); err != nil {
		return err
	}
	if f.drain < 0 || f.mostBytes <= 0 {
		return usageError{errors.New("--drain must not be negative, and --most-bytes must be positive")}
	}
	return serve(ctx, f, slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: f.logLevel})))
}

// supply is where the settings and the certificate come from: files, or a cluster.
type supply struct {
	settings    *settings.Source
	certificate *webhook.Certificate
	// ready says what is to be waited for; nil: nothing, ever.
	ready func() error
	// follow brings in what is new until the context is done.
	follow func(context.Context, *webhook.Metrics) error
	// leave is called when nothing is served any more; nil: nothing to do.
	leave func(context.Context) error
}

// supplyFromFiles reads the files that the flags name.
func supplyFromFiles(f serveFlags, log *slog.Logger) (*supply, error) {
	source, err := settings.Open(f.config)
	if err != nil {
		return nil, usageError{err}
	}
	logSettings(log, "configuration read", source.Current())
	certificate, err := webhook.OpenCertificate(f.cert, f.key)
	if err != nil {
		return nil, err
	}
	s := &supply{settings: source, certificate: certificate}
	s.follow = func(ctx context.Context, metrics *webhook.Metrics) error {
		if !f.follow {
			return nil
		}
		tasks, ctx := errgroup.WithContext(ctx)
		tasks.Go(func() error { return source.Follow(ctx, reportSettings(log, metrics)) })
		tasks.Go(func() error { return certificate.Follow(ctx, reportCertificate(log, metrics)) })
		return tasks.Wait()
	}
	return s, nil
}

// serve starts everything, waits for the context to be done or for something to break, and stops everything.
func serve(ctx context.Context, f serveFlags, log *slog.Logger) error {
	from := supplyFromFiles
	if f.cluster.namespace != "" {
		from = supplyFromCluster
	}
	supply, err := from(f, log)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := webhook.NewMetrics(registry, supply.settings.Current)
	hook := webhook.New(webhook.Options{
		Settings: supply.settings.Current, Ready: supply.ready, Log: log, Metrics: metrics,
		MostBytes: f.mostBytes, ConfigMapKey: f.configMapKey,
	})

	secure, err := listen(f.listen, hook.Handler(), supply.certificate.Config(), log)
	if err != nil {
		return err
	}
	servers, addresses := []*server{secure}, []any{"listen", secure.address()}
	if f.metricsListen != "" {
		plain, err := listen(f.metricsListen, hook.Plain(registry), nil, log)
		if err != nil {
			return errors.Join(err, secure.listener.Close())
		}
		servers, addresses = append(servers, plain), append(addresses, "metricsListen", plain.address())
	}

	// running ends when the process is asked to stop, and when one of the tasks breaks; serve returns when all have.
	tasks, running := errgroup.WithContext(ctx)
	// What is served follows its sources until the last review is answered: while it drains, it serves.
	following, served := context.WithCancel(context.WithoutCancel(ctx))
	defer served()
	tasks.Go(func() error { return supply.follow(following, metrics) })
	for _, s := range servers {
		tasks.Go(s.serve)
	}
	tasks.Go(func() error {
		<-running.Done()
		hook.Drain()
		log.Info("stopping", "drain", f.drain.String())
		if ctx.Err() != nil { // asked to stop: the Service still sends
			<-time.After(f.drain)
		}
		var errs []error
		for _, s := range servers {
			errs = append(errs, s.stop())
		}
		served()
		return errors.Join(errs...)
	})
	log.Info("serving", addresses...)
	err = tasks.Wait()
	if supply.leave != nil {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		if err := supply.leave(leaving); err != nil {
			log.Warn("could not leave", "error", err) // the Pod's end takes the rest away
		}
	}
	log.Info("stopped")
	return err
}

// server is one listener and what it serves.
type server struct {
	http     *http.Server
	listener net.Listener
}

// listen takes an address. Without a TLS configuration it is for plain HTTP.
func listen(address string, handler http.Handler, secure *tls.Config, log *slog.Logger) (*server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return &server{
		listener: listener,
		http: &http.Server{
			Handler:           handler,
			TLSConfig:         secure,
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       bodyTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    mostHeaderBytes,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn), // failed handshakes, above all
		},
	}, nil
}

func (s *server) address() string { return s.listener.Addr().String() }

// serve serves until stop.
func (s *server) serve() error {
	var err error
	if s.http.TLSConfig != nil {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", s.address(), err)
}

// stop takes no more requests and waits for those that have begun.
func (s *server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		return fmt.Errorf("stop serving on %s: %w", s.address(), errors.Join(err, s.http.Close()))
	}
	return nil
}

// reportSettings logs and counts each change of the configuration.
func reportSettings(log *slog.Logger, metrics *webhook.Metrics) func(*settings.Settings, error) {
	return func(s *settings.Settings, err error) {
		metrics.ConfigurationReloaded(err)
		switch {
		case err != nil && s == nil:
			log.Error("configuration refused, there is none yet", "error", err)
			return
		case err != nil:
			log.Error("new configuration refused, the old one stays in force", "error", err, "configuration", s.Hash)
			return
		}
		logSettings(log, "new configuration in force", s)
	}
}

func logSettings(log *slog.Logger, message string, s *settings.Settings) {
	log.Info(message, "configuration", s.Hash, "dialect", s.Decision.Dialect.Name, "policy", s.Decision.Policy)
	for _, w := range s.Warnings {
		log.Warn("odd configuration", "configuration", s.Hash, "warning", w.Error())
	}
}

// reportCertificate logs and counts each change of the certificate.
func reportCertificate(log *slog.Logger, metrics *webhook.Metrics) func(error) {
	return func(err error) {
		metrics.CertificateReloaded(err)
		if err != nil {
			log.Error("new certificate refused, the old one stays in force", "error", err)
			return
		}
		log.Info("new certificate in force")
	}
}
