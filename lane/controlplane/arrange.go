// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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
// that are, creates or relabels the namespaces, and returns once the API server acts on all of it and every namespace has
// its default ServiceAccount. What is as it must be already is not written.
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
	err := l.bring(ctx, a)
	if errors.Is(err, errStranger) {
		err = l.bring(ctx, a) // which looks first
	}
	if err != nil {
		return err
	}
	if err := l.arrangeServices(ctx, a); err != nil {
		return err
	}
	return l.awaitAccounts(ctx, a.Namespaces)
}

// bring makes the webhook configurations and the namespaces those of a, and returns once the API server acts on it. Most
// arrangements differ from the one before in the contents of configurations alone: those show themselves when they are in
// force. What goes away cannot, nor can a namespace: for them markers are written.
func (l *Lane) bring(ctx context.Context, a *probe.Arrangement) (err error) {
	touched := l.touched.Swap(false)
	defer func() {
		if err != nil {
			l.touched.Store(true) // who knows what was written
		}
	}()
	if touched {
		clear(l.namespaces)
	}
	l.arranged++
	if a, err = marked(a); err != nil {
		return err
	}
	a.Namespaces = slices.DeleteFunc(slices.Clone(a.Namespaces), func(ns *corev1.Namespace) bool {
		known, there := l.namespaces[ns.Name]
		return there && known.equal(wantedOf(ns))
	})
	there, gone, err := l.removeConfigurations(ctx, a, touched)
	if err != nil {
		return err
	}
	if gone.wide {
		// It may be asked about the namespaces and markers that are written next, until the API server has seen it go.
		if err := l.write(ctx, &probe.Arrangement{}, there, markers{mutating: true}); err != nil {
			return err
		}
		if err := l.awaitMarker(ctx); err != nil {
			return err
		}
		gone.mutating = false
		l.arranged++
	}
	markers := markers{mutating: touched || gone.mutating || len(a.Namespaces) > 0, validating: touched || gone.validating}
	if err := l.write(ctx, a, there, markers); err != nil {
		return err
	}
	seen, ctx := errgroup.WithContext(ctx)
	if markers.mutating {
		seen.Go(func() error { return l.awaitMarker(ctx) })
	}
	if markers.validating {
		seen.Go(func() error { return l.awaitValidatingMarker(ctx) })
	}
	seen.Go(func() error { return l.awaitInForce(ctx, a) })
	return seen.Wait()
}

// markers says which markers an arrangement wants: mutating is that of mutating configurations and of namespaces.
type markers struct{ mutating, validating bool }

// write writes what a wants of each resource and after that the resource's marker, so that the API server sees it last: the
// resources side by side, and each one's objects too.
func (l *Lane) write(ctx context.Context, a *probe.Arrangement, there *standing, markers markers) error {
	serial := l.markerSerial()
	// What to note once nobody writes side by side.
	results := make(chan func(), len(a.Webhooks)+len(a.Validating)+2*len(a.Namespaces)+2) // with a marker of each kind
	resources, ctx := errgroup.WithContext(ctx)
	resources.Go(func() error {
		err := each(ctx, a.Webhooks, func(ctx context.Context, c *admissionregistrationv1.MutatingWebhookConfiguration) error {
			return putConfiguration(ctx, l, l.configurations(), mutatingKind, c, there.mutating, results)
		})
		if err != nil || !markers.mutating {
			return err
		}
		return putConfiguration(ctx, l, l.configurations(), mutatingKind, l.marker(serial), there.mutating, results)
	})
	resources.Go(func() error {
		err := each(ctx, a.Validating, func(ctx context.Context, c *admissionregistrationv1.ValidatingWebhookConfiguration) error {
			return putConfiguration(ctx, l, l.validating(), validatingKind, c, there.validating, results)
		})
		if err != nil || !markers.validating {
			return err
		}
		return putConfiguration(ctx, l, l.validating(), validatingKind, l.validatingMarker(serial), there.validating, results)
	})
	resources.Go(func() error {
		err := each(ctx, a.Namespaces, func(ctx context.Context, ns *corev1.Namespace) error {
			return l.arrangeNamespace(ctx, ns, results)
		})
		if err != nil || !markers.mutating {
			return err
		}
		return l.labelMarker(ctx, serial)
	})
	err := resources.Wait()
	close(results)
	for note := range results {
		note()
	}
	return err
}

// each does it to all of them, several at a time.
func each[T any](ctx context.Context, list []T, do func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, x := range list {
		group.Go(func() error { return do(ctx, x) })
	}
	return group.Wait()
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
	Patch(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (*T, error)
}

// Kinds of webhook configurations, as they stand in messages and among what the lane has written.
const (
	mutatingKind   = "mutating webhook configuration"
	validatingKind = "validating webhook configuration"
)

// standing are the webhook configurations that there are as far as the lane knows, by name: those that there were when it
// looked last, and what it has written since.
type standing struct {
	mutating   map[string]*admissionregistrationv1.MutatingWebhookConfiguration
	validating map[string]*admissionregistrationv1.ValidatingWebhookConfiguration
}

// gone says what was among the webhook configurations that were deleted, markers aside.
type gone struct {
	mutating, validating bool
	wide                 bool // a mutating one that is asked about more than pods
}

// lookAgainAfter is for how long the lane goes by what it has written itself: lists of both kinds before each arrangement were
// six of a hundred requests. Whoever else writes in its cluster is found that late.
const lookAgainAfter = time.Second

// removeConfigurations deletes every webhook configuration but those of a, which may be what a request is about, and the
// markers, and says which stay. With touched they are looked for as they are now: see asOfNow.
func (l *Lane) removeConfigurations(ctx context.Context, a *probe.Arrangement, touched bool) (there *standing, gone gone, err error) {
	wanted := map[string]bool{mutatingKind + "/" + l.own(beaconName): true, validatingKind + "/" + l.own(beaconName): true}
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
	if touched || time.Since(l.looked) > lookAgainAfter {
		if l.there, err = l.standing(ctx, touched); err != nil {
			return nil, gone, err
		}
		l.looked = time.Now()
	}
	there = l.there
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, name := range slices.Sorted(maps.Keys(there.mutating)) {
		if !wanted[mutatingKind+"/"+name] {
			gone.mutating = gone.mutating || !isMarker(name)
			gone.wide = gone.wide || !isMarker(name) && slices.ContainsFunc(there.mutating[name].Webhooks, asksBeyondPods)
			group.Go(func() error { return removeConfiguration(groupCtx, l.configurations(), mutatingKind, name) })
			delete(there.mutating, name)
			delete(l.written, mutatingKind+"/"+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(there.validating)) {
		if !wanted[validatingKind+"/"+name] {
			gone.validating = gone.validating || !isMarker(name)
			group.Go(func() error { return removeConfiguration(groupCtx, l.validating(), validatingKind, name) })
			delete(there.validating, name)
			delete(l.written, validatingKind+"/"+name)
		}
	}
	return there, gone, group.Wait()
}

// standing lists the webhook configurations of both kinds, side by side.
func (l *Lane) standing(ctx context.Context, touched bool) (*standing, error) {
	there := &standing{}
	kinds, ctx := errgroup.WithContext(ctx)
	kinds.Go(func() (err error) {
		beacon := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: l.own(beaconName)}}
		there.mutating, err = standingOf(ctx, l, l.configurations(), mutatingKind, beacon, touched, func(o metav1.ListOptions) ([]admissionregistrationv1.MutatingWebhookConfiguration, error) {
			list, err := l.configurations().List(ctx, o)
			return list.Items, err
		})
		return err
	})
	kinds.Go(func() (err error) {
		beacon := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: l.own(beaconName)}}
		there.validating, err = standingOf(ctx, l, l.validating(), validatingKind, beacon, touched, func(o metav1.ListOptions) ([]admissionregistrationv1.ValidatingWebhookConfiguration, error) {
			list, err := l.validating().List(ctx, o)
			return list.Items, err
		})
		return err
	})
	return there, kinds.Wait()
}

// standingOf lists those of one kind, by name, that are not the other lane's: as they are now where they were touched, else as
// the API server has them in its cache. That is late by milliseconds, and the lane knows itself what it wrote: so one of a
// stranger's is found too, if perhaps by the next arrangement.
func standingOf[T any, C configuration[T]](
	ctx context.Context, l *Lane, client store[T], kind string, beacon C, touched bool, list func(metav1.ListOptions) ([]T, error),
) (map[string]C, error) {
	options := metav1.ListOptions{ResourceVersion: "0"}
	if touched {
		var err error
		if options, err = asOfNow(ctx, client, beacon); err != nil {
			return nil, err
		}
	}
	items, err := list(options)
	if err != nil {
		return nil, fmt.Errorf("list every %s: %w", kind, err)
	}
	there := map[string]C{}
	for i := range items {
		if name := C(&items[i]).GetName(); l.owns(name) {
			there[name] = &items[i]
		}
	}
	return there, nil
}

// asksBeyondPods tells whether the webhook, if it is not the lane's own, has rules that match anything but pods and what
// belongs to them.
func asksBeyondPods(w admissionregistrationv1.MutatingWebhook) bool {
	if w.Name == inForceWebhook {
		return false
	}
	for _, rule := range w.Rules {
		for _, resource := range rule.Resources {
			if resource != "pods" && !strings.HasPrefix(resource, "pods/") {
				return true
			}
		}
	}
	return false
}

func removeConfiguration[T any](ctx context.Context, client store[T], kind, name string) error {
	if err := client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s %s: %w", kind, name, err)
	}
	return nil
}

// putConfiguration writes c, unless it is what the lane wrote last and nobody has written since. What it wrote it says
// to results. It goes by what there is, and looks again where that was no longer so.
func putConfiguration[T any, C configuration[T]](
	ctx context.Context, l *Lane, client store[T], kind string, c C, there map[string]C, results chan<- func(),
) error {
	name := c.GetName()
	content, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write %s %s: %w", kind, name, err)
	}
	key := kind + "/" + name
	live := there[name]
	for {
		fresh := C(c.DeepCopy())
		var done *T
		switch {
		case live == nil:
			fresh.SetResourceVersion("")
			fresh.SetUID("")
			done, err = client.Create(ctx, fresh, metav1.CreateOptions{})
		case l.written[key] == written{string(content), live.GetResourceVersion()}:
			return nil
		default:
			fresh.SetResourceVersion(live.GetResourceVersion())
			fresh.SetUID(live.GetUID())
			done, err = client.Update(ctx, fresh, metav1.UpdateOptions{})
		}
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
			// Somebody wrote in between: look again.
			live, err = client.Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				live, err = nil, nil
			}
			if err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("write %s %s: %w", kind, name, err)
		}
		results <- func() { there[name], l.written[key] = done, written{string(content), C(done).GetResourceVersion()} }
		return nil
	}
}

// wantedOf is what an arrangement fixes of this namespace.
func wantedOf(ns *corev1.Namespace) metadata {
	return metadata{Labels: maps.Clone(ns.Labels), Annotations: maps.Clone(ns.Annotations)}
}

func (m metadata) equal(other metadata) bool {
	return maps.Equal(m.Labels, other.Labels) && maps.Equal(m.Annotations, other.Annotations)
}

func (l *Lane) arrangeNamespace(ctx context.Context, ns *corev1.Namespace, results chan<- func()) error {
	want := wantedOf(ns)
	before, err := l.writeNamespace(ctx, ns.Name, want)
	if err != nil {
		return err
	}
	results <- func() { l.namespaces[ns.Name] = want }
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
	_, err := l.writeNamespace(ctx, name, want)
	return err
}

// writeNamespace returns what the namespace had before, nil where it is new or was as wanted.
func (l *Lane) writeNamespace(ctx context.Context, name string, want metadata) (*metadata, error) {
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
