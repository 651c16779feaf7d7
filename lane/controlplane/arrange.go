// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/probe"
)

// systemNamespaces exist in every cluster before anybody creates a namespace.
var systemNamespaces = []string{"default", metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

// metadata is what an arrangement fixes of a namespace.
type metadata struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// written is what the lane last wrote to an object: unless somebody else wrote since, it need not be written again.
type written struct {
	content         string
	resourceVersion string
}

// Arrange makes the cluster look like a: it deletes the webhook configurations that are not a's, writes those
// that are, creates or relabels the namespaces, and returns once marker requests have shown that the API server acts
// on all of it and every namespace has its default ServiceAccount. What is as it must be already is not written.
func (l *Lane) Arrange(ctx context.Context, a *probe.Arrangement) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.arrange(ctx, a); err != nil {
		return fmt.Errorf("arrange %s in the %s lane: %w", a.Name, l.cluster.Facts.Lane, l.cluster.explain(err))
	}
	return nil
}

func (l *Lane) arrange(ctx context.Context, a *probe.Arrangement) error {
	if err := l.arrangeStored(ctx, a); err != nil {
		return err
	}
	if err := l.bring(ctx, a); err != nil {
		return err
	}
	if err := l.arrangeServices(ctx, a); err != nil {
		return err
	}
	return l.awaitAccounts(ctx, a.Namespaces)
}

// bring makes the webhook configurations and the namespaces those of a, and returns once the API server acts on it.
func (l *Lane) bring(ctx context.Context, a *probe.Arrangement) error {
	l.arranged++
	gone, err := l.removeConfigurations(ctx, a)
	if err != nil {
		return err
	}
	if gone.wide {
		// It may be asked about the namespaces and markers that are written next, until the API server has seen it go.
		if err := l.mark(ctx); err != nil {
			return err
		}
		l.arranged++
	}
	if err := l.write(ctx, a); err != nil {
		return err
	}
	// The markers are written last, so within each resource the API server sees them last.
	if err := l.mark(ctx); err != nil {
		return err
	}
	if gone.validating || len(a.Validating) > 0 {
		if err := l.markValidating(ctx); err != nil {
			return err
		}
	}
	return nil
}

// write writes the webhook configurations and the namespaces of a, side by side.
func (l *Lane) write(ctx context.Context, a *probe.Arrangement) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	// What to note once nobody writes side by side.
	results := make(chan func(), len(a.Webhooks)+len(a.Validating)+len(a.Namespaces))
	for _, c := range a.Webhooks {
		group.Go(func() error {
			return putConfiguration(groupCtx, l, l.configurations(), mutatingKind, c, results)
		})
	}
	for _, c := range a.Validating {
		group.Go(func() error {
			return putConfiguration(groupCtx, l, l.validating(), validatingKind, c, results)
		})
	}
	for _, ns := range a.Namespaces {
		group.Go(func() error { return l.arrangeNamespace(groupCtx, ns, results) })
	}
	err := group.Wait()
	close(results)
	for note := range results {
		note()
	}
	return err
}

// awaitAccounts waits until each of the namespaces has the ServiceAccount without which no pod can be created there.
func (l *Lane) awaitAccounts(ctx context.Context, namespaces []*corev1.Namespace) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, ns := range namespaces {
		if !l.accounts[ns.Name] {
			group.Go(func() error { return l.cluster.awaitServiceAccount(groupCtx, ns.Name) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, ns := range namespaces {
		l.accounts[ns.Name] = true
	}
	return nil
}

// A configuration is a webhook configuration of either kind.
type configuration[T any] interface {
	*T
	metav1.Object
	DeepCopy() *T
}

// store is client-go's typed client for webhook configurations of one kind.
type store[T any] interface {
	Get(context.Context, string, metav1.GetOptions) (*T, error)
	Create(context.Context, *T, metav1.CreateOptions) (*T, error)
	Update(context.Context, *T, metav1.UpdateOptions) (*T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

// Kinds of webhook configurations, as they stand in messages and among what the lane has written.
const (
	mutatingKind   = "mutating webhook configuration"
	validatingKind = "validating webhook configuration"
)

// gone says what was among the webhook configurations that were deleted.
type gone struct {
	validating bool
	wide       bool // a mutating one that is asked about more than pods
}

// removeConfigurations deletes every webhook configuration but those of a, which may be what a request is about, and the
// markers.
func (l *Lane) removeConfigurations(ctx context.Context, a *probe.Arrangement) (gone gone, err error) {
	wanted := map[string]bool{mutatingKind + "/" + markerName: true, validatingKind + "/" + markerName: true}
	for _, c := range a.Webhooks {
		wanted[mutatingKind+"/"+c.Name] = true
	}
	for _, c := range a.Validating {
		wanted[validatingKind+"/"+c.Name] = true
	}
	for _, s := range a.Stored {
		switch s.Object.GetKind() {
		case "MutatingWebhookConfiguration":
			wanted[mutatingKind+"/"+s.Object.GetName()] = true
		case "ValidatingWebhookConfiguration":
			wanted[validatingKind+"/"+s.Object.GetName()] = true
		}
	}
	mutating, err := l.configurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return gone, fmt.Errorf("list the mutating webhook configurations: %w", err)
	}
	for _, c := range mutating.Items {
		if !wanted[mutatingKind+"/"+c.Name] {
			gone.wide = gone.wide || slices.ContainsFunc(c.Webhooks, asksBeyondPods)
			if err := removeConfiguration(ctx, l, l.configurations(), mutatingKind, c.Name); err != nil {
				return gone, err
			}
		}
	}
	validating, err := l.validating().List(ctx, metav1.ListOptions{})
	if err != nil {
		return gone, fmt.Errorf("list the validating webhook configurations: %w", err)
	}
	for _, c := range validating.Items {
		if !wanted[validatingKind+"/"+c.Name] {
			if err := removeConfiguration(ctx, l, l.validating(), validatingKind, c.Name); err != nil {
				return gone, err
			}
			gone.validating = true
		}
	}
	return gone, nil
}

// asksBeyondPods tells whether the webhook's rules match anything but pods and what belongs to them.
func asksBeyondPods(w admissionregistrationv1.MutatingWebhook) bool {
	for _, rule := range w.Rules {
		for _, resource := range rule.Resources {
			if resource != "pods" && !strings.HasPrefix(resource, "pods/") {
				return true
			}
		}
	}
	return false
}

func removeConfiguration[T any](ctx context.Context, l *Lane, client store[T], kind, name string) error {
	if err := client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s %s: %w", kind, name, err)
	}
	delete(l.written, kind+"/"+name)
	return nil
}

// putConfiguration writes c, unless it is what the lane wrote last and nobody has written since. What it wrote it says
// to results.
func putConfiguration[T any, C configuration[T]](
	ctx context.Context, l *Lane, client store[T], kind string, c C, results chan<- func(),
) error {
	name := c.GetName()
	content, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write %s %s: %w", kind, name, err)
	}
	key := kind + "/" + name
	for {
		live, err := client.Get(ctx, name, metav1.GetOptions{})
		fresh := C(c.DeepCopy())
		var done *T
		switch {
		case apierrors.IsNotFound(err):
			fresh.SetResourceVersion("")
			fresh.SetUID("")
			done, err = client.Create(ctx, fresh, metav1.CreateOptions{})
		case err != nil:
		case l.written[key] == written{string(content), C(live).GetResourceVersion()}:
			return nil
		default:
			fresh.SetResourceVersion(C(live).GetResourceVersion())
			fresh.SetUID(C(live).GetUID())
			done, err = client.Update(ctx, fresh, metav1.UpdateOptions{})
		}
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
			continue // somebody wrote in between: look again
		}
		if err != nil {
			return fmt.Errorf("write %s %s: %w", kind, name, err)
		}
		results <- func() { l.written[key] = written{string(content), C(done).GetResourceVersion()} }
		return nil
	}
}

func (l *Lane) arrangeNamespace(ctx context.Context, ns *corev1.Namespace, results chan<- func()) error {
	want := metadata{Labels: maps.Clone(ns.Labels), Annotations: ns.Annotations}
	before, err := l.writeNamespace(ctx, ns.Name, want, results)
	if err != nil {
		return err
	}
	if before != nil && slices.Contains(systemNamespaces, ns.Name) {
		results <- func() {
			if _, noted := l.system[ns.Name]; !noted {
				l.system[ns.Name] = *before
			}
		}
	}
	return nil
}

// putNamespace gives a namespace exactly these labels and annotations; it is made if need be.
func (l *Lane) putNamespace(ctx context.Context, name string, want metadata) error {
	results := make(chan func(), 1)
	_, err := l.writeNamespace(ctx, name, want, results)
	close(results)
	for note := range results {
		note()
	}
	return err
}

// writeNamespace returns what the namespace had before, nil where it is new or was as wanted.
func (l *Lane) writeNamespace(ctx context.Context, name string, want metadata, results chan<- func()) (*metadata, error) {
	labels := map[string]string{}
	maps.Copy(labels, want.Labels)
	labels[corev1.LabelMetadataName] = name // the API server insists on it
	namespaces := l.client.CoreV1().Namespaces()
	for {
		live, err := namespaces.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			_, err = namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
				Name: name, Labels: labels, Annotations: want.Annotations,
			}}, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("create namespace %s: %w", name, err)
			}
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("look at namespace %s: %w", name, err)
		case live.DeletionTimestamp != nil:
			return nil, fmt.Errorf("namespace %s is being deleted; nobody but the lane may delete its namespaces", name)
		case maps.Equal(live.Labels, labels) && maps.Equal(live.Annotations, want.Annotations):
			return nil, nil
		}
		before := &metadata{Labels: live.Labels, Annotations: live.Annotations}
		live.Labels, live.Annotations = labels, want.Annotations
		_, err = namespaces.Update(ctx, live, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("relabel namespace %s: %w", name, err)
		}
		return before, nil
	}
}
