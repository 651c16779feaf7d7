// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/injector/certs"
)

// ReplicaLabel is on each replica's Lease.
const ReplicaLabel = "injector.outrigger.dev/replica"

// What a replica has in force, as annotations of its Lease: the SHA-256 of the configuration, of the certificate that it
// serves, and of the certificate's authority, each in hex.
const (
	ConfigurationAnnotation = "injector.outrigger.dev/configuration"
	CertificateAnnotation   = "injector.outrigger.dev/certificate"
	AuthorityAnnotation     = "injector.outrigger.dev/authority"
)

// errBehind is why a replica is not ready although it has everything: a newer Secret is on its way to it.
var errBehind = errors.New("for the newest certificates")

// report writes into the replica's Lease what it has in force.
//
// A replica becomes ready in this order: it serves a certificate; its Lease says so; it has seen that the Secret, asked
// for after that, holds no other. So whoever retires an authority either finds the Lease, or has written the Secret
// before this replica looked.
func (r *Replica) report(ctx context.Context) error {
	s := r.Settings.Current()
	if r.set == nil {
		return nil
	}
	annotations := map[string]string{CertificateAnnotation: r.set.ID(), AuthorityAnnotation: r.set.AuthorityID()}
	if s != nil {
		annotations[ConfigurationAnnotation] = s.Hash
	}
	if r.reported == nil || !maps.Equal(r.reported.Annotations, annotations) {
		if err := r.writeLease(ctx, annotations); err != nil {
			return err
		}
	}
	if s == nil || r.Ready() == nil {
		return nil
	}
	secret, err := r.client.secrets.Get(ctx, r.Secret, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read Secret %s/%s again: %w", r.Namespace, r.Secret, err)
	}
	if newest, err := certs.Parse(secret.Data); err != nil || newest.ID() != r.set.ID() {
		r.wait("%v", errBehind)
		return errBehind
	}
	r.ready.Store(nil)
	r.Log.Info("ready", "configuration", s.Hash, "certificate", r.set.ID())
	return nil
}

// checkLease has the Lease written again if somebody has deleted it: without it, this replica's authority might be retired.
func (r *Replica) checkLease() {
	if r.reported == nil {
		return
	}
	if _, exists, err := r.caches[leases].GetByKey(r.Namespace + "/" + r.Replica); err == nil && !exists {
		r.reported = nil
		r.queue.Add(report)
	}
}

func (r *Replica) writeLease(ctx context.Context, annotations map[string]string) error {
	now := metav1.NewMicroTime(time.Now())
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: r.Replica, Namespace: r.Namespace, Labels: map[string]string{ReplicaLabel: ""}, Annotations: annotations,
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &r.Replica, RenewTime: &now},
	}
	if r.PodUID != "" {
		lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: r.Replica, UID: r.PodUID}}
	}
	if r.reported != nil {
		lease.ResourceVersion = r.reported.ResourceVersion
	}
	written, err := r.put(ctx, lease)
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
		// It is that of this Pod's container before it was restarted, or somebody else has touched it.
		r.reported = nil
		existing, getErr := r.client.leases.Get(ctx, r.Replica, metav1.GetOptions{})
		if getErr == nil {
			lease.ResourceVersion = existing.ResourceVersion
		} else if apierrors.IsNotFound(getErr) {
			lease.ResourceVersion = ""
		} else {
			return fmt.Errorf("read Lease %s/%s: %w", r.Namespace, r.Replica, getErr)
		}
		written, err = r.put(ctx, lease)
	}
	if err != nil {
		return fmt.Errorf("write Lease %s/%s: %w", r.Namespace, r.Replica, err)
	}
	r.reported = written
	return nil
}

// put creates a Lease, or updates one that has a version.
func (r *Replica) put(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	if lease.ResourceVersion == "" {
		return r.client.leases.Create(ctx, lease, metav1.CreateOptions{})
	}
	return r.client.leases.Update(ctx, lease, metav1.UpdateOptions{})
}

// Leave deletes the replica's Lease. Call it after Run, once nothing is served any more.
func (r *Replica) Leave(ctx context.Context) error {
	if r.reported == nil {
		return nil
	}
	err := r.client.leases.Delete(ctx, r.Replica, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Lease %s/%s: %w", r.Namespace, r.Replica, err)
	}
	return nil
}
