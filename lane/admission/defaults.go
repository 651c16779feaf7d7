// SPDX-License-Identifier: Apache-2.0

package admission

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// withDefaults is a copy of c as the API server would have stored it.
// Source: k8s.io/kubernetes pkg/apis/admissionregistration/v1/defaults.go.
func withDefaults(c *admissionregistrationv1.MutatingWebhookConfiguration) *admissionregistrationv1.MutatingWebhookConfiguration {
	c = c.DeepCopy()
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		common{&w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, &w.TimeoutSeconds, w.Rules, &w.ClientConfig}.fill()
		orDefault(&w.ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
	}
	return c
}

// withDefaultsValidating is the same of a validating configuration.
func withDefaultsValidating(c *admissionregistrationv1.ValidatingWebhookConfiguration) *admissionregistrationv1.ValidatingWebhookConfiguration {
	c = c.DeepCopy()
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		common{&w.FailurePolicy, &w.MatchPolicy, &w.NamespaceSelector, &w.ObjectSelector, &w.TimeoutSeconds, w.Rules, &w.ClientConfig}.fill()
	}
	return c
}

// common is what webhooks of both kinds have, with a default each.
type common struct {
	failurePolicy     **admissionregistrationv1.FailurePolicyType
	matchPolicy       **admissionregistrationv1.MatchPolicyType
	namespaceSelector **metav1.LabelSelector
	objectSelector    **metav1.LabelSelector
	timeoutSeconds    **int32
	rules             []admissionregistrationv1.RuleWithOperations
	clientConfig      *admissionregistrationv1.WebhookClientConfig
}

func (c common) fill() {
	orDefault(c.failurePolicy, admissionregistrationv1.Fail)
	orDefault(c.matchPolicy, admissionregistrationv1.Equivalent)
	orDefault(c.namespaceSelector, metav1.LabelSelector{})
	orDefault(c.objectSelector, metav1.LabelSelector{})
	orDefault(c.timeoutSeconds, 10)
	for i := range c.rules {
		orDefault(&c.rules[i].Scope, admissionregistrationv1.AllScopes)
	}
	if s := c.clientConfig.Service; s != nil {
		orDefault(&s.Port, 443)
	}
}

func orDefault[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
