// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/e2e-framework/klient"
	"sigs.k8s.io/e2e-framework/support"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
)

// A Provider offers a cluster to e2e-framework. Unlike the framework's own it needs no kind command, builds the node
// image where none can be pulled, and leaves nothing behind however its program ends. The zero value is ready.
type Provider struct {
	// Options of the cluster. WithVersion sets Kubernetes, CreateWithConfig Config.
	Options Options

	mu      sync.Mutex
	name    string
	cluster *Cluster
}

var (
	_ support.E2EClusterProvider                = (*Provider)(nil)
	_ support.E2EClusterProviderWithImageLoader = (*Provider)(nil)
)

// WithName sets the name that messages use. The cluster's own name is unique: two runs never share one by mistake.
func (p *Provider) WithName(name string) support.E2EClusterProvider {
	p.name = name
	return p
}

// WithVersion sets the version of Kubernetes, with or without the v.
func (p *Provider) WithVersion(version string) support.E2EClusterProvider {
	p.Options.Kubernetes = strings.TrimPrefix(version, "v")
	return p
}

// WithPath names the container engine's command: docker, podman or nerdctl.
func (p *Provider) WithPath(path string) support.E2EClusterProvider {
	p.Options.Engine = path
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

// Create makes the cluster, unless there is one already, and returns the path of its kubeconfig. It takes no arguments.
func (p *Provider) Create(ctx context.Context, args ...string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(args) > 0 {
		return "", fmt.Errorf("create cluster %s: it takes no arguments, but got %q", p.name, args)
	}
	if p.cluster == nil {
		c, err := Create(ctx, p.Options)
		if err == nil {
			if err = c.Ready(ctx); err != nil {
				err = c.unmake(ctx, err)
			}
		}
		if err != nil {
			return "", fmt.Errorf("create cluster %s: %w", p.name, err)
		}
		p.cluster = c
	}
	return p.cluster.Kubeconfig(), nil
}

// CreateWithConfig is Create from another kind-config.yaml.
func (p *Provider) CreateWithConfig(ctx context.Context, file string) (string, error) {
	p.mu.Lock()
	p.Options.Config = file
	p.mu.Unlock()
	return p.Create(ctx)
}

// GetKubeconfig is the path of the kubeconfig; "" before Create and after Destroy.
func (p *Provider) GetKubeconfig() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cluster == nil {
		return ""
	}
	return p.cluster.Kubeconfig()
}

// GenerateKubeconfig is the same as GetKubeconfig: the file is written when the cluster is made.
func (p *Provider) GenerateKubeconfig(...string) (string, error) {
	if path := p.GetKubeconfig(); path != "" {
		return path, nil
	}
	return "", p.notCreated("generate its kubeconfig")
}

// GetKubectlContext is the name of the kubeconfig's context; "" before Create.
func (p *Provider) GetKubectlContext() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cluster == nil {
		return ""
	}
	return "kind-" + p.cluster.Name()
}

// ExportLogs collects what the cluster can tell of itself in the folder dest: see Cluster.Collect.
func (p *Provider) ExportLogs(ctx context.Context, dest string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cluster == nil {
		return p.notCreated("export its logs")
	}
	return p.cluster.Collect(ctx, dest)
}

// Destroy deletes the cluster. Without one it does nothing.
func (p *Provider) Destroy(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cluster == nil {
		return nil
	}
	err := p.cluster.Close(ctx)
	p.cluster = nil
	return err
}

// WaitForControlPlane waits until nodes, kube-proxy and DNS are ready. Create has waited for them already; they can be
// waited for again. client is not needed.
func (p *Provider) WaitForControlPlane(ctx context.Context, _ klient.Client) error {
	p.mu.Lock()
	c := p.cluster
	p.mu.Unlock()
	if c == nil {
		return p.notCreated("wait for it")
	}
	return c.Ready(ctx)
}

// KubernetesRestConfig is a config without a limit on requests (QPS −1); nil before Create.
func (p *Provider) KubernetesRestConfig() *rest.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cluster == nil {
		return nil
	}
	return p.cluster.RESTConfig()
}

// LoadImage loads an image that the container engine has into every node, as `kind load docker-image` does. It takes no
// arguments.
func (p *Provider) LoadImage(ctx context.Context, image string, args ...string) error {
	p.mu.Lock()
	c := p.cluster
	p.mu.Unlock()
	if c == nil {
		return p.notCreated("load an image into it")
	}
	if len(args) > 0 {
		return fmt.Errorf("load image %s into cluster %s: it takes no arguments, but got %q", image, p.name, args)
	}
	dir, err := os.MkdirTemp("", "outrigger-image-")
	if err != nil {
		return fmt.Errorf("load image %s into cluster %s: %w", image, p.name, err)
	}
	defer os.RemoveAll(dir)
	archive := filepath.Join(dir, "image.tar")
	if out, err := exec.CommandContext(ctx, c.Engine(), "save", "--output", archive, image).CombinedOutput(); err != nil {
		return fmt.Errorf("load image %s into cluster %s: have %s save it: %w: %s", image, p.name, c.Engine(), err, strings.TrimSpace(string(out)))
	}
	return p.LoadImageArchive(ctx, archive)
}

// LoadImageArchive loads an image's archive into every node.
func (p *Provider) LoadImageArchive(ctx context.Context, archive string, _ ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cluster == nil {
		return p.notCreated("load an image into it")
	}
	return eachNode(ctx, p.cluster.provider, p.cluster.Name(), func(_ context.Context, node nodes.Node) error {
		f, err := os.Open(archive)
		if err != nil {
			return fmt.Errorf("load an image into cluster %s: %w", p.name, err)
		}
		defer f.Close()
		if err := nodeutils.LoadImageArchive(node, f); err != nil {
			return fmt.Errorf("load %s into node %s: %w", archive, node, advised(err))
		}
		return nil
	})
}

func (p *Provider) notCreated(what string) error {
	return fmt.Errorf("cluster %s does not run: call Create before you %s", p.name, what)
}
