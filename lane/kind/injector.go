// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/image"
	"github.com/outrigger-k8s/outrigger/injector/certs"
	"github.com/outrigger-k8s/outrigger/injector/deploy"
	"github.com/outrigger-k8s/outrigger/tap"
)

// arrival bounds the wait until every replica has new settings. It takes some 100 ms on an idle machine.
const arrival = 2 * time.Minute

// An Injector is the reference injector, installed in the cluster as its users install it. There is one: its settings are
// changed, and waited for, as cases want them.
type Injector struct {
	*deploy.Installer
	Image   string // its own, and that of the stand-ins
	cluster *Cluster
	up      *tap.Upstream

	turn chan struct{} // holds a token while nobody looks at or changes what follows
	// settings in force, as JSON; "" before the first.
	settings string
	users    int
	idle     chan struct{} // closed when users falls to 0; nil while nobody waits

	mu       sync.Mutex
	changes  int
	changing time.Duration
	longest  time.Duration
}

// reachWithin bounds one look whether the tap reaches the injector.
const reachWithin = time.Second

// Install loads the injector's image and installs everything but the webhook configurations, and returns once every
// replica is available. Installer has the rest: InstallWebhooks, Uninstall.
func Install(ctx context.Context, c *Cluster, built image.Image) (*Injector, error) {
	i, err := install(ctx, c, built)
	if err != nil {
		return nil, fmt.Errorf("install the injector in cluster %s: %w", c.Name(), err)
	}
	return i, nil
}

func install(ctx context.Context, c *Cluster, built image.Image) (*Injector, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startup, fmt.Errorf("it was not available within %s", startup))
	defer cancel()
	if err := c.Load(ctx, built); err != nil {
		return nil, err
	}
	installer, err := deploy.NewInstaller(c.RESTConfig(), deploy.Options{Image: built.Reference.String()})
	if err != nil {
		return nil, err
	}
	if err := installer.InstallInjector(ctx); err != nil {
		return nil, err
	}
	i := &Injector{Installer: installer, Image: built.Reference.String(), cluster: c, turn: make(chan struct{}, 1)}
	i.turn <- struct{}{}
	if i.up, err = upstreamOf(ctx, c); err != nil {
		return nil, err
	}
	return i, nil
}

// upstreamOf is the injector as the tap calls it: as the API server does, by its Service's address, since the cluster's DNS,
// which becomes ready last, has no part in that.
func upstreamOf(ctx context.Context, c *Cluster) (*tap.Upstream, error) {
	secret, err := c.client.CoreV1().Secrets(deploy.DefaultNamespace).Get(ctx, deploy.CertificateSecret, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read its certificates: %w", err)
	}
	service, err := c.client.CoreV1().Services(deploy.DefaultNamespace).Get(ctx, deploy.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the address of its Service: %w", err)
	}
	host := deploy.Name + "." + deploy.DefaultNamespace + ".svc"
	up, err := tap.NewUpstream(&url.URL{Scheme: "https", Host: host, Path: "/inject"}, secret.Data[certs.KeyBundle])
	if err != nil {
		return nil, err
	}
	return up.At(net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))), nil
}

// AwaitReached waits until the tap reaches the injector: that replicas are ready does not mean yet that kube-proxy leads to
// them.
func (i *Injector) AwaitReached(ctx context.Context, t *Tap) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startup, fmt.Errorf("it does not within %s", startup))
	defer cancel()
	var last error
	err := await(ctx, "the tap reaches the injector by its Service", func(ctx context.Context) (bool, error) {
		last = t.Reach(ctx, i.up, reachWithin)
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

// Instance is where the injector answers once every replica has these settings. Callers that want others wait until all
// that have these have released them.
func (i *Injector) Instance(ctx context.Context, settings map[string]any) (*tap.Upstream, func(), error) {
	raw, err := json.Marshal(settings) // sorts its keys
	if err != nil {
		return nil, nil, fmt.Errorf("write the injector's settings: %w", err)
	}
	select {
	case <-i.turn:
		defer func() { i.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	if i.settings != string(raw) {
		if err := i.awaitIdle(ctx); err != nil {
			return nil, nil, err
		}
		known := i.settings != ""
		i.settings = "" // what is in force if the change fails halfway nobody knows
		if err := i.change(ctx, raw, known); err != nil {
			return nil, nil, fmt.Errorf("change the injector's settings in cluster %s: %w", i.cluster.Name(), err)
		}
		i.settings = string(raw)
	}
	i.mu.Lock()
	i.users++
	i.mu.Unlock()
	return i.up, sync.OnceFunc(i.release), nil
}

// Become changes the settings while the injector is called, and returns once every replica has them.
func (i *Injector) Become(ctx context.Context, settings map[string]any) error {
	raw, err := json.Marshal(settings) // sorts its keys
	if err != nil {
		return fmt.Errorf("write the injector's settings: %w", err)
	}
	select {
	case <-i.turn:
		defer func() { i.turn <- struct{}{} }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if i.settings == string(raw) {
		return nil
	}
	known := i.settings != ""
	i.settings = ""
	if err := i.change(ctx, raw, known); err != nil {
		return fmt.Errorf("change the injector's settings in cluster %s: %w", i.cluster.Name(), err)
	}
	i.settings = string(raw)
	return nil
}

func (i *Injector) release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.users--
	if i.users == 0 && i.idle != nil {
		close(i.idle)
		i.idle = nil
	}
}

func (i *Injector) awaitIdle(ctx context.Context) error {
	i.mu.Lock()
	if i.users == 0 {
		i.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	i.idle = idle
	i.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// change writes the ConfigMap and waits until every replica reports the new configuration's hash. known says that every
// replica was seen to have another one.
func (i *Injector) change(ctx context.Context, configuration []byte, known bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, arrival, fmt.Errorf("they were not in force on every replica within %s", arrival))
	defer cancel()
	began := time.Now()
	maps := i.cluster.client.CoreV1().ConfigMaps(deploy.DefaultNamespace)
	for {
		live, err := maps.Get(ctx, deploy.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		live.Data = map[string]string{deploy.ConfigurationKey: string(configuration)}
		_, err = maps.Update(ctx, live, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	sum := sha256.Sum256(configuration)
	hash := hex.EncodeToString(sum[:])
	err := i.awaitConfiguration(ctx, hash, known)
	took := time.Since(began)
	i.mu.Lock()
	i.changes, i.changing, i.longest = i.changes+1, i.changing+took, max(i.longest, took)
	i.mu.Unlock()
	return err
}

// Configure gives the injector a configuration, whatever it was given before, and waits until every replica has it.
func (i *Injector) Configure(ctx context.Context, configuration []byte) error {
	select {
	case <-i.turn:
		defer func() { i.turn <- struct{}{} }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	i.settings = ""
	if err := i.change(ctx, configuration, false); err != nil {
		return fmt.Errorf("change the injector's settings in cluster %s: %w", i.cluster.Name(), err)
	}
	return nil
}

// Restore installs what has been changed of the injector, or taken away, with its own configuration, and returns once
// every replica has that. Its Service may be at another address then, and its authority another: Instance does not follow.
func (i *Injector) Restore(ctx context.Context) error {
	if err := i.Install(ctx); err != nil {
		return err
	}
	configuration, err := i.Configuration(ctx)
	if err != nil {
		return err
	}
	return i.Configure(ctx, configuration)
}

// Configuration is what the ConfigMap holds.
func (i *Injector) Configuration(ctx context.Context) ([]byte, error) {
	live, err := i.cluster.client.CoreV1().ConfigMaps(deploy.DefaultNamespace).Get(ctx, deploy.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the injector's configuration: %w", err)
	}
	return []byte(live.Data[deploy.ConfigurationKey]), nil
}

// awaitInterval lies between two looks at what the replicas have in force: they have it within some 20 ms.
const awaitInterval = 10 * time.Millisecond

// awaitConfiguration does as deploy.Installer.AwaitReplicas does, more often: it is waited for hundreds of times in a run.
// Where it is known what the replicas had, the API server's cache will do: what it showed then it does not show again.
func (i *Injector) awaitConfiguration(ctx context.Context, hash string, known bool) error {
	look := i.Replicas
	if known {
		look = i.CachedReplicas
	}
	tick := time.NewTicker(awaitInterval)
	defer tick.Stop()
	for {
		replicas, err := look(ctx)
		has := 0
		for _, r := range replicas {
			if r.Configuration == hash {
				has++
			}
		}
		if err == nil && has == len(replicas) && has >= deploy.DefaultReplicas {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("of %d replicas %d have configuration %s: %w", len(replicas), has, hash, context.Cause(ctx)), err)
		}
	}
}

// Changes is how often the settings were changed, and how long it took until all replicas had them, altogether and at most.
func (i *Injector) Changes() (n int, all, longest time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changes, i.changing, i.longest
}

// Ended says which containers of the injector and of the tap have ended by themselves: whatever cases saw of them is
// doubtful. Of an injector that is not ours nobody knows.
func (c *Cluster) Ended(ctx context.Context) error {
	var errs []error
	for _, of := range []struct{ what, namespace, selector string }{
		{"injector", deploy.DefaultNamespace, deploy.Label + "=" + deploy.LabelValue}, {"tap", TapNamespace, ""},
	} {
		list, err := c.client.CoreV1().Pods(of.namespace).List(ctx, metav1.ListOptions{LabelSelector: of.selector})
		if err != nil {
			errs = append(errs, fmt.Errorf("look at the %s's pods: %w", of.what, err))
			continue
		}
		errs = append(errs, endedOf(of.what, list.Items))
	}
	return errors.Join(errs...)
}

// endedOf says which containers of the pods have ended and were started again.
func endedOf(what string, pods []corev1.Pod) error {
	var errs []error
	for _, pod := range pods {
		for _, s := range pod.Status.ContainerStatuses {
			if t := s.LastTerminationState.Terminated; s.RestartCount > 0 && t != nil {
				errs = append(errs, fmt.Errorf("the %s's pod %s has ended %d times by itself, last with code %d (%s)", what, pod.Name, s.RestartCount, t.ExitCode, t.Reason))
			}
		}
	}
	return errors.Join(errs...)
}
