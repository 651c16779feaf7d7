// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/proc"
	"github.com/outrigger-k8s/outrigger/tap"
)

const (
	// loopback is where instances listen.
	loopback = "127.0.0.1"
	// stopGrace is how long an instance may take to end by itself once it is asked to.
	stopGrace = 2 * time.Second
	// portTries is how many ports an instance is started on, at most, when others take them first.
	portTries = 3
	// firstLook and lastLook are the shortest and longest time between two looks at whether an instance is ready.
	firstLook, lastLook = 5 * time.Millisecond, 50 * time.Millisecond
	// oneLook bounds a single one: a target that takes connections and does not answer must not use up its startup.
	oneLook = 2 * time.Second
	// logLines are how many of a log's last lines an error shows.
	logLines = 20
)

// An instance is the target in certain settings.
type instance struct {
	serial int // in order of start
	digest string

	// Guarded by the fleet's mutex.
	users int // callers that have it on lease
	used  int // the fleet's clock at its last use

	// Final once started is closed.
	started  chan struct{}
	err      error // why it could not be started
	upstream *tap.Upstream
	process  *proc.Process // nil for a target that runs already
	port     int
	dir      string
}

// dead says why a started instance cannot be used; nil if it can, or was stopped by us.
func (in *instance) dead() error {
	if in.err != nil || in.process == nil {
		return in.err
	}
	if err := in.process.Err(); err != nil {
		return fmt.Errorf("using target instance %w", err)
	}
	return nil
}

// stop ends the instance and removes its files; its log stays.
func (in *instance) stop() {
	if in.upstream != nil {
		in.upstream.Close()
	}
	if in.process != nil {
		in.process.Stop(stopGrace)
	}
	if in.dir != "" {
		_ = os.RemoveAll(in.dir) // the run's end removes what this leaves
	}
}

// shared is what all instances of a fleet serve with.
type shared struct {
	authority         *pki.Authority
	certificate, key  string // files
	dir               string
	environment       []string
	caBundle          []byte
	verifyAgainstPool *x509.CertPool
}

func (f *Fleet) share() (*shared, error) {
	s := &shared{authority: f.options.Authority, dir: filepath.Join(f.run.Dir(), "target")}
	var err error
	if s.authority == nil {
		if s.authority, err = pki.NewAuthority(); err != nil {
			return nil, err
		}
	}
	s.caBundle, s.verifyAgainstPool = s.authority.CABundle(), s.authority.Pool()
	pair, err := s.authority.Issue(loopback, "localhost")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the targets' folder: %w", err)
	}
	// A run may have several fleets.
	dir, err := os.MkdirTemp(s.dir, "tls-")
	if err != nil {
		return nil, fmt.Errorf("making the targets' folder: %w", err)
	}
	s.certificate, s.key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := pair.Write(s.certificate, s.key); err != nil {
		return nil, err
	}
	s.environment = os.Environ()
	for _, name := range slices.Sorted(maps.Keys(f.target.Process.Env)) {
		s.environment = append(s.environment, name+"="+f.target.Process.Env[name]) // the last one counts
	}
	return s, nil
}

// launch starts a process with the settings and waits until it is ready. Nothing runs when it returns an error.
func (f *Fleet) launch(in *instance, settings map[string]any) error {
	shared, err := f.shared()
	if err != nil {
		return err
	}
	in.dir, err = os.MkdirTemp(shared.dir, in.digest+"-")
	if err != nil {
		return fmt.Errorf("making the instance's folder: %w", err)
	}
	contents, err := f.target.Settings.render(settings)
	if err != nil {
		return err
	}
	values := placeholders{
		Config: filepath.Join(in.dir, f.target.Settings.File),
		Cert:   shared.certificate, Key: shared.key, Host: loopback, Dir: in.dir,
	}
	if err := os.WriteFile(values.Config, contents, 0o600); err != nil {
		return fmt.Errorf("writing the settings: %w", err)
	}
	for try := 1; ; try++ {
		if values.Port, err = f.takePort(); err != nil {
			return err
		}
		err = f.launchOn(in, shared, values)
		if err == nil {
			return nil
		}
		var taken *portTakenError
		if !errors.As(err, &taken) || try == portTries {
			return err
		}
	}
}

// takePort finds a free port that no other start of this fleet was given: the kernel may give the same one twice as
// long as nobody listens on it, and then one instance would be taken for the other. Another run's instance cannot be
// taken for ours: its certificate is of another authority.
func (f *Fleet) takePort() (int, error) {
	for range 100 {
		port, err := proc.FreePort()
		if err != nil {
			return 0, fmt.Errorf("finding a free port: %w", err)
		}
		f.mu.Lock()
		given := f.ports[port]
		f.ports[port] = true
		f.mu.Unlock()
		if !given {
			return port, nil
		}
	}
	return 0, errors.New("finding a free port: the kernel keeps offering those that are in use")
}

func (f *Fleet) givePortBack(port int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.ports, port)
}

// A portTakenError says that an instance ended because something else listens on its port.
type portTakenError struct {
	port int
	err  error
}

func (e *portTakenError) Error() string { return fmt.Sprintf("port %d was taken: %v", e.port, e.err) }
func (e *portTakenError) Unwrap() error { return e.err }

// launchOn starts the process on one port and waits until it is ready.
func (f *Fleet) launchOn(in *instance, shared *shared, values placeholders) error {
	words := make([]string, len(f.target.Process.Command))
	for i, word := range f.target.Process.Command {
		var err error
		if words[i], err = expand(word, values); err != nil {
			return fmt.Errorf("filling in process.command[%d], %q: %w", i, word, err)
		}
	}
	address := net.JoinHostPort(loopback, strconv.Itoa(values.Port))
	webhook, err := at(address, f.target.Process.Path)
	if err != nil {
		return err
	}
	upstream, err := tap.NewUpstream(webhook, shared.caBundle)
	if err != nil {
		return err
	}
	program, err := lookPath(words[0], f.target.file)
	if err != nil {
		return err
	}
	process, err := f.run.Start(proc.Spec{
		Name: f.target.Name + "-" + in.digest, Path: program, Args: words[1:], Env: shared.environment, Dir: values.Dir,
	})
	if err != nil {
		return err
	}
	if err := f.awaitReady(process, shared, address); err != nil {
		process.Stop(stopGrace)
		return f.blamePort(err, process, values.Port)
	}
	in.process, in.upstream, in.port = process, upstream, values.Port
	return nil
}

// at is the https URL of a path, escaped as in the Target file, at an address.
func at(address, path string) (*url.URL, error) {
	u, err := url.Parse("https://" + address + path)
	if err != nil {
		return nil, fmt.Errorf("making a URL of address %s and path %q: %w", address, path, err)
	}
	return u, nil
}

// blamePort says so if process ended because its port was taken.
func (f *Fleet) blamePort(err error, process *proc.Process, port int) error {
	var ended *endedError
	if !errors.As(err, &ended) {
		return err
	}
	said := strings.Contains(process.LastLines(logLines), "address already in use")
	listener, taken := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if taken == nil {
		_ = listener.Close()
	}
	if said || taken != nil {
		return &portTakenError{port: port, err: err}
	}
	return err
}

// An endedError says that a process ended before it was ready.
type endedError struct{ err error }

func (e *endedError) Error() string { return "it was not ready when it ended: " + e.err.Error() }
func (e *endedError) Unwrap() error { return e.err }

// endOf is why a process has ended, also if somebody stopped it.
func endOf(p *proc.Process) error {
	if err := p.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%s was stopped", p.Name())
}

// awaitReady waits until the instance answers on its ready path, or, where the target has none, takes a TLS
// connection. The process's end, its startup time and the fleet's end cut the waiting short.
func (f *Fleet) awaitReady(process *proc.Process, shared *shared, address string) error {
	startup := time.Duration(f.target.Process.Startup)
	ctx, cancel := context.WithTimeout(f.ctx, startup)
	defer cancel()
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: shared.verifyAgainstPool, ServerName: loopback}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()

	ready, err := at(address, f.target.Process.Ready)
	if err != nil {
		return err
	}
	var last error
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		var now error
		if f.target.Process.Ready != "" {
			now = askReady(ctx, transport, ready)
		} else {
			now = shakeHands(ctx, config, address)
		}
		if last == nil || ctx.Err() == nil { // a look that the end of startup cut off tells less than the one before
			last = now
		}
		next := time.NewTimer(wait)
		// What answered may be somebody else on the same port, if the process has ended.
		select {
		case <-process.Done():
			next.Stop()
			return &endedError{endOf(process)}
		default:
		}
		if now == nil {
			next.Stop()
			return nil
		}
		select {
		case <-next.C:
		case <-process.Done():
			next.Stop()
			return &endedError{endOf(process)}
		case <-ctx.Done():
			next.Stop()
			if f.ctx.Err() != nil {
				return context.Cause(f.ctx)
			}
			return fmt.Errorf("it was not ready within %s (process.startup); last look: %w%s", startup, last,
				process.LastLines(logLines))
		}
	}
}

// askReady returns nil if a GET of u is answered with a status of 200 to 299.
func askReady(ctx context.Context, transport *http.Transport, u *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, oneLook)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req) // a redirect is no readiness, so it is not followed
	if err != nil {
		return fmt.Errorf("asking %s: %w", u, err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // for the message only
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("asking %s: it answered %s: %q", u, resp.Status, body)
	}
	return nil
}

// shakeHands returns nil if a TLS connection can be made, and is verified.
func shakeHands(ctx context.Context, config *tls.Config, address string) error {
	ctx, cancel := context.WithTimeout(ctx, oneLook)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", address, err)
	}
	return conn.Close()
}
