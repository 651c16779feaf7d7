// SPDX-License-Identifier: Apache-2.0

// Package probe takes one case the whole way: arrange what must hold in the cluster, probe it by creating the pod or
// the workload, observe what became of it, and judge that against what the table says.
//
// The package declares the one narrow interface a lane has to fill ([Lane]) and knows nothing of how a lane does it.
package probe

import (
	"context"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/outrigger-k8s/outrigger/table"
)

// A Lane is a place where cases run: the admission code in-process, a control plane of local processes, a kind
// cluster. Implementations are safe for concurrent Probe calls; Arrange is called while Probes are under
// way only where those are dry runs, which are made beside a change to see what becomes of them.
type Lane interface {
	// Facts says what the lane is and has. Constant from the moment the lane exists.
	Facts() Facts

	// Arrange makes the cluster look like a, and returns once the API server acts on all of it: every webhook
	// configuration of the arrangement before is gone or replaced, every namespace has exactly its labels, and marker
	// requests have shown that the API server's informers have seen both. A failure is an infrastructure error.
	Arrange(ctx context.Context, a *Arrangement) error

	// Probe makes one attempt and says what became of it. Refusals by the API server are observations
	// (Observation.Refused), not errors; an error means that nothing can be said about the case (infrastructure), and
	// that nothing of the attempt is left.
	Probe(ctx context.Context, at *Attempt) (*Observation, error)
}

// A Follower is a lane that can come back to what it has made: it has the feature table.FeatureFollow.
type Follower interface {
	Lane
	// Follow comes back to what an attempt with Keep has made. A pod that is gone, or was changed, or does not come while
	// ctx lasts, is an observation.
	Follow(ctx context.Context, f *FollowUp) (*Observation, error)
}

// A FollowUp is what is done at a later step of a course about what an earlier one made.
type FollowUp struct {
	Does      table.Does     // what of it follows
	Key       string         // of the earlier attempt
	Namespace string         // where
	Object    runtime.Object // the pod or workload as it was asked for
	Pod       *corev1.Pod    // as it was seen last; nil while there was none
	Refused   *metav1.Status // that attempt's refusal, nil where it was admitted
	Refusals  int            // how many an endurance waits for
}

// Facts are what is true of a run whatever the case: rules may name them under `given`, tables under `needs`.
type Facts = table.Facts

// An Arrangement is what must hold in the cluster while a group of cases runs.
type Arrangement struct {
	Name       string                                                    // for messages and progress
	Webhooks   []*admissionregistrationv1.MutatingWebhookConfiguration   // complete, clientConfig pointing at the tap; sorted by name
	Validating []*admissionregistrationv1.ValidatingWebhookConfiguration // likewise
	Namespaces []*corev1.Namespace                                       // exactly these labels; kube-system and kube-public may be among them (kubernetes.io/metadata.name is added by the API server, or by the lane)
	Services   []*corev1.Service                                         // all of these, and no others of the lane's; sorted by namespace and name
	Behind     map[string]string                                         // by namespace/name, the address at which the tap stands behind a Service; of all others nothing does
	Stored     []*Stored                                                 // what requests are about: there before any of the webhooks is, and no others of the lane's
	// Parts are the arrangements that stand side by side as this one, which is all of them; nil where it is one by itself.
	Parts []*Arrangement
}

// namespaceSelectors are those of all its webhooks, to be looked at or changed; a webhook without one has nil there.
func (a *Arrangement) namespaceSelectors() (list []**metav1.LabelSelector) {
	for _, c := range a.Webhooks {
		for i := range c.Webhooks {
			list = append(list, &c.Webhooks[i].NamespaceSelector)
		}
	}
	for _, c := range a.Validating {
		for i := range c.Webhooks {
			list = append(list, &c.Webhooks[i].NamespaceSelector)
		}
	}
	return list
}

// For is the part of the arrangement that the namespace is of; the whole where it is one by itself.
func (a *Arrangement) For(namespace string) *Arrangement {
	for _, part := range a.Parts {
		for _, ns := range part.Namespaces {
			if ns.Name == namespace {
				return part
			}
		}
	}
	return a
}

// Stored is an object that there is before any webhook: what a request is about, to be updated, deleted, connected to, or
// what governs requests.
type Stored struct {
	Resource  schema.GroupVersionResource
	Namespace string // "" where the resource has none
	Object    *unstructured.Unstructured
	// Shared objects are not one case's: no request changes them.
	Shared bool
	// Until shows that the API server acts on the object; nil: nothing need.
	Until *Witness
}

// A Witness is a creation by dry run that is tried until it is refused, or answered, as it should be.
type Witness struct {
	Resource  schema.GroupVersionResource
	Namespace string // "" where the resource has none
	Object    *unstructured.Unstructured
	Refused   string         // must occur in the refusal; "": it must be admitted
	Answer    map[string]any // must be in the object of the answer
}

// Seen tells whether an answer is as it should be: the object, or the refusal's message.
func (w *Witness) Seen(object map[string]any, refusal string) bool {
	if w.Refused != "" {
		return strings.Contains(refusal, w.Refused)
	}
	return refusal == "" && len(missing(w.Answer, object, "")) == 0
}

// An Attempt is one request.
type Attempt struct {
	Key         string                      // the case's short key: the object's name or the head of its generateName
	Namespace   string                      // where; "" where the resource has none
	Operation   table.Operation             // "": Create
	Resource    schema.GroupVersionResource // of Object, unless that is a *corev1.Pod or a workload
	Subresource string                      // of the object stored under Key; "" for none
	// Object is what is sent: *corev1.Pod, a workload (*appsv1.Deployment …), or *unstructured.Unstructured, the whole
	// object to create, a merge patch to update by, the options to connect with, nil to delete. Owned by the lane from now
	// on.
	Object  runtime.Object
	Timeout time.Duration // the client's own for the request; 0: none
	DryRun  bool          // dryRun=All; never with a workload whose pods a controller makes
	// Rehearsed attempts are made by dry run first, and must then be the same request in all but that.
	Rehearsed bool
	Keep      bool // a later step comes back to it: it stays until Observation.Cleanup, and so does what is known of its pods
	Pods      bool // the pods that controllers make of Object are what is observed, not Object itself
	// Condition is the type of one that the workload should have once its pods are refused, and that is waited for: its
	// controller sets it some time after. "": none.
	Condition string
}

// An Observation is what became of an attempt, before anybody judges it.
type Observation struct {
	Pod        *corev1.Pod       // the pod as the API server admitted it; nil when refused
	Object     map[string]any    // the object of the API server's answer, where the attempt was neither the creation of a pod nor of a workload
	Refused    *metav1.Status    // the API server's refusal; nil when admitted
	Attempts   []WebhookAttempt  // every call to a mutating webhook that the API server tried, in order, from its audit annotations
	FailedOpen []string          // names of webhooks whose failed call was passed over (failurePolicy Ignore)
	Audit      map[string]string // all audit annotations of the pod's creation
	Warnings   []string          // warnings sent to the client
	Retried    bool              // a controller was refused and tries again: calls beyond Attempts are of tries that nobody looked at
	Events     []string          // messages of Warning events about the workload (controllers only), sorted, unique
	Conditions []string          // types of conditions of the workload that are True, where Attempt.Condition named one; sorted
	Seen       time.Time         // when a controller's pod had been created, where it was followed
	Looked     bool              // the pod was not created but looked at: whether it has a sidecar is all that can be said
	Rehearsal  string            // in what a dry run of the same request differed, in words; "": in nothing, or there was none
	Lacking    string            // what a follow-up did not find, in words: the pod is gone, or none came
	// Cleanup takes away what the attempt created for real; nil if it created nothing. It is called once, after the record
	// of the calls has been taken: a controller whose workload goes away piecemeal makes another pod, and another call.
	Cleanup func(context.Context) error
	Latency time.Duration // of the pod's creation as the client saw it; for workloads until the pod's creation was seen
}

// A WebhookAttempt is one `mutation.webhook.admission.k8s.io/round_R_index_I` audit annotation.
type WebhookAttempt struct {
	Round         int    `json:"-"`
	Index         int    `json:"-"`
	Configuration string `json:"configuration"` // name of the MutatingWebhookConfiguration
	Webhook       string `json:"webhook"`
	Mutated       bool   `json:"mutated"` // the API server saw the object changed by this call
	FailedOpen    bool   `json:"-"`       // the call failed, and failurePolicy Ignore passed over it
}
