// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/probe"
)

var _ probe.Fronter = (*Lane)(nil)

// FeaturesHere are the features of a control plane on this machine, sorted: some depend on what it lets a process do.
func FeaturesHere(routing string) []string {
	list := append(slices.Clone(Features), probe.FeaturesHere()...)
	list = append(list, probe.FeatureClusterAuthority)
	if routing != RoutingEndpoints {
		list = append(list, probe.FeatureBackends)
	}
	slices.Sort(list)
	return list
}

// front is one of frontNumber ClusterIPs that the tap stands at: in the lower part of ServiceCIDR, which the API server
// leaves to those who name one (the first 256 addresses of a range of this size; the very first is its own Service's).
func front(n int) string { return fmt.Sprintf("127.96.0.%d", 16+n%frontNumber) }

const frontNumber = 224

// Behind is where the tap must listen to be reached by a Service: at what will be its ClusterIP. Where the API server dials
// endpoints instead it cannot be: an endpoint may not have a loopback address, and nothing of a run listens on another, where
// the network would reach it.
func (l *Lane) Behind(port int32) (string, error) {
	if routing := l.cluster.Facts.Routing; routing != RoutingClusterIP {
		return "", fmt.Errorf("stand behind a Service: with routing %q the API server takes no loopback address", routing)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fronts == 0 {
		l.fronts = rand.IntN(frontNumber) // runs that go on side by side have the same range
	}
	l.fronts++
	return net.JoinHostPort(front(l.fronts), strconv.Itoa(int(port))), nil
}

// arranged is a Service as the lane made it.
type arranged struct {
	content string
	behind  string // address of who stands behind it, "" for nobody
}

// fronted is a Service that leads to whoever listens at address.
func (l *Lane) fronted(s *corev1.Service, address string) (*corev1.Service, error) {
	if address == "" || l.cluster.Facts.Routing != RoutingClusterIP {
		return s, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("stand behind service %s/%s: %w", s.Namespace, s.Name, err)
	}
	s = s.DeepCopy()
	s.Spec.ClusterIP = host
	return s, nil
}
