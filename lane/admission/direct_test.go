// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"testing"

	"k8s.io/apiserver/pkg/util/webhook"
)

func TestNoProxyIsAsked(t *testing.T) {
	own, err := webhook.NewDefaultAuthenticationInfoResolver("")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		hostPort string
		proxy    bool // the configuration has a function of its own, which names none
	}{
		{"127.0.0.1:8443", false},
		{"[::1]:443", false},
		{"injector.invalid:443", true},
		{"192.0.2.1:443", true},
	} {
		config, err := direct(own).ClientConfigFor(tc.hostPort)
		if err != nil {
			t.Fatal(err)
		}
		if (config.Proxy != nil) != tc.proxy {
			t.Errorf("%s: a proxy function is there: %v, want %v", tc.hostPort, config.Proxy != nil, tc.proxy)
			continue
		}
		if tc.proxy {
			if at, err := config.Proxy(nil); at != nil || err != nil {
				t.Errorf("%s: the proxy is %v (%v), want none", tc.hostPort, at, err)
			}
		}
	}
}
