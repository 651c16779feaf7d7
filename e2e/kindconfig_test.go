// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"testing"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/yaml"
)

// The cluster's configuration must be one that the kind module we require reads: strictly, as kind itself does.
func TestKindConfigIsRead(t *testing.T) {
	raw, err := os.ReadFile("../kind-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c v1alpha4.Cluster
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		t.Fatal(err)
	}
	if c.Kind != "Cluster" || c.APIVersion != "kind.x-k8s.io/v1alpha4" || len(c.Nodes) != 1 {
		t.Errorf("read %s %s with %d nodes", c.APIVersion, c.Kind, len(c.Nodes))
	}
	for i, patch := range c.Nodes[0].KubeadmConfigPatches {
		var doc map[string]any
		if err := yaml.UnmarshalStrict([]byte(patch), &doc); err != nil || doc["kind"] == nil {
			t.Errorf("kubeadm patch %d: kind %v, %v", i, doc["kind"], err)
		}
	}
}
