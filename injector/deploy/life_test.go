// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/outrigger-k8s/outrigger/injector/certs"
	"github.com/outrigger-k8s/outrigger/injector/cluster"
	"github.com/outrigger-k8s/outrigger/injector/deploy"
	"github.com/outrigger-k8s/outrigger/injector/settings"
	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/proc"
)

const (
	namespace = deploy.DefaultNamespace
	shop      = "shop" // a namespace with injection
	patience  = 3 * time.Minute
	arrival   = time.Second // until every replica has a new configuration: what the README of injector/deploy promises
)

// fixture is an injector that was installed in a real control plane.
type fixture struct {
	*testing.T
	client    *kubernetes.Clientset
	installer *deploy.Installer
}

// install installs the injector as its users do: in the cluster that OUTRIGGER_CONTEXT names in the kubeconfig, with
// the image OUTRIGGER_IMAGE, or else in a control plane of its own with a node of ours (see node).
func install(t *testing.T) *fixture {
	config, options := startControlPlane, deploy.Options{}
	if os.Getenv("OUTRIGGER_CONTEXT") != "" {
		config, options.Image = existingCluster, os.Getenv("OUTRIGGER_IMAGE")
	} else if os.Getenv("OUTRIGGER_CONTROLPLANE") == "" {
		t.Skip("set OUTRIGGER_CONTROLPLANE=1 to run tests against a real control plane")
	}
	rest := config(t)
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	installer, err := deploy.NewInstaller(rest, options)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, client: client, installer: installer}
	_, err = client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: shop, Labels: map[string]string{"istio-injection": "enabled"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.CoreV1().Namespaces().Delete(context.Background(), shop, metav1.DeleteOptions{}) })
	began := time.Now()
	f.do("install", installer.Install)
	t.Logf("installed in %v", time.Since(began).Round(time.Millisecond))
	f.await("pods are injected in "+shop, func(ctx context.Context) error {
		p, err := client.CoreV1().Pods(shop).Create(ctx, pod(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && !injected(p) {
			err = errors.New("a pod is without its sidecar")
		}
		return err
	})
	return f
}

func existingCluster(t *testing.T) *rest.Config {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(),
		&clientcmd.ConfigOverrides{CurrentContext: os.Getenv("OUTRIGGER_CONTEXT")}).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	return config
}

// startControlPlane starts a control plane with a node that runs the injector as it is in this source tree.
func startControlPlane(t *testing.T) *rest.Config {
	program := filepath.Join(t.TempDir(), "injector")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/injector")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run, err := proc.Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(run.Dir(), "logs", "injector-*"))
			for _, path := range logs {
				text, _ := os.ReadFile(path)
				t.Logf("%s\n%s", filepath.Base(path), text)
			}
		}
		if err := run.Close(); err != nil {
			t.Error(err)
		}
	})
	cp, err := controlplane.Start(t.Context(), run, controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cp.Stop)
	ctx, cancel := context.WithCancel(context.Background())
	stopped := newNode(t, namespace, program, cp.RESTConfig(), run).start(ctx)
	t.Cleanup(func() { cancel(); <-stopped })
	return cp.RESTConfig()
}

// do does something within the patience.
func (f *fixture) do(what string, action func(context.Context) error) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	if err := action(ctx); err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

// await looks until it gets no error.
func (f *fixture) await(what string, look func(context.Context) error) {
	f.Helper()
	f.do("wait until "+what, func(ctx context.Context) error {
		for {
			err := look(ctx)
			if err == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return errors.Join(ctx.Err(), err)
			case <-time.After(20 * time.Millisecond): // the interval between two looks
			}
		}
	})
}

// pod is one that no node takes.
func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "app-", Namespace: shop},
		Spec: corev1.PodSpec{
			Containers:   []corev1.Container{{Name: "app", Image: "example.org/app:1"}},
			NodeSelector: map[string]string{"outrigger.dev/node": "none"},
		},
	}
}

func injected(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == "istio-proxy" })
}

// load creates pods without pause, and looks at each whether it has its sidecar.
type load struct {
	stop            context.CancelFunc
	workers         sync.WaitGroup
	created, missed atomic.Int64
	mu              sync.Mutex
	failures        []error
}

func (f *fixture) load(mustInject bool) *load {
	ctx, cancel := context.WithCancel(f.Context())
	l := &load{stop: cancel}
	for range 3 {
		l.workers.Go(func() {
			for ctx.Err() == nil {
				p, err := f.client.CoreV1().Pods(shop).Create(ctx, pod(), metav1.CreateOptions{})
				switch {
				case ctx.Err() != nil:
					return
				case err != nil:
					l.mu.Lock()
					l.failures = append(l.failures, fmt.Errorf("%s: %w", time.Now().Format("15:04:05.000"), err))
					l.mu.Unlock()
					continue
				case mustInject && !injected(p):
					l.missed.Add(1)
				}
				l.created.Add(1)
				now := int64(0)
				_ = f.client.CoreV1().Pods(shop).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
			}
		})
	}
	return l
}

// more waits until so many more pods have been created.
func (f *fixture) more(l *load, count int64) {
	f.Helper()
	target := l.created.Load() + count
	f.await("more pods are created", func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if at := l.created.Load(); at < target && len(l.failures) == 0 {
			return fmt.Errorf("%d, want %d", at, target)
		}
		return nil
	})
}

// end stops the load: no creation may have failed, and no sidecar been missed.
func (f *fixture) end(l *load, during string) {
	f.Helper()
	f.more(l, 50) // after all that has been done
	l.stop()
	l.workers.Wait()
	f.Logf("%s: %d pods were created, %d failed, %d are without their sidecar", during, l.created.Load(), len(l.failures), l.missed.Load())
	if len(l.failures) > 0 || l.missed.Load() > 0 {
		f.Errorf("%s: %d creations failed, %d pods are without their sidecar; first: %v", during, len(l.failures), l.missed.Load(), l.failures[:min(len(l.failures), 3)])
	}
}

func (f *fixture) secret() *corev1.Secret {
	f.Helper()
	s, err := f.client.CoreV1().Secrets(namespace).Get(f.Context(), deploy.CertificateSecret, metav1.GetOptions{})
	if err != nil {
		f.Fatal(err)
	}
	return s
}

func (f *fixture) set() *certs.Set {
	f.Helper()
	s, err := certs.Parse(f.secret().Data)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// bundles follows the caBundle of the MutatingWebhookConfiguration: each that it has had, as the numbers of its
// certificates in the order of their first appearance.
func (f *fixture) bundles() (seen func() []string) {
	var mu sync.Mutex
	var out []string
	numbers := map[string]int{}
	add := func(bundle []byte) {
		var ids []string
		for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
			if numbers[string(block.Bytes)] == 0 {
				numbers[string(block.Bytes)] = len(numbers) + 1
			}
			ids = append(ids, fmt.Sprint(numbers[string(block.Bytes)]))
		}
		text := strings.Join(ids, "+")
		mu.Lock()
		defer mu.Unlock()
		if len(out) == 0 || out[len(out)-1] != text {
			out = append(out, text)
		}
	}
	configurations := f.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	one, err := configurations.Get(f.Context(), namespace, metav1.GetOptions{})
	if err != nil {
		f.Fatal(err)
	}
	add(one.Webhooks[0].ClientConfig.CABundle)
	w, err := configurations.Watch(f.Context(), metav1.ListOptions{
		FieldSelector: "metadata.name=" + namespace, ResourceVersion: one.ResourceVersion,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(w.Stop)
	go func() {
		for e := range w.ResultChan() {
			if c, ok := e.Object.(*admissionregistrationv1.MutatingWebhookConfiguration); ok {
				add(c.Webhooks[0].ClientConfig.CABundle)
			}
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(out)
	}
}

// settled waits until every replica serves the set that the Secret holds, and nothing earlier is trusted any more.
func (f *fixture) settled(differs func(*certs.Set) bool) *certs.Set {
	f.Helper()
	var now *certs.Set
	f.await("the certificates are others, and every replica serves them", func(ctx context.Context) error {
		secret, err := f.client.CoreV1().Secrets(namespace).Get(ctx, deploy.CertificateSecret, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if now, err = certs.Parse(secret.Data); err != nil {
			return err
		}
		if !differs(now) || now.Earlier() > 0 {
			return fmt.Errorf("not changed, or %d earlier authorities are trusted", now.Earlier())
		}
		replicas, err := f.installer.Replicas(ctx)
		if err != nil {
			return err
		}
		for _, r := range replicas {
			if r.Certificate != now.ID() {
				return fmt.Errorf("%s serves another certificate", r.Name)
			}
		}
		c, err := f.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, namespace, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !bytes.Equal(c.Webhooks[0].ClientConfig.CABundle, now.Bundle()) {
			return errors.New("the caBundle is another")
		}
		return nil
	})
	return now
}

func (f *fixture) rotate(what string) {
	f.Helper()
	_, err := f.client.CoreV1().Secrets(namespace).Patch(f.Context(), deploy.CertificateSecret, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"`+cluster.RotateAnnotation+`":"`+what+`"}}}`), metav1.PatchOptions{})
	if err != nil {
		f.Fatal(err)
	}
}

// TestLifeInACluster is an injector's life: installed, its certificates rotated, its configuration changed, rolled,
// scaled, all replicas gone at once, uninstalled; and pods are created without pause meanwhile.
func TestLifeInACluster(t *testing.T) {
	f := install(t)
	f.certificatesRotate()
	f.configurationArrives()
	f.brokenConfigurationIsRefused()
	f.replicasComeAndGo()
	f.allReplicasGo()
	f.uninstall()
}

func (f *fixture) certificatesRotate() {
	bundles, l := f.bundles(), f.load(true)
	f.more(l, 20)
	first := f.set()

	f.rotate(cluster.RotateLeaf)
	second := f.settled(func(s *certs.Set) bool { return s.ID() != first.ID() })
	if second.AuthorityID() != first.AuthorityID() {
		f.Error("a new leaf was asked for, and the authority is new too")
	}
	f.more(l, 20)

	began := time.Now()
	f.rotate(cluster.RotateAuthority)
	third := f.settled(func(s *certs.Set) bool { return s.AuthorityID() != first.AuthorityID() })
	f.Logf("authority replaced and the earlier one retired in %v", time.Since(began).Round(time.Millisecond))
	f.more(l, 20)

	err := f.client.CoreV1().Secrets(namespace).Delete(f.Context(), deploy.CertificateSecret, metav1.DeleteOptions{})
	if err != nil {
		f.Fatal(err)
	}
	fourth := f.settled(func(s *certs.Set) bool { return s.AuthorityID() != third.AuthorityID() })
	f.more(l, 20)

	broken := f.secret()
	broken.Data[certs.KeyPrivate] = []byte("no key")
	if _, err := f.client.CoreV1().Secrets(namespace).Update(f.Context(), broken, metav1.UpdateOptions{}); err != nil {
		f.Fatal(err)
	}
	f.settled(func(s *certs.Set) bool { return s.AuthorityID() != fourth.AuthorityID() })
	f.end(l, "certificates rotated")

	// Earlier authorities stay until every replica serves the new one, and go then.
	want := []string{"1", "2+1", "2", "3+2", "3", "4+3", "4"}
	f.await("the caBundles have been "+strings.Join(want, ", "), func(context.Context) error {
		if got := bundles(); !slices.Equal(got, want) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
	if a := f.secret().Annotations[cluster.RotateAnnotation]; a != "" {
		f.Errorf("the annotation is still %q", a)
	}
}

func (f *fixture) configure(text string) error {
	m, err := f.client.CoreV1().ConfigMaps(namespace).Get(f.Context(), deploy.Name, metav1.GetOptions{})
	if err != nil {
		f.Fatal(err)
	}
	m.Data[deploy.ConfigurationKey] = text
	_, err = f.client.CoreV1().ConfigMaps(namespace).Update(f.Context(), m, metav1.UpdateOptions{})
	return err
}

func (f *fixture) configurationArrives() {
	for i := range 5 {
		policy := []string{"disabled", "enabled"}[i%2]
		text := fmt.Sprintf("dialect: istio-classic\npolicy: %s\n", policy)
		if i == 4 { // and back to what was installed, for what follows
			m, err := deploy.Manifests(deploy.Options{Image: os.Getenv("OUTRIGGER_IMAGE")})
			if err != nil {
				f.Fatal(err)
			}
			for _, o := range m.Injector {
				if o.GetKind() == "ConfigMap" {
					text = o.Object["data"].(map[string]any)[deploy.ConfigurationKey].(string)
				}
			}
			policy = "enabled"
		}
		began := time.Now()
		if err := f.configure(text); err != nil {
			f.Fatal(err)
		}
		f.do("configure", func(ctx context.Context) error {
			return f.installer.AwaitReplicas(ctx, "the new configuration", func(r deploy.ReplicaState) bool {
				return r.Configuration == settings.Hash([]byte(text))
			})
		})
		took := time.Since(began)
		f.Logf("policy %s arrived on every replica in %v", policy, took.Round(time.Millisecond))
		if took > arrival {
			f.Errorf("policy %s took %v until every replica had it, which is more than %v", policy, took, arrival)
		}
		for range 5 { // on whichever replica
			p, err := f.client.CoreV1().Pods(shop).Create(f.Context(), pod(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err != nil {
				f.Fatal(err)
			}
			if injected(p) != (policy == "enabled") {
				f.Errorf("policy %s, and injected is %v", policy, injected(p))
			}
		}
	}
}

func (f *fixture) brokenConfigurationIsRefused() {
	err := f.configure("dialect: istio-classic\npolicies: enabled\n")
	if err == nil || !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), `line 2: unknown field "policies"`) {
		f.Errorf("a broken configuration: %v", err)
	}
	broken := map[string]string{deploy.ConfigurationKey: "no: configuration"}
	labels := map[string]string{"injector.outrigger.dev/configuration": "true"}
	for name, m := range map[string]*corev1.ConfigMap{
		"of another namespace": {ObjectMeta: metav1.ObjectMeta{Name: "other", Namespace: shop, Labels: labels}, Data: broken},
		"without the label":    {ObjectMeta: metav1.ObjectMeta{Name: "other", Namespace: namespace}, Data: broken},
	} {
		_, err := f.client.CoreV1().ConfigMaps(m.Namespace).Create(f.Context(), m, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			f.Errorf("a ConfigMap %s is refused: %v", name, err)
		}
	}
}

func (f *fixture) patchDeployment(patch string) {
	f.Helper()
	_, err := f.client.AppsV1().Deployments(namespace).Patch(f.Context(), deploy.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.do("wait for the Deployment", f.installer.AwaitAvailable)
}

func (f *fixture) replicasComeAndGo() {
	l := f.load(true)
	f.more(l, 20)
	f.patchDeployment(`{"spec":{"template":{"metadata":{"annotations":{"rolled":"1"}}}}}`)
	f.more(l, 20)
	f.patchDeployment(`{"spec":{"replicas":3}}`)
	f.rotate(cluster.RotateAuthority) // with a replica that comes, and one that goes
	f.patchDeployment(`{"spec":{"replicas":1,"template":{"metadata":{"annotations":{"rolled":"2"}}}}}`)
	f.patchDeployment(`{"spec":{"replicas":2}}`)
	f.await("the Leases are those of the replicas", func(ctx context.Context) error {
		replicas, err := f.installer.Replicas(ctx)
		if err == nil && len(replicas) != 2 {
			err = fmt.Errorf("there are %d", len(replicas))
		}
		return err
	})
	first := f.set()
	f.rotate(cluster.RotateAuthority)
	f.settled(func(s *certs.Set) bool { return s.AuthorityID() != first.AuthorityID() })
	f.end(l, "rolled and scaled")
}

// allReplicasGo: the injector's own pods do not need the injector.
func (f *fixture) allReplicasGo() {
	gone := map[string]bool{}
	pods, err := f.client.CoreV1().Pods(namespace).List(f.Context(), metav1.ListOptions{})
	if err == nil {
		for i := range pods.Items {
			gone[pods.Items[i].Name] = true
		}
		err = f.client.CoreV1().Pods(namespace).DeleteCollection(f.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
	}
	if err != nil {
		f.Fatal(err)
	}
	// The Deployment looks available until its controller has seen that they go, and they answer as long as they drain.
	f.await("the Service leads to the new replicas alone", func(ctx context.Context) error {
		list, err := f.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var ready []string
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready == nil || !*e.Conditions.Ready || e.TargetRef == nil {
					continue
				}
				if ready = append(ready, e.TargetRef.Name); gone[e.TargetRef.Name] {
					return fmt.Errorf("it still leads to %s", e.TargetRef.Name)
				}
			}
		}
		if len(ready) < deploy.DefaultReplicas {
			return fmt.Errorf("it leads to %v", ready)
		}
		return nil
	})
	f.do("wait for the Deployment", f.installer.AwaitAvailable)
	f.await("pods are injected again", func(ctx context.Context) error {
		p, err := f.client.CoreV1().Pods(shop).Create(ctx, pod(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && !injected(p) {
			f.Error("a pod is without its sidecar")
		}
		return err
	})
}

// uninstall: no creation fails while the injector goes, and nothing of it stays.
func (f *fixture) uninstall() {
	l := f.load(false)
	f.more(l, 20)
	f.do("uninstall", f.installer.Uninstall)
	f.end(l, "uninstalled")
	p, err := f.client.CoreV1().Pods(shop).Create(f.Context(), pod(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil || injected(p) {
		f.Errorf("after it is gone: %v, injected %v", err, injected(p))
	}
	if _, err := f.client.CoreV1().Namespaces().Get(f.Context(), namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		f.Errorf("its namespace is still there: %v", err)
	}
	roles, err := f.client.RbacV1().ClusterRoles().List(f.Context(), metav1.ListOptions{LabelSelector: deploy.Label + "=" + deploy.LabelValue})
	if err != nil || len(roles.Items) > 0 {
		f.Errorf("ClusterRoles are left: %v", err)
	}
	f.do("uninstall again", f.installer.Uninstall)
}
