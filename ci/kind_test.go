// SPDX-License-Identifier: Apache-2.0

package ci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"

	"github.com/outrigger-k8s/outrigger/lane/kind"
)

// The Indexed Job in a real cluster, under the strictest Pod Security: four pods run a quarter each, the script takes
// their reports out of their logs, and together they are the whole.
func TestIndexedJobInKind(t *testing.T) {
	if os.Getenv("OUTRIGGER_KIND") == "" {
		t.Skip("needs a container engine, and minutes the first time: OUTRIGGER_KIND=1 asks for it")
	}
	ctx := t.Context()
	cluster, err := kind.Create(ctx, kind.Options{Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(ctx); err != nil {
			t.Error(err)
		}
	})

	bin, work := build(t), t.TempDir()
	archive := filepath.Join(work, "outrigger.tar")
	if code, out := execute(t, exec.Command(filepath.Join(bin, "outrigger"), "image", "--out", archive), nil, work); code != 0 {
		t.Fatalf("write the image: exit %d\n%s", code, out)
	}
	tar, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer tar.Close()
	if err := nodeutils.LoadImageArchive(cluster.Node(), tar); err != nil {
		t.Fatalf("load the image: %v", err)
	}

	strict := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	if _, err := cluster.Client().CoreV1().Namespaces().Patch(ctx, "default", types.StrategicMergePatchType, strict, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	job := readJob(t)
	container := &job.Spec.Template.Spec.Containers[0]
	container.Args = append(container.Args, "--profile=kubesphere")
	if _, err := cluster.Client().BatchV1().Jobs("default").Create(ctx, job, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
		t.Fatal(err)
	}

	// The node's own kubectl: this machine may have none.
	stub := t.TempDir()
	kubectl := fmt.Sprintf("#!/bin/sh\nexec %s exec %s kubectl --kubeconfig=/etc/kubernetes/admin.conf \"$@\"\n", cluster.Engine(), cluster.Node())
	if err := os.WriteFile(filepath.Join(stub, "kubectl"), []byte(kubectl), 0o700); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("indexed-job-collect.sh")
	if err != nil {
		t.Fatal(err)
	}
	code, out := execute(t, exec.Command(script, "all"), []string{"PATH=" + stub + ":" + bin + ":" + os.Getenv("PATH"), "TIMEOUT=10m"}, work)
	if code != 0 || !strings.HasPrefix(lastLine(out), "verdict: conformant (exit 0): 2,430 cases held") {
		t.Errorf("collect: exit %d\n%s", code, out)
	}
}
