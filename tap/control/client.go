// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/outrigger-k8s/outrigger/tap"
)

// patience bounds a request that has no context of its own: far above what an answer takes on a busy machine.
const patience = time.Minute

// pingAfter is how long nothing may have come by a connection before it is asked whether it is alive.
const pingAfter = 10 * time.Second

// ClientOptions say how a server is reached; all are required.
type ClientOptions struct {
	// Dial connects to the server. Connections are kept, and made anew when one breaks.
	Dial        func(context.Context) (net.Conn, error)
	Certificate tls.Certificate // of the client
	Servers     *x509.CertPool  // that the server's certificate must lead to
	ServerName  string          // that it must name
	// Webhooks is the base of the URLs at which the API server reaches the tap, without a slash at its end.
	Webhooks string
}

// A Client is a tap that runs elsewhere. All methods are safe for concurrent use.
type Client struct {
	options ClientOptions
	http    *http.Client
}

// NewClient makes a client. Nothing is connected yet. Close it when the tap is used no more.
func NewClient(o ClientOptions) *Client {
	return &Client{options: o, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return o.Dial(ctx) },
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{o.Certificate}, RootCAs: o.Servers,
			ServerName: o.ServerName,
		},
		ForceAttemptHTTP2: true,                                          // one connection for all cases that are under way
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter}, // or one that died without a word would be waited on
	}}}
}

// Close hangs up.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// State asks for the tap's state: an answer says that it is there.
func (c *Client) State(ctx context.Context) (State, error) {
	return ask[State](ctx, c, pathState, struct{}{})
}

// URL is where the API server reaches the target as webhook.
func (c *Client) URL(webhook string) string {
	return c.options.Webhooks + "/" + url.PathEscape(webhook)
}

// FaultURL is as tap.Tap.FaultURL.
func (c *Client) FaultURL(ctx context.Context, f *tap.Fault, webhook string) (string, error) {
	doc, err := faultDocument(f)
	if err != nil {
		return "", err
	}
	answer, err := ask[faultURLAnswer](ctx, c, pathFaultURL, faultURLRequest{doc, webhook})
	return answer.URL, err
}

// ExpectFault is as tap.Tap.ExpectFault.
func (c *Client) ExpectFault(ctx context.Context, key string, up *tap.Upstream, fault *tap.Fault) error {
	doc, err := faultDocument(fault)
	if err != nil {
		return err
	}
	_, err = ask[struct{}](ctx, c, pathExpect, expectRequest{key, upstreamOf(up), doc})
	return err
}

// Route is as tap.Tap.Route.
func (c *Client) Route(ctx context.Context, key, webhook string, up *tap.Upstream, fault *tap.Fault) error {
	doc, err := faultDocument(fault)
	if err != nil {
		return err
	}
	_, err = ask[struct{}](ctx, c, pathRoute, routeRequest{key, webhook, upstreamOf(up), doc})
	return err
}

// Take is as tap.Tap.Take; it fails where the records cannot be had.
func (c *Client) Take(ctx context.Context, key string) ([]tap.Call, error) {
	return c.take(ctx, key, pathTake, func(r takeRequest) any { return r })
}

// Retake is as tap.Tap.Retake.
func (c *Client) Retake(ctx context.Context, key string, rest tap.Routed, routes map[string]tap.Routed) ([]tap.Call, error) {
	to, err := routedBy(rest)
	if err != nil {
		return nil, err
	}
	others := map[string]routed{}
	for webhook, r := range routes {
		if others[webhook], err = routedBy(r); err != nil {
			return nil, err
		}
	}
	return c.take(ctx, key, pathRetake, func(r takeRequest) any { return retakeRequest{r, to, others} })
}

func routedBy(r tap.Routed) (routed, error) {
	doc, err := faultDocument(r.Fault)
	return routed{upstreamOf(r.Upstream), doc}, err
}

func (c *Client) take(ctx context.Context, key, path string, request func(takeRequest) any) ([]tap.Call, error) {
	within := patience
	if deadline, ok := ctx.Deadline(); ok {
		within = max(time.Until(deadline), 0)
	}
	// The tap waits within the case's time; its answer must come all the same when that is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within+patience)
	defer cancel()
	answer, err := ask[takeAnswer](ctx, c, path, request(takeRequest{key, int64(within)}))
	if err != nil {
		return nil, err
	}
	var calls []tap.Call
	for _, call := range answer.Calls {
		calls = append(calls, call.unpacked())
	}
	return calls, nil
}

// Answering is where a webhook answers every review with this JSON patch: beside the tap.
func (c *Client) Answering(ctx context.Context, patch json.RawMessage) (*tap.Upstream, error) {
	answer, err := ask[upstream](ctx, c, pathAnswer, answerRequest{patch})
	if err != nil {
		return nil, err
	}
	return answer.open()
}

// Reach tells whether the tap can call the target at up, within so long.
func (c *Client) Reach(ctx context.Context, up *tap.Upstream, within time.Duration) error {
	_, err := ask[struct{}](ctx, c, pathReach, reachRequest{upstreamOf(up), int64(within)})
	return err
}

// ask makes one request.
func ask[Answer any](ctx context.Context, c *Client, path string, request any) (answer Answer, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("ask the tap in the cluster (%s): %w", path, err)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, 2*patience, fmt.Errorf("no answer within %s", 2*patience))
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return answer, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.options.ServerName+path, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(r)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer, fmt.Errorf("read its answer: %w", err)
	case len(raw) > maxAnswer:
		return answer, fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	case response.StatusCode != http.StatusOK:
		return answer, fmt.Errorf("it answered %s: %.500s", response.Status, strings.TrimSpace(string(raw)))
	}
	return answer, json.Unmarshal(raw, &answer)
}
