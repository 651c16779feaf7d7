// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
)

func soakCommand() *cobra.Command {
	var o run.Options
	var runs int
	c := &cobra.Command{
		Use:   "soak",
		Short: "Run the same again and again: every run must give the same verdicts",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if runs < 1 {
				return &run.UsageError{Err: fmt.Errorf("--runs %d: at least one run is needed", runs)}
			}
			alike, err := run.Soak(c.Context(), o, runs, os.Stdout)
			if err != nil {
				return err
			}
			if !alike {
				return exit(report.ExitNotConformant)
			}
			return nil
		},
	}
	c.Flags().IntVarP(&runs, "runs", "n", 20, "how many runs")
	laneFlags(c, &o)
	return c
}

// laneFlags are the flags that say what runs where, common to all commands that run cases.
func laneFlags(c *cobra.Command, o *run.Options) {
	f := c.Flags()
	f.StringVar(&o.Lane, "lane", "admission", "where to run: "+strings.Join(run.Lanes(), ", "))
	selectionFlags(c, o)
	f.StringVar(&o.Kubernetes, "k8s-version", "", "version of the control plane (default: the lane's)")
	f.StringVar(&o.Routing, "routing", "", "how the control plane reaches Services: clusterip or endpoints")
	f.StringVar(&o.Target, "target", "", "file that describes the injector under test (default: the reference injector)")
	f.StringVar(&o.Injector, "injector", "", "the reference injector's binary (default: beside outrigger, or on PATH)")
	f.IntVar(&o.Concurrency, "concurrency", 0, "cases under way at once (default: what keeps this machine busy)")
	f.DurationVar(&o.Timeout, "timeout", 0, "bound on one case (default 1m)")
}

// selectionFlags are the flags that say which cases are meant.
func selectionFlags(c *cobra.Command, o *run.Options) {
	c.Flags().StringVar(&o.Profile, "profile", "", "only the tables of this profile")
	c.Flags().StringVar(&o.Focus, "focus", "", "only cases whose ID matches this regular expression, or the one case of this ID")
}
