// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/tap"
)

const service = "injector.istio-system.svc"

// behind is a client that finds the service at address, and trusts authority.
func behind(t *testing.T, address string, authority *pki.Authority) (client *http.Client, dials *int) {
	dials = new(int)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			*dials++
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, dials
}

// Whatever path is asked for behind a Service, the call is the webhook's, and the target is asked for its own.
func TestStandTakesEveryPath(t *testing.T) {
	authority := pkitest.Authority(t)
	b := newBenchOf(t, authority)
	var asked []string
	up := b.target(t, "/inject", func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		_, _ = io.WriteString(w, goodReview)
	})
	b.expect(t, key(1), up)
	address, err := b.tap.Stand(tap.Stand{Webhook: "inject.outrigger.dev", Address: "127.0.0.1:0", Host: service})
	if err != nil {
		t.Fatal(err)
	}
	client, dials := behind(t, address, authority)
	b.client = client
	paths := []string{"/", "/inject", "/inject/cluster/a%2Fb"}
	for _, path := range paths {
		resp, _, err := b.post(t, "https://"+service+path+"?timeout=10s", podReview(key(1), ""))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %v", path, resp, err)
		}
	}
	if *dials != len(paths) {
		t.Errorf("%d calls over %d connections: a connection that is kept outlives its Service", len(paths), *dials)
	}
	calls := b.tap.Take(within(t), key(1))
	if len(calls) != len(paths) {
		t.Fatalf("%d calls recorded, want %d", len(calls), len(paths))
	}
	for i, call := range calls {
		if call.Asked != paths[i] || call.Path != "/inject" || call.Webhook != "inject.outrigger.dev" {
			t.Errorf("call %d is of %s, asked for %s, and the target for %s; want inject.outrigger.dev, %s, /inject", i, call.Webhook, call.Asked, call.Path, paths[i])
		}
		if asked[i] != "/inject" {
			t.Errorf("the target was asked for %s, want /inject", asked[i])
		}
	}
}

func TestStandWithAFault(t *testing.T) {
	authority, cluster := pkitest.Authority(t), pkitest.Authority(t)
	for _, tc := range []struct {
		fault   string
		trusted *pki.Authority
		err     string // of the client; "": none
	}{
		{"none", authority, ""},
		{"cluster-authority", cluster, ""},
		{"cluster-authority", authority, "unknown authority"},
		{"other-authority", authority, "unknown authority"},
		{"wrong-host", authority, "x509: certificate is valid for elsewhere.example, not " + service},
		{"common-name-only", authority, "legacy Common Name"},
		{"expired", authority, "expired"},
		{"denial", authority, ""}, // in the answer
	} {
		t.Run(tc.fault, func(t *testing.T) {
			b := newBench(t, tap.Options{Authority: authority, Cluster: cluster})
			fault, err := tap.ParseFault(map[string]any{"fault": tc.fault})
			if err != nil {
				t.Fatal(err)
			}
			address, err := b.tap.Stand(tap.Stand{Webhook: "w", Address: "127.0.0.1:0", Host: service, Fault: fault})
			if err != nil {
				t.Fatal(err)
			}
			b.client, _ = behind(t, address, tc.trusted)
			_, _, err = b.post(t, "https://"+service+"/", podReview(key(1), ""))
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("the API server's error is %v, want one with %q", err, tc.err)
			}
		})
	}
}

func TestStandRefuses(t *testing.T) {
	b := newBenchOf(t, pkitest.Authority(t))
	for _, name := range []string{"refused", "no-such-host", "no-handshake"} {
		fault, err := tap.ParseFault(map[string]any{"fault": name})
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.tap.Stand(tap.Stand{Webhook: "w", Address: "127.0.0.1:0", Host: service, Fault: fault})
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), service) {
			t.Errorf("a stand with the fault %s: %v, want an error that names it, and whose it is", name, err)
		}
	}
	taken, err := b.tap.Stand(tap.Stand{Webhook: "w", Address: "127.0.0.1:0", Host: service})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.tap.Stand(tap.Stand{Webhook: "w", Address: taken, Host: service}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second stand at %s: %v, want that the address is in use", taken, err)
	}
	if _, err := newBench(t, tap.Options{}).tap.Stand(tap.Stand{Webhook: "w", Address: "127.0.0.1:0", Host: service}); err == nil || !strings.Contains(err.Error(), "Options.Authority") {
		t.Errorf("a stand of a tap without an authority: %v", err)
	}
}
