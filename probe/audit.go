// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Prefixes of the audit annotations by which the API server says what its webhooks did.
// Source: k8s.io/apiserver pkg/admission/plugin/webhook/mutating/dispatcher.go.
const (
	mutationAnnotation   = "mutation.webhook.admission.k8s.io/"
	failedOpenAnnotation = "failed-open.mutation.webhook.admission.k8s.io/"

	// Of validating webhooks nothing else is said.
	failedOpenValidatingAnnotation = "failed-open.validating.webhook.admission.k8s.io/"
)

// ReadAudit fills Attempts and FailedOpen from o.Audit. An annotation that cannot be read is an error: it would be a
// call that nobody counted.
func (o *Observation) ReadAudit() error {
	o.Attempts, o.FailedOpen = nil, nil
	for key, value := range o.Audit {
		if strings.HasPrefix(key, failedOpenValidatingAnnotation) {
			o.FailedOpen = append(o.FailedOpen, value)
			continue
		}
		place, mutation := strings.CutPrefix(key, mutationAnnotation)
		if !mutation {
			continue
		}
		var a WebhookAttempt
		if _, err := fmt.Sscanf(place, "round_%d_index_%d", &a.Round, &a.Index); err != nil {
			return fmt.Errorf("read audit annotation %s: %w", key, err)
		}
		if err := json.Unmarshal([]byte(value), &a); err != nil {
			return fmt.Errorf("read audit annotation %s=%s: %w", key, value, err)
		}
		if webhook, failed := o.Audit[failedOpenAnnotation+place]; failed {
			a.FailedOpen = true
			o.FailedOpen = append(o.FailedOpen, webhook)
		}
		o.Attempts = append(o.Attempts, a)
	}
	slices.SortFunc(o.Attempts, func(a, b WebhookAttempt) int {
		if a.Round != b.Round {
			return a.Round - b.Round
		}
		return a.Index - b.Index
	})
	slices.Sort(o.FailedOpen)
	return nil
}
