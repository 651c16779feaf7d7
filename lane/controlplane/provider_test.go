// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient"

	"github.com/outrigger-k8s/outrigger/lane/source"
)

func TestProviderBeforeCreate(t *testing.T) {
	p := (&Provider{}).WithName("x").WithVersion("1.37.2").SetDefaults()
	if p.GetKubeconfig() != "" || p.KubernetesRestConfig() != nil {
		t.Error("has a kubeconfig before there is a control plane")
	}
	for what, err := range map[string]error{
		"ExportLogs":          p.ExportLogs(t.Context(), t.TempDir()),
		"WaitForControlPlane": p.WaitForControlPlane(t.Context(), nil),
	} {
		if err == nil || !strings.Contains(err.Error(), "Create") {
			t.Errorf("%s: %v, want an error that says to call Create", what, err)
		}
	}
	if _, err := p.CreateWithConfig(t.Context(), "file"); err == nil {
		t.Error("took a configuration file")
	}
	if err := p.Destroy(t.Context()); err != nil {
		t.Errorf("Destroy of nothing: %v", err)
	}
}

func TestProvider(t *testing.T) {
	if os.Getenv(startEnv) == "" {
		t.Skip("set " + startEnv + "=1 to run tests against a real control plane")
	}
	base := t.TempDir()
	p := &Provider{Base: base}
	binaries, err := source.Ensure(t.Context(), source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.WithPath(binaries.Dir)
	t.Cleanup(func() {
		if err := p.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(base, "*", "*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	kubeconfig, err := p.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(kubeconfig); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v", info.Mode(), err)
	}
	if p.cp.Version() != binaries.Version {
		t.Errorf("version %q, want %q", p.cp.Version(), binaries.Version)
	}
	client, err := klient.New(p.KubernetesRestConfig())
	if err != nil {
		t.Fatal(err)
	}
	if client.RESTConfig().QPS != -1 {
		t.Errorf("klient does %v requests a second", client.RESTConfig().QPS)
	}
	if err := p.WaitForControlPlane(t.Context(), client); err != nil {
		t.Error(err)
	}
	fromFile, err := klient.NewWithKubeConfigFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	var node corev1.Node
	if err := fromFile.Resources().Get(t.Context(), NodeName, "", &node); err != nil {
		t.Error(err)
	}
	if len(node.Spec.Taints) != 0 {
		t.Errorf("the Node is tainted: %v", node.Spec.Taints)
	}
	services := p.cp.client.CoreV1().Services("default")
	kubernetes, err := services.Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil || !strings.HasPrefix(kubernetes.Spec.ClusterIP, "127.96.") {
		t.Errorf("the API server's own Service: %v, %v", kubernetes.Spec.ClusterIP, err)
	}
	dest := filepath.Join(t.TempDir(), "logs")
	if err := p.ExportLogs(t.Context(), dest); err != nil {
		t.Error(err)
	}
	if logs, _ := filepath.Glob(filepath.Join(dest, "*.log")); len(logs) != 3 {
		t.Errorf("exported %v", logs)
	}
}
