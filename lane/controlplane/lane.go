// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	registration "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	"k8s.io/client-go/rest"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/table"
)

// Name of the lane.
const Name = "controlplane"

// Features that the lane has, sorted.
var Features = []string{
	probe.FeatureControllers, probe.FeatureDefaulting, probe.FeatureDryRun, probe.FeatureEquivalence,
	table.FeatureFollow, probe.FeatureLong, probe.FeatureAdmission, probe.FeatureRotation, probe.FeatureServices, probe.FeatureValidation,
}

// LaneOptions of a lane. The zero value is ready.
type LaneOptions struct {
	// EventWait is how long a refused workload's Warning events are waited for; they come after the refusal, and
	// nothing says that there will be any. Default 5 s.
	EventWait time.Duration
	// Hold is done to each pod, and pod template of a workload, that is created for real, so that nothing starts it; nil
	// where nothing could.
	Hold func(kind string, pod *corev1.PodSpec)
	// Shared says that there are two lanes on the cluster, and Aside that it is the one of what is made aside. Neither touches
	// what the other has made; see probe.Runner.Aside.
	Shared, Aside bool
}

// A Cluster is what a lane needs of the place that it runs cases on: a control plane of this package, or any other
// cluster that hands over its audit log.
type Cluster struct {
	Facts  probe.Facts
	Client *kubernetes.Clientset // without a limit on requests
	Audit  *AuditLog             // of the API server, under the policy AuditPolicy
	// Ended is closed once the cluster cannot be used any more, and Why says why; nil until then, and where it was ended
	// on purpose.
	Ended <-chan struct{}
	Why   func() error
	// Logs are the ends of its components' logs, n bytes each at most; nil where they cannot be had.
	Logs func(n int64) []probe.Finding
}

// explain adds what is known of a cluster that has ended to an error that came of it.
func (c *Cluster) explain(err error) error {
	if ended := c.Why(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("%w: %w", err, ended)
	}
	return err
}

// A Lane runs cases on a cluster that is its own: nobody else writes webhook configurations there, or its namespaces, but
// the other lane that there may be (LaneOptions.Shared), which has its own.
type Lane struct {
	cluster *Cluster
	client  *kubernetes.Clientset
	options LaneOptions
	events  *eventLog
	serial  atomic.Uint64 // of attempts, for their Audit-IDs

	rewritten atomic.Uint64 // configurations that were not in force within lostAfter
	// touched: configurations or namespaces may not be as the lane's arrangements left them, since a request of a case was
	// about one, or an arrangement went wrong.
	touched atomic.Bool

	mu         sync.Mutex // Arrange and Close, one at a time
	arranged   uint64     // serial of the arrangement
	system     map[string]metadata
	there      *standing                // nil: nobody has looked
	looked     time.Time                // when the lane looked at what there is
	written    map[string]written       // by kind and name
	accounts   map[string]bool          // namespaces whose default ServiceAccount exists
	namespaces map[string]metadata      // as the lane knows them to be, by name
	services   map[string]arranged      // that the lane made, by namespace and name
	fronts     int                      // of the addresses that Behind named, the last
	stored     map[string]*probe.Stored // what the lane made for the arrangement, by its contents
}

var _ probe.Lane = (*Lane)(nil)
var _ probe.Rememberer = (*Lane)(nil)

// NewLane makes the control plane a lane. Close it before the control plane is stopped.
func NewLane(cp *ControlPlane, options LaneOptions) *Lane { return NewLaneOn(cp.cluster(), options) }

// NewLaneOn makes a cluster a lane.
func NewLaneOn(cluster *Cluster, options LaneOptions) *Lane {
	if options.EventWait == 0 {
		options.EventWait = 5 * time.Second
	}
	l := &Lane{
		arranged: uint64(rand.Uint32()), // a cluster that is taken again has the marker of another lane
		cluster:  cluster, client: cluster.Client, options: options, events: watchEvents(cluster.Client),
		system: map[string]metadata{}, written: map[string]written{}, accounts: map[string]bool{},
		services: map[string]arranged{}, namespaces: map[string]metadata{},
	}
	l.touched.Store(true) // nobody has looked yet
	return l
}

// Facts of the lane.
func (l *Lane) Facts() probe.Facts { return l.cluster.Facts }

// Close takes the lane's webhook configurations away, gives the system namespaces back the labels they had, and stops
// watching. The control plane can be used on.
func (l *Lane) Close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events.stop()
	l.touched.Store(true)                // whoever arranges after all begins anew
	errs := []error{l.removeStored(ctx)} // in an arrangement with markers of its own, so it comes first
	_, _, err := l.removeConfigurations(ctx, &probe.Arrangement{}, true)
	errs = append(errs, err, l.removeBeacons(ctx), l.removeServices(ctx))
	for _, name := range slices.Sorted(maps.Keys(l.system)) {
		if err := l.putNamespace(ctx, name, l.system[name]); err != nil {
			errs = append(errs, err)
		}
	}
	l.system, l.namespaces = map[string]metadata{}, map[string]metadata{}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean the control plane up: %w", err)
	}
	return nil
}

// owns tells whether a webhook configuration is the lane's to delete.
func (l *Lane) owns(name string) bool {
	return !l.options.Shared || strings.HasPrefix(name, probe.AsidePrefix) == l.options.Aside
}

// own is what a webhook configuration of the lane's own is called, which the other lane does not touch.
func (l *Lane) own(name string) string {
	if l.options.Aside {
		return probe.AsidePrefix + name
	}
	return name
}

func (l *Lane) configurations() registration.MutatingWebhookConfigurationInterface {
	return l.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
}

func (l *Lane) validating() registration.ValidatingWebhookConfigurationInterface {
	return l.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
}

func (l *Lane) rest() rest.Interface { return l.client.CoreV1().RESTClient() }
