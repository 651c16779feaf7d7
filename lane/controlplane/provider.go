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

	"k8s.io/client-go/rest"
	"sigs.k8s.io/e2e-framework/klient"
	"sigs.k8s.io/e2e-framework/support"

	"github.com/outrigger-k8s/outrigger/lane/source"
	"github.com/outrigger-k8s/outrigger/proc"
)

// A Provider offers a control plane to e2e-framework: a cluster without nodes, for tests of everything up to the pod
// that is admitted. The zero value is ready; version and routing can be set before Create.
type Provider struct {
	// Options of the control plane. WithVersion and WithPath set its Version and Binaries.
	Options Options
	// Base is the directory for the provider's run; "" means proc.DefaultBase.
	Base string

	mu   sync.Mutex
	name string
	run  *proc.Run
	cp   *ControlPlane
}

var _ support.E2EClusterProvider = (*Provider)(nil)

// contextName is the name of the one context in the kubeconfig.
const contextName = "outrigger"

// WithName sets the name that messages use. There may be several control planes of one name.
func (p *Provider) WithName(name string) support.E2EClusterProvider {
	p.name = name
	return p
}

// WithVersion sets the version of Kubernetes, with or without the v.
func (p *Provider) WithVersion(version string) support.E2EClusterProvider {
	p.Options.Version = version
	return p
}

// WithPath names a folder with kube-apiserver, kube-controller-manager and etcd, as KUBEBUILDER_ASSETS does.
func (p *Provider) WithPath(path string) support.E2EClusterProvider {
	p.Options.Binaries = source.Binaries{Dir: path} // its version is asked for when it is started
	return p
}

// WithOpts applies the options in order.
func (p *Provider) WithOpts(opts ...support.ClusterOpts) support.E2EClusterProvider {
	for _, opt := range opts {
		opt(p)
	}
	return p
}

// SetDefaults changes nothing: the zero value has them.
func (p *Provider) SetDefaults() support.E2EClusterProvider { return p }

// Create starts the control plane, unless it runs already, and returns the path of its kubeconfig. It takes no
// arguments.
func (p *Provider) Create(ctx context.Context, args ...string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(args) > 0 {
		return "", fmt.Errorf("create control plane %s: it takes no arguments, but got %q", p.name, args)
	}
	if p.cp != nil {
		return p.cp.Kubeconfig(), nil
	}
	run, err := proc.Open(ctx, p.Base)
	if err != nil {
		return "", fmt.Errorf("create control plane %s: %w", p.name, err)
	}
	cp, err := Start(ctx, run, p.Options)
	if err != nil {
		return "", fmt.Errorf("create control plane %s: %w", p.name, errors.Join(err, run.Close()))
	}
	p.run, p.cp = run, cp
	return cp.Kubeconfig(), nil
}

// CreateWithConfig is refused: there is no configuration file for a control plane. Set Provider.Options.
func (p *Provider) CreateWithConfig(context.Context, string) (string, error) {
	return "", fmt.Errorf("create control plane %s: it takes no configuration file; set Provider.Options", p.name)
}

// GetKubeconfig is the path of the kubeconfig; "" before Create and after Destroy.
func (p *Provider) GetKubeconfig() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cp == nil {
		return ""
	}
	return p.cp.Kubeconfig()
}

// GenerateKubeconfig is the same as GetKubeconfig: the file is written when the control plane starts.
func (p *Provider) GenerateKubeconfig(...string) (string, error) {
	if path := p.GetKubeconfig(); path != "" {
		return path, nil
	}
	return "", p.notCreated("generate its kubeconfig")
}

// GetKubectlContext is the name of the kubeconfig's context.
func (p *Provider) GetKubectlContext() string { return contextName }

// ExportLogs copies the logs of the processes to the folder dest, which is made if need be.
func (p *Provider) ExportLogs(ctx context.Context, dest string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cp == nil {
		return p.notCreated("export its logs")
	}
	if err := os.MkdirAll(dest, 0o755); err != nil {
		return fmt.Errorf("export the logs of control plane %s: %w", p.name, err)
	}
	for _, path := range p.cp.Logs() {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("export the logs of control plane %s: %w", p.name, err)
		}
		if err := copyFile(filepath.Join(dest, filepath.Base(path)), path); err != nil {
			return fmt.Errorf("export the logs of control plane %s: %w", p.name, err)
		}
	}
	return nil
}

// Destroy stops the control plane and removes its files. Without one it does nothing.
func (p *Provider) Destroy(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cp == nil {
		return nil
	}
	p.cp.Stop()
	err := p.run.Close()
	p.run, p.cp = nil, nil
	if err != nil {
		return fmt.Errorf("destroy control plane %s: %w", p.name, err)
	}
	return nil
}

// WaitForControlPlane waits until the API server says that it is ready and pods can be created in namespace default.
// Create has waited for both already; they can be waited for again. client is not needed: it is limited to a few
// requests a second, unless its REST config is KubernetesRestConfig's.
func (p *Provider) WaitForControlPlane(ctx context.Context, _ klient.Client) error {
	p.mu.Lock()
	cp := p.cp
	p.mu.Unlock()
	if cp == nil {
		return p.notCreated("wait for it")
	}
	if err := cp.await(ctx, "the API server is ready", cp.ready); err != nil {
		return err
	}
	return cp.cluster().awaitServiceAccount(ctx, "default")
}

// KubernetesRestConfig is a config without a limit on requests (QPS −1); nil before Create.
func (p *Provider) KubernetesRestConfig() *rest.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cp == nil {
		return nil
	}
	return p.cp.RESTConfig()
}

func (p *Provider) notCreated(what string) error {
	return fmt.Errorf("control plane %s does not run: call Create before you %s", p.name, what)
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
