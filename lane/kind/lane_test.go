// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"slices"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/probe"
)

func TestByService(t *testing.T) {
	for url, path := range map[string]string{
		"https://tap.outrigger-tap.svc/inject.outrigger.dev": "/inject.outrigger.dev",
		"https://tap.outrigger-tap.svc/a%20b":                "/a%20b",
		"https://127.0.0.1:1/inject":                         "", // a connection that is to fail
		"https://tap.outrigger-tap.svc.elsewhere/inject":     "",
	} {
		c := admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: []byte("bundle")}
		byService(&c)
		switch {
		case path == "" && (c.URL == nil || *c.URL != url || c.Service != nil):
			t.Errorf("%s: changed to %+v", url, c)
		case path != "" && (c.URL != nil || c.Service == nil || *c.Service.Path != path || c.Service.Namespace != TapNamespace || *c.Service.Port != 443 || string(c.CABundle) != "bundle"):
			t.Errorf("%s: became %+v", url, c)
		}
	}
}

// Nothing that the tables create for real is started; a DaemonSet must make its pods all the same.
func TestHold(t *testing.T) {
	var pod, daemon, bound corev1.PodSpec
	bound.NodeName = "node"
	hold("Deployment", &pod)
	hold("DaemonSet", &daemon)
	hold("Pod", &bound)
	if len(pod.NodeSelector) == 0 || pod.SchedulerName != nobody {
		t.Errorf("a Deployment's pod: %+v", pod)
	}
	if len(daemon.NodeSelector) != 0 || daemon.SchedulerName != nobody {
		t.Errorf("a DaemonSet's pod: %+v", daemon)
	}
	if len(bound.NodeSelector) != 0 || bound.SchedulerName != "" {
		t.Errorf("a pod with a node: %+v", bound)
	}
}

// What waits for the back-off of controllers is run where it is asked for.
func TestFeaturesOfLong(t *testing.T) {
	for _, long := range []bool{false, true} {
		if got := slices.Contains(Features(long), probe.FeatureLong); got != long {
			t.Errorf("asked for: %t; there: %t", long, got)
		}
	}
}
