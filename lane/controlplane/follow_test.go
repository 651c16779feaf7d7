// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A trail knows how often a controller was refused, and by what at last: not by what it was at first.
func TestTrailKeepsTheLastRefusal(t *testing.T) {
	trail := &trail{news: make(chan struct{})}
	_, _, news := trail.refusals()
	first := &auditEvent{ResponseStatus: &metav1.Status{Code: 500, Message: "failed calling webhook"}}
	last := &auditEvent{ResponseStatus: &metav1.Status{Code: 403, Message: "exceeded quota"}}
	trail.add(first)
	trail.add(&auditEvent{ResponseStatus: &metav1.Status{Code: 201}})
	trail.add(last)
	select {
	case <-news:
	default:
		t.Error("nobody who waited for news was told")
	}
	if n, refusal, _ := trail.refusals(); n != 2 || refusal != last || trail.len() != 1 {
		t.Errorf("%d refusals, the last %+v; %d pods", n, refusal, trail.len())
	}
}
