// SPDX-License-Identifier: Apache-2.0

// Package source gets the programs of Kubernetes without a container registry or a download server: it builds them
// from the source that the Go module proxy serves, once, into the user's cache directory. Where KUBEBUILDER_ASSETS is
// set, it takes what is there instead and builds nothing. Commands of other modules it builds in the same way.
//
// k8s.io/kubernetes is a module like any other, but for its staging modules, which its go.mod replaces by folders that
// the module's archive lacks. So a main module is generated for the build, which replaces each of them by the
// published module of the same version. Its go.sum starts as Kubernetes' own: what is compiled is what Kubernetes'
// developers compiled.
//
// A build takes minutes the first time, so it never happens silently, nor twice: processes that need the same wait for
// one, and what is in the cache has been run once to see that it is what its name says. An interrupted build leaves
// nothing but Go's own build cache, which makes the next one shorter.
package source
