// SPDX-License-Identifier: Apache-2.0

// Outrigger checks that a sidecar injector injects exactly where its tables say. See `outrigger help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
)

func main() {
	ctx, stop := interruptible(context.Background())
	code := execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// interruptible is a context that SIGINT, SIGTERM and SIGHUP (a terminal that is closed) end. A second signal ends the
// program at once: what is then left behind, the next start sweeps.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		s, ok := <-signals
		if !ok {
			return
		}
		fmt.Fprintf(os.Stderr, "\noutrigger: %s: stopping what was started (once more to leave at once)\n", s)
		cancel(run.ErrInterrupted)
		if _, ok := <-signals; ok {
			os.Exit(report.ExitInfrastructure)
		}
	}()
	return ctx, func() { signal.Stop(signals); close(signals); cancel(nil) }
}

// exit is an error that has already been told, and its code.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// execute runs the command line and returns its exit code.
func execute(ctx context.Context, args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var told exit
	if errors.As(err, &told) {
		return int(told)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "outrigger: %v\n", err)
	}
	return run.Exit(err)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "outrigger",
		Short: "Conformance tests for Kubernetes sidecar injectors",
		Long: `Outrigger checks that a sidecar injector injects exactly where its tables say: every combination of
namespace label, policy, annotation and safety rule, on the API server's own admission code.

Exit codes: 0 conformant, 1 not conformant, 2 usage, 3 infrastructure.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &run.UsageError{Err: fmt.Errorf("%w; `%s --help` lists the flags", err, c.CommandPath())}
	})
	root.AddCommand(runCommand(), listCommand(), explainCommand(), verdictCommand(), lostCommand(), soakCommand(),
		renderCommand(), compareCommand(), agreeCommand(), mergeCommand(),
		mutantsCommand(), imageCommand(), nodeImageCommand(), providerCommand(), injectorCommand(), versionCommand())
	for _, c := range root.Commands() {
		c.Args = asUsage(c.Args)
	}
	root.Args = asUsage(root.Args)
	return root
}

// asUsage makes what args refuses a mistake in usage.
func asUsage(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if err := args(c, given); err != nil {
			return &run.UsageError{Err: fmt.Errorf("%w; usage: %s", err, c.UseLine())}
		}
		return nil
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print outrigger's version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "outrigger", run.Version())
			return err
		},
	}
}
