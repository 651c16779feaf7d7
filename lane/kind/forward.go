// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// A forward connects to a port of a pod, through the API server: what works for any engine, wherever its containers run.
// A connection to the API server that breaks is made again by the next Dial.
type forward struct {
	config    *rest.Config
	client    *kubernetes.Clientset
	namespace string
	port      int
	pod       func(context.Context) (string, error) // that is to be connected to now

	mu   sync.Mutex
	live *forwarding
}

// forwarding is one connection to the API server, and a port of this machine that leads into it.
type forwarding struct {
	address string
	cancel  context.CancelFunc
	ended   chan struct{}
	err     error // once ended is closed
}

// Dial connects to the pod's port.
func (f *forward) Dial(ctx context.Context) (net.Conn, error) {
	f.mu.Lock()
	live, err := f.forwarding(ctx)
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", live.address)
}

// forwarding is the live one, or a new one.
func (f *forward) forwarding(ctx context.Context) (*forwarding, error) {
	if f.live != nil {
		select {
		case <-f.live.ended:
		default:
			return f.live, nil
		}
	}
	pod, err := f.pod(ctx)
	if err != nil {
		return nil, err
	}
	f.live, err = f.start(ctx, pod)
	if err != nil {
		return nil, fmt.Errorf("forward a port to pod %s/%s: %w", f.namespace, pod, err)
	}
	return f.live, nil
}

func (f *forward) start(ctx context.Context, pod string) (*forwarding, error) {
	transport, upgrader, err := spdy.RoundTripperFor(f.config)
	if err != nil {
		return nil, err
	}
	at := f.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(f.namespace).Name(pod).SubResource("portforward").URL()
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, at)
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ready := make(chan struct{})
	var said bytes.Buffer
	forwarder, err := portforward.NewOnAddressesWithContext(life, dialer, []string{"127.0.0.1"},
		[]string{":" + strconv.Itoa(f.port)}, ready, io.Discard, &said)
	if err != nil {
		cancel()
		return nil, err
	}
	g := &forwarding{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(g.ended)
		g.err = forwarder.ForwardPorts()
	}()
	select {
	case <-ready:
	case <-g.ended:
		cancel()
		return nil, errors.Join(g.err, errors.New("it ended at once: "+said.String()))
	case <-ctx.Done():
		cancel()
		<-g.ended
		return nil, context.Cause(ctx)
	}
	ports, err := forwarder.GetPorts()
	if err != nil || len(ports) != 1 {
		g.stop()
		return nil, errors.Join(err, fmt.Errorf("it has %d ports", len(ports)))
	}
	g.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(int(ports[0].Local)))
	return g, nil
}

func (g *forwarding) stop() {
	g.cancel()
	<-g.ended
}

// Close hangs up.
func (f *forward) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.live != nil {
		f.live.stop()
	}
}

// base of URLs that lead to host.
func base(host string) string { return (&url.URL{Scheme: "https", Host: host}).String() }
