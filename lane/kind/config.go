// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/yaml"

	"github.com/outrigger-k8s/outrigger"
)

// Where kind-config.yaml puts things in the nodes.
const (
	auditPolicyPath = "/etc/kubernetes/audit-policy.yaml"
	auditLogPath    = "/var/log/kubernetes/audit.log"
)

// A config is kind-config.yaml, read and checked.
type config struct {
	name    string // for messages: the file's
	cluster *v1alpha4.Cluster
	digest  string
}

// readConfig reads the cluster's configuration from file ("": the one that this program carries), and has its API server
// write its audit log by the policy in the file auditPolicy.
func readConfig(file, auditPolicy string) (*config, error) {
	c := &config{name: file, cluster: &v1alpha4.Cluster{}}
	raw := outrigger.KindConfig
	if file == "" {
		c.name = "kind-config.yaml (as built in)"
	} else {
		var err error
		if raw, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("read the cluster's configuration: %w", err)
		}
	}
	if err := yaml.UnmarshalStrict(raw, c.cluster); err != nil {
		return nil, fmt.Errorf("read the cluster's configuration %s: %w", c.name, err)
	}
	if c.cluster.Kind != "Cluster" || c.cluster.APIVersion != "kind.x-k8s.io/v1alpha4" {
		return nil, fmt.Errorf("read the cluster's configuration %s: it is a %q of %q, not a Cluster of kind.x-k8s.io/v1alpha4",
			c.name, c.cluster.Kind, c.cluster.APIVersion)
	}
	if err := c.check(auditPolicy); err != nil {
		return nil, fmt.Errorf("the cluster's configuration %s: %w", c.name, err)
	}
	sum := sha256.Sum256(raw)
	c.digest = hex.EncodeToString(sum[:8])
	return c, nil
}

// check makes sure that there is what the lane needs, and puts the audit policy in its place.
func (c *config) check(auditPolicy string) error {
	var problems []error
	planes, mounted := 0, false
	for i := range c.cluster.Nodes {
		node := &c.cluster.Nodes[i]
		switch node.Role {
		case v1alpha4.ControlPlaneRole, "":
			planes++
		case v1alpha4.WorkerRole:
		default:
			problems = append(problems, fmt.Errorf("node %d has the role %q: take control-plane or worker", i+1, node.Role))
		}
		for j := range node.ExtraMounts {
			if node.ExtraMounts[j].ContainerPath == auditPolicyPath {
				node.ExtraMounts[j].HostPath, mounted = auditPolicy, true
			}
		}
	}
	if planes != 1 {
		problems = append(problems, fmt.Errorf("it has %d control-plane nodes: the suite needs exactly one, on whose loopback "+
			"the tap's broken connections lie", planes))
	}
	all := c.cluster.KubeadmConfigPatches
	for _, node := range c.cluster.Nodes {
		all = append(all, node.KubeadmConfigPatches...)
	}
	for i, patch := range all {
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(patch), &doc); err != nil {
			problems = append(problems, fmt.Errorf("kubeadm patch %d cannot be read: %w", i+1, err))
		} else if doc["kind"] == nil {
			problems = append(problems, fmt.Errorf("kubeadm patch %d has no kind, so nothing says what it is a patch of", i+1))
		}
	}
	if text := strings.Join(all, "\n"); !mounted || !strings.Contains(text, auditLogPath) || !strings.Contains(text, "audit-policy-file") {
		problems = append(problems, fmt.Errorf("it does not turn audit logging on, by which the suite learns which webhooks were "+
			"called: put the mount of %s and the API server's audit flags (audit-policy-file, audit-log-path: %s in %s) back, "+
			"as they were in kind-config.yaml", auditPolicyPath, path.Base(auditLogPath), path.Dir(auditLogPath)))
	}
	return errors.Join(problems...)
}
