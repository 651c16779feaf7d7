// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The marker shows that the API server has caught up. Its admission reads webhook configurations and namespaces from
// two caches, each fed by a watch that delivers the changes of its resource in order. So after everything else the
// lane writes one more object of each: a webhook configuration that matches marker objects of this serial number in
// namespaces of this serial number, and the namespace that carries it. A dry-run creation of such an object is refused
// exactly when both have arrived, and then everything written before has too.
//
// The webhook never is called: its matchCondition cannot be evaluated, which refuses the request by itself
// (failurePolicy Fail). It looks at ConfigMaps with the marker's label only, and its name sorts last, so no case sees
// it.
const (
	markerName    = "zz-outrigger-marker"
	markerWebhook = "marker.outrigger.dev"
	markerLabel   = "outrigger.dev/marker"

	validatingMarkerLabel = "outrigger.dev/marker-validating"

	markerNamespace = "outrigger-marker"

	// markerInterval lies between two marker requests: the change arrives within 10 to 30 ms on an idle machine.
	markerInterval = 3 * time.Millisecond

	// markerRefusal cannot be evaluated on a ConfigMap without data. The API server repeats it in its refusal.
	markerRefusal = "object.data['outrigger-marker'] == ''"
)

// mark writes the marker with a new serial number and waits until the API server has seen it.
func (l *Lane) mark(ctx context.Context) error {
	serial := strconv.FormatUint(l.arranged, 10)
	if err := l.writeMarker(ctx, serial); err != nil {
		return fmt.Errorf("write the marker: %w", err)
	}
	return l.cluster.awaitEvery(ctx, markerInterval, "the API server acts on the arrangement (marker "+serial+")",
		func(ctx context.Context) (bool, error) { return l.markerSeen(ctx, markerLabel, serial) })
}

func (l *Lane) writeMarker(ctx context.Context, serial string) error {
	if err := l.putNamespace(ctx, markerNamespace, metadata{Labels: map[string]string{markerLabel: serial}}); err != nil {
		return err
	}
	w := markerWebhookFor(markerLabel, serial)
	w.NamespaceSelector = w.ObjectSelector
	return writeMarker(ctx, l, l.configurations(), mutatingKind, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: markerName},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: w.Name, ClientConfig: w.ClientConfig, NamespaceSelector: w.NamespaceSelector, ObjectSelector: w.ObjectSelector,
			Rules: w.Rules, MatchConditions: w.MatchConditions, FailurePolicy: w.FailurePolicy, SideEffects: w.SideEffects,
			TimeoutSeconds: w.TimeoutSeconds, AdmissionReviewVersions: w.AdmissionReviewVersions,
		}},
	})
}

// markValidating does for validating configurations, which the API server keeps in a cache of their own, what mark does
// for mutating ones. Its objects carry another label: those of mark are refused before anything is validated.
func (l *Lane) markValidating(ctx context.Context) error {
	serial := strconv.FormatUint(l.arranged, 10)
	err := writeMarker(ctx, l, l.validating(), validatingKind, &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: markerName},
		Webhooks:   []admissionregistrationv1.ValidatingWebhook{markerWebhookFor(validatingMarkerLabel, serial)},
	})
	if err != nil {
		return fmt.Errorf("write the validating marker: %w", err)
	}
	return l.cluster.awaitEvery(ctx, markerInterval, "the API server acts on the validating configurations (marker "+serial+")",
		func(ctx context.Context) (bool, error) { return l.markerSeen(ctx, validatingMarkerLabel, serial) })
}

func writeMarker[T any, C configuration[T]](ctx context.Context, l *Lane, client store[T], kind string, marker C) error {
	results := make(chan func(), 1)
	err := putConfiguration(ctx, l, client, kind, marker, results)
	close(results)
	for note := range results {
		note()
	}
	return err
}

// markerWebhookFor matches marker objects of this label and serial number.
func markerWebhookFor(label, serial string) admissionregistrationv1.ValidatingWebhook {
	nowhere := "https://127.0.0.1:1/"
	fail, none, second := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone, int32(1)
	scope := admissionregistrationv1.NamespacedScope
	return admissionregistrationv1.ValidatingWebhook{
		Name:           markerWebhook,
		ClientConfig:   admissionregistrationv1.WebhookClientConfig{URL: &nowhere},
		ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{label: serial}},
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

// markerSeen makes one marker request.
func (l *Lane) markerSeen(ctx context.Context, label, serial string) (bool, error) {
	_, err := l.client.CoreV1().ConfigMaps(markerNamespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "marker-" + serial, Labels: map[string]string{label: serial}},
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

func (l *Lane) removeMarkers(ctx context.Context) error {
	return errors.Join(
		removeConfiguration(ctx, l, l.configurations(), mutatingKind, markerName),
		removeConfiguration(ctx, l, l.validating(), validatingKind, markerName),
	)
}
