// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/outrigger-k8s/outrigger/probe"
)

// A webhook configuration that has reached the API server need not be in force. The API server keeps what it has made of
// a configuration by the configuration's name (k8s.io/apiserver pkg/admission/configuration, configurationsCache), and throws
// that away when it handles the change. Until then it goes by the old state, while a configuration of another name that was
// written later may be in force already: its name is new, so there is nothing to throw away. That was seen once in a hundred
// arrangements beside busy clients. And whoever was reading the configurations at that moment, from before the change,
// can put the old state back. There it stays until the next change of that configuration, or for the ten minutes until the
// informer brings everything again.
//
// So each configuration of an arrangement has one webhook more, its last, which refuses marker objects labelled with the
// digest of the configuration's contents, as the marker does: it is seen exactly while what was made of these contents is in
// force. Where that does not happen, the configuration is written again, which throws away what was put back.
const (
	inForceWebhook         = "in-force.outrigger.dev"
	inForceLabel           = "outrigger.dev/in-force"
	inForceValidatingLabel = "outrigger.dev/in-force-validating"

	// lostAfter is how long a configuration may take to be in force, before it is written again: it takes a few ms on an
	// idle machine, and writing one that was only late does no harm.
	lostAfter = 300 * time.Millisecond
)

// digest tells contents of configurations apart. It is the value of a label.
func digest(configuration any) (string, error) {
	contents, err := json.Marshal(configuration)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum224(contents)), nil
}

// marked returns the arrangement with the webhook that shows it in force in each of its configurations.
func marked(a *probe.Arrangement) (*probe.Arrangement, error) {
	with := *a
	with.Webhooks, with.Validating = nil, nil
	for _, c := range a.Webhooks {
		mark, err := digest(c)
		if err != nil {
			return nil, fmt.Errorf("mark the mutating webhook configuration %s: %w", c.Name, err)
		}
		c = c.DeepCopy()
		c.Webhooks = append(c.Webhooks, mutating(markerWebhookFor(inForceWebhook, inForceLabel, mark)))
		with.Webhooks = append(with.Webhooks, c)
	}
	for _, c := range a.Validating {
		mark, err := digest(c)
		if err != nil {
			return nil, fmt.Errorf("mark the validating webhook configuration %s: %w", c.Name, err)
		}
		c = c.DeepCopy()
		c.Webhooks = append(c.Webhooks, markerWebhookFor(inForceWebhook, inForceValidatingLabel, mark))
		with.Validating = append(with.Validating, c)
	}
	return &with, nil
}

// awaitInForce returns once every configuration of a, which is marked, is in force.
func (l *Lane) awaitInForce(ctx context.Context, a *probe.Arrangement) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(8) // one by one they come into force: who asks after all at once only keeps the API server from it
	for _, c := range a.Webhooks {
		last := c.Webhooks[len(c.Webhooks)-1]
		all.Go(func() error {
			return awaitInForce(ctx, l, l.configurations(), mutatingKind, c.Name, inForceLabel, last.ObjectSelector.MatchLabels[inForceLabel])
		})
	}
	for _, c := range a.Validating {
		last := c.Webhooks[len(c.Webhooks)-1]
		all.Go(func() error {
			return awaitInForce(ctx, l, l.validating(), validatingKind, c.Name, inForceValidatingLabel, last.ObjectSelector.MatchLabels[inForceValidatingLabel])
		})
	}
	return all.Wait()
}

func awaitInForce[T any, C configuration[T]](ctx context.Context, l *Lane, client store[T], kind, name, label, mark string) error {
	since, version := time.Now(), l.written[kind+"/"+name].resourceVersion
	return l.cluster.awaitEvery(ctx, markerInterval, "the API server acts on "+kind+" "+name, func(ctx context.Context) (bool, error) {
		seen, err := l.markerSeen(ctx, label, mark)
		if seen || err != nil || time.Since(since) < lostAfter {
			return seen, err
		}
		l.rewritten.Add(1)
		since = time.Now()
		version, err = again[T, C](ctx, client, kind, name, version)
		return false, err
	})
}

// again writes the configuration of this version with nothing changed but an annotation, which the lane's next write takes
// away, and returns its next version.
func again[T any, C configuration[T]](ctx context.Context, client store[T], kind, name, version string) (string, error) {
	patch := fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q,"annotations":{"outrigger.dev/again":"%d"}}}`, version, time.Now().UnixNano()) // another each time
	done, err := client.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		err = errors.Join(errStranger, err)
	}
	if err != nil {
		return "", fmt.Errorf("write %s %s again: %w", kind, name, err)
	}
	return C(done).GetResourceVersion(), nil
}

// errStranger: a configuration is not as the lane has written it, and it has not looked since.
var errStranger = errors.New("somebody else has changed or deleted it, though it is the lane's")

// Rewritten is how many times so far a configuration was written again because it was not in force in lostAfter.
func (l *Lane) Rewritten() uint64 { return l.rewritten.Load() }

// mutating is the same webhook as one of a mutating configuration.
func mutating(w admissionregistrationv1.ValidatingWebhook) admissionregistrationv1.MutatingWebhook {
	return admissionregistrationv1.MutatingWebhook{
		Name: w.Name, ClientConfig: w.ClientConfig, ObjectSelector: w.ObjectSelector,
		Rules: w.Rules, MatchConditions: w.MatchConditions, FailurePolicy: w.FailurePolicy, SideEffects: w.SideEffects,
		TimeoutSeconds: w.TimeoutSeconds, AdmissionReviewVersions: w.AdmissionReviewVersions,
	}
}
