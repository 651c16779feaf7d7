// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
)

func runCommand() *cobra.Command {
	var o run.Options
	var quiet, print bool
	var shard string
	var budgets []string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the tables in a lane against an injector",
		Long: `Run the tables in a lane against an injector, print a summary, and leave the report in the artefacts' folder.

Lanes:
  admission     the API server's own admission code in this process; seconds
  controlplane  a real etcd, kube-apiserver and kube-controller-manager as local processes, built from source the
                first time (or taken from KUBEBUILDER_ASSETS); minutes, the first time more
  kind          a cluster of containers, by docker, podman or nerdctl, with the injector installed in it; its node
                image is built from source where none can be pulled`,
		Example: `  outrigger run
  outrigger run --lane controlplane --profile kubesphere
  outrigger run --lane kind --keep
  outrigger run --focus 'decision/.*annotation=yes'
  outrigger run --target my-injector.yaml
  outrigger run --shard 2/4 --artifacts shard-2       # then: outrigger merge shard-*/report.json --artifacts all
  outrigger run --retries 2 --quarantine quarantine.yaml --budget 'istio-classic/decision=p99<=50ms'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !quiet {
				o.Progress = os.Stderr
			}
			var err error
			if o.Shard, err = run.ParseShard(shard, os.Getenv); err != nil {
				return err
			}
			for _, text := range budgets {
				b, err := run.ParseBudget(text)
				if err != nil {
					return err
				}
				o.Budgets = append(o.Budgets, b)
			}
			s, err := run.Open(c.Context(), o)
			if err != nil {
				return lastLine(c.OutOrStdout(), err)
			}
			ended := s.Run(c.Context(), nil)
			r, err := s.Finish(ended)
			if print {
				err = errors.Join(err, report.Pack(os.Stdout, r))
			}
			o := terminalOptions()
			o.Findings = r.Findings()
			err = errors.Join(err, report.Terminal(os.Stdout, r, o), stepSummary(r, report.Options{Findings: o.Findings}))
			if err != nil {
				return lastLine(c.OutOrStdout(), err)
			}
			return verdictOf(r)
		},
	}
	laneFlags(c, &o)
	f := c.Flags()
	f.StringVar(&o.Artifacts, "artifacts", "", "folder for the report and its renderings (default: none are written)")
	f.BoolVar(&o.Full, "full", false, "kind: every case, not only a selection in which every combination of three values occurs")
	f.BoolVar(&o.Long, "long", false, "kind: too the tables that wait for the back-off of controllers, and the proofs that take long, the node's restart among them")
	f.StringVar(&o.KindConfig, "kind-config", "", "kind: the file that the cluster is made from (default: the one that is built in)")
	f.StringVar(&o.NodeImage, "node-image", "", "kind: image of the cluster's nodes (default: kind's own, or one built from source)")
	f.StringVar(&o.Tap, "tap", "", "kind: the tap's binary (default: beside outrigger, or on PATH)")
	f.BoolVar(&o.Keep, "keep", false, "kind: leave the cluster running, and say how to use it")
	f.BoolVar(&o.Reuse, "reuse", false, "kind: take a cluster that was kept, where there is one")
	f.BoolVar(&o.FailFast, "fail-fast", false, "stop at the first case that does not hold")
	f.IntVar(&o.Repeat, "repeat", 1, "how often to try every case; one with both outcomes is FLAKY, which is not conformant")
	f.IntVar(&o.Retries, "retries", 0, "how often to try again a case that failed every time; if it passes then it is FLAKY, never PASS")
	f.StringVar(&shard, "shard", "", "run only the i'th of n parts, i/n (index/n: the one that $"+run.JobIndex+" names, in a pod of an Indexed Job); \"outrigger merge\" puts their reports together")
	f.StringVar(&o.Timings, "timings", "", "a report by whose times the shards are balanced, the same for all (default: by count)")
	f.StringVar(&o.Quarantine, "quarantine", "", "file of cases whose failures do not count: pattern, owner, issue, expiry date")
	f.StringArrayVar(&budgets, "budget", nil, "bound on latency that is part of the verdict: 'TABLE=p99<=50ms', or 'p99<=50ms' for all; repeatable")
	f.BoolVarP(&quiet, "quiet", "q", false, "no progress")
	f.BoolVar(&print, "print-report", false, "print the report too, packed, before the summary: \"outrigger merge\" finds it in a log")
	return c
}

// lastLine says on out what became of a run that ended with err, where that is the infrastructure's fault: the last line that
// is printed there is always a verdict. A mistake in usage is no run.
func lastLine(out io.Writer, err error) error {
	if run.Exit(err) != report.ExitInfrastructure {
		return err
	}
	conclusion := report.InfrastructureLost
	if errors.Is(err, run.ErrInterrupted) {
		conclusion = report.InterruptedRun
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	_, failed := fmt.Fprintf(out, "verdict: %s (exit %d): %s\n", conclusion, report.ExitInfrastructure, first)
	return errors.Join(err, failed)
}

// stepSummary adds what a report says to the summary of the GitHub Actions step that runs this; elsewhere it does nothing.
func stepSummary(r *report.Report, o report.Options) error {
	_, err := report.StepSummary(func(w io.Writer, o report.Options) error { return report.Markdown(w, r, o) }, o)
	return err
}

// verdictOf makes a report's verdict the program's exit code.
func verdictOf(r *report.Report) error {
	if r.Verdict.Exit == report.ExitConformant {
		return nil
	}
	return exit(r.Verdict.Exit)
}

func lostCommand() *cobra.Command {
	var o run.Options
	var because string
	c := &cobra.Command{
		Use:   "lost",
		Short: "Write the report of a run that left none, so that it is missed where reports are merged",
		Long: `Write the report of a run that left none by itself: its machine died, or its version of Kubernetes cannot be had.
Merged with others it is a column that broke, and the verdict on the whole is infrastructure (exit 3).`,
		Example: `  outrigger lost --lane controlplane --k8s-version 1.36.3 --because 'the job was cancelled' --artifacts 1.36.3`,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return run.Lost(o, because) },
	}
	c.Flags().StringVar(&o.Lane, "lane", "", "the lane that the run was in (default admission)")
	c.Flags().StringVar(&o.Kubernetes, "k8s-version", "", "the version of Kubernetes that the run was on (default: the lane's own)")
	c.Flags().StringVar(&o.Artifacts, "artifacts", "", "folder for the report and its renderings")
	c.Flags().StringVar(&because, "because", "", "why the run left no report")
	return c
}

func verdictCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verdict REPORT",
		Short: "Print a report's verdict in a line, and exit with its code",
		Long: `Print a report's verdict in a line, and exit with its code: 0 conformant, 1 not conformant, 3 infrastructure (a
report that is incomplete, interrupted, or cannot be read). In a step of GitHub Actions ($GITHUB_STEP_SUMMARY) the
report is added to the step's summary.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := report.Read(args[0])
			if err != nil {
				return err
			}
			if err := stepSummary(r, report.Options{}); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(c.OutOrStdout(), "verdict: %s (exit %d): %s\n", r.Verdict.Conclusion, r.Verdict.Exit, r.Verdict.Because); err != nil {
				return err
			}
			return verdictOf(r)
		},
	}
}
