// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient"

	"github.com/outrigger-k8s/outrigger/lane/kind/nodeimage"
)

// kindEnv lets the tests run that make clusters: they need a container engine, and minutes.
const kindEnv = "OUTRIGGER_KIND"

// needKind lets a test make clusters, beside others: each has a registry of its own, and most of a cluster's making is waiting.
func needKind(t *testing.T) {
	t.Helper()
	if os.Getenv(kindEnv) == "" {
		t.Skip("set " + kindEnv + "=1 to run tests that make kind clusters")
	}
	t.Parallel()
}

type progress struct{ t *testing.T }

func (p progress) Write(b []byte) (int, error) {
	p.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func TestProviderBeforeCreate(t *testing.T) {
	p := &Provider{}
	p.WithName("x").WithVersion("v1.37.2")
	if p.GetKubeconfig() != "" || p.GetKubectlContext() != "" || p.KubernetesRestConfig() != nil || p.Options.Kubernetes != "1.37.2" {
		t.Error("it has something before it was created")
	}
	if err := p.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	for _, err := range []error{p.ExportLogs(t.Context(), t.TempDir()), p.WaitForControlPlane(t.Context(), klient.Client(nil)), p.LoadImageArchive(t.Context(), "x.tar"), p.LoadImage(t.Context(), "x")} {
		if err == nil || !strings.Contains(err.Error(), "call Create before") {
			t.Errorf("before Create: %v", err)
		}
	}
}

// Without an engine the error says what to do, and no folder is left.
func TestNoEngine(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir := filepath.Join(t.TempDir(), "kind")
	_, err := Create(t.Context(), Options{Registry: dir})
	if err == nil || !strings.Contains(err.Error(), "hack/container-engine.sh") {
		t.Errorf("error %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

// Podman's default is warned of; engines write no limit in several ways.
func TestTooFew(t *testing.T) {
	for limit, warned := range map[string]bool{"2048": true, "0": false, "-1": false, "<nil>": false, "": false, "8192": false} {
		if got := tooFew("podman", limit); strings.Contains(got, "pids_limit = 0") != warned {
			t.Errorf("limit %q: %q", limit, got)
		}
	}
}

// A creation that is cut off leaves neither container nor folder, whenever that is.
func TestCreateCutOff(t *testing.T) {
	needKind(t)
	dir := t.TempDir()
	why := errors.New("^C")
	for _, after := range []time.Duration{500 * time.Millisecond, 4 * time.Second} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), after, why)
		c, err := Create(ctx, Options{Registry: dir, Progress: progress{t}})
		cancel()
		if err == nil {
			t.Errorf("cut off after %s: it was created", after)
			_ = c.Close(t.Context())
			continue
		}
		if !errors.Is(err, why) && !strings.Contains(err.Error(), "killed") {
			t.Errorf("cut off after %s: %v", after, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, prefix+"*")); len(left) != 0 {
			t.Errorf("cut off after %s: left are %v", after, left)
		}
	}
}

// The whole way: a cluster by e2e-framework's interface, kept, taken again in a known state, and swept once it is neither.
func TestProvider(t *testing.T) {
	needKind(t)
	dir := t.TempDir()
	p := &Provider{Options: Options{Registry: dir, Keep: true, Progress: progress{t}}}
	kubeconfig, err := p.WithName("test").Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := p.cluster.Name()
	if info, err := os.Stat(kubeconfig); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig %s: %v, %v", kubeconfig, info, err)
	}
	version, err := p.cluster.Version()
	if err != nil {
		t.Fatal(err)
	}
	leave(t, p.cluster)
	if err := p.Destroy(t.Context()); err != nil { // it is to be kept
		t.Fatal(err)
	}

	// A run that takes it and is cut off leaves it where it is.
	cut, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errors.New("^C"))
	_, err = Create(cut, Options{Registry: dir, Reuse: true, Progress: progress{t}})
	cancel()
	if err == nil || !strings.Contains(err.Error(), "it is kept as it is") {
		t.Errorf("cut off while it took %s: %v", name, err)
	}

	c, err := Create(t.Context(), Options{Registry: dir, Reuse: true, Kubernetes: version, Logs: t.TempDir(), Progress: progress{t}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name() != name {
		t.Errorf("cluster %s was made though %s was kept", c.Name(), name)
	}
	nothingLeft(t, c)
	if err := c.Collect(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
	if why := c.unfit(c.entry, c.entry.Engine, c.entry.Config); why != "" {
		t.Errorf("it is not taken again: it %s", why)
	}
	// As if the run had died before it could be said that the cluster is kept.
	c.entry.Kept = false
	if err := c.entry.write(); err != nil {
		t.Fatal(err)
	}
	c.audit.stop()
	if err := c.entry.unlock(); err != nil {
		t.Fatal(err)
	}
	reg, err := openRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	next := &Cluster{options: Options{Progress: progress{t}}, provider: c.provider}
	e, err := next.enter(t.Context(), reg, c.entry.Engine, "")
	if err != nil {
		t.Fatal(err)
	}
	if there, err := exists(c.provider, name); there || err != nil {
		t.Errorf("cluster %s of a dead run is still there after the next has started (%v)", name, err)
	}
	if err := e.remove(); err != nil {
		t.Error(err)
	}
}

// A cluster whose folder somebody took away is deleted by the next run of that registry, and what that folder has become with
// it; one of another registry is not, nor one that is recorded, nor somebody else's.
func TestFolderGone(t *testing.T) {
	needKind(t)
	engine, _, err := nodeimage.FindEngine(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	choice, err := nodeimage.Choose(t.Context(), nodeimage.Options{Engine: engine, Progress: progress{t}})
	if err != nil {
		t.Fatal(err)
	}
	r, other := newRegistry(t), newRegistry(t)
	recorded := claim(t, r)
	c := &Cluster{options: Options{Progress: progress{t}}, provider: providerOf(engine, progress{t})}
	gone, others, nobodys := recorded.Name+"-gone", recorded.Name+"-other", recorded.Name+"-none"
	for _, node := range []struct{ cluster, mounts string }{
		{gone, r.folder(gone)}, {others, other.folder(others)}, {nobodys, ""}, {recorded.Name, recorded.dir},
	} {
		container := node.cluster + "-control-plane"
		args := []string{"create", "--name", container, "--label", "io.x-k8s.kind.cluster=" + node.cluster, "--label", "io.x-k8s.kind.role=control-plane"}
		if node.mounts != "" {
			if err := os.MkdirAll(node.mounts, 0o700); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--volume", filepath.Join(node.mounts, "audit-policy.yaml")+":/audit-policy.yaml:ro")
		}
		if out, err := exec.CommandContext(t.Context(), engine, append(args, choice.Image)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() { _ = exec.Command(engine, "rm", "--force", container).Run() })
	}
	if _, err := c.enter(t.Context(), r, engine, "digest"); err != nil {
		t.Fatal(err)
	}
	for _, cluster := range []string{gone, others, nobodys, recorded.Name} {
		if there, err := exists(c.provider, cluster); err != nil || there != (cluster != gone) {
			t.Errorf("%s: there %v: %v", cluster, there, err)
		}
	}
	if _, err := os.Stat(r.folder(gone)); !os.IsNotExist(err) {
		t.Errorf("the folder that was gone is there: %v", err)
	}
}

// A node that dies ends what goes on in the cluster at once, with a cause that says so; one that is restarted on purpose does
// not. What there is to be known of a cluster that has died is collected as far as it goes, and soon.
func TestNodeDies(t *testing.T) {
	needKind(t)
	c, err := Create(t.Context(), Options{Registry: t.TempDir(), Progress: progress{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := c.While(t.Context())
	defer cancel()
	if err := c.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("a restart on purpose counts as the cluster's end: %v", context.Cause(ctx))
	}
	if out, err := exec.CommandContext(t.Context(), c.Engine(), "kill", c.plane.String()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the node was killed, and 10 s later nothing has ended")
	}
	if cause := context.Cause(ctx); !errors.Is(cause, ErrGone) || !strings.Contains(cause.Error(), "does the node still run?") {
		t.Errorf("the cause is %v", cause)
	}
	collecting, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	began := time.Now()
	if err := c.Collect(collecting, t.TempDir()); err == nil {
		t.Error("of a dead node all was collected")
	}
	t.Logf("collected in %s", time.Since(began).Round(time.Millisecond))
}

// The injector's life in a real cluster: injector/deploy's own test of it, which knows no kind, run by its command in a
// cluster of ours. The image comes to the nodes by way of the engine, as e2e-framework's users bring theirs.
func TestInjectorsLife(t *testing.T) {
	needKind(t)
	ctx := t.Context()
	p := &Provider{Options: Options{Registry: t.TempDir(), Progress: progress{t}}}
	if _, err := p.WithName("life").Create(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c := p.cluster
	program := filepath.Join(t.TempDir(), "injector")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "../../injector/cmd/injector")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	built, err := InjectorImage(program)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(t.TempDir(), "injector.tar"))
	if err != nil {
		t.Fatal(err)
	}
	reference := built.Reference.String()
	if err := errors.Join(built.WriteArchive(archive), archive.Close()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, c.Engine(), "load", "--input", archive.Name()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command(c.Engine(), "image", "rm", reference).Run() })
	if err := p.LoadImage(ctx, reference); err != nil {
		t.Fatal(err)
	}
	if err := p.LoadImage(ctx, "outrigger.dev/none:such"); err == nil || !strings.Contains(err.Error(), "outrigger.dev/none:such") {
		t.Errorf("an image that the engine does not have: %v", err)
	}
	life := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-run=^TestLifeInACluster$", "../../injector/deploy")
	life.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "OUTRIGGER_CONTEXT=kind-"+c.Name(), "OUTRIGGER_IMAGE="+reference)
	out, err := life.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: TestLifeInACluster") {
		t.Errorf("it did not pass, or did not run: %v", err)
	}
}

// leave leaves in a cluster what a run may leave that is killed at the worst moment: DNS is down, and a webhook that nobody
// answers keeps its pods from being created.
func leave(t *testing.T, c *Cluster) {
	t.Helper()
	ctx, client := t.Context(), c.Client()
	kubectl := func(in string, args ...string) {
		t.Helper()
		var out strings.Builder
		command := c.plane.CommandContext(ctx, "kubectl", append([]string{"--kubeconfig=/etc/kubernetes/admin.conf"}, args...)...)
		if err := command.SetStdin(strings.NewReader(in)).SetStdout(&out).SetStderr(&out).Run(); err != nil {
			t.Fatalf("kubectl %v: %v: %s", args, err, out.String())
		}
	}
	kubectl(leftovers, "apply", "-f", "-")
	kubectl("", "label", "namespace", "kube-system", "istio-injection=enabled", "pod-security.kubernetes.io/enforce=restricted")
	for _, script := range []string{
		"printf 'table inet " + CutTable + " {}' | nft -f -",
		"printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: x, image: x}]}\n' >" + Manifests + "/" + ManifestPrefix + "static-x.yaml",
	} {
		if err := c.plane.CommandContext(ctx, "sh", "-euc", script).Run(); err != nil {
			t.Fatal(err)
		}
	}
	if err := await(ctx, "pods are refused", func(ctx context.Context) (bool, error) { return c.tryPod(ctx) != nil, nil }); err != nil {
		t.Fatal(err)
	}
	now := int64(0)
	if err := client.CoreV1().Pods(metav1.NamespaceSystem).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now},
		metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"}); err != nil {
		t.Fatal(err)
	}
	if err := await(ctx, "DNS is down", func(ctx context.Context) (bool, error) {
		d, err := client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
		return err == nil && d.Status.Replicas == 0, err
	}); err != nil {
		t.Fatal(err)
	}
}

// leftovers are objects of every sort that tables and proofs make.
const leftovers = `
{apiVersion: v1, kind: Namespace, metadata: {name: left}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: or-abcdefghij, namespace: default}}
---
{apiVersion: v1, kind: ResourceQuota, metadata: {name: or-abcdefghij, namespace: kube-system}, spec: {hard: {pods: "0"}}}
---
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: or-abcdefghij, namespace: kube-system}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: outrigger-injector}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: or-abcdefghij}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: of-another-name, labels: {app.kubernetes.io/name: outrigger-injector}}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: outrigger-injector}}
---
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: outrigger-high}, value: 7}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gateways.mesh.outrigger.dev}
spec:
  group: mesh.outrigger.dev
  scope: Namespaced
  names: {plural: gateways, singular: gateway, kind: Gateway, listKind: GatewayList}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: or-abcdefghij}
spec: {matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [secrets]}]}, validations: [{expression: "true"}]}
---
{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: or-abcdefghij}, spec: {policyName: or-abcdefghij, validationActions: [Deny]}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: broken}
webhooks:
  - name: broken.outrigger.dev
    clientConfig: {url: "https://127.0.0.1:1/"}
    rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]
    sideEffects: None
    admissionReviewVersions: [v1]
`

// nothingLeft looks for what leave has left, and that what is the cluster's own is there.
func nothingLeft(t *testing.T, c *Cluster) {
	t.Helper()
	for _, script := range []string{
		"! kubectl get namespace left",
		"! kubectl get configmap or-abcdefghij",
		"! kubectl -n kube-system get lease or-abcdefghij",
		"! kubectl -n kube-system get quota or-abcdefghij",
		"! kubectl get clusterrole outrigger-injector",
		"! kubectl get clusterrole or-abcdefghij",
		"! kubectl get clusterrolebinding of-another-name",
		"! kubectl get priorityclass outrigger-high",
		"! kubectl get crd gateways.mesh.outrigger.dev",
		"! kubectl get validatingadmissionpolicy or-abcdefghij",
		"! kubectl get validatingadmissionpolicybinding or-abcdefghij",
		"! kubectl get mutatingwebhookconfiguration broken",
		"! nft list table inet " + CutTable,
		"! ls " + Manifests + "/" + ManifestPrefix + "*",
		"test -z \"$(kubectl get namespace kube-system -o 'jsonpath={.metadata.labels.istio-injection}')\"",
		"test -z \"$(kubectl get namespace kube-system --show-labels | grep pod-security)\"",
		"ls " + Manifests + "/kube-apiserver.yaml",
		"kubectl get node " + c.plane.String(),
		"kubectl -n kube-system get lease kube-scheduler",
		"kubectl -n kube-system get deployment coredns",
	} {
		var out strings.Builder
		err := c.plane.CommandContext(t.Context(), "sh", "-c", "export KUBECONFIG=/etc/kubernetes/admin.conf; "+script).SetStdout(&out).SetStderr(&out).Run()
		if err != nil {
			t.Errorf("%s: %v: %s", script, err, out.String())
		}
	}
}
