// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/outrigger-k8s/outrigger/injector/certs"
	"github.com/outrigger-k8s/outrigger/injector/cluster"
)

// fieldManager is who applies the manifests.
const fieldManager = "outrigger-deploy"

// lookEvery is how often a condition is looked at that is waited for.
const lookEvery = 100 * time.Millisecond

// An Installer installs one injector in one cluster. Its waits end with the context only: give it a deadline.
type Installer struct {
	set       Set
	namespace string
	replicas  int
	client    dynamic.Interface
}

// NewInstaller makes an installer. It asks nothing of the cluster.
func NewInstaller(config *rest.Config, o Options) (*Installer, error) {
	set, err := Manifests(o)
	if err != nil {
		return nil, err
	}
	if config.QPS == 0 { // client-go's default is five requests a second
		config = rest.CopyConfig(config)
		config.QPS = -1
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client of the cluster: %w", err)
	}
	i := &Installer{set: set, namespace: o.Namespace, replicas: o.Replicas, client: client}
	if i.namespace == "" {
		i.namespace = DefaultNamespace
	}
	if i.replicas == 0 {
		i.replicas = DefaultReplicas
	}
	return i, nil
}

// Install applies everything but the webhook configurations, waits until every replica is available, applies the
// webhook configurations, and waits until they trust the injector. Installing again changes what has changed.
func (i *Installer) Install(ctx context.Context) error {
	if err := i.InstallInjector(ctx); err != nil {
		return err
	}
	return i.InstallWebhooks(ctx)
}

// InstallInjector is the first half of Install: for who has webhook configurations of their own.
func (i *Installer) InstallInjector(ctx context.Context) error {
	for _, o := range i.set.Injector {
		if err := i.apply(ctx, o); err != nil {
			return err
		}
	}
	return i.AwaitAvailable(ctx)
}

// InstallWebhooks is the second half of Install.
func (i *Installer) InstallWebhooks(ctx context.Context) error {
	for _, o := range i.set.Webhooks {
		if err := i.apply(ctx, o); err != nil {
			return err
		}
	}
	for _, o := range i.set.Webhooks {
		if err := i.awaitBundle(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// Uninstall deletes the webhook configurations, and then everything else, each once the one before is gone: while a
// webhook configuration is there and nothing answers, no pod can be created that it selects. What is not there is
// passed over.
func (i *Installer) Uninstall(ctx context.Context) error {
	for _, o := range i.set.Webhooks {
		if err := i.delete(ctx, o); err != nil {
			return err
		}
	}
	if err := i.awaitForgotten(ctx); err != nil {
		return err
	}
	for _, o := range slices.Backward(i.set.Injector) {
		if err := i.delete(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// awaitForgotten waits until the API server asks the injector no more: it goes by a copy of the webhook configurations
// of its own, which lags behind, on a busy machine for a second and more. What it does with a pod is looked at, by dry
// run, in a namespace that the webhook selects. If there is none, or if something else refuses the pod there, there is
// nothing to go by, and nothing is waited for.
func (i *Installer) awaitForgotten(ctx context.Context) error {
	namespaces, err := i.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).
		List(ctx, metav1.ListOptions{LabelSelector: selected, Limit: 1})
	if err != nil {
		return fmt.Errorf("look for a namespace with %s: %w", selected, err)
	}
	if len(namespaces.Items) == 0 {
		return nil
	}
	namespace := namespaces.Items[0].GetName()
	pods := i.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(namespace)
	return i.await(ctx, "the API server to forget the webhook", func(ctx context.Context) (string, error) {
		pod, err := pods.Create(ctx, probePod(namespace), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		var refused apierrors.APIStatus
		switch {
		case apierrors.IsInternalError(err) && strings.Contains(err.Error(), webhookName):
			return "it fails to call it", nil
		case errors.As(err, &refused):
			return "", nil
		case err != nil:
			return "", err
		}
		if containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers"); len(containers) > 1 {
			return "it still injects", nil
		}
		return "", nil
	})
}

// What the webhook selects, and its name: as in webhooks/mutating.yaml.
const (
	selected    = "istio-injection=enabled"
	webhookName = "injector.outrigger.dev"
)

// probePod is a pod that is only ever created by dry run; Pod Security has nothing against it.
func probePod(namespace string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "outrigger-probe", "namespace": namespace},
		"spec": map[string]any{
			"automountServiceAccountToken": false,
			"securityContext":              map[string]any{"runAsNonRoot": true, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
			"containers": []any{map[string]any{
				"name": "probe", "image": DefaultImage,
				"securityContext": map[string]any{
					"allowPrivilegeEscalation": false, "capabilities": map[string]any{"drop": []any{"ALL"}},
				},
			}},
		},
	}}
}

// AwaitAvailable waits until the Deployment is rolled out: every replica is of the newest template and available, and
// no other is left.
func (i *Installer) AwaitAvailable(ctx context.Context) error {
	deployments := i.client.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(i.namespace)
	return i.await(ctx, "Deployment "+i.namespace+"/"+Name+" to be available", func(ctx context.Context) (string, error) {
		d, err := deployments.Get(ctx, Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if d.GetGeneration() > number(d, "status", "observedGeneration") {
			return "the Deployment's controller has not seen it", nil
		}
		wanted := number(d, "spec", "replicas")
		all, updated, available := number(d, "status", "replicas"), number(d, "status", "updatedReplicas"), number(d, "status", "availableReplicas")
		if all == wanted && updated == wanted && available == wanted {
			return "", nil
		}
		return fmt.Sprintf("of %d replicas %d are there, %d up to date, %d available%s", wanted, all, updated, available, i.podTroubles(ctx)), nil
	})
}

// A ReplicaState is what a replica has in force, by its own report.
type ReplicaState struct {
	Name          string // its Pod's
	Configuration string // settings.Hash of its configuration; "" if it has none
	Certificate   string // the SHA-256 of what it serves
	Authority     string // the SHA-256 of that one's authority
}

// Replicas reads what each replica has in force, in the order of their names.
func (i *Installer) Replicas(ctx context.Context) ([]ReplicaState, error) {
	return i.replicasAs(ctx, "")
}

// CachedReplicas is the same as the API server has it in its cache, late by milliseconds: a list of what is there now may
// wait for a tenth of a second. Who has seen one state here sees none before it later, while there is one API server.
func (i *Installer) CachedReplicas(ctx context.Context) ([]ReplicaState, error) {
	return i.replicasAs(ctx, "0")
}

func (i *Installer) replicasAs(ctx context.Context, version string) ([]ReplicaState, error) {
	list, err := i.client.Resource(schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}).
		Namespace(i.namespace).List(ctx, metav1.ListOptions{LabelSelector: cluster.ReplicaLabel, ResourceVersion: version})
	if err != nil {
		return nil, fmt.Errorf("read what the injector's replicas in %s have in force: %w", i.namespace, err)
	}
	var out []ReplicaState
	for _, lease := range list.Items {
		a := lease.GetAnnotations()
		out = append(out, ReplicaState{
			Name: lease.GetName(), Configuration: a[cluster.ConfigurationAnnotation],
			Certificate: a[cluster.CertificateAnnotation], Authority: a[cluster.AuthorityAnnotation],
		})
	}
	slices.SortFunc(out, func(a, b ReplicaState) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// AwaitReplicas waits until there are as many replicas as are installed, at least, and every one has in force what is
// asked for; what says it, for messages.
func (i *Installer) AwaitReplicas(ctx context.Context, what string, has func(ReplicaState) bool) error {
	return i.await(ctx, "every replica to have "+what, func(ctx context.Context) (string, error) {
		replicas, err := i.Replicas(ctx)
		if err != nil {
			return "", err
		}
		var without []string
		for _, r := range replicas {
			if !has(r) {
				without = append(without, r.Name)
			}
		}
		switch {
		case len(without) > 0:
			return "these do not: " + strings.Join(without, ", "), nil
		case len(replicas) < i.replicas:
			return fmt.Sprintf("%d of %d replicas have reported", len(replicas), i.replicas), nil
		}
		return "", nil
	})
}

// apply applies one object, taking fields over from others.
func (i *Installer) apply(ctx context.Context, o *unstructured.Unstructured) error {
	_, err := i.resource(o).Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("apply %s: %w", describe(o), err)
	}
	return nil
}

// delete deletes one object with what it owns, and waits until it is gone.
func (i *Installer) delete(ctx context.Context, o *unstructured.Unstructured) error {
	foreground := metav1.DeletePropagationForeground
	err := i.resource(o).Delete(ctx, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &foreground})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s: %w", describe(o), err)
	}
	return i.await(ctx, describe(o)+" to be gone", func(ctx context.Context) (string, error) {
		left, err := i.resource(o).Get(ctx, o.GetName(), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return "", nil
		case err != nil:
			return "", err
		}
		return "its finalizers are " + strings.Join(left.GetFinalizers(), ", "), nil
	})
}

// awaitBundle waits until a webhook configuration trusts the authority that the Secret names.
func (i *Installer) awaitBundle(ctx context.Context, o *unstructured.Unstructured) error {
	secrets := i.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).Namespace(i.namespace)
	return i.await(ctx, describe(o)+" to trust the injector", func(ctx context.Context) (string, error) {
		secret, err := secrets.Get(ctx, CertificateSecret, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		text, _, _ := unstructured.NestedString(secret.Object, "data", certs.KeyBundle)
		bundle, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(bundle) == 0 {
			return "the Secret has no " + certs.KeyBundle, nil
		}
		c, err := i.resource(o).Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		webhooks, _, _ := unstructured.NestedSlice(c.Object, "webhooks")
		for _, w := range webhooks {
			text, _, _ := unstructured.NestedString(w.(map[string]any), "clientConfig", "caBundle")
			if has, err := base64.StdEncoding.DecodeString(text); err != nil || !bytes.Equal(has, bundle) {
				return "its caBundle is not that of the Secret", nil
			}
		}
		return "", nil
	})
}

// podTroubles says what holds the injector's pods up, as far as their statuses say it.
func (i *Installer) podTroubles(ctx context.Context) string {
	list, err := i.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(i.namespace).
		List(ctx, metav1.ListOptions{LabelSelector: Label + "=" + LabelValue})
	if err != nil {
		return ""
	}
	var out strings.Builder
	for _, pod := range list.Items {
		conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
		for _, c := range conditions {
			if c := c.(map[string]any); c["type"] == "PodScheduled" && c["status"] != "True" {
				fmt.Fprintf(&out, "; pod %s: %v", pod.GetName(), c["message"])
			}
		}
		statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
		for _, s := range statuses {
			s := s.(map[string]any)
			waiting, found, _ := unstructured.NestedMap(s, "state", "waiting")
			switch {
			case found:
				fmt.Fprintf(&out, "; pod %s: %v", pod.GetName(), strings.TrimSpace(fmt.Sprint(waiting["reason"], ": ", waiting["message"])))
			case s["ready"] == false:
				fmt.Fprintf(&out, "; pod %s runs and is not ready: `kubectl logs -n %s %s` says why", pod.GetName(), i.namespace, pod.GetName())
			}
		}
	}
	return out.String()
}

// await looks until what is waited for holds: look returns "" then, and else what is missing. Objects that are not there
// yet, and an API server that does not answer, are waited for too.
func (i *Installer) await(ctx context.Context, what string, look func(context.Context) (string, error)) error {
	var last string
	err := wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		missing, err := look(ctx)
		switch {
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			return false, err
		case err != nil && ctx.Err() == nil:
			last = err.Error()
		case err == nil:
			last = missing
		}
		return err == nil && missing == "", nil
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil:
		return fmt.Errorf("wait for %s: %w", what, err)
	case last == "":
		last = "it has not been looked at once"
	}
	return fmt.Errorf("wait for %s: %w (%s)", what, context.Cause(ctx), last)
}

// resource is where objects of o's kind and namespace are.
func (i *Installer) resource(o *unstructured.Unstructured) dynamic.ResourceInterface {
	plural, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind()) // safe for the kinds in the manifests, which a test installs
	if o.GetNamespace() == "" {
		return i.client.Resource(plural)
	}
	return i.client.Resource(plural).Namespace(o.GetNamespace())
}

func describe(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + " " + o.GetName()
	}
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

func number(o *unstructured.Unstructured, fields ...string) int64 {
	n, _, _ := unstructured.NestedInt64(o.Object, fields...)
	return n
}
