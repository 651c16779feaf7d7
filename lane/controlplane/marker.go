// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/outrigger-k8s/outrigger/probe"
)

// The marker shows that the API server has caught up with what does not show itself: that a configuration has gone, what a
// namespace is like now, and what a case's own request has made of either. Its admission reads webhook configurations and
// namespaces from two caches, each fed by a watch that delivers the changes of its resource in order. So where there may be
// such a change, the lane writes after everything else one more object of each: a webhook configuration that matches marker
// objects of this serial number in namespaces of this serial number, and the namespace that carries it. A dry-run creation of such an object is refused
// exactly when both have arrived, and then everything written before has too.
//
// The webhook never is called: its matchCondition cannot be evaluated, which refuses the request by itself
// (failurePolicy Fail). It looks at ConfigMaps with the marker's label only, and its name sorts last, so no case sees
// it.
//
// Each serial number has a configuration of its own, which the next arrangement deletes: one that is changed may never be
// seen (inForceWebhook says why).
const (
	markerPrefix  = "zz-outrigger-marker-" // then the serial number
	markerWebhook = "marker.outrigger.dev"
	markerLabel   = "outrigger.dev/marker"

	validatingMarkerLabel = "outrigger.dev/marker-validating"

	markerNamespace      = "outrigger-marker"
	markerNamespaceAside = "outrigger-marker-aside"

	// markerInterval lies between two marker requests: the change arrives within a few ms on an idle machine.
	markerInterval = 3 * time.Millisecond

	// markerRefusal cannot be evaluated on a ConfigMap without data. The API server repeats it in its refusal.
	markerRefusal = "object.data['outrigger-marker'] == ''"
)

// markerSerial is the serial number of the arrangement.
func (l *Lane) markerSerial() string { return strconv.FormatUint(l.arranged, 10) }

// markerNamespace is where the lane's marker objects would be.
func (l *Lane) markerNamespace() string {
	if l.options.Aside {
		return markerNamespaceAside
	}
	return markerNamespace
}

// marker is the webhook's half.
func (l *Lane) marker(serial string) *admissionregistrationv1.MutatingWebhookConfiguration {
	w := mutating(markerWebhookFor(markerWebhook, markerLabel, serial))
	w.NamespaceSelector = w.ObjectSelector
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: l.own(markerPrefix + serial)}, Webhooks: []admissionregistrationv1.MutatingWebhook{w},
	}
}

// labelMarker writes the namespace's half. It asks for the change and not for what there is, which is one request less.
func (l *Lane) labelMarker(ctx context.Context, serial string) error {
	namespaces := l.client.CoreV1().Namespaces()
	labels := map[string]string{markerLabel: serial}
	if l.options.Aside {
		labels[probe.AsideLabel] = "true"
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return fmt.Errorf("write the marker: %w", err)
	}
	_, err = namespaces.Patch(ctx, l.markerNamespace(), types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		_, err = namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.markerNamespace(), Labels: labels}}, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write the marker: label namespace %s: %w", l.markerNamespace(), err)
	}
	return nil
}

// awaitMarker waits until the API server has seen both halves.
func (l *Lane) awaitMarker(ctx context.Context) error {
	serial := l.markerSerial()
	return l.cluster.awaitEvery(ctx, markerInterval, "the API server acts on the arrangement (marker "+serial+")",
		func(ctx context.Context) (bool, error) { return l.markerSeen(ctx, markerLabel, serial) })
}

// validatingMarker does for validating configurations, which the API server keeps in a cache of their own, what marker does
// for mutating ones. Its objects carry another label: those of marker are refused before anything is validated.
func (l *Lane) validatingMarker(serial string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: l.own(markerPrefix + serial)},
		Webhooks:   []admissionregistrationv1.ValidatingWebhook{markerWebhookFor(markerWebhook, validatingMarkerLabel, serial)},
	}
}

func (l *Lane) awaitValidatingMarker(ctx context.Context) error {
	serial := l.markerSerial()
	return l.cluster.awaitEvery(ctx, markerInterval, "the API server acts on the validating configurations (marker "+serial+")",
		func(ctx context.Context) (bool, error) { return l.markerSeen(ctx, validatingMarkerLabel, serial) })
}

// markerWebhookFor is the webhook of this name that refuses marker objects with this label and its value.
func markerWebhookFor(name, label, value string) admissionregistrationv1.ValidatingWebhook {
	nowhere := "https://127.0.0.1:1/"
	fail, none, second := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone, int32(1)
	scope := admissionregistrationv1.NamespacedScope
	return admissionregistrationv1.ValidatingWebhook{
		Name:           name,
		ClientConfig:   admissionregistrationv1.WebhookClientConfig{URL: &nowhere},
		ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{label: value}},
		Rules: []admissionregistrationv1.RuleWithOperations{{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
			Rule: admissionregistrationv1.Rule{
				APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}, Scope: &scope,
			},
		}},
		MatchConditions: []admissionregistrationv1.MatchCondition{{Name: "refuse", Expression: markerRefusal}},
		FailurePolicy:   &fail, SideEffects: &none, TimeoutSeconds: &second, AdmissionReviewVersions: []string{"v1"},
	}
}

// markerSeen makes one marker request, and tells whether it was refused by the webhook for objects with this label and value.
func (l *Lane) markerSeen(ctx context.Context, label, value string) (bool, error) {
	_, err := l.client.CoreV1().ConfigMaps(l.markerNamespace()).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "marker-" + value, Labels: map[string]string{label: value}},
	}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case err == nil:
		return false, nil
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), markerRefusal):
		return true, nil
	case apierrors.IsNotFound(err): // the namespace, just made, has not arrived
		return false, nil
	}
	return false, err
}

// isMarker tells whether the configuration is a marker's.
func isMarker(name string) bool {
	return strings.HasPrefix(strings.TrimPrefix(name, probe.AsidePrefix), markerPrefix)
}

// beaconName is the name of a configuration of each kind that has no webhooks, and is written to by asOfNow.
const beaconName = "zz-outrigger-beacon"

// asOfNow returns the options of a list of one kind of configurations as they are now. The API server answers a list without
// a resourceVersion from its cache, once etcd has told it that nothing is newer, for which it asks every tenth of a second
// (k8s.io/apiserver pkg/storage/cacher/progress): most of what an arrangement would take. One that is not older than a
// write it answers as soon as that write has come by. So something is written first: the beacon, which is made if need be.
func asOfNow[T any, C configuration[T]](ctx context.Context, client store[T], beacon C) (metav1.ListOptions, error) {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"outrigger.dev/listed":"%d"}}}`, time.Now().UnixNano()) // another each time
	written, err := client.Patch(ctx, beacon.GetName(), types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		written, err = client.Create(ctx, beacon, metav1.CreateOptions{})
	}
	if err != nil {
		return metav1.ListOptions{}, fmt.Errorf("write the beacon of a %T: %w", beacon, err)
	}
	return metav1.ListOptions{ResourceVersion: C(written).GetResourceVersion(), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}, nil
}

// removeBeacons leaves nothing of the lane's own among the configurations, once the markers are gone.
func (l *Lane) removeBeacons(ctx context.Context) error {
	return errors.Join(
		removeConfiguration(ctx, l.configurations(), mutatingKind, l.own(beaconName)),
		removeConfiguration(ctx, l.validating(), validatingKind, l.own(beaconName)),
	)
}
