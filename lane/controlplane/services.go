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

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/probe"
)

// The API server finds the Services of webhooks in a cache of its own, fed by a watch. So after the Services of an
// arrangement one more is written, and a webhook that is called by it: a request that the webhook matches is refused,
// and once the refusal is another than that there is no such Service, everything written before has arrived too.
const (
	servicesMarker  = markerPrefix + "services-" // then the serial number
	servicesWebhook = "services.outrigger.dev"
	servicesLabel   = "outrigger.dev/services"
)

// arrangeServices makes the Services of a, takes away those of the arrangement before, and returns once the API server
// has seen both. It does nothing where nothing changes, which is nearly always. The marker's namespace must be there.
func (l *Lane) arrangeServices(ctx context.Context, a *probe.Arrangement) error {
	wanted := map[string]arranged{} // by namespace/name
	for _, s := range a.Services {
		content, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("write service %s/%s: %w", s.Namespace, s.Name, err)
		}
		name := s.Namespace + "/" + s.Name
		wanted[name] = arranged{string(content), a.Behind[name]}
	}
	if maps.Equal(wanted, l.services) {
		return nil
	}
	if err := l.removeServices(ctx); err != nil {
		return err
	}
	for _, s := range a.Services {
		name := s.Namespace + "/" + s.Name
		s, err := l.fronted(s, wanted[name].behind)
		if err != nil {
			return err
		}
		if _, err := l.client.CoreV1().Services(s.Namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create service %s/%s: %w", s.Namespace, s.Name, err)
		}
		l.services[name] = wanted[name]
	}
	return l.markServices(ctx)
}

// removeServices deletes the Services that the lane made.
func (l *Lane) removeServices(ctx context.Context) error {
	for _, key := range slices.Sorted(maps.Keys(l.services)) {
		namespace, name, _ := strings.Cut(key, "/")
		err := l.client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete service %s: %w", key, err)
		}
		delete(l.services, key)
	}
	return nil
}

// markServices writes the marker Service and its webhook, waits until the API server calls the one by the other, and
// takes both away.
func (l *Lane) markServices(ctx context.Context) (err error) {
	serial := l.markerSerial()
	name := "marker-" + serial
	services := l.client.CoreV1().Services(l.markerNamespace())
	_, err = services.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Port: 443}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("write the marker service: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
		defer cancel()
		configuration := l.configurations().Delete(ctx, l.own(servicesMarker+serial), metav1.DeleteOptions{})
		service := services.Delete(ctx, name, metav1.DeleteOptions{})
		for _, e := range []error{configuration, service} {
			if e != nil && !apierrors.IsNotFound(e) {
				err = errors.Join(err, fmt.Errorf("delete the marker of services: %w", e))
			}
		}
	}()
	fail, none, second := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone, int32(1)
	scope := admissionregistrationv1.NamespacedScope
	results := make(chan func(), 1)
	err = putConfiguration(ctx, l, l.configurations(), mutatingKind, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: l.own(servicesMarker + serial)},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: servicesWebhook,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: l.markerNamespace(), Name: name},
			},
			ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{servicesLabel: name}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule: admissionregistrationv1.Rule{
					APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}, Scope: &scope,
				},
			}},
			FailurePolicy: &fail, SideEffects: &none, TimeoutSeconds: &second, AdmissionReviewVersions: []string{"v1"},
		}},
	}, nil, results)
	if err != nil {
		return err
	}
	return l.cluster.awaitEvery(ctx, markerInterval, "the API server knows the arrangement's Services ("+name+")",
		func(ctx context.Context) (bool, error) {
			_, err := l.client.CoreV1().ConfigMaps(l.markerNamespace()).Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{servicesLabel: name}},
			}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			switch {
			case err == nil: // the webhook has not arrived
				return false, nil
			case strings.Contains(err.Error(), fmt.Sprintf("service %q not found", name)):
				return false, nil
			case strings.Contains(err.Error(), servicesWebhook):
				return true, nil
			}
			return false, err
		})
}
