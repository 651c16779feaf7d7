// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"net/url"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/probe"
)

// Name of the lane, and of its provider.
const Name = "kind"

// Features that the lane has, sorted: those of a control plane but for rotation, since its tap runs in the cluster and keeps
// its authorities to itself, and nodes; long where it is asked for.
func Features(long bool) []string {
	lacks := func(feature string) bool {
		return feature == probe.FeatureRotation || feature == probe.FeatureLong && !long
	}
	list := append(slices.DeleteFunc(slices.Clone(controlplane.Features), lacks), probe.FeatureNodes)
	slices.Sort(list)
	return list
}

// nowhere is a node selector that no node meets: what the tables create for real is admitted, and goes no further.
var nowhere = map[string]string{"outrigger.dev/nowhere": "true"}

// nobody is a scheduler that there is not. The cluster's own would write an event about each pod that it finds no node
// for: one more object of the pod's name, and one more call of webhooks that are called about everything.
const nobody = "outrigger-nobody"

// hold keeps a pod from being started.
func hold(kind string, pod *corev1.PodSpec) {
	if pod.NodeName != "" {
		return // it has a node already, and no scheduler is asked
	}
	pod.SchedulerName = nobody
	if kind != "DaemonSet" { // which makes no pods for nodes that its selector leaves out
		pod.NodeSelector = nowhere
	}
}

// A Lane runs cases on a kind cluster, with one other: see NewLanes.
type Lane struct {
	*controlplane.Lane
	gone func() error
}

var _ probe.Lane = (*Lane)(nil)

// NewLanes makes the cluster two lanes, with time for what is long or without: one, and one for what is made aside. Close them
// before the cluster.
func NewLanes(c *Cluster, long bool) (lane, aside *Lane, err error) {
	version, err := c.Version()
	if err != nil {
		return nil, nil, err
	}
	cluster := &controlplane.Cluster{
		Facts: probe.Facts{
			Lane: Name, Provider: Name, Kubernetes: version, Routing: controlplane.RoutingClusterIP, Features: Features(long),
		},
		Client: c.client, Audit: c.audit.log, Ended: c.audit.ended, Why: c.audit.why, Logs: c.Logs,
	}
	on := func(aside bool) *Lane {
		return &Lane{gone: c.audit.why, Lane: controlplane.NewLaneOn(cluster, controlplane.LaneOptions{Hold: hold, Shared: true, Aside: aside})}
	}
	return on(false), on(true), nil
}

// Close is as in the lane below. In a cluster that has ended by itself there is nothing to be cleaned up.
func (l *Lane) Close(ctx context.Context) error {
	if l.gone() != nil {
		return nil
	}
	return l.Lane.Close(ctx)
}

// Arrange is as in the lane below. Webhooks that are called at the tap are called by its Service.
func (l *Lane) Arrange(ctx context.Context, a *probe.Arrangement) error {
	routed := *a
	routed.Webhooks, routed.Validating = nil, nil
	for _, c := range a.Webhooks {
		c = c.DeepCopy()
		for i := range c.Webhooks {
			byService(&c.Webhooks[i].ClientConfig)
		}
		routed.Webhooks = append(routed.Webhooks, c)
	}
	for _, c := range a.Validating {
		c = c.DeepCopy()
		for i := range c.Webhooks {
			byService(&c.Webhooks[i].ClientConfig)
		}
		routed.Validating = append(routed.Validating, c)
	}
	return l.Lane.Arrange(ctx, &routed)
}

// byService has a webhook whose URL is that of the tap's Service called by the Service.
func byService(c *admissionregistrationv1.WebhookClientConfig) {
	if c.URL == nil || !strings.HasPrefix(*c.URL, base(tapHost)+"/") {
		return
	}
	at, err := url.Parse(*c.URL)
	if err != nil {
		return // the API server refuses it, and says so
	}
	path, port := at.EscapedPath(), int32(443)
	c.URL = nil
	c.Service = &admissionregistrationv1.ServiceReference{Namespace: TapNamespace, Name: tapName, Path: &path, Port: &port}
}
