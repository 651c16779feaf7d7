// SPDX-License-Identifier: Apache-2.0

// Package cluster is an injector's life in a cluster: where its configuration and its certificates come from, and how
// its replicas keep step. Everything comes through a watch of the API, within moments of the change; nothing is mounted,
// since the kubelet takes up to two minutes to refresh a volume.
//
//	ConfigMap             the configuration: a good one is in force at once, a broken one is passed over
//	Secret                the certificates (package certs): made if there are none, renewed when they are due or when
//	                      RotateAnnotation asks for it
//	Lease, one a replica  what the replica has in force: its configuration, its certificate, its authority
//	webhook               the Mutating- and the ValidatingWebhookConfiguration, whose caBundle is written
//	configurations
//
// No replica leads. Each does whatever is to be done, writes it on the condition that nothing has changed since it
// looked (resourceVersion), and takes up what another has written first. So nobody waits for a leader that is gone.
//
// The Leases are no locks and expire not: that a Lease exists says that its replica may serve. It goes when the replica
// ends, or with its Pod, which owns it. An earlier authority is retired when every Lease names the present one.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/outrigger-k8s/outrigger/injector/certs"
	"github.com/outrigger-k8s/outrigger/injector/settings"
	"github.com/outrigger-k8s/outrigger/injector/webhook"
)

// Options are what a replica is made of. All fields are required, unless they say otherwise.
type Options struct {
	// Config says how to reach the API server, and as whom.
	Config *rest.Config
	// Namespace is where the ConfigMap, the Secret, the Leases and the Service are.
	Namespace string
	// ConfigMap and Key name the configuration.
	ConfigMap, Key string
	// Secret is the name of the one with the certificates.
	Secret string
	// Service is the name of the one by which the webhooks reach the injector.
	Service string
	// Webhooks is the name of the Mutating- and of the ValidatingWebhookConfiguration whose caBundle is written, in the
	// webhooks that name the Service. They may come and go.
	Webhooks string
	// Leaf and Authority are how long certificates are valid (certs.Terms).
	Leaf, Authority time.Duration
	// Replica is this replica's name: the Pod's.
	Replica string
	// PodUID is the Pod's. Default: no Pod owns the Lease, and it outlives a replica that is killed.
	PodUID types.UID
	// Settings takes the configurations.
	Settings *settings.Source
	// Certificate takes the certificates.
	Certificate *webhook.Certificate
	// ConfigurationSeen is told of each new configuration: the settings now in force, nil if none, and why a new
	// one is not. CertificateSeen likewise. Default: nobody is told.
	ConfigurationSeen func(*settings.Settings, error)
	CertificateSeen   func(error)
	// Log is where to log. Default: slog.Default().
	Log *slog.Logger
}

// Replica is one replica of an injector in a cluster.
type Replica struct {
	Options
	terms  certs.Terms
	client *client
	queue  workqueue.TypedRateLimitingInterface[task]
	caches map[task]cache.Store
	follow []cache.Controller

	// Of the worker alone.
	set            *certs.Set // in force; nil if none so far
	secretRead     string     // the resourceVersion of the Secret that set is of
	configMapRead  string     // likewise of the ConfigMap
	reported       *coordinationv1.Lease
	rotateRefused  string // the last value of RotateAnnotation that was not understood
	waitingForData map[task]bool

	ready atomic.Pointer[string] // what is waited for; nil when ready
}

// task is something to do, because of a change in the cache of the same name.
type task string

const (
	configuration task = "configuration"
	certificates  task = "certificates"
	leases        task = "leases"
	mutating      task = "mutating webhooks"
	validating    task = "validating webhooks"
	report        task = "report" // has no cache
)

// New makes a replica. It does nothing until Run.
func New(o Options) (*Replica, error) {
	c, err := newClient(o.Config, o.Namespace)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.ConfigurationSeen == nil {
		o.ConfigurationSeen = func(*settings.Settings, error) {}
	}
	if o.CertificateSeen == nil {
		o.CertificateSeen = func(error) {}
	}
	r := &Replica{
		Options: o,
		client:  c,
		terms: certs.Terms{
			Hosts: []string{o.Service + "." + o.Namespace + ".svc"}, Leaf: o.Leaf, Authority: o.Authority,
		},
		queue:          workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[task]()),
		caches:         map[task]cache.Store{},
		waitingForData: map[task]bool{},
	}
	r.wait("for ConfigMap %s/%s and Secret %s/%s", o.Namespace, o.ConfigMap, o.Namespace, o.Secret)
	core := c.configMaps
	leaseClient, admission := c.leases.GetClient(), c.mutating.GetClient()
	named := func(name string) func(*metav1.ListOptions) {
		return func(l *metav1.ListOptions) {
			l.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
		}
	}
	labelled := func(l *metav1.ListOptions) { l.LabelSelector = ReplicaLabel }
	r.watch(configuration, core, "configmaps", o.Namespace, new(corev1.ConfigMap), named(o.ConfigMap))
	r.watch(certificates, core, "secrets", o.Namespace, new(corev1.Secret), named(o.Secret))
	r.watch(leases, leaseClient, "leases", o.Namespace, new(coordinationv1.Lease), labelled)
	r.watch(mutating, admission, "mutatingwebhookconfigurations", "", new(admissionregistrationv1.MutatingWebhookConfiguration), named(o.Webhooks))
	r.watch(validating, admission, "validatingwebhookconfigurations", "", new(admissionregistrationv1.ValidatingWebhookConfiguration), named(o.Webhooks))
	return r, nil
}

// watch keeps the objects that a selector selects in the task's cache, and queues the task whenever one changes.
func (r *Replica) watch(t task, c cache.Getter, resource, namespace string, kind runtime.Object, selector func(*metav1.ListOptions)) {
	changed := func(any) { r.queue.Add(t) }
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewFilteredListWatchFromClient(c, resource, namespace, selector),
		ObjectType:    kind,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: changed, UpdateFunc: func(_, after any) { changed(after) }, DeleteFunc: changed,
		},
	})
	r.caches[t] = store
	r.follow = append(r.follow, controller)
}

// Run follows the cluster until the context is done, and returns nil. Call it once.
func (r *Replica) Run(ctx context.Context) error {
	var running []<-chan struct{}
	for _, controller := range r.follow {
		done := make(chan struct{})
		running = append(running, done)
		go func() {
			defer close(done)
			controller.RunWithContext(ctx)
		}()
	}
	context.AfterFunc(ctx, r.queue.ShutDown)
	// Before the caches are full, what is missing in them says nothing.
	synced := make([]cache.InformerSynced, len(r.follow))
	for i, controller := range r.follow {
		synced[i] = controller.HasSynced
	}
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		for t := range r.caches {
			r.queue.Add(t)
		}
		for r.next(ctx) {
		}
	}
	for _, done := range running {
		<-done
	}
	return nil
}

// next does the next task; false when there will be none.
func (r *Replica) next(ctx context.Context) bool {
	t, shutdown := r.queue.Get()
	if shutdown {
		return false
	}
	defer r.queue.Done(t)
	var err error
	switch t {
	case configuration:
		r.configure()
	case leases:
		r.checkLease()
		err = r.certify(ctx)
	case certificates:
		err = r.certify(ctx)
	case mutating:
		err = r.entrust(ctx, mutating)
	case validating:
		err = r.entrust(ctx, validating)
	case report:
		err = r.report(ctx)
	}
	if err != nil && ctx.Err() == nil {
		if !errors.Is(err, errBehind) {
			r.Log.Warn("will be tried again", "task", string(t), "error", err)
		}
		r.queue.AddRateLimited(t)
		return true
	}
	r.queue.Forget(t)
	return true
}

// Ready says what the replica waits for; nil once it serves a certificate and has a configuration in force, and the
// others know it. From then on it is ready for good: what it has stays in force, whatever becomes of the cluster.
func (r *Replica) Ready() error {
	if waiting := r.ready.Load(); waiting != nil {
		return errors.New(*waiting)
	}
	return nil
}

func (r *Replica) wait(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.ready.Store(&text)
}

// get returns the one object in a task's cache, if it is there.
func get[T any](r *Replica, t task) (object T, found bool) {
	for _, o := range r.caches[t].List() {
		return o.(T), true
	}
	return object, false
}

// configure puts the configuration in force.
func (r *Replica) configure() {
	where := fmt.Sprintf("key %s of ConfigMap %s/%s", r.Key, r.Namespace, r.ConfigMap)
	m, found := get[*corev1.ConfigMap](r, configuration)
	if !found {
		r.missing(configuration, where)
		return
	}
	if m.ResourceVersion == r.configMapRead {
		return
	}
	r.configMapRead = m.ResourceVersion
	text, found := m.Data[r.Key]
	if !found {
		r.missing(configuration, where)
		return
	}
	delete(r.waitingForData, configuration)
	if s := r.Settings.Current(); s != nil && s.Hash == settings.Hash([]byte(text)) {
		return // something else of the ConfigMap has changed
	}
	s, err := r.Settings.Offer(where, []byte(text))
	r.ConfigurationSeen(s, err)
	if s == nil {
		r.wait("for a configuration that is not broken: %v", err)
	}
	r.queue.Add(report)
}

// missing says once that there is no configuration.
func (r *Replica) missing(t task, what string) {
	if !r.waitingForData[t] {
		r.waitingForData[t] = true
		r.Log.Warn("there is no configuration; what was in force stays", "missing", what)
	}
	if r.Settings.Current() == nil {
		r.wait("for %s", what)
	}
}
