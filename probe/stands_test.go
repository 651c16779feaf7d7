// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// frontLane says that the tap can stand at the addresses of its list, one after the other.
type frontLane struct {
	fakeLane
	addresses []string
}

func (l *frontLane) Behind(port int32) (string, error) {
	if len(l.addresses) == 0 {
		return "", fmt.Errorf("no address is left for port %d", port)
	}
	next := l.addresses[0]
	l.addresses = l.addresses[1:]
	return next, nil
}

// standing is a runner on a lane with these addresses, and the one arrangement of a table with one value.
func standing(t *testing.T, value string, addresses ...string) (*Runner, *PlannedArrangement, error) {
	t.Helper()
	authority := pkitest.Authority(t)
	listening, err := tap.Listen(tap.Options{Certificate: pkitest.Certificate(t, authority, "127.0.0.1"), Authority: authority})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listening.Close(context.Background()) })
	tb := loaded(t, "dimensions: [{dimension: d, values: [{value: v, "+value+"}]}]\nrules: [{rule: r, then: untouched, because: b}]\n")
	plan, err := NewPlan([]*table.Table{tb}, Facts{}, nil)
	if err != nil {
		return nil, nil, err
	}
	return &Runner{Lane: &frontLane{addresses: addresses}, Tap: Here(listening), CABundle: authority.CABundle()}, plan.Arrangements[0], nil
}

const (
	byService = `webhooks: {b-configuration: {hook.example.com: {clientConfig: {service: {namespace: mesh, name: injector, port: 8443}}}}}`
	working   = `, services: {injector: {metadata: {namespace: mesh}, spec: {ports: [{port: 8443}]}, behind: tap}}`
	idle      = `, services: {injector: {metadata: {namespace: mesh}, spec: {ports: [{port: 8443}]}}}`
)

// The tap stands behind the Services of which the case says so, at an address that is free, and each time at the same.
func TestStandBehind(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r, a, err := standing(t, byService+working, taken.Addr().String(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first, err := r.complete(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	address := first.Behind["mesh/injector"]
	if len(first.Behind) != 1 || address == "" || address == taken.Addr().String() {
		t.Fatalf("behind the Services: %v, want mesh/injector alone, at an address that is free", first.Behind)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Errorf("nobody listens at %s: %v", address, err)
	} else {
		conn.Close()
	}
	second, err := r.complete(t.Context(), a)
	if err != nil || !reflect.DeepEqual(first.Behind, second.Behind) {
		t.Errorf("the second time the tap stands at %v (%v), the first time at %v", second.Behind, err, first.Behind)
	}
	if service := a.Services[0]; service.Name != "injector" || service.Namespace != "mesh" || service.Spec.Ports[0].Port != 8443 {
		t.Errorf("the Service is %v", service)
	}
}

func TestNobodyStandsBehind(t *testing.T) {
	for name, value := range map[string]string{
		"it does not say so": byService + idle,
		"nobody asks for it": "pod: {metadata: {labels: {a: b}}}" + working,
	} {
		r, a, err := standing(t, value)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := r.complete(t.Context(), a); err != nil || len(out.Behind) != 0 {
			t.Errorf("%s: %v stands behind the Services (%v), want nobody", name, out.Behind, err)
		}
	}
}

func TestStandBehindRefuses(t *testing.T) {
	for _, tc := range []struct{ name, value, want string }{
		{"two webhooks", "webhook: {clientConfig: {service: {namespace: mesh, name: injector}}}" + working, "nothing tells their calls apart"},
		{"no address", byService + working, "service mesh/injector: no address is left for port 8443"},
		{"two ports", byService + strings.Replace(working, "{port: 8443}", "{name: a, port: 1}, {name: b, port: 2}", 1), "it has 2 ports"},
		{"somebody else", byService + strings.Replace(working, "behind: tap", "behind: wall", 1), "behind is wall"},
		{"a fault that does not listen", byService + working + ", wire: {fault: refused}", "with the fault refused nobody listens"},
	} {
		r, a, err := standing(t, tc.value)
		if err == nil && tc.name == "a fault that does not listen" {
			r.Lane = &frontLane{addresses: []string{"127.0.0.1:0"}}
		}
		if err == nil {
			_, err = r.complete(t.Context(), a)
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
	r, a, err := standing(t, byService+working)
	if err != nil {
		t.Fatal(err)
	}
	r.Lane = &fakeLane{}
	if _, err := r.complete(t.Context(), a); err == nil || !strings.Contains(err.Error(), FeatureBackends) {
		t.Errorf("in a lane without %s: %v, want an error that names it", FeatureBackends, err)
	}
}

// Who stands behind a Service is part of an arrangement: a step that changes nothing else must be arranged too.
func TestWhoStandsBehindDiffers(t *testing.T) {
	nobody, tap, elsewhere := &Arrangement{}, &Arrangement{Behind: map[string]string{"mesh/injector": "127.0.0.1:1"}}, &Arrangement{Behind: map[string]string{"mesh/injector": "127.0.0.1:2"}}
	if !differs(nobody, tap) || !differs(tap, nobody) || !differs(tap, elsewhere) || differs(tap, tap) {
		t.Error("arrangements differ by who stands behind their Services, and by that alone here")
	}
}

// Of a url that a case states the port and the path stay as they are, given or not.
func TestStandAtURL(t *testing.T) {
	port := free(t)
	for stated, want := range map[string]string{
		"https://injector:" + port:                ":" + port,
		"https://injector:" + port + "/":          ":" + port + "/",
		"https://injector:" + port + "/inject/a/": ":" + port + "/inject/a/",
	} {
		r, a, err := standing(t, fmt.Sprintf("webhooks: {b-configuration: {hook.example.com: {clientConfig: {url: %q}}}}", stated))
		if err != nil {
			t.Fatal(err)
		}
		out, err := r.complete(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		config := out.Webhooks[1].Webhooks[0].ClientConfig
		at, err := url.Parse(*config.URL)
		if err != nil {
			t.Fatal(err)
		}
		if host := at.Hostname(); *config.URL != "https://"+host+want || !net.ParseIP(host).IsLoopback() || len(config.CABundle) == 0 {
			t.Errorf("%s became %s, trusted by %d bytes; want another host in it alone, on loopback", stated, *config.URL, len(config.CABundle))
		}
		if other := out.Webhooks[0].Webhooks[0].ClientConfig; *other.URL != r.Tap.URL("other.example.com") {
			t.Errorf("the other webhook is called at %s, want the tap's own address", *other.URL)
		}
	}
}

// free is a port that was free a moment ago.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
