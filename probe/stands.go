// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"syscall"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// A Stander is a tap that can take calls at other places than its own: behind Services, and at urls that a case states.
type Stander interface {
	Stand(tap.Stand) (address string, err error)
}

// A Fronter is a lane in which the tap can stand behind Services: it has the feature [FeatureBackends].
type Fronter interface {
	Lane
	// Behind is an address of this machine, host and port, at which the tap is to listen so as to be reached by a Service
	// at this port; port 0 stands for any that is free. Each call gives another, as it may be somebody else's already.
	Behind(port int32) (string, error)
}

// mayListen tells whether the harness can listen at port 443, which is only root's on many machines: a webhook is called
// there unless its configuration names another.
var mayListen = sync.OnceValue(func() bool {
	l, err := net.Listen("tcp", net.JoinHostPort(anyHost(), "443"))
	if errors.Is(err, syscall.EADDRINUSE) { // somebody else's, for whom it was allowed
		return true
	}
	if err != nil {
		return false
	}
	return l.Close() == nil
})

// FeaturesHere are the features of a lane whose API server, and whose tap, are processes on this machine.
func FeaturesHere() []string {
	list := []string{FeatureAddresses}
	if mayListen() {
		list = append(list, FeaturePort443)
	}
	return list
}

// anyHost is a loopback address that nobody is likely to use: runs that go on side by side must not meet.
func anyHost() string {
	return fmt.Sprintf("127.97.%d.%d", rand.IntN(256), 1+rand.IntN(254))
}

// stands are where the tap takes calls beside its own address, each opened when it is first wanted.
type stands struct {
	mu   sync.Mutex
	open map[standKey]string // address
}

type standKey struct{ host, port, webhook, fault string }

// stand is the address at which the tap takes the calls to webhook as one whose certificate is for host; "" is the
// address itself. choose names addresses to try.
func (r *Runner) stand(key standKey, fault *tap.Fault, choose func() (string, error)) (string, error) {
	stander, ok := r.Tap.(Stander)
	if !ok {
		return "", fmt.Errorf("the tap of this lane takes calls at its own address alone: the case needs %q", FeatureAddresses)
	}
	if fault != nil {
		key.fault = fault.Listener()
	}
	r.stands.mu.Lock()
	defer r.stands.mu.Unlock()
	if address, there := r.stands.open[key]; there {
		return address, nil
	}
	const most = 50 // addresses, of which each may be somebody else's
	for n := 1; ; n++ {
		address, err := choose()
		if err != nil {
			return "", err
		}
		host := key.host
		if host == "" {
			host, _, _ = net.SplitHostPort(address)
		}
		address, err = stander.Stand(tap.Stand{Webhook: key.webhook, Address: address, Host: host, Fault: fault})
		if errors.Is(err, syscall.EADDRINUSE) && n < most {
			continue
		}
		if err != nil {
			return "", err
		}
		if r.stands.open == nil {
			r.stands.open = map[standKey]string{}
		}
		r.stands.open[key] = address
		return address, nil
	}
}

// faultOf is what goes wrong with the connections of webhook under the arrangement, nil: nothing.
func (a *PlannedArrangement) faultOf(webhook string) *tap.Fault {
	if a.Wire.Fault == nil || a.Wire.Only != nil && !slices.Contains(a.Wire.Only, webhook) {
		return nil
	}
	return a.Wire.Fault
}

// standAt is the url of a webhook that is called by one of the case's: its port and path are as they are written, or
// left out, and the host is an address of the tap's.
func (r *Runner) standAt(a *PlannedArrangement, webhook, stated string) (string, error) {
	at, err := url.Parse(stated)
	if err != nil {
		return "", fmt.Errorf("webhook %s: %w", webhook, err)
	}
	port := at.Port()
	if port == "" {
		port = "443"
	}
	address, err := r.stand(standKey{port: port, webhook: webhook}, a.faultOf(webhook), func() (string, error) {
		return net.JoinHostPort(anyHost(), port), nil
	})
	if err != nil {
		return "", fmt.Errorf("webhook %s: %w", webhook, err)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("webhook %s: %w", webhook, err)
	}
	if at.Port() != "" {
		host = net.JoinHostPort(host, port)
	}
	at.Host = host
	return at.String(), nil
}

// standBehind has the tap stand behind those of the arrangement's Services of which the case says so, for the webhook
// that is called by it.
func (r *Runner) standBehind(a *PlannedArrangement, out *Arrangement) error {
	for _, s := range a.Services {
		name := s.Namespace + "/" + s.Name
		if !a.Backed[name] {
			continue
		}
		webhooks := out.calledBy(s)
		if len(webhooks) == 0 {
			continue // nobody asks for it
		}
		if len(webhooks) > 1 {
			return fmt.Errorf("service %s: %v are all called by it, and nothing tells their calls apart", name, webhooks)
		}
		lane, ok := r.Lane.(Fronter)
		if !ok {
			return fmt.Errorf("service %s: the tap cannot stand behind it in this lane: the case needs %q", name, FeatureBackends)
		}
		port := s.Spec.Ports[0].Port
		key := standKey{host: s.Name + "." + s.Namespace + ".svc", port: strconv.Itoa(int(port)), webhook: webhooks[0]}
		address, err := r.stand(key, a.faultOf(webhooks[0]), func() (string, error) { return lane.Behind(port) })
		if err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		if out.Behind == nil {
			out.Behind = map[string]string{}
		}
		out.Behind[name] = address
	}
	return nil
}

// calledBy are the names of the webhooks that are called by a Service.
func (a *Arrangement) calledBy(s *corev1.Service) []string {
	var names []string
	add := func(name string, c *admissionregistrationv1.WebhookClientConfig) {
		if c.Service != nil && c.Service.Namespace == s.Namespace && c.Service.Name == s.Name {
			names = append(names, name)
		}
	}
	for _, c := range a.Webhooks {
		for i := range c.Webhooks {
			add(c.Webhooks[i].Name, &c.Webhooks[i].ClientConfig)
		}
	}
	for _, c := range a.Validating {
		for i := range c.Webhooks {
			add(c.Webhooks[i].Name, &c.Webhooks[i].ClientConfig)
		}
	}
	return names
}

// backed takes out of a Service as a table states it what stands behind it.
func backed(doc map[string]any) (bool, error) {
	switch who := doc[table.BehindKey]; who {
	case nil:
		return false, nil
	case table.BehindTap:
		return true, nil
	default:
		return false, fmt.Errorf("%s is %v: the only one who can stand behind a Service is the %s", table.BehindKey, who, table.BehindTap)
	}
}
