// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/constants"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"

	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/lane/kind/nodeimage"
)

// User is who the harness is to the API server, as in the other lanes: some tables are about who asks.
const User = controlplane.User

// readyTimeout bounds what comes after kind's own creation: node, kube-proxy, DNS. It takes 20 s on an idle machine of 2
// cores.
const readyTimeout = 10 * time.Minute

// Options of a cluster. The zero value is ready.
type Options struct {
	Config     string    // kind-config.yaml; "": the one that this program carries
	NodeImage  string    // "": nodeimage.Choose
	Kubernetes string    // version without the v; "": that of kind's default image, or what is built where it cannot be had
	Engine     string    // docker, podman, nerdctl; "": the first that answers
	Keep       bool      // the cluster outlives the run
	Reuse      bool      // take a kept cluster, where there is one from the same configuration
	Registry   string    // folder of the clusters' folders; "": in the user's cache
	Logs       string    // folder for the node's logs where the creation fails; "": none are kept
	Progress   io.Writer // nil: nowhere
	// Started is told of the cluster, by Create itself, as soon as something can be put into it: one that is made when its API
	// server answers, which is before it is ready; one that is used again when it is in a known state. What it returns ends what
	// was begun then, and waits for that: Create calls it where it fails, before anything is deleted. Nil: nobody is told.
	Started func(*Cluster) (stop func())
}

// A Cluster is a running kind cluster.
type Cluster struct {
	options  Options
	entry    *entry
	provider *cluster.Provider
	plane    nodes.Node // the control-plane node
	config   *rest.Config
	straight straight // to the API server
	client   *kubernetes.Clientset
	choice   nodeimage.Choice
	reused   bool
	times    Times

	stopStarted func() // what Options.Started returned; nil where it was not called

	audit *auditTail
}

// Times are what making the cluster took.
type Times struct {
	Image   time.Duration // to find or build the node image
	Cluster time.Duration // until the nodes and kube-proxy were ready, and DNS where the cluster was there already
}

// Create makes a cluster, or takes a kept one (Options.Reuse), and returns once its nodes and kube-proxy are ready. DNS comes
// some ten seconds later, since CoreDNS is asked no more often than that whether it is: who needs it waits for Ready.
// ctx bounds the creation only; when it ends before, or anything fails, nothing of the cluster is left. Clusters of dead
// runs are deleted first.
func Create(ctx context.Context, o Options) (c *Cluster, err error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	engine, passed, err := nodeimage.FindEngine(ctx, o.Engine)
	if err != nil {
		return nil, fmt.Errorf("make a kind cluster: %w", err)
	}
	for _, why := range passed {
		fmt.Fprintf(o.Progress, "kind: taking %s, since %s\n", engine, why)
	}
	reg, err := openRegistry(o.Registry)
	if err != nil {
		return nil, err
	}
	c = &Cluster{options: o, provider: providerOf(engine, o.Progress)}
	conf, err := readConfig(o.Config, "") // before anything is done
	if err != nil {
		return nil, err
	}
	if c.entry, err = c.enter(ctx, reg, engine, conf.digest); err != nil {
		return nil, err
	}
	if err := c.make(ctx, conf.digest); err != nil {
		if c.stopStarted != nil {
			c.stopStarted()
		}
		return nil, c.unmake(ctx, err)
	}
	return c, nil
}

// unmake ends a creation that has failed: what can be known of it is collected, unless it was cut off on purpose, and a
// cluster that was made for it is deleted. One that was there before stays: its user has kept it.
func (c *Cluster) unmake(ctx context.Context, failed error) error {
	what := "make kind cluster"
	if c.reused {
		what = "take kind cluster"
	}
	err := fmt.Errorf("%s %s with %s: %w", what, c.entry.Name, c.entry.Engine, advised(failed))
	if c.audit != nil {
		c.audit.stop()
	}
	if c.options.Logs != "" && ctx.Err() == nil {
		if there, listed := exists(c.provider, c.entry.Name); there || listed != nil {
			collecting, cancel := context.WithTimeout(context.WithoutCancel(ctx), collectTimeout)
			missing := c.Collect(collecting, c.options.Logs)
			cancel()
			if found, _ := os.ReadDir(c.options.Logs); len(found) > 0 {
				err = fmt.Errorf("%w; what could be known of it is in %s", err, c.options.Logs)
			}
			if missing != nil {
				fmt.Fprintf(c.options.Progress, "kind: not all that can be known of cluster %s could be had: %v\n", c.entry.Name, missing)
			}
		}
	}
	if !c.reused {
		return errors.Join(err, c.delete())
	}
	err = fmt.Errorf("%w; it is kept as it is: leave REUSE out to have another made, or delete it: %s", err, c.deletion())
	_ = c.entry.unlock()
	c.entry = nil
	return err
}

// enter sweeps what dead runs left, and finds or claims the cluster's entry.
func (c *Cluster) enter(ctx context.Context, reg *registry, engine, digest string) (*entry, error) {
	release, err := reg.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := c.sweepUnrecorded(ctx, reg, engine); err != nil { // not in this run's way
		fmt.Fprintf(c.options.Progress, "kind: %v; a later run tries again\n", err)
	}
	idle, err := reg.idle()
	if err != nil {
		return nil, err
	}
	var found *entry
	var unfit []string
	for n, e := range idle {
		switch {
		case !e.Kept:
			fmt.Fprintf(c.options.Progress, "kind: deleting cluster %s, which a run that died has left\n", e.Name)
			err := remove(providerOf(e.Engine, io.Discard), e)
			if err == nil {
				continue
			}
			_ = e.unlock()
			err = fmt.Errorf("delete cluster %s, which a run that died has left: %w", e.Name, advised(err))
			if e.Engine == engine {
				for _, other := range idle[n+1:] {
					_ = other.unlock()
				}
				if found != nil {
					_ = found.unlock()
				}
				return nil, err
			}
			// An engine that this run does without: nothing of it is in this run's way.
			fmt.Fprintf(c.options.Progress, "kind: %v; a later run tries again\n", err)
		case c.options.Reuse && found == nil:
			if why := c.unfit(e, engine, digest); why != "" {
				unfit = append(unfit, e.Name+" "+why)
				_ = e.unlock()
				continue
			}
			found = e
		default:
			_ = e.unlock()
		}
	}
	if found != nil {
		c.reused = true
		return found, nil
	}
	if c.options.Reuse {
		why := "none is kept"
		if len(unfit) > 0 {
			why = strings.Join(unfit, ", ")
		}
		fmt.Fprintf(c.options.Progress, "kind: there is no cluster to be used again, so one is made: %s\n", why)
	}
	return reg.claim(engine)
}

// sweepUnrecorded deletes the clusters of the registry whose folder somebody took away, and so all that was known of them: who
// empties the cache does not think of containers. The registry's lock is held, so that none is being claimed; one is of this
// registry if its nodes have a file of its folder mounted. What another registry has made, or somebody else's kind, stays.
func (c *Cluster) sweepUnrecorded(ctx context.Context, reg *registry, engine string) error {
	names, err := c.provider.List()
	if err != nil {
		return fmt.Errorf("look for clusters whose folder is gone: %w", advised(err))
	}
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) || reg.recorded(name) {
			continue
		}
		ours, err := c.mounts(ctx, engine, name, reg.folder(name))
		if err != nil || !ours { // what is deleted at this moment, by whomever, cannot be asked
			continue
		}
		fmt.Fprintf(c.options.Progress, "kind: deleting cluster %s, whose folder %s is gone\n", name, reg.folder(name))
		if err := c.provider.Delete(name, filepath.Join(reg.folder(name), kubeconfigFile)); err != nil {
			return fmt.Errorf("delete cluster %s, whose folder is gone: %w", name, advised(err))
		}
		if err := os.RemoveAll(reg.folder(name)); err != nil { // an engine makes anew what it is to mount
			return fmt.Errorf("remove the folder of cluster %s: %w", name, err)
		}
	}
	return nil
}

// mounts tells whether a node of the cluster has something mounted that lies in dir.
func (c *Cluster) mounts(ctx context.Context, engine, name, dir string) (bool, error) {
	list, err := c.provider.ListNodes(name)
	if err != nil {
		return false, err
	}
	for _, node := range list {
		out, err := osexec.CommandContext(ctx, engine, "inspect", "--format", `{{range .Mounts}}{{println .Source}}{{end}}`, node.String()).Output()
		if err != nil {
			return false, err
		}
		for source := range strings.Lines(string(out)) {
			if filepath.Dir(strings.TrimSpace(source)) == dir {
				return true, nil
			}
		}
	}
	return false, nil
}

// unfit says why a kept cluster is not what is asked for; "" if it is.
func (c *Cluster) unfit(e *entry, engine, digest string) string {
	wanted := strings.TrimPrefix(c.options.Kubernetes, "v")
	switch {
	case e.Engine != engine:
		return fmt.Sprintf("is %s's, not %s's", e.Engine, engine)
	case e.Config != digest:
		return "was made from another kind-config.yaml"
	case c.options.NodeImage != "" && c.options.NodeImage != e.Image:
		return fmt.Sprintf("was made from %s, not %s", e.Image, c.options.NodeImage)
	case wanted != "" && wanted != e.Kubernetes:
		return fmt.Sprintf("is %s, not %s", e.kubernetes(), wanted)
	}
	there, err := exists(c.provider, e.Name)
	switch {
	case err != nil:
		return fmt.Sprintf("cannot be looked for: %v", err)
	case !there:
		return "is there no more"
	}
	return ""
}

// exists tells whether the engine has a cluster's containers, running or not.
func exists(p *cluster.Provider, name string) (bool, error) {
	names, err := p.List()
	if err != nil {
		return false, fmt.Errorf("list the clusters: %w", err)
	}
	return slices.Contains(names, name), nil
}

func (c *Cluster) make(ctx context.Context, digest string) (err error) {
	began := time.Now()
	if c.reused {
		fmt.Fprintf(c.options.Progress, "kind: using cluster %s again, made from %s (%s)\n", c.entry.Name, c.entry.Image, c.entry.kubernetes())
	} else {
		if c.choice, err = nodeimage.Choose(ctx, nodeimage.Options{
			Image: c.options.NodeImage, K8sVersion: c.options.Kubernetes, Engine: c.entry.Engine, Progress: c.options.Progress,
		}); err != nil {
			return err
		}
		fmt.Fprintln(c.options.Progress, c.choice)
		c.times.Image = time.Since(began)
		began = time.Now()
		c.entry.Image, c.entry.Config = c.choice.Image, digest
		if err := c.entry.write(); err != nil {
			return err
		}
		if err := c.create(ctx); err != nil {
			return err
		}
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	ctx, cancel := withReadyTimeout(ctx)
	defer cancel()
	if c.reused { // what an earlier run has broken may be in the way of all that is waited for next
		if err := c.unblock(ctx); err != nil {
			return fmt.Errorf("take away what may keep it from becoming ready: %w", err)
		}
	} else if c.options.Started != nil {
		c.stopStarted = c.options.Started(c)
	}
	ready := c.awaitNodes
	if c.reused { // there nothing of it should be still to come
		ready = c.awaitReady
	}
	if err := ready(ctx); err != nil {
		return err
	}
	c.times.Cluster = time.Since(began)
	if c.reused {
		if err := c.reset(ctx); err != nil {
			return fmt.Errorf("bring it to a known state: %w", err)
		}
		if c.options.Started != nil {
			c.stopStarted = c.options.Started(c)
		}
	}
	if c.audit, err = followAudit(ctx, c.plane); err != nil {
		return err
	}
	if c.options.Keep || c.reused {
		if c.entry.Kubernetes, err = c.Version(); err != nil {
			return err
		}
		c.entry.Kept = true
		return c.entry.write()
	}
	return nil
}

// create runs kind's creation. The library knows no context: where ctx ends, deleting the node's containers under it ends
// it soon.
func (c *Cluster) create(ctx context.Context) error {
	policy := filepath.Join(c.entry.dir, "audit-policy.yaml")
	if err := os.WriteFile(policy, controlplane.AuditPolicy(User), 0o644); err != nil {
		return fmt.Errorf("write the audit policy: %w", err)
	}
	conf, err := readConfig(c.options.Config, policy)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		done <- c.provider.Create(c.entry.Name,
			cluster.CreateWithV1Alpha4Config(conf.cluster),
			cluster.CreateWithNodeImage(c.choice.Image),
			cluster.CreateWithKubeconfigPath(c.entry.kubeconfig()),
			cluster.CreateWithRetain(true), // Create collects its logs, and deletes it
			cluster.CreateWithDisplayUsage(false),
			cluster.CreateWithDisplaySalutation(false),
		)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// Containers may still be made while they are deleted: again, until the creation has noticed.
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		_ = c.provider.Delete(c.entry.Name, c.entry.kubeconfig())
		select {
		case <-done:
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// connect makes the clients.
func (c *Cluster) connect(ctx context.Context) error {
	text, err := c.provider.KubeConfig(c.entry.Name, false)
	if err != nil {
		return fmt.Errorf("read its kubeconfig: %w", err)
	}
	if c.reused { // its port may be another since the engine was restarted
		if err := os.WriteFile(c.entry.kubeconfig(), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write its kubeconfig: %w", err)
		}
	}
	if c.config, err = clientcmd.RESTConfigFromKubeConfig([]byte(text)); err != nil {
		return fmt.Errorf("read its kubeconfig: %w", err)
	}
	if err := c.identify(); err != nil {
		return err
	}
	c.straighten(ctx)
	c.warnOfLimit(ctx)
	c.config.QPS = -1
	c.config.WarningHandler = rest.NoWarnings{}
	c.config.ContentType = "application/vnd.kubernetes.protobuf"
	c.config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	if c.client, err = kubernetes.NewForConfig(c.config); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return nil
}

// enoughProcesses is how many processes and threads a node may need: LONG=1 was seen to run out of the 2,048 that podman
// gives a container where nothing else is said.
const enoughProcesses = 8192

// warnOfLimit says so where the engine gives the node fewer than enoughProcesses.
func (c *Cluster) warnOfLimit(ctx context.Context) {
	// An engine that cannot say has no limit that is known of.
	out, _ := osexec.CommandContext(ctx, c.entry.Engine, "inspect", "--format", "{{.HostConfig.PidsLimit}}", c.plane.String()).Output()
	if warning := tooFew(c.entry.Engine, strings.TrimSpace(string(out))); warning != "" {
		fmt.Fprintln(c.options.Progress, "kind: warning: "+warning)
	}
}

// tooFew says what is to be said of a limit of processes, as an engine writes it: "" where it is none, or enough.
func tooFew(engine, limit string) string {
	n, err := strconv.Atoi(limit)
	if err != nil || n <= 0 || n >= enoughProcesses {
		return ""
	}
	return fmt.Sprintf("%s gives a node %d processes and threads, and it may need more: pids_limit = 0 under [containers] in containers.conf lifts that", engine, n)
}

// identify makes the harness User in group system:masters, by a certificate of the cluster's own authority.
func (c *Cluster) identify() error {
	list, err := c.provider.ListInternalNodes(c.entry.Name)
	if err != nil {
		return fmt.Errorf("list its nodes: %w", err)
	}
	planes, err := nodeutils.SelectNodesByRole(list, constants.ControlPlaneNodeRoleValue)
	if err != nil {
		return fmt.Errorf("find its control-plane node: %w", err)
	}
	if len(planes) != 1 {
		return fmt.Errorf("find its control-plane node: of %d nodes %d are, and it must be one", len(list), len(planes))
	}
	c.plane = planes[0]
	var out bytes.Buffer
	if err := c.plane.Command("kubeadm", "kubeconfig", "user", "--client-name="+User, "--org=system:masters", "--validity-period=48h").
		SetStdout(&out).Run(); err != nil {
		return fmt.Errorf("have a certificate made for the harness: %w", err)
	}
	own, err := clientcmd.RESTConfigFromKubeConfig(out.Bytes())
	if err != nil {
		return fmt.Errorf("read the certificate that was made for the harness: %w", err)
	}
	c.config.CertData, c.config.KeyData = own.CertData, own.KeyData
	return nil
}

// straighten has the clients reach the API server by the node's own address, where that can be: the kubeconfig's is a port
// of this machine, which docker leads into the node by a process of its own. Whose certificate is expected stays the same.
func (c *Cluster) straighten(ctx context.Context) {
	at, err := url.Parse(c.config.Host)
	if err != nil {
		return
	}
	c.config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == at.Host { // and not a proxy's
			if conn, ok := c.straight.dial(ctx); ok {
				return conn, nil
			}
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	c.findStraight(ctx)
}

// findStraight looks where the node's own address leads, at first and after it may have changed.
func (c *Cluster) findStraight(ctx context.Context) {
	c.straight.forget()
	v4, v6, err := c.plane.IP() // an error, or none, where the node is in several networks, or in none
	address := cmp.Or(v4, v6)
	if err != nil || address == "" {
		return
	}
	config, err := rest.TLSConfigFor(c.config)
	if err != nil {
		return // whoever makes the clients will say so
	}
	if at, err := url.Parse(c.config.Host); err == nil {
		config.ServerName = at.Hostname()
	}
	c.straight.try(ctx, net.JoinHostPort(address, apiPort), config)
}

// apiPort is the API server's, within the node.
const apiPort = "6443"

// Ready returns once nodes, kube-proxy and DNS are ready; within readyTimeout, or it is an error.
func (c *Cluster) Ready(ctx context.Context) error {
	ctx, cancel := withReadyTimeout(ctx)
	defer cancel()
	if err := c.awaitReady(ctx); err != nil {
		return fmt.Errorf("kind cluster %s: %w", c.Name(), err)
	}
	return nil
}

func withReadyTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready within %s", readyTimeout))
}

// awaitReady waits until nodes, kube-proxy and DNS are ready: kind's own idea of ready comes before Services work.
func (c *Cluster) awaitReady(ctx context.Context) error {
	if err := c.awaitNodes(ctx); err != nil {
		return err
	}
	return await(ctx, "DNS is ready", func(ctx context.Context) (bool, error) {
		d, err := c.client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
		return err == nil && available(d), nil
	})
}

// awaitNodes waits until nodes and kube-proxy are ready: then pods run, and Services are reached by their addresses.
func (c *Cluster) awaitNodes(ctx context.Context) error {
	if err := await(ctx, "its nodes are ready", func(ctx context.Context) (bool, error) {
		list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, nil // the API server may still be starting, above all after a restart
		}
		for _, node := range list.Items {
			if !slices.ContainsFunc(node.Status.Conditions, func(k corev1.NodeCondition) bool {
				return k.Type == corev1.NodeReady && k.Status == corev1.ConditionTrue
			}) {
				return false, nil
			}
		}
		return len(list.Items) > 0, nil
	}); err != nil {
		return err
	}
	return await(ctx, "kube-proxy is ready", func(ctx context.Context) (bool, error) {
		set, err := c.client.AppsV1().DaemonSets(metav1.NamespaceSystem).Get(ctx, "kube-proxy", metav1.GetOptions{})
		return err == nil && set.Status.DesiredNumberScheduled > 0 && set.Status.NumberReady == set.Status.DesiredNumberScheduled, nil
	})
}

// available tells whether all of a Deployment's pods are there, ready, and of its newest template.
func available(d *appsv1.Deployment) bool {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want
}

// Name of the cluster, as kind knows it.
func (c *Cluster) Name() string { return c.entry.Name }

// Kubeconfig is the path of its kubeconfig, mode 0600; it goes with the cluster.
func (c *Cluster) Kubeconfig() string { return c.entry.kubeconfig() }

// RESTConfig for a client of the harness's own, without a limit on the client's side. A copy.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Client is the harness's own.
func (c *Cluster) Client() *kubernetes.Clientset { return c.client }

// Node is the control-plane node, to run commands in.
func (c *Cluster) Node() nodes.Node { return c.plane }

// Engine is the command of the container engine that the nodes are containers of.
func (c *Cluster) Engine() string { return c.entry.Engine }

// Image is what the nodes were made from.
func (c *Cluster) Image() string { return c.entry.Image }

// Times are what making the cluster took; zero where it was there already.
func (c *Cluster) Times() Times { return c.times }

// Version of the API server, without the v.
func (c *Cluster) Version() (string, error) {
	v, err := c.client.Discovery().ServerVersion()
	if err != nil {
		return "", fmt.Errorf("ask cluster %s for its version: %w", c.Name(), err)
	}
	return strings.TrimPrefix(v.GitVersion, "v"), nil
}

// Close ends the run's hold on the cluster: it is deleted, or, with Options.Keep, left as it is, and the progress says how
// to use it. Safe to call twice.
func (c *Cluster) Close(context.Context) error {
	if c.entry == nil {
		return nil
	}
	if c.audit != nil {
		c.audit.stop()
	}
	if c.entry.Kept && (c.options.Keep || c.options.Reuse) {
		fmt.Fprintf(c.options.Progress, `kind: cluster %[1]s is kept (%[3]s)
  use it     kubectl --kubeconfig %[2]s get pods --all-namespaces
             or, without kubectl: %[4]s exec %[5]s kubectl --kubeconfig=/etc/kubernetes/admin.conf get pods --all-namespaces
  run again  make e2e PROVIDER=kind REUSE=1
  delete it  %[6]s
`, c.Name(), c.Kubeconfig(), c.Image(), c.Engine(), c.plane, c.deletion())
		err := c.entry.unlock()
		c.entry = nil
		return err
	}
	return c.delete()
}

// deletion is the command that deletes the cluster: its containers and volumes by the engine, since there may be no kind
// command, and its folder.
func (c *Cluster) deletion() string {
	return fmt.Sprintf("%[1]s rm --force --volumes $(%[1]s ps --all --quiet --filter label=io.x-k8s.kind.cluster=%[2]s) && rm -r %[3]s",
		c.entry.Engine, c.entry.Name, c.entry.dir)
}

// deletionTimeout bounds the deletion of a cluster: of seconds, unless the engine hangs.
const deletionTimeout = 2 * time.Minute

// delete takes the cluster away, however far it has come.
func (c *Cluster) delete() error {
	done, entry := make(chan error, 1), c.entry
	go func() { done <- remove(c.provider, entry) }() // the library knows no context
	var err error
	select {
	case err = <-done:
	case <-time.After(deletionTimeout):
		err = fmt.Errorf("the engine has not done it within %s", deletionTimeout)
	}
	if err != nil {
		err = fmt.Errorf("delete cluster %s: %w; the next run deletes it", c.entry.Name, advised(err))
		_ = c.entry.unlock()
	}
	c.entry = nil
	return err
}

func remove(p *cluster.Provider, e *entry) error {
	if err := p.Delete(e.Name, e.kubeconfig()); err != nil {
		return err
	}
	switch there, err := exists(p, e.Name); {
	case err != nil:
		return err
	case there:
		return errors.New("it is still there after it was deleted")
	}
	return e.remove()
}

func providerOf(engine string, progress io.Writer) *cluster.Provider {
	o := []cluster.ProviderOption{cluster.ProviderWithLogger(logger{progress})}
	switch engine {
	case "podman":
		o = append(o, cluster.ProviderWithPodman())
	case "nerdctl":
		o = append(o, cluster.ProviderWithNerdctl("nerdctl"))
	default:
		o = append(o, cluster.ProviderWithDocker())
	}
	return cluster.NewProvider(o...)
}

// lookInterval lies between two looks at a condition of which nobody sends word.
const lookInterval = 100 * time.Millisecond

// await looks, at once and then again and again, until look says that what holds. An error of look ends the wait: a look
// that may fail for a while says false.
func await(ctx context.Context, what string, look func(context.Context) (bool, error)) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		ok, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		case err != nil:
			return fmt.Errorf("wait until %s: %w", what, err)
		case ok:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		}
	}
}

// ErrGone is among the causes of a context that the cluster's end has ended: its engine or its node is there no more, so
// that nothing can be said about what was under way.
var ErrGone = errors.New("the cluster is gone")

// While is a context that ends with ctx, and as soon as the cluster has ended by itself, with ErrGone among its causes. The
// node's Restart is no such end.
func (c *Cluster) While(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-c.audit.ended:
			if why := c.audit.why(); why != nil {
				cancel(fmt.Errorf("%w: %w", ErrGone, why))
			}
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Restart restarts the control-plane node as a machine is restarted, and returns once the cluster is ready again.
func (c *Cluster) Restart(ctx context.Context) error {
	resume := c.audit.pause()
	defer resume()
	c.straight.forget() // the node may come back with another address
	// kind has no word for it; its nodes are the engine's containers by name.
	if out, err := osexec.CommandContext(ctx, c.entry.Engine, "restart", c.plane.String()).CombinedOutput(); err != nil {
		return fmt.Errorf("restart node %s with %s: %w: %s", c.plane, c.entry.Engine, err, strings.TrimSpace(string(out)))
	}
	if err := c.awaitReady(ctx); err != nil {
		return fmt.Errorf("restart node %s: %w", c.plane, err)
	}
	c.findStraight(ctx)
	return nil
}
