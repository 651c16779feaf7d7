// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/outrigger-k8s/outrigger/injector/certs"
)

// RotateAnnotation on the Secret asks for new certificates at once: a new leaf, or a new authority with its leaf. Whoever
// does it takes the annotation away. Deleting the Secret asks for a new authority too.
const (
	RotateAnnotation = "injector.outrigger.dev/rotate"
	RotateLeaf       = "leaf"
	RotateAuthority  = "authority"
)

// certify puts the certificates of the Secret in force, and does to them what is to be done.
func (r *Replica) certify(ctx context.Context) error {
	now := time.Now()
	secret, found := get[*corev1.Secret](r, certificates)
	if !found {
		return r.found(ctx, nil, "there is none", now)
	}
	if secret.ResourceVersion != r.secretRead {
		set, err := certs.Parse(secret.Data)
		if err != nil {
			r.CertificateSeen(fmt.Errorf("read Secret %s/%s: %w", r.Namespace, r.Secret, err))
			return r.found(ctx, secret, err.Error(), now)
		}
		r.adopt(set)
		r.secretRead = secret.ResourceVersion
	}
	what, why, again := r.set.Due(r.terms, now)
	switch asked := secret.Annotations[RotateAnnotation]; {
	case asked == RotateAuthority:
		what, why = certs.NewAuthority, "asked for"
	case asked == RotateLeaf && what == certs.Nothing:
		what, why = certs.NewLeaf, "asked for"
	case asked != "" && asked != RotateLeaf && asked != r.rotateRefused:
		r.Log.Warn("annotation not understood", "annotation", RotateAnnotation, "value", asked, "want", RotateLeaf+" or "+RotateAuthority)
		r.rotateRefused = asked
	}
	switch what {
	case certs.NewLeaf:
		next, err := r.set.Renew(r.terms, now)
		return r.write(ctx, secret, next, err, "certificate renewed", why)
	case certs.NewAuthority:
		next, err := r.set.Replace(r.terms, now)
		return r.write(ctx, secret, next, err, "authority replaced", why)
	}
	r.queue.AddAfter(certificates, again.Sub(now))
	if r.set.Earlier() == 0 {
		return nil
	}
	if all, err := r.allServe(ctx, r.set.AuthorityID()); err != nil || !all {
		return err
	}
	return r.write(ctx, secret, r.set.Retire(), nil, "earlier authority retired", "every replica serves the present one")
}

// found makes the first certificates, in the place of a Secret that is broken, or nil if there is none. If this replica
// has seen better ones, they are what the new ones follow.
func (r *Replica) found(ctx context.Context, secret *corev1.Secret, why string, now time.Time) error {
	if r.set != nil {
		next, err := r.set.Replace(r.terms, now)
		return r.write(ctx, secret, next, err, "authority replaced", why)
	}
	first, err := certs.New(r.terms, now)
	return r.write(ctx, secret, first, err, "authority made", why)
}

// write stores a set in the Secret, unless somebody else has changed it: then there is nothing to do, since the change
// is on its way here.
func (r *Replica) write(ctx context.Context, secret *corev1.Secret, set *certs.Set, err error, what, why string) error {
	if err != nil {
		return err
	}
	data, err := set.Data()
	if err != nil {
		return err
	}
	if secret == nil {
		_, err = r.client.secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: r.Secret, Namespace: r.Namespace},
			Type:       corev1.SecretTypeTLS,
			Data:       data,
		}, metav1.CreateOptions{})
	} else {
		secret = secret.DeepCopy()
		delete(secret.Annotations, RotateAnnotation)
		secret.Data = data
		_, err = r.client.secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("write Secret %s/%s: %w", r.Namespace, r.Secret, err)
	}
	r.Log.Info(what, "why", why, "certificate", set.ID(), "authority", set.AuthorityID(), "earlier", set.Earlier())
	return nil
}

// adopt puts a set in force.
func (r *Replica) adopt(set *certs.Set) {
	if r.set == nil || r.set.ID() != set.ID() {
		r.Certificate.Use(set.Certificate())
		r.CertificateSeen(nil)
	}
	r.set = set
	r.queue.Add(report)
	r.queue.Add(mutating)
	r.queue.Add(validating)
}

// allServe reports whether every replica serves a leaf of an authority. It asks the API server, not the cache: a replica
// that is not listed reads the Secret, which names this authority, after it is (Replica.report).
func (r *Replica) allServe(ctx context.Context, authority string) (bool, error) {
	list, err := r.client.leases.List(ctx, metav1.ListOptions{LabelSelector: ReplicaLabel})
	if err != nil {
		return false, fmt.Errorf("list the replicas' Leases in %s: %w", r.Namespace, err)
	}
	for _, lease := range list.Items {
		if lease.Annotations[AuthorityAnnotation] != authority {
			return false, nil
		}
	}
	return len(list.Items) > 0, nil
}

// entrust writes the bundle into the webhooks of a configuration that name the Service.
func (r *Replica) entrust(ctx context.Context, t task) error {
	if r.set == nil {
		return nil
	}
	bundle := r.set.Bundle()
	var version string
	var clients []admissionregistrationv1.WebhookClientConfig
	switch t {
	case mutating:
		c, _ := get[*admissionregistrationv1.MutatingWebhookConfiguration](r, t)
		if c == nil {
			return nil
		}
		version = c.ResourceVersion
		for _, w := range c.Webhooks {
			clients = append(clients, w.ClientConfig)
		}
	case validating:
		c, _ := get[*admissionregistrationv1.ValidatingWebhookConfiguration](r, t)
		if c == nil {
			return nil
		}
		version = c.ResourceVersion
		for _, w := range c.Webhooks {
			clients = append(clients, w.ClientConfig)
		}
	}
	patch := r.bundlePatch(version, clients, bundle)
	if patch == nil {
		return nil
	}
	// The configuration may be ahead of what this replica has seen of the Secret. Asked after the configuration was read,
	// and written only if that has not changed, no bundle takes the place of a newer one.
	secret, err := r.client.secrets.Get(ctx, r.Secret, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("read Secret %s/%s: %w", r.Namespace, r.Secret, err)
	default:
		if newest, err := certs.Parse(secret.Data); err == nil && !bytes.Equal(newest.Bundle(), bundle) {
			return nil // it is on its way here
		}
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	if t == mutating {
		_, err = r.client.mutating.Patch(ctx, r.Webhooks, types.JSONPatchType, text, metav1.PatchOptions{})
	} else {
		_, err = r.client.validating.Patch(ctx, r.Webhooks, types.JSONPatchType, text, metav1.PatchOptions{})
	}
	switch {
	// 422 is what a failed "test" gives: somebody else was faster.
	case apierrors.IsNotFound(err), apierrors.IsInvalid(err), apierrors.IsConflict(err):
		return nil
	case err != nil:
		return fmt.Errorf("write the caBundle of the %s of %s: %w", t, r.Webhooks, err)
	}
	r.Log.Info("caBundle written", "configuration", r.Webhooks, "kind", string(t), "authorities", 1+r.set.Earlier())
	return nil
}

// operation is one of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"` // bytes are base64 in JSON, as a caBundle is
}

// bundlePatch gives the webhooks that name the Service a bundle, if the configuration is still of a version; nil if
// they have it.
func (r *Replica) bundlePatch(version string, clients []admissionregistrationv1.WebhookClientConfig, bundle []byte) []operation {
	patch := []operation{{"test", "/metadata/resourceVersion", version}}
	for i, c := range clients {
		ours := c.Service != nil && c.Service.Namespace == r.Namespace && c.Service.Name == r.Service
		if ours && string(c.CABundle) != string(bundle) {
			patch = append(patch, operation{"add", "/webhooks/" + strconv.Itoa(i) + "/clientConfig/caBundle", bundle})
		}
	}
	if len(patch) == 1 {
		return nil
	}
	return patch
}
