// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Facts are what is true of a run whatever the case.
type Facts struct {
	Lane       string   // "admission", "controlplane", "kind"
	Provider   string   // how the cluster came to be: "in-process", "source", "kubebuilder-assets", "kind"
	Kubernetes string   // version without the v: "1.37.2"
	Routing    string   // how Services are reached: "clusterip", "endpoints", "" where Services cannot be used
	Features   []string // what the lane has, sorted
}

// kubernetesNeed is how a need of a version begins: kubernetes-1.36 is had by that one and all newer ones.
const kubernetesNeed = "kubernetes-"

// have tells whether a case that needs this can run.
func (f Facts) have(need string) bool {
	if version, ok := strings.CutPrefix(need, kubernetesNeed); ok {
		return Given{Kubernetes: ">= " + version}.hold(f)
	}
	return slices.Contains(f.Features, need)
}

func (g Given) empty() bool { return g == Given{} }

// compile checks g, and returns its range of versions, nil where it names none.
func (g Given) compile() (*semver.Constraints, error) {
	if g.Kubernetes == "" {
		return nil, nil
	}
	c, err := semver.NewConstraint(g.Kubernetes)
	if err != nil {
		return nil, fmt.Errorf("kubernetes %q is not a range of versions such as \">= 1.34\": %w", g.Kubernetes, err)
	}
	return c, nil
}

// hold tells whether all that g names is so.
func (g Given) hold(facts Facts) bool {
	if g.empty() {
		return true
	}
	if g.Kubernetes != "" {
		c, err := g.compile()
		v, verr := semver.NewVersion(facts.Kubernetes)
		if err != nil || verr != nil || !c.Check(v) {
			return false
		}
	}
	return (g.Routing == "" || g.Routing == facts.Routing) &&
		(g.Feature == "" || slices.Contains(facts.Features, string(g.Feature))) &&
		(g.Lacks == "" || !slices.Contains(facts.Features, string(g.Lacks)))
}

// String is what must hold, in words: `kubernetes >= 1.34, routing endpoints`.
func (g Given) String() string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"kubernetes", g.Kubernetes}, {"routing", g.Routing}, {"with", string(g.Feature)}, {"without", string(g.Lacks)},
	} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	return strings.Join(parts, ", ")
}
