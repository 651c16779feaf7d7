// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/proc"
	"github.com/outrigger-k8s/outrigger/tap"
	"github.com/outrigger-k8s/outrigger/target"
)

// asInjector makes this test binary, started again, an injector of a kind: a real process with a real TLS listener,
// whose settings say how it behaves.
const asInjector = "OUTRIGGER_TEST_INJECTOR"

func TestMain(m *testing.M) {
	if os.Getenv(asInjector) == "" {
		os.Exit(m.Run())
	}
	if err := injector(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fake injector:", err)
		os.Exit(1)
	}
}

// injector is called with: config cert key host port dir. Its configuration is {"behave": WORD, …}.
func injector(args []string) error {
	if len(args) == 1 && args[0] == "version" {
		fmt.Println("fake 1.2.3\nand more")
		return nil
	}
	raw, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var config struct{ Behave, Tell string }
	if err := json.Unmarshal(raw, &config); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(args[5], "pid"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	address := net.JoinHostPort(args[3], args[4])
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if config.Behave == "never ready" {
			http.Error(w, "still waiting for the moon", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/inject", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%d %s %s", os.Getpid(), os.Getenv("FAKE"), raw)
	})
	mux.HandleFunc("/inject/die", func(http.ResponseWriter, *http.Request) {
		fmt.Fprintln(os.Stderr, "I was asked to die")
		os.Exit(7)
	})
	switch config.Behave {
	case "exit":
		return fmt.Errorf("cannot read %s", args[0])
	case "exit at peace":
		return nil
	case "port taken once":
		marker := filepath.Join(args[5], "tried")
		if _, err := os.Stat(marker); err != nil {
			if err := os.WriteFile(marker, nil, 0o600); err != nil {
				return err
			}
			return fmt.Errorf("listen tcp %s: bind: address already in use", address)
		}
	case "port always taken":
		return fmt.Errorf("listen tcp %s: bind: address already in use", address)
	case "mute": // tells its port to the test, which takes it, and says nothing of that
		conn, err := net.Dial("tcp", config.Tell)
		if err != nil {
			return err
		}
		fmt.Fprintln(conn, args[4])
		_, _ = io.Copy(io.Discard, conn)
	case "foreign certificate":
		stranger, err := pki.NewAuthority()
		if err != nil {
			return err
		}
		pair, err := stranger.Issue(args[3])
		if err != nil {
			return err
		}
		if err := pair.Write(args[1]+".foreign", args[2]+".foreign"); err != nil {
			return err
		}
		args[1], args[2] = args[1]+".foreign", args[2]+".foreign"
	}
	server := &http.Server{Addr: address, Handler: mux, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	err = server.ListenAndServeTLS(args[1], args[2])
	if config.Behave == "mute" {
		os.Exit(1)
	}
	return err
}

// fake is the target that this test binary is.
func fake(t testing.TB, more string) *target.Target {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	got, err := target.Parse("fake.yaml", fmt.Appendf(nil, `schema: outrigger.dev/target/v1alpha1
name: fake
profiles: [p]
process:
  command: [%q, "{{.Config}}", "{{.Cert}}", "{{.Key}}", "{{.Host}}", "{{.Port}}", "{{.Dir}}"]
  ready: /readyz
  startup: 20s
  env: {%s: "1", FAKE: env-of-file}
%s`, self, asInjector, more))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// newFleet is a fleet in a run of its own; both are gone when the test ends.
func newFleet(t testing.TB, subject *target.Target, o target.Options) (*target.Fleet, *proc.Run) {
	t.Helper()
	run, err := proc.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Close(); err != nil {
			t.Error(err)
		}
	})
	f := target.NewFleet(run, subject, o)
	t.Cleanup(f.Stop)
	return f, run
}

// within is a context that ends before the test binary's own deadline does, so that a hang names its test.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A wire is a tap to call instances through, as a lane would.
type wire struct {
	tap    *tap.Tap
	client *http.Client
	calls  int
}

func newWire(t testing.TB) *wire {
	t.Helper()
	authority := pkitest.Authority(t)
	w := &wire{}
	var err error
	if w.tap, err = tap.Listen(tap.Options{Certificate: pkitest.Certificate(t, authority, "127.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}}
	w.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := w.tap.Close(within(t)); err != nil {
			t.Error(err)
		}
	})
	return w
}

// ask sends one review for a pod through the tap to up, and returns the record.
func (w *wire) ask(t testing.TB, up *tap.Upstream, rest string) tap.Call {
	t.Helper()
	w.calls++
	key := fmt.Sprintf("or-%013d", w.calls)
	if err := w.tap.Expect(key, up); err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-%d",`+
		`"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},`+
		`"namespace":"shop","operation":"CREATE","object":{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"%s-"},`+
		`"spec":{"containers":[{"name":"app","image":"app"}]}}}}`, w.calls, key)
	resp, err := w.client.Post(w.tap.URL("w")+rest, "application/json", strings.NewReader(body))
	if err == nil {
		resp.Body.Close()
	}
	calls := w.tap.Take(within(t), key)
	if len(calls) != 1 {
		t.Fatalf("%d calls recorded, want 1 (%v)", len(calls), err)
	}
	return calls[0]
}

func settings(behave string) map[string]any { return map[string]any{"behave": behave} }
