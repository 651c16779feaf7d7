// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/outrigger-k8s/outrigger/probe"
)

// The tap stands at ClusterIPs that the API server gives to nobody by itself, nor has itself.
func TestFronts(t *testing.T) {
	cidr := netip.MustParsePrefix(ServiceCIDR)
	own, static := netip.MustParseAddr("127.96.0.1"), netip.MustParseAddr("127.96.0.255")
	seen := map[netip.Addr]bool{}
	for n := range frontNumber {
		ip := netip.MustParseAddr(front(n))
		if !cidr.Contains(ip) || ip.Compare(own) <= 0 || ip.Compare(static) >= 0 || seen[ip] {
			t.Errorf("front %d is %s: want one of its own, in %s, above %s and below %s", n, ip, cidr, own, static)
		}
		seen[ip] = true
	}
	if front(frontNumber) != front(0) {
		t.Error("behind the last comes the first again")
	}
}

func TestFeaturesHere(t *testing.T) {
	for _, routing := range []string{RoutingClusterIP, RoutingEndpoints} {
		got := FeaturesHere(routing)
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: %q is not sorted, or names one twice", routing, got)
		}
		for _, want := range append(slices.Clone(Features), probe.FeatureAddresses, probe.FeatureClusterAuthority) {
			if !slices.Contains(got, want) {
				t.Errorf("%s: %q lacks %s", routing, got, want)
			}
		}
	}
	if !slices.Contains(FeaturesHere(RoutingClusterIP), probe.FeatureBackends) {
		t.Error("behind a ClusterIP on loopback the tap can always stand")
	}
	if slices.Contains(FeaturesHere(RoutingEndpoints), probe.FeatureBackends) {
		t.Error("an endpoint on loopback is refused, and the tap listens nowhere else")
	}
}
