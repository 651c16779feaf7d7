// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/outrigger-k8s/outrigger/mutants"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
)

func mutantsCommand() *cobra.Command {
	var only string
	var list bool
	c := &cobra.Command{
		Use:   "mutants",
		Short: "Prove that the suite notices: break one line at a time, and see that it does",
		Long: `Break the reference injector, its webhook configuration and the harness itself in one known line at a time, and see
that a case of the tables, or a unit test, notices.

The mutants are built from source: run the command in outrigger's checkout, with the Go toolchain on PATH. It changes
no file there.

Exit codes: 0 every mutant was noticed, 1 one was not, or by the wrong rule, 2 usage, 3 a mutant or a control could not
be built or run.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := mutants.Load()
			if err != nil {
				return err
			}
			pattern, err := regexp.Compile(only)
			if err != nil {
				return &run.UsageError{Err: fmt.Errorf("--only %q is not a regular expression: %w", only, err)}
			}
			all = slices.DeleteFunc(all, func(m mutants.Mutant) bool { return !pattern.MatchString(m.Name) })
			if len(all) == 0 {
				return &run.UsageError{Err: fmt.Errorf("no mutant is called like %q; --list prints them", only)}
			}
			if list {
				w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
				for _, m := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name, m.Of, m.What)
				}
				return w.Flush()
			}
			summary, err := mutants.Run(c.Context(), ".", all, c.OutOrStdout())
			switch {
			case errors.Is(err, mutants.ErrNoCheckout):
				return &run.UsageError{Err: err}
			case err != nil:
				return err
			case summary.Survived+summary.Misled > 0:
				return exit(report.ExitNotConformant)
			case summary.Broken > 0:
				return exit(report.ExitInfrastructure)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&only, "only", "", "only mutants whose name matches this regular expression")
	f.BoolVar(&list, "list", false, "print the mutants instead of trying them")
	return c
}
