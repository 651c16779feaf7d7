// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"net"
	"net/http"
	"net/url"

	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/rest"
)

// direct has webhooks called without the proxy that this process's environment may name: the API server runs without
// one, and a url whose host does not exist would become the proxy's business, on another machine. Go never asks a proxy
// for a loopback address; those are left alone, since client-go shares no connections between configurations with a
// function of their own.
func direct(delegate webhook.AuthenticationInfoResolver) webhook.AuthenticationInfoResolver {
	return &webhook.AuthenticationInfoResolverDelegator{
		ClientConfigForFunc: func(hostPort string) (*rest.Config, error) {
			config, err := delegate.ClientConfigFor(hostPort)
			if err != nil {
				return nil, err
			}
			host, _, _ := net.SplitHostPort(hostPort)
			if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
				config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
			}
			return config, nil
		},
		ClientConfigForServiceFunc: delegate.ClientConfigForService,
	}
}
