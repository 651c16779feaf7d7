// SPDX-License-Identifier: Apache-2.0

package nodeimage_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"

	"github.com/outrigger-k8s/outrigger/image"
	"github.com/outrigger-k8s/outrigger/lane/kind/nodeimage"
)

// TestCluster makes a cluster of the image that is built, and uses what a cluster is used for. OUTRIGGER_KIND=1 asks for
// it; OUTRIGGER_KIND_VERSIONS names the versions of Kubernetes, separated by spaces, where that is not the default one.
func TestCluster(t *testing.T) {
	if os.Getenv("OUTRIGGER_KIND") == "" {
		t.Skip("needs a container engine, and minutes the first time: OUTRIGGER_KIND=1 asks for it")
	}
	if os.Getuid() != 0 {
		t.Skip("builds an image, which only root can")
	}
	versions := strings.Fields(os.Getenv("OUTRIGGER_KIND_VERSIONS"))
	if len(versions) == 0 {
		versions = []string{nodeimage.DefaultVersion}
	}
	for _, version := range versions {
		for _, mode := range []string{"nftables", "iptables"} {
			t.Run(version+"/"+mode, func(t *testing.T) {
				t.Parallel()
				testCluster(t, version, mode)
			})
		}
	}
}

// config is the least that kind must be told: hosts may still have cgroup v1. The server and the client that the test
// starts are on different nodes, and so are most pods and CoreDNS.
const config = `kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  kubeProxyMode: %s
nodes:
- role: control-plane
- role: worker
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  failCgroupV1: false
`

func testCluster(t *testing.T, version, mode string) {
	began := time.Now()
	took := func(what string) { t.Logf("%6.1f s %s", time.Since(began).Seconds(), what) }
	node, err := nodeimage.Build(t.Context(), nodeimage.BuildOptions{K8sVersion: version, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	took("image " + node)

	provider := cluster.NewProvider()
	name := fmt.Sprintf("nodeimage-%d-%s", os.Getpid(), mode)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	t.Cleanup(func() {
		if err := provider.Delete(name, kubeconfig); err != nil {
			t.Error(err)
		}
	})
	began = time.Now()
	err = provider.Create(name, cluster.CreateWithNodeImage(node), cluster.CreateWithRawConfig(fmt.Appendf(nil, config, mode)),
		cluster.CreateWithKubeconfigPath(kubeconfig), cluster.CreateWithWaitForReady(5*time.Minute), cluster.CreateWithDisplayUsage(false),
		cluster.CreateWithDisplaySalutation(false))
	if err != nil {
		t.Fatal(err)
	}
	took("node Ready")

	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(rest)
	server, err := client.Discovery().ServerVersion()
	if err != nil || server.GitVersion != "v"+version {
		t.Fatalf("the server says it is %v, %v", server, err)
	}
	for _, label := range []string{"k8s-app=kube-proxy", "k8s-app=kube-dns"} {
		await(t, label, func(ctx context.Context) (bool, error) {
			pods, err := client.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: label})
			if err != nil || len(pods.Items) == 0 {
				return false, err
			}
			for _, pod := range pods.Items {
				if !ready(pod) {
					return false, nil
				}
			}
			return true, nil
		})
		took(label + " Ready")
	}

	nodes, err := provider.ListInternalNodes(name)
	if err != nil {
		t.Fatal(err)
	}
	probe := probeImage(t)
	for _, n := range nodes {
		file, err := os.Open(probe)
		if err != nil {
			t.Fatal(err)
		}
		if err := nodeutils.LoadImageArchive(n, file); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	run(t, client, "server", name+"-worker", "serve")
	service, err := client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "server"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "server"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the server's pod", func(ctx context.Context) (bool, error) {
		pod, err := client.CoreV1().Pods("default").Get(ctx, "server", metav1.GetOptions{})
		return err == nil && ready(*pod), err
	})
	took("a pod runs")
	run(t, client, "client", name+"-control-plane", "ask", "http://"+service.Spec.ClusterIP, "http://server.default.svc.cluster.local")
	await(t, "the client's pod", func(ctx context.Context) (bool, error) {
		pod, err := client.CoreV1().Pods("default").Get(ctx, "client", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodSucceeded, err
	})
	took("a Service's address and its name answer")
	logs, err := client.CoreV1().Pods("default").GetLogs("client", &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil || strings.Count(string(logs), ": server\n") != 2 {
		t.Errorf("the client's log: %s, %v", logs, err)
	}
}

func await(t *testing.T, what string, condition wait.ConditionWithContextFunc) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, 5*time.Minute, true, condition); err != nil {
		t.Fatalf("wait for %s: %v", what, err)
	}
}

func ready(pod corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func run(t *testing.T, client kubernetes.Interface, name, node string, args ...string) {
	t.Helper()
	await(t, "the default ServiceAccount", func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	_, err := client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyOnFailure, NodeName: node,
			Containers: []corev1.Container{{Name: "probe", Image: probeReference, Args: args, ImagePullPolicy: corev1.PullNever}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

const probeReference = "localhost/outrigger/probe:test"

// probeImage builds what the pods run, and returns its archive.
func probeImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	command := exec.Command("go", "build", "-o", filepath.Join(dir, "probe"), "./testdata/probe")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	program, err := image.Static("/probe", filepath.Join(dir, "probe"), "")
	if err != nil {
		t.Fatal(err)
	}
	layer, err := image.Files(program)
	if err != nil {
		t.Fatal(err)
	}
	built, err := image.Build(image.Spec{
		Reference: probeReference, Layers: []v1.Layer{layer}, Config: image.Config{User: "65532:65532", Entrypoint: []string{"/probe"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "probe.tar")
	if err := built.WriteFile(archive); err != nil {
		t.Fatal(err)
	}
	return archive
}
