// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kind/pkg/cluster"

	"github.com/outrigger-k8s/outrigger/image"
	"github.com/outrigger-k8s/outrigger/injector/deploy"
	"github.com/outrigger-k8s/outrigger/lane/kind"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/target"
)

// injectorCommand is about the reference injector in a cluster of the user's.
func injectorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "injector",
		Short: "Install the reference injector in a cluster, or write its image",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(injectorImageCommand(), installCommand(), uninstallCommand())
	for _, sub := range c.Commands() {
		sub.Args = asUsage(sub.Args)
	}
	return c
}

func injectorImageCommand() *cobra.Command {
	var program, reference, platform, out string
	c := &cobra.Command{
		Use:   "image --out FILE",
		Short: "Write the injector's image as an archive; print its name and its digest",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return &run.UsageError{Err: errors.New("write the injector's image: --out FILE says where to")}
			}
			made, err := injectorImage(program, reference, platform)
			if err != nil {
				return err
			}
			id, err := made.ID()
			if err != nil {
				return err
			}
			if err := made.WriteFile(out); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), made.Reference, id)
			return err
		},
	}
	c.Flags().StringVar(&out, "out", "", "the archive's `FILE`; docker load, podman load, ctr images import and kind load image-archive take it")
	c.Flags().StringVar(&reference, "image", "", "`NAME:TAG` of the image; default: "+deploy.DefaultImage)
	c.Flags().StringVar(&platform, "platform", "", "`OS/ARCH` that the program is for; default: "+image.DefaultPlatform)
	addProgram(c, &program)
	return c
}

func addProgram(c *cobra.Command, program *string) {
	c.Flags().StringVar(program, "program", "", "the injector's `FILE`, linked statically; default: the one beside outrigger, or on PATH")
}

func injectorImage(program, reference, platform string) (image.Image, error) {
	if program == "" {
		var err error
		if program, err = target.FindReference(); err != nil {
			return image.Image{}, &run.UsageError{Err: err}
		}
	}
	return deploy.Image(program, reference, platform)
}

// clusterFlags name a cluster, and the injector in it.
type clusterFlags struct {
	kubeconfig, context string
	options             deploy.Options
	timeout             time.Duration
}

func (f *clusterFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.context, "context", "", "the kubeconfig's context `NAME`; required, so that it is never another cluster than you mean")
	c.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "the kubeconfig's `FILE`; default: as for kubectl")
	c.Flags().StringVar(&f.options.Namespace, "namespace", deploy.DefaultNamespace, "the injector's `NAMESPACE`")
	c.Flags().DurationVar(&f.timeout, "timeout", 3*time.Minute, "how `long` all of it may take")
}

// installer makes what installs and uninstalls.
func (f *clusterFlags) installer() (*deploy.Installer, error) {
	config, err := f.config()
	if err != nil {
		return nil, &run.UsageError{Err: err}
	}
	i, err := deploy.NewInstaller(config, f.options)
	if err != nil {
		return nil, &run.UsageError{Err: err}
	}
	return i, nil
}

func (f *clusterFlags) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	kubeconfig, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	if f.context == "" {
		return nil, errors.New("--context NAME says which cluster is meant: `kubectl config get-contexts` lists them")
	}
	if kubeconfig.Contexts[f.context] == nil {
		there := strings.Join(slices.Sorted(maps.Keys(kubeconfig.Contexts)), ", ")
		if there == "" {
			there = "none"
		}
		return nil, fmt.Errorf("--context %q is not in the kubeconfig; it has %s", f.context, there)
	}
	return clientcmd.NewDefaultClientConfig(*kubeconfig, &clientcmd.ConfigOverrides{CurrentContext: f.context}).ClientConfig()
}

// bounded is a context that ends with the timeout, and says so.
func (f *clusterFlags) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("not done within --timeout %s", f.timeout))
}

func installCommand() *cobra.Command {
	var f clusterFlags
	var program string
	c := &cobra.Command{
		Use:   "install --context NAME",
		Short: "Install the injector, or bring it up to date, and wait until the API server trusts it",
		Long: `Install the injector in the cluster of a kubeconfig's context, wait until its replicas are available, and only then
write the webhook configurations. Namespaces with the label istio-injection=enabled are injected from then on.

Without --image the image is made of the injector's program and loaded into the nodes, which needs a cluster of kind's.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := f.bounded(c.Context())
			defer cancel()
			if _, err := f.config(); err != nil {
				return &run.UsageError{Err: err}
			}
			if f.options.Image == "" {
				name, isKind := strings.CutPrefix(f.context, "kind-")
				if !isKind {
					return &run.UsageError{Err: fmt.Errorf("install in %q: it is no cluster of kind's, so --image must name an image that its nodes can pull; "+
						"`outrigger injector image` writes one", f.context)}
				}
				var err error
				if f.options.Image, err = loadIntoKind(ctx, program, name); err != nil {
					return err
				}
				fmt.Fprintf(c.ErrOrStderr(), "loaded %s into the nodes of %s\n", f.options.Image, name)
			}
			i, err := f.installer()
			if err != nil {
				return err
			}
			if err := i.Install(ctx); err != nil {
				return fmt.Errorf("install the injector in %s: %w", f.context, err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "installed %s in namespace %s of %s; kubectl label namespace NAME istio-injection=enabled injects its new pods\n",
				f.options.Image, f.options.Namespace, f.context)
			return err
		},
	}
	f.add(c)
	c.Flags().StringVar(&f.options.Image, "image", "", "`NAME:TAG` of the injector's image, in a registry; default: made, and loaded into a kind cluster's nodes")
	c.Flags().IntVar(&f.options.Replicas, "replicas", deploy.DefaultReplicas, "how `many` replicas")
	addProgram(c, &program)
	return c
}

func uninstallCommand() *cobra.Command {
	var f clusterFlags
	c := &cobra.Command{
		Use:   "uninstall --context NAME",
		Short: "Take the injector away: webhook configurations first, then the rest",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := f.bounded(c.Context())
			defer cancel()
			i, err := f.installer()
			if err != nil {
				return err
			}
			if err := i.Uninstall(ctx); err != nil {
				return fmt.Errorf("uninstall the injector in %s: %w", f.context, err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "uninstalled from %s; pods that have their sidecar keep it until they are replaced\n", f.context)
			return err
		},
	}
	f.add(c)
	return c
}

// loadIntoKind makes the injector's image and loads it into every node of a kind cluster; it returns the image's name.
// The tag is of the content, so that a new program is rolled out, and an old one is not.
func loadIntoKind(ctx context.Context, program, name string) (reference string, err error) {
	made, err := injectorImage(program, "", "")
	if err != nil {
		return "", err
	}
	id, err := made.ID()
	if err != nil {
		return "", err
	}
	repository, _, _ := strings.Cut(deploy.DefaultImage, ":")
	reference = repository + ":" + strings.TrimPrefix(id, "sha256:")[:12]
	if made, err = injectorImage(program, reference, ""); err != nil {
		return "", err
	}
	option, err := cluster.DetectNodeProvider()
	if err != nil {
		return "", fmt.Errorf("load the image into kind cluster %s: %w", name, err)
	}
	if err := kind.Load(ctx, cluster.NewProvider(option), name, made); err != nil {
		return "", err
	}
	return reference, nil
}
