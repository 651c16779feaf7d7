// SPDX-License-Identifier: Apache-2.0

// Package admission is the lane without a cluster: the API server's own admission code (selector matching,
// matchConditions, dispatch, reinvocation, failurePolicy, application of patches), linked from k8s.io/apiserver and
// wired by that module's own plugin registry, over informers on a fake clientset. The webhook calls are real: TLS,
// HTTP, the real target.
//
// What the plugins alone lack, the lane says (see Facts): there is no defaulting, no validation, no other admission
// plugin, no store, no conversion between versions, no controller, no Service and no node. What a request is about is
// as the case says that it was stored, without what the API server would have filled in. The defaults of a webhook
// configuration, which the API server would fill in when it is stored, the lane fills in itself (see withDefaults).
package admission

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kadmission "k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	webhooks "k8s.io/apiserver/pkg/admission/plugin/webhook/initializer"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/outrigger-k8s/outrigger/probe"
)

// Name of the lane.
const Name = "admission"

// Features that the lane has on any machine: of a request, only that a dry run is told apart; nobody checks a configuration;
// of the wire, all that a tap of this process can.
var Features = []string{probe.FeatureDryRun, probe.FeatureLong, probe.FeatureRotation, probe.FeatureUnchecked}

// Kubernetes is the version whose admission code is linked: k8s.io/apiserver v0.37.2 is of Kubernetes 1.37.2. The build
// could be asked, but a test binary does not know its modules; a test holds this against go.mod.
const Kubernetes = "1.37.2"

// Facts of the lane.
func Facts() probe.Facts {
	return probe.Facts{Lane: Name, Provider: "in-process", Kubernetes: Kubernetes, Features: append(slices.Clone(Features), probe.FeaturesHere()...)}
}

// A Lane holds one wired admission chain at a time. The zero value is ready; Close it.
type Lane struct {
	mu    sync.RWMutex
	chain *chain
}

var _ probe.Lane = (*Lane)(nil)

// Facts of the lane.
func (l *Lane) Facts() probe.Facts { return Facts() }

// Arrange wires a new chain whose informers have seen all of a before it takes the old one's place, so no marker
// request is needed: nothing that was there before can still be in force.
func (l *Lane) Arrange(ctx context.Context, a *probe.Arrangement) error {
	c, err := newChain(ctx, a)
	if err != nil {
		return fmt.Errorf("arrange %s in the admission lane: %w", a.Name, err)
	}
	l.mu.Lock()
	old := l.chain
	l.chain = c
	l.mu.Unlock()
	old.stop()
	return nil
}

// Close stops the informers.
func (l *Lane) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.chain.stop()
	l.chain = nil
	return nil
}

// plugin is all of an API server's admission behind one door: mutation first, then validation.
type plugin interface {
	kadmission.MutationInterface
	kadmission.ValidationInterface
}

// chain is the admission plugins over one arrangement.
type chain struct {
	admit   plugin
	objects kadmission.ObjectInterfaces
	stored  map[storedKey]*unstructured.Unstructured
	cancel  context.CancelFunc
	factory informers.SharedInformerFactory
}

func (c *chain) stop() {
	if c != nil {
		c.cancel()
		c.factory.Shutdown()
	}
}

// plugins of the chain, in the API server's order.
var plugins = []string{mutating.PluginName, validating.PluginName}

func newChain(ctx context.Context, a *probe.Arrangement) (*chain, error) {
	var objects []runtime.Object
	for _, ns := range a.Namespaces {
		ns = ns.DeepCopy()
		if ns.Labels == nil {
			ns.Labels = map[string]string{}
		}
		ns.Labels[corev1.LabelMetadataName] = ns.Name
		objects = append(objects, ns)
	}
	for _, w := range a.Webhooks {
		objects = append(objects, withDefaults(w))
	}
	for _, w := range a.Validating {
		objects = append(objects, withDefaultsValidating(w))
	}
	stored := map[storedKey]*unstructured.Unstructured{}
	for _, s := range a.Stored {
		if s.Shared && s.Object.GetKind() != "CustomResourceDefinition" { // of which nothing is asked here
			return nil, fmt.Errorf("nothing acts on a %s in this lane: the case needs %q", s.Object.GetKind(), probe.FeatureAdmission)
		}
		stored[storedKey{s.Resource, s.Namespace, s.Object.GetName()}] = s.Object
		if s.Resource == namespaces {
			ns := &corev1.Namespace{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(s.Object.Object, ns); err != nil {
				return nil, fmt.Errorf("read namespace %s: %w", s.Object.GetName(), err)
			}
			objects = append(objects, ns)
		}
	}
	client := fake.NewClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	life, cancel := context.WithCancel(context.Background())
	c := &chain{
		cancel: cancel, factory: factory, objects: kadmission.NewObjectInterfacesFromScheme(scheme.Scheme),
		stored: stored,
	}

	registry := kadmission.NewPlugins()
	mutating.Register(registry)
	validating.Register(registry)
	// The requester is in system:masters: every check that a matchCondition makes is allowed.
	authz := authorizerfactory.NewAlwaysAllowAuthorizer()
	initialize := initializer.New(client, nil, factory, authz, utilfeature.DefaultFeatureGate, nil, life.Done(), nil)
	wired, err := registry.NewFromPlugins(plugins, noConfig{}, kadmission.PluginInitializers{initialize, webhooks.NewPluginInitializer(direct, nil)}, nil)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("wire the admission plugins: %w", err)
	}
	var ok bool
	if c.admit, ok = wired.(plugin); !ok {
		cancel()
		return nil, fmt.Errorf("wire the admission plugins: %T cannot mutate and validate", wired)
	}
	factory.StartWithContext(life)
	if err := synced(ctx, factory); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// synced waits until every informer holds all objects; the plugin's own ready function asks the same of them.
func synced(ctx context.Context, factory informers.SharedInformerFactory) error {
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("wait for the informer of %s: %w", kind, context.Cause(ctx))
		}
	}
	return nil
}

// Chain is the wired admission chain of the arrangement in force, nil without one: what Probe calls, for a benchmark
// that asks what Probe adds to it. It is good until the next Arrange.
func (l *Lane) Chain() (kadmission.MutationInterface, kadmission.ObjectInterfaces) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.chain == nil {
		return nil, nil
	}
	return l.chain.admit, l.chain.objects
}

var requester = &user.DefaultInfo{Name: "outrigger", Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}

// Probe takes the request through the admission chain.
func (l *Lane) Probe(ctx context.Context, at *probe.Attempt) (*probe.Observation, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if at.Pods {
		return nil, fmt.Errorf("probe %s: no controller makes pods of a %T in the admission lane: the case needs %q", at.Key, at.Object, probe.FeatureControllers)
	}
	if l.chain == nil {
		return nil, fmt.Errorf("probe %s: nothing is arranged in the admission lane", at.Key)
	}
	bare, err := l.chain.attributes(at)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", at.Key, err)
	}
	var warnings recorder
	attributes := &audited{Attributes: bare}

	request := warning.WithWarningRecorder(ctx, &warnings)
	if at.Timeout > 0 {
		var cancel context.CancelFunc
		request, cancel = context.WithTimeout(request, at.Timeout)
		defer cancel()
	}
	start := time.Now()
	err = l.chain.admit.Admit(request, attributes, l.chain.objects)
	if err == nil {
		err = l.chain.admit.Validate(request, attributes, l.chain.objects)
	}
	observation := &probe.Observation{Latency: time.Since(start), Warnings: warnings.list, Audit: attributes.annotations}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("probe %s in the admission lane: %w", at.Key, context.Cause(ctx))
	}
	if request.Err() != nil { // of a request that is out of time, an API server's audit log may not tell what was done
		observation.Audit = nil
	}
	if err := observation.ReadAudit(); err != nil {
		return nil, fmt.Errorf("probe %s: %w", at.Key, err)
	}
	if err == nil {
		switch object := bare.GetObject().(type) {
		case *corev1.Pod:
			observation.Pod = object
		case *unstructured.Unstructured:
			observation.Object = object.Object
		}
		return observation, nil
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		// What the handler of the API server makes of an error that carries no status.
		status = apierrors.NewInternalError(err)
	}
	refusal := status.Status()
	observation.Refused = &refusal
	return observation, nil
}

// audited keeps the audit annotations that the plugins add: the API server would put them into the audit event.
type audited struct {
	kadmission.Attributes
	mu          sync.Mutex // validating webhooks add annotations concurrently
	annotations map[string]string
}

func (a *audited) AddAnnotation(key, value string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.annotations == nil {
		a.annotations = map[string]string{}
	}
	a.annotations[key] = value
	return nil
}

// recorder collects warnings as the API server's own collects them: once each, in order. Validating webhooks are called
// side by side, and each may add some.
type recorder struct {
	mu   sync.Mutex
	list []string
}

func (r *recorder) AddWarning(_, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if text != "" && !slices.Contains(r.list, text) {
		r.list = append(r.list, text)
	}
}

// noConfig is the admission configuration of an API server that was given none.
type noConfig struct{}

func (noConfig) ConfigFor(string) (io.Reader, error) { return nil, nil }
