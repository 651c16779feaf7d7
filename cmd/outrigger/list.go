// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/outrigger-k8s/outrigger/lane/kind/proof"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
)

func listCommand() *cobra.Command {
	var o run.Options
	var catalogue, byTable bool
	c := &cobra.Command{
		Use:   "list",
		Short: "Print the ID of every case, one a line, without running any",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.Check(); err != nil {
				return err
			}
			tables, selects, err := o.Tables()
			if err != nil {
				return err
			}
			if catalogue && byTable {
				return &run.UsageError{Err: errors.New("--catalogue and --tables are two listings: leave one of them out")}
			}
			if catalogue {
				if o.Focus != "" || o.Profile != "" {
					return &run.UsageError{Err: errors.New("--catalogue goes through all tables: leave --focus and --profile out")}
				}
				return listCatalogue(c.OutOrStdout(), tables, proof.All)
			}
			if byTable {
				if o.Lane != "" {
					return &run.UsageError{Err: errors.New("--tables goes through all lanes: leave --lane out")}
				}
				return listTables(c.OutOrStdout(), &o, tables, selects)
			}
			facts, err := o.Facts()
			if err != nil {
				return err
			}
			w := bufio.NewWriter(c.OutOrStdout())
			n, lacking := 0, map[string]int{}
			for _, t := range tables {
				for each := range t.Cases() {
					if selects != nil && !selects(each) {
						continue
					}
					if missing := each.Missing(facts); missing != "" && o.Lane != "" {
						lacking[missing]++
						continue
					}
					n++
					fmt.Fprintln(w, each.ID())
				}
			}
			proofs, err := o.Proofs()
			if err != nil {
				return err
			}
			for _, p := range proofs {
				n++
				fmt.Fprintln(w, p.ID())
			}
			if n == 0 && len(lacking) > 0 {
				return noneCanRun(o.Lane, lacking)
			}
			if n == 0 {
				return run.NoCase(&o)
			}
			return w.Flush()
		},
	}
	selectionFlags(c, &o)
	c.Flags().StringVar(&o.Lane, "lane", "", "only what this lane runs, as far as the options say it: kind runs a selection, and proofs (default: every case)")
	c.Flags().BoolVar(&o.Full, "full", false, "kind: every case")
	c.Flags().BoolVar(&o.Long, "long", false, "kind: too the tables that wait for the back-off of controllers, and the proofs that take long")
	c.Flags().StringVar(&o.Kubernetes, "k8s-version", "", "of this version of Kubernetes: it is refused where the lane cannot have it")
	c.Flags().BoolVar(&byTable, "tables", false, "instead: every table, how many of its cases each lane can run, and what the others would need of it")
	c.Flags().BoolVar(&catalogue, "catalogue", false, "instead: every row of the failure catalogue, and which rules and proofs answer it")
	return c
}

// noneCanRun is the usage error where cases match and the lane can run none of them; lacking counts them by feature.
func noneCanRun(lane string, lacking map[string]int) error {
	var why []string
	for _, feature := range slices.Sorted(maps.Keys(lacking)) {
		why = append(why, fmt.Sprintf("%d of them: %s", lacking[feature], run.NotRunReason(probe.NotRun{Missing: feature})))
	}
	return &run.UsageError{Err: fmt.Errorf("lane %s can run none of the cases that match: %s", lane, strings.Join(why, "; "))}
}

func explainCommand() *cobra.Command {
	var o run.Options
	var settings bool
	c := &cobra.Command{
		Use:     "explain CASE",
		Short:   "Say which rule decides a case, why, and where that is written",
		Example: "  outrigger explain kubesphere/decision/workspace=named,ns-label=disabled,annotation=true,policy=enabled,host-network=no,namespace=ordinary",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			set, err := scenarios.Load()
			if err != nil {
				return err
			}
			if i := slices.IndexFunc(proof.All, func(p *proof.Proof) bool { return p.ID() == args[0] }); i >= 0 && !settings {
				return explainProof(c.OutOrStdout(), proof.All[i])
			}
			found, err := set.Find(args[0])
			if err != nil {
				return &run.UsageError{Err: err}
			}
			if settings {
				return printSettings(c.OutOrStdout(), found)
			}
			if err := o.Check(); err != nil {
				return err
			}
			facts, err := o.Facts()
			if err != nil {
				return err
			}
			return explain(c.OutOrStdout(), found, facts)
		},
	}
	c.Flags().BoolVar(&settings, "settings", false, "instead: the injector's settings that the case wants, in the words of the profile")
	c.Flags().StringVar(&o.Lane, "lane", "", "as in this lane: a rule may depend on it (default admission)")
	c.Flags().StringVar(&o.Kubernetes, "k8s-version", "", "as with this version of Kubernetes in the controlplane lane (default: the lane's)")
	return c
}

// explainProof says what is shown in a cluster, and why it must be so.
func explainProof(w io.Writer, p *proof.Proof) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s\n\n%s: %s\n  because           %s\n  source            %s\n", p.ID(), p.Outcome, p.Title, p.Because, p.Source)
	when := "with make e2e PROVIDER=kind"
	if p.Long {
		when += " LONG=1"
	}
	fmt.Fprintf(b, "  shown             %s\n", when)
	return b.Flush()
}

// printSettings prints the settings that a case wants of the injector, as YAML: what a target's template is given, and what
// url.settings must be for the case to run.
func printSettings(w io.Writer, c table.Case) error {
	text, err := yaml.Marshal(c.Document(table.SettingsSection))
	if err != nil {
		return fmt.Errorf("write the settings of %s: %w", c.ID(), err)
	}
	_, err = w.Write(text)
	return err
}

func explain(w io.Writer, c table.Case, facts table.Facts) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s\n\n", c.ID())
	width := 14
	for d := range c.Table.Dimensions {
		width = max(width, len(c.Value(d).Slug))
	}
	for d := range c.Table.Dimensions {
		dimension, value := &c.Table.Dimensions[d], c.Value(d)
		title := dimension.Title
		if value.Title != "" {
			title += " (" + value.Title + ")"
		}
		fmt.Fprintln(b, strings.TrimRight(fmt.Sprintf("  %-16s %-*s %s", dimension.Name, width, value.Slug, strings.TrimSpace(title)), " "))
	}
	if len(c.Table.Course) == 0 {
		explainRules(b, c, facts)
	}
	for k, step := range c.Table.Course {
		title := step.Title
		if title == "" && step.Of != "" {
			title = string(step.Does) + " of " + string(step.Of)
		}
		fmt.Fprintf(b, "\n%d. %s: %s\n", k+1, step.Name, cmp.Or(title, string(step.Does)))
		explainRules(b, c.At(k+1), facts)
	}
	if missing := c.Missing(facts); missing != "" {
		fmt.Fprintf(b, "  not run           in lane %s, which lacks %q\n", facts.Lane, missing)
	}
	return b.Flush()
}

// explainRules prints the rule that decides a case, or a step of one, and those that would without it.
func explainRules(b *bufio.Writer, c table.Case, facts table.Facts) {
	first := true
	for r := range c.Rules(facts) {
		source := r.Source
		if source == "" {
			source = c.Table.Source
		}
		then := r.Then.At(c.Step())
		if !first {
			fmt.Fprintf(b, "  without it        %s would: %s (%s:%d)\n", r.Name, then.Outcome, c.Table.File, r.Line)
			continue
		}
		first = false
		if c.Step() == nil {
			fmt.Fprintln(b)
		}
		fmt.Fprintf(b, "%s, by rule %s (%s:%d)\n", then.Outcome, r.Name, c.Table.File, r.Line)
		fmt.Fprintf(b, "  because           %s\n  source            %s\n", r.Because, source)
		if then.Calls != nil {
			fmt.Fprintf(b, "  webhook calls     %s\n", then.Calls)
		}
		if then.Called != nil {
			fmt.Fprintf(b, "  webhooks called   %s\n", strings.Join(then.Called, ", "))
		}
		if n := then.Attempted; n != nil {
			fmt.Fprintf(b, "  calls attempted   %d\n", *n)
		}
		if n := then.Received; n != nil {
			fmt.Fprintf(b, "  calls received    %d\n", *n)
		}
		for _, said := range []struct{ what, text string }{
			{"path", then.Path}, {"message", then.Message.String()}, {"warning", then.Warning}, {"events", then.Events.String()}, {"condition", then.Condition}, {"within", then.Within},
		} {
			if said.text != "" {
				fmt.Fprintf(b, "  %-17s %s\n", said.what, said.text)
			}
		}
		if s := r.Given.String(); s != "" {
			fmt.Fprintf(b, "  given             %s\n", s)
		}
	}
}
