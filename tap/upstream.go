// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// An Upstream is one instance of the target, as the tap calls it: over TLS 1.2 or later, verified against its own CA
// bundle and the host of its URL, with connections that are kept and shared by all its cases.
type Upstream struct {
	url       url.URL
	address   string // where it is dialled; "": where its URL says
	caBundle  []byte
	transport *http.Transport
}

// dialer makes the connections to every target.
var dialer = net.Dialer{KeepAlive: 30 * time.Second}

// NewUpstream describes the instance at u, an https URL whose path is the webhook's own (such as /inject), with the PEM
// certificates that its certificate must lead to. Nothing is connected yet. Close it when no case needs it any more.
func NewUpstream(u *url.URL, caBundle []byte) (*Upstream, error) {
	switch {
	case u == nil:
		return nil, errors.New("describing an upstream: no URL")
	case u.Scheme != "https":
		return nil, fmt.Errorf("describing the upstream %s: the scheme is %q; a webhook is called over https only",
			u.Redacted(), u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("describing the upstream %s: the URL has no host", u.Redacted())
	case u.Path != "" && u.Path[0] != '/':
		return nil, fmt.Errorf("describing the upstream %s: the path %q does not begin with a slash", u.Redacted(), u.Path)
	case u.User != nil || u.Fragment != "":
		return nil, fmt.Errorf("describing the upstream %s: the URL may have neither user nor fragment", u.Redacted())
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(caBundle) {
		return nil, fmt.Errorf("describing the upstream %s: its CA bundle (%d bytes) holds no PEM certificate",
			u.Redacted(), len(caBundle))
	}
	return &Upstream{url: *u, caBundle: append([]byte(nil), caBundle...), transport: &http.Transport{
		Proxy:       nil, // a proxy of the environment's has no place between tap and target
		DialContext: dialer.DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			RootCAs:    pool,
			NextProtos: []string{"http/1.1"},
		},
		DisableCompression: true, // bytes pass as they are
		// More than the concurrency of a run on any one instance, so that no connection is made twice for want of
		// room; an instance whose cases are done gives them back after a while.
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     30 * time.Second,
		// The handshake is bounded by the API server's patience, which hangs up; this is for one that does not.
		TLSHandshakeTimeout:    time.Minute,
		MaxResponseHeaderBytes: 256 << 10,
	}}, nil
}

// At returns the same instance, dialled at address, a host and a port, whatever its URL's host resolves to. That host is still
// what its certificate is verified against, and what it is asked by.
func (u *Upstream) At(address string) *Upstream {
	at := &Upstream{url: u.url, address: address, caBundle: u.caBundle, transport: u.transport.Clone()}
	at.transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}
	return at
}

// Address is where the instance is dialled; "": where its URL says.
func (u *Upstream) Address() string { return u.address }

// URL returns the instance's URL, the webhook's path included.
func (u *Upstream) URL() *url.URL { copied := u.url; return &copied }

// CABundle returns the PEM certificates by which the instance's is verified.
func (u *Upstream) CABundle() []byte { return append([]byte(nil), u.caBundle...) }

// Reach tells whether the instance can be called: it makes a connection and hangs up. Nothing is asked.
func (u *Upstream) Reach(ctx context.Context) error {
	port := u.url.Port()
	if port == "" {
		port = "443"
	}
	address := net.JoinHostPort(u.url.Hostname(), port)
	conn, err := u.transport.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("reaching the target at %s: %w", address, err)
	}
	defer conn.Close()
	config := u.transport.TLSClientConfig.Clone()
	config.ServerName = u.url.Hostname()
	if err := tls.Client(conn, config).HandshakeContext(ctx); err != nil {
		return fmt.Errorf("reaching the target at %s: %w", address, err)
	}
	return nil
}

// Close gives up the idle connections. Calls under way are not touched.
func (u *Upstream) Close() { u.transport.CloseIdleConnections() }

// forward sends q to the instance and reads its answer, of at most limit bytes of body. A reply that broke off is
// returned with the error that broke it: what came of it was on the wire. The transport resends a request that went
// out on a kept connection which the instance had closed at that moment, as the API server's own does.
func (u *Upstream) forward(ctx context.Context, q *query, limit int64) (*reply, error) {
	target := u.url
	target.Path, target.RawPath = u.url.Path+q.rest, u.url.EscapedPath()+q.rawRest
	if target.Path == "" {
		target.Path, target.RawPath = "/", ""
	}
	if target.RawQuery == "" || q.rawQuery == "" {
		target.RawQuery += q.rawQuery
	} else {
		target.RawQuery += "&" + q.rawQuery
	}
	req := (&http.Request{
		Method:        q.method,
		URL:           &target,
		Header:        q.header,
		Host:          target.Host,
		Body:          q.reader(),
		GetBody:       q.getBody,
		ContentLength: int64(len(q.body)),
	}).WithContext(ctx)

	resp, err := u.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("calling the target at %s: %w", target.Redacted(), err)
	}
	defer resp.Body.Close()
	dropHopByHop(resp.Header)
	answer := &reply{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength, proto: resp.Proto}
	answer.body, err = readBounded(resp.Body, resp.ContentLength, limit)
	if err != nil {
		return answer, fmt.Errorf("reading the answer of the target at %s (status %d): %w",
			target.Redacted(), resp.StatusCode, err)
	}
	return answer, nil
}
