// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/outrigger-k8s/outrigger/lane/kind/nodeimage"
)

func nodeImageCommand() *cobra.Command {
	var o nodeimage.BuildOptions
	c := &cobra.Command{
		Use:   "node-image",
		Short: "Build the image of a kind cluster's nodes, without a registry, and print its name",
		Long: `Build the image of a kind cluster's nodes from Debian packages and from source that the Go module proxy serves, load
it into the container engine, and print its name. No registry is asked for anything.

The first time takes minutes, and root (for debootstrap); what is made is kept in the user's cache directory, so that the
same again takes seconds. An interrupted build goes on where it was.`,
		Example: `  outrigger node-image
  kind create cluster --image $(outrigger node-image --k8s-version 1.36.3)`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Progress = c.ErrOrStderr()
			reference, err := nodeimage.Build(c.Context(), o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), reference)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.K8sVersion, "k8s-version", "", "version of Kubernetes (default "+nodeimage.DefaultVersion+")")
	f.StringVar(&o.Engine, "engine", "", "docker, podman or nerdctl (default: the first that is installed, as kind chooses)")
	f.StringVar(&o.Mirror, "mirror", "", "mirror of Debian (default "+nodeimage.DefaultMirror+")")
	return c
}
