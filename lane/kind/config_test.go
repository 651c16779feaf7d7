// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger"
)

func TestReadConfig(t *testing.T) {
	own := string(outrigger.KindConfig)
	for _, test := range []struct {
		name, config string
		want         string // in the error; "" for none
	}{
		{"own", own, ""},
		{"another name and a worker", own + "  - role: worker\n", ""},
		{"a control-plane node more", own + "  - role: control-plane\n", "it has 2 control-plane nodes"},
		{"a role that there is not", own + "  - role: master\n", `node 2 has the role "master"`},
		{"a field that there is not", own + "podsubnet: 10.0.0.0/16\n", `unknown field "podsubnet"`},
		{"no YAML", "kind: [", "error converting YAML"},
		{"another kind", "kind: Deployment\napiVersion: apps/v1\n", `it is a "Deployment" of "apps/v1"`},
		{"another version", strings.ReplaceAll(own, "v1alpha4", "v1alpha3"), `it is a "Cluster" of "kind.x-k8s.io/v1alpha3"`},
		{"empty", "", `it is a "" of ""`},
		{"no audit log", strings.ReplaceAll(own, "/var/log/kubernetes/audit.log", "/dev/null"), "does not turn audit logging on"},
		{"no audit policy", strings.ReplaceAll(own, "containerPath: /etc/kubernetes/audit-policy.yaml", "containerPath: /elsewhere"), "does not turn audit logging on"},
		{"a patch of nothing", strings.ReplaceAll(own, "kind: KubeletConfiguration", "kin: KubeletConfiguration"), "kubeadm patch 4 has no kind"},
		{"a broken patch", strings.ReplaceAll(own, "kind: KubeletConfiguration", "kind: [KubeletConfiguration"), "kubeadm patch 4 cannot be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "kind-config.yaml")
			if err := os.WriteFile(file, []byte(test.config), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := readConfig(file, "/policy.yaml")
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) {
					t.Fatalf("error %v, want one with %q and the file's name", err, test.want)
				}
				if strings.Contains(err.Error(), "%!") {
					t.Errorf("the message is broken: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, m := range c.cluster.Nodes[0].ExtraMounts {
				found = found || m.ContainerPath == auditPolicyPath && m.HostPath == "/policy.yaml"
			}
			if !found {
				t.Errorf("the audit policy is not the harness's: %+v", c.cluster.Nodes[0].ExtraMounts)
			}
		})
	}
	if _, err := readConfig("/nowhere/kind-config.yaml", ""); err == nil || !strings.Contains(err.Error(), "/nowhere/kind-config.yaml") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := readConfig("", ""); err != nil {
		t.Errorf("the configuration that is built in: %v", err)
	}
}
