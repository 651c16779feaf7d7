// SPDX-License-Identifier: Apache-2.0

package decide_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/injector/decide"
)

// injectRequired is the decision as Istio's own code makes it, with its variables and its switches (pkg/kube/inject,
// injectRequired: release-1.8 when exact is false, release-1.27 when it is true). It knows no mirror pods.
func injectRequired(s *scene, exact bool) bool {
	if s.pod.Spec.HostNetwork {
		return false
	}
	namespace := s.pod.Metadata.Namespace
	if namespace == "" {
		namespace = s.namespace
	}
	for _, ignored := range s.settings.IgnoredNamespaces {
		if namespace == ignored {
			return false
		}
	}
	var useDefault, inject bool
	word := s.pod.Metadata.Annotations[key]
	if exact {
		if label, present := s.pod.Metadata.Labels[key]; present {
			word = label
		}
		switch word {
		case "true":
			inject = true
		case "false":
			inject = false
		default:
			useDefault = true
		}
	} else {
		switch strings.ToLower(word) {
		case "y", "yes", "true", "on":
			inject = true
		case "":
			useDefault = true
		}
	}
	if useDefault {
		for _, never := range s.settings.Never {
			if !never.Empty() && never.Matches(labelSet(s.pod.Metadata.Labels)) {
				inject, useDefault = false, false
				break
			}
		}
	}
	if useDefault {
		for _, always := range s.settings.Always {
			if !always.Empty() && always.Matches(labelSet(s.pod.Metadata.Labels)) {
				inject, useDefault = true, false
				break
			}
		}
	}
	var required bool
	switch s.settings.Policy {
	default:
		required = false
	case decide.Disabled:
		if useDefault {
			required = false
		} else {
			required = inject
		}
	case decide.Enabled:
		if useDefault {
			required = true
		} else {
			required = inject
		}
	}
	return required
}

type labelSet map[string]string

func (l labelSet) Has(k string) bool              { _, ok := l[k]; return ok }
func (l labelSet) Get(k string) string            { return l[k] }
func (l labelSet) Lookup(k string) (string, bool) { v, ok := l[k]; return v, ok }

// TestAsIstioDecides compares the rules with Istio's procedure on every combination there is.
func TestAsIstioDecides(t *testing.T) {
	words := []string{"-", "", "true", "false", "True", "yes", "on", "no", "off", "nonsense"}
	count := 0
	for _, d := range decide.Dialects {
		for _, policy := range []string{"enabled", "disabled", "on", ""} {
			for _, hostNetwork := range []bool{false, true} {
				for _, namespace := range []string{"shop", "kube-system", "kube-node-lease"} {
					for _, annotation := range words {
						for _, label := range words {
							for selectors := range 4 {
								s := newScene(d.Name)
								s.settings.Policy = policy
								s.namespace = namespace
								s.pod.Spec.HostNetwork = hostNetwork
								if annotation != "-" {
									s.pod.Metadata.Annotations[key] = annotation
								}
								if label != "-" {
									s.pod.Metadata.Labels[key] = label
								}
								if selectors&1 != 0 {
									s.settings.Never = selector("web")
								}
								if selectors&2 != 0 {
									s.settings.Always = selector("web")
								}
								count++
								if got, want := s.decide(), injectRequired(s, d.Name == "istio"); got.Inject != want {
									t.Fatalf("%s: got %v by %s, Istio says %v", fmt.Sprint(d.Name, policy, hostNetwork,
										namespace, annotation, label, selectors), got.Inject, got.Rule, want)
								}
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d combinations", count)
}
