// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/outrigger-k8s/outrigger/lane/admission"
	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/lane/kind"
	"github.com/outrigger-k8s/outrigger/lane/source"
	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/probe"
)

// A place is a lane as it can be chosen: what is known of it before it is opened, and how to open it.
type place struct {
	name  string
	facts func(*Options) probe.Facts
	check func(*Options) error // what of the options the lane cannot do
	open  func(context.Context, *Session) (probe.Lane, error)
	// together: arrangements that can stand side by side do, since to arrange takes long there.
	together bool
}

var places = []place{
	{admission.Name, admissionFacts, checkAdmission, openAdmission, false},
	{controlplane.Name, controlplaneFacts, checkControlplane, openControlplane, true},
	{kind.Name, kindFacts, checkKind, openKind, true},
}

// Lanes that Options.Lane may name.
func Lanes() []string {
	names := make([]string, len(places))
	for i, p := range places {
		names[i] = p.name
	}
	return names
}

// place that the options name; "" is admission.
func (o *Options) place() (*place, error) {
	for i := range places {
		if places[i].name == o.Lane || o.Lane == "" && places[i].name == admission.Name {
			return &places[i], nil
		}
	}
	return nil, usage("there is no lane %q: the lanes are %s", o.Lane, strings.Join(Lanes(), ", "))
}

// Facts of the lane that the options name, as they can be known without opening it.
func (o *Options) Facts() (probe.Facts, error) {
	p, err := o.place()
	if err != nil {
		return probe.Facts{}, err
	}
	return p.facts(o), nil
}

func admissionFacts(*Options) probe.Facts { return admission.Facts() }

func checkAdmission(o *Options) error {
	if o.Routing != "" {
		return usage("the admission lane has no Services that could be routed to: for routing by %s take --lane controlplane", o.Routing)
	}
	if v := strings.TrimPrefix(o.Kubernetes, "v"); v != "" && v != admission.Kubernetes {
		return usage("the admission lane is Kubernetes %s, which it is linked with: for %s take --lane controlplane", admission.Kubernetes, v)
	}
	return nil
}

func openAdmission(_ context.Context, s *Session) (probe.Lane, error) {
	if err := s.openHere(nil); err != nil {
		return nil, err
	}
	lane := &admission.Lane{}
	s.closers = append(s.closers, func(context.Context) error { return lane.Close() })
	return lane, nil
}

func controlplaneFacts(o *Options) probe.Facts {
	f := probe.Facts{Lane: controlplane.Name, Provider: source.FromSource, Kubernetes: o.Kubernetes, Routing: o.Routing}
	if os.Getenv("KUBEBUILDER_ASSETS") != "" {
		f.Provider = source.FromAssets
		if f.Kubernetes == "" { // what is wrong with them, who opens the lane is told
			binaries, _ := source.Ensure(context.Background(), source.Options{})
			f.Kubernetes = binaries.Version
		}
	}
	if f.Kubernetes == "" {
		f.Kubernetes = source.DefaultVersion
	}
	if f.Routing == "" {
		f.Routing = controlplane.RoutingClusterIP
	}
	f.Features = controlplane.FeaturesHere(f.Routing)
	return f
}

func checkControlplane(o *Options) error {
	if known := []string{controlplane.RoutingClusterIP, controlplane.RoutingEndpoints}; o.Routing != "" && !slices.Contains(known, o.Routing) {
		return usage("there is no routing %q: take %s", o.Routing, strings.Join(known, " or "))
	}
	if err := source.CheckVersion(o.Kubernetes); err != nil {
		return &UsageError{err}
	}
	return nil
}

func openControlplane(ctx context.Context, s *Session) (probe.Lane, error) {
	o := &s.options
	var binaries source.Binaries
	err := s.phase("binaries", func() (err error) {
		binaries, err = source.Ensure(ctx, source.Options{Version: o.Kubernetes, Progress: o.Progress})
		return err
	})
	if err != nil {
		return nil, err
	}
	authority, err := pki.NewAuthority()
	if err != nil {
		return nil, err
	}
	if err := s.openHere(authority); err != nil {
		return nil, err
	}
	s.runner.Cluster = authority.CABundle()
	cp, err := controlplane.Start(ctx, s.processes, controlplane.Options{Binaries: binaries, Routing: o.Routing, Progress: o.Progress, Authority: authority})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func(context.Context) error { cp.Stop(); return nil })
	lane := controlplane.NewLane(cp, controlplane.LaneOptions{Shared: true})
	aside := controlplane.NewLane(cp, controlplane.LaneOptions{Shared: true, Aside: true})
	s.closers = append(s.closers, lane.Close, aside.Close)
	s.runner.Aside = aside
	return lane, nil
}
