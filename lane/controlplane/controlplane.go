// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/outrigger-k8s/outrigger/lane/source"
	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/proc"
)

// How the API server reaches the Service of a webhook.
const (
	RoutingClusterIP = "clusterip" // it dials the Service's ClusterIP, as where kube-proxy runs on its host
	RoutingEndpoints = "endpoints" // it dials an endpoint itself (--enable-aggregator-routing)
)

// ServiceCIDR is the range of ClusterIPs: on loopback, so that nothing the API server dials leaves the machine.
const ServiceCIDR = "127.96.0.0/16"

// User is who the harness is to the API server; it is in system:masters.
const User = "outrigger"

// startTimeout bounds a start once the binaries are there: it takes 3 to 5 s on an idle machine of 2 cores.
const startTimeout = 90 * time.Second

// Options of a control plane.
type Options struct {
	// Binaries to run. Where Dir is empty, source.Ensure gets them for Version, which may take minutes the first time;
	// where only Version is, the API server in Dir is asked for it.
	Binaries source.Binaries
	Version  string    // Kubernetes version without the v; "": source.DefaultVersion
	Routing  string    // RoutingClusterIP (default) or RoutingEndpoints
	Progress io.Writer // where source.Ensure reports; nil: nowhere
	// Authority is the cluster's own, which everybody's kubeconfig names. Default: a new one.
	Authority *pki.Authority
}

// A ControlPlane is a running etcd, API server and controller manager.
type ControlPlane struct {
	binaries source.Binaries
	routing  string
	startup  time.Duration

	run        *proc.Run
	etcd       *proc.Process
	apiserver  *proc.Process
	manager    *proc.Process
	config     *rest.Config
	kubeconfig string
	client     *kubernetes.Clientset
	audit      *AuditLog
	ended      chan struct{} // closed once one of the processes has ended
	end        sync.Once
}

// Start starts a control plane in run's directory and returns once it is ready: the API server says so, the default
// ServiceAccount exists, and the node too. ctx bounds the start only. After an error, and after Stop, none of its
// processes is left.
func Start(ctx context.Context, run *proc.Run, options Options) (*ControlPlane, error) {
	switch options.Routing {
	case "":
		options.Routing = RoutingClusterIP
	case RoutingClusterIP, RoutingEndpoints:
	default:
		return nil, fmt.Errorf("start a control plane: routing %q is neither %q nor %q",
			options.Routing, RoutingClusterIP, RoutingEndpoints)
	}
	var err error
	switch {
	case options.Binaries.Dir == "":
		options.Binaries, err = source.Ensure(ctx, source.Options{Version: options.Version, Progress: options.Progress})
	case options.Binaries.Version == "":
		options.Binaries, err = source.InDir(ctx, options.Binaries.Dir, options.Version)
	}
	if err != nil {
		return nil, err
	}
	if options.Authority == nil {
		if options.Authority, err = pki.NewAuthority(); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout,
		fmt.Errorf("not ready within %s: is the machine overloaded?", startTimeout))
	defer cancel()

	cp := &ControlPlane{binaries: options.Binaries, routing: options.Routing, run: run, audit: NewAuditLog(User), ended: make(chan struct{})}
	if err := cp.start(ctx, options.Authority); err != nil {
		err = fmt.Errorf("start a control plane of Kubernetes %s: %w", options.Binaries.Version, cp.cluster().explain(err))
		cp.Stop()
		return nil, err
	}
	cp.startup = time.Since(began)
	return cp, nil
}

func (cp *ControlPlane) start(ctx context.Context, authority *pki.Authority) error {
	// A folder of its own: there may be several control planes in a run, and etcd's unix sockets are named relative
	// to it, since their full path may be longer than the 104 bytes that a socket's address can hold.
	dir, err := os.MkdirTemp(cp.run.Dir(), "controlplane-")
	if err != nil {
		return fmt.Errorf("make its folder: %w", err)
	}
	port, err := cp.run.ReservePort()
	if err != nil {
		return err
	}
	files, err := writeFiles(dir, port.Addr(), authority)
	if err != nil {
		return err
	}
	cp.config, cp.kubeconfig = files.config, files.kubeconfig
	if cp.client, err = kubernetes.NewForConfig(cp.config); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}

	// All at once: each waits for the one it needs.
	if cp.etcd, err = cp.launch(proc.Spec{
		Name: source.Etcd, Path: cp.binaries.Path(source.Etcd), Args: etcdArgs(), Dir: dir, Env: environment(),
	}); err != nil {
		return err
	}
	if cp.apiserver, err = cp.launch(proc.Spec{
		Name: source.APIServer, Path: cp.binaries.Path(source.APIServer), Args: apiserverArgs(files, port, cp.routing),
		Dir: dir, Env: environment(), Stdout: cp.audit,
	}); err != nil {
		return err
	}
	if err := cp.await(ctx, "the API server is ready", cp.ready); err != nil {
		return err
	}
	if cp.manager, err = cp.launch(proc.Spec{
		Name: source.ControllerManager, Path: cp.binaries.Path(source.ControllerManager), Args: managerArgs(files),
		Dir: dir, Env: environment(),
	}); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return cp.addNode(ctx) })
	for _, namespace := range []string{"default", "kube-system", "kube-public"} {
		group.Go(func() error { return cp.cluster().awaitServiceAccount(ctx, namespace) })
	}
	return group.Wait()
}

// launch starts one of the processes; its end is the control plane's.
func (cp *ControlPlane) launch(spec proc.Spec) (*proc.Process, error) {
	p, err := cp.run.Start(spec)
	if err != nil {
		return nil, err
	}
	go func() {
		<-p.Done()
		cp.end.Do(func() { close(cp.ended) })
	}()
	return p, nil
}

// environment of every process: only what they need, so that nothing of the caller's (proxies, GODEBUG, a
// KUBECONFIG) changes what is tested.
func environment() []string {
	// Garbage is collected at five times the live heap instead of twice: about a quarter more requests a second.
	return []string{"GOGC=400", "PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir()}
}

// why says which process ended by itself; nil if none has.
func (cp *ControlPlane) why() error {
	for _, p := range []*proc.Process{cp.etcd, cp.apiserver, cp.manager} {
		if p == nil {
			continue
		}
		if err := p.Err(); err != nil {
			return err
		}
	}
	return nil
}

// cluster is the control plane as a lane knows it.
func (cp *ControlPlane) cluster() *Cluster {
	return &Cluster{
		Facts: probe.Facts{
			Lane: Name, Provider: cp.binaries.Provider, Kubernetes: cp.binaries.Version, Routing: cp.routing, Features: FeaturesHere(cp.routing),
		},
		Client: cp.client, Audit: cp.audit, Ended: cp.ended, Why: cp.why,
		Logs: cp.logs,
	}
}

// logs are the ends of the processes' logs.
func (cp *ControlPlane) logs(n int64) []probe.Finding {
	var found []probe.Finding
	for _, c := range []struct {
		name    string
		process *proc.Process
	}{{"etcd", cp.etcd}, {"kube-apiserver", cp.apiserver}, {"kube-controller-manager", cp.manager}} {
		if c.process != nil {
			found = append(found, probe.Finding{Name: c.name + ".log", Data: c.process.LogEnd(n)})
		}
	}
	return found
}

// Stop stops the processes; idempotent. The data of etcd stays in the run's directory until the run is closed.
func (cp *ControlPlane) Stop() {
	// Who depends on another goes first. None has anything to keep: no grace is needed beyond the time to hang up.
	for _, p := range []*proc.Process{cp.manager, cp.apiserver, cp.etcd} {
		if p != nil {
			p.Stop(stopGrace)
		}
	}
	cp.audit.Close(errors.New("the control plane was stopped"))
}

// stopGrace is how long Stop waits before it kills: the data is thrown away.
const stopGrace = 2 * time.Second

// RESTConfig for a client of the harness's own, in group system:masters, without a limit on the client's side. A copy.
func (cp *ControlPlane) RESTConfig() *rest.Config { return rest.CopyConfig(cp.config) }

// Kubeconfig is the path of a kubeconfig file for the same user, mode 0600. It is gone when the run is closed.
func (cp *ControlPlane) Kubeconfig() string { return cp.kubeconfig }

// Startup is how long the start took, without getting the binaries.
func (cp *ControlPlane) Startup() time.Duration { return cp.startup }

// Version of Kubernetes, without the v.
func (cp *ControlPlane) Version() string { return cp.binaries.Version }

// Logs are the paths of the processes' logs.
func (cp *ControlPlane) Logs() []string {
	var paths []string
	for _, p := range []*proc.Process{cp.etcd, cp.apiserver, cp.manager} {
		if p != nil {
			paths = append(paths, p.LogPath())
		}
	}
	return paths
}

func dirFile(dir, name string) string { return filepath.Join(dir, name) }
