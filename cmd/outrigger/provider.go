// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/lane/kind"
	"github.com/outrigger-k8s/outrigger/lane/kind/nodeimage"
	"github.com/outrigger-k8s/outrigger/run"
)

func providerCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "provider auto|LANE",
		Short: "Print the lane that `make e2e PROVIDER=…` runs in; why, on standard error",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			lane, why := args[0], "asked for"
			if lane == "auto" {
				lane, why = choose(c.Context())
			}
			if !slices.Contains(run.Lanes(), lane) {
				return &run.UsageError{Err: fmt.Errorf("there is no provider %q: take auto, %s", lane, strings.Join(run.Lanes(), ", "))}
			}
			fmt.Fprintf(c.ErrOrStderr(), "provider: %s (%s)\n", lane, why)
			_, err := fmt.Fprintln(c.OutOrStdout(), lane)
			return err
		},
	}
}

// choose is what auto takes, and why.
func choose(ctx context.Context) (lane, why string) {
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		return controlplane.Name, "auto: a real control plane, from the binaries in KUBEBUILDER_ASSETS"
	}
	engine, passed, err := nodeimage.FindEngine(ctx, "")
	if err != nil {
		return controlplane.Name, "auto: a real control plane, built from source the first time; " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	why = "auto: a kind cluster, since " + engine + " answers; a selection of the cases there, FULL=1 or PROVIDER=controlplane for all"
	for _, p := range passed {
		why += "; " + p
	}
	return kind.Name, why
}
