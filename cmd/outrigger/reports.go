// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
)

func renderCommand() *cobra.Command {
	var format, out, baseline string
	c := &cobra.Command{
		Use:     "render REPORT",
		Short:   "Render a report for people or for CI",
		Example: "  outrigger render _artifacts/report.json --format html --out report.html",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			renderer, err := report.RendererFor(format)
			if err != nil {
				return &run.UsageError{Err: err}
			}
			if sameFile(args[0], out) {
				return &run.UsageError{Err: fmt.Errorf("--out %s is the report itself: it would be gone", out)}
			}
			r, err := report.Read(args[0])
			if err != nil {
				return err
			}
			o := terminalOptions()
			if baseline != "" {
				if o.Baseline, err = report.Read(baseline); err != nil {
					return err
				}
			}
			return output(c, out, func(w io.Writer) error { return renderer.Render(w, r, o) })
		},
	}
	about := "one of"
	for _, r := range report.Renderers {
		about += fmt.Sprintf("\n  %-9s %s", r.Name, r.About)
	}
	c.Flags().StringVar(&format, "format", "terminal", about)
	c.Flags().StringVarP(&out, "out", "o", "", "file to write (default: standard output)")
	c.Flags().StringVar(&baseline, "baseline", "", "a report to compare with: what changed is shown")
	return c
}

// sameFile tells whether both names are of one file that is there.
func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// terminalFormat is the comparison as people read it where they have run the command.
const terminalFormat = "terminal"

func compareCommand() *cobra.Command {
	var format, out, quarantine string
	var allow []string
	c := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Say what changed from one report to another, and exit with what weighs most",
		Long: `Say what changed from one report to another, and exit with what weighs most.

In a step of GitHub Actions ($GITHUB_STEP_SUMMARY) what the terminal shows is added to the step's page too.

` + compareCodes(),
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			renderer, err := report.ComparisonRendererFor(format)
			if err != nil {
				return &run.UsageError{Err: err}
			}
			// Before anything is read: a kind that is misspelt would be a gate that is stricter than it was meant.
			o, err := allowing(allow)
			if err != nil {
				return err
			}
			old, err := report.Read(args[0])
			if err != nil {
				return err
			}
			fresh, err := report.Read(args[1])
			if err != nil {
				return err
			}
			if quarantine != "" {
				q, err := report.ReadQuarantine(quarantine)
				if err != nil {
					return err
				}
				q.Apply(fresh, time.Now())
			}
			comparison := report.Compare(old, fresh, o)
			if err := output(c, out, func(w io.Writer) error { return renderer.Render(w, comparison, terminalOptions()) }); err != nil {
				return err
			}
			if format == terminalFormat { // what people read in the log, they read on the step's page too
				markdown := func(w io.Writer, o report.Options) error { return report.ComparisonMarkdown(w, comparison, o) }
				if _, err := report.StepSummary(markdown, report.Options{}); err != nil {
					return err
				}
			}
			if comparison.Exit != 0 {
				return exit(comparison.Exit)
			}
			return nil
		},
	}
	about := "one of"
	for _, r := range report.ComparisonRenderers {
		about += fmt.Sprintf("\n  %-9s %s", r.Name, r.About)
	}
	c.Flags().StringVar(&format, "format", terminalFormat, about)
	c.Flags().StringVarP(&out, "out", "o", "", "file to write (default: standard output)")
	c.Flags().StringVar(&quarantine, "quarantine", "", "file of cases whose failures do not count: pattern, owner, issue, expiry date")
	c.Flags().StringSliceVar(&allow, "allow", nil, "kinds of change that do not count")
	return c
}

// allowing are the options that let these kinds of change pass.
func allowing(kinds []string) (o report.CompareOptions, err error) {
	for _, kind := range kinds {
		var known []string
		for _, k := range report.ChangeKinds {
			known = append(known, string(k.Kind))
		}
		if !slices.Contains(known, kind) {
			return o, &run.UsageError{Err: fmt.Errorf("--allow %q: there is no such kind of change; there are %s", kind, strings.Join(known, ", "))}
		}
		o.Allow = append(o.Allow, report.ChangeKind(kind))
	}
	return o, nil
}

// compareCodes are the exit codes of compare, in words.
func compareCodes() string {
	text := "Exit codes, the gravest kind of change first:\n"
	for _, k := range report.ChangeKinds {
		text += fmt.Sprintf("  %2d  %-20s %s\n", k.Exit, k.Kind, k.About)
	}
	return text + "   0  nothing else changed\n   2  usage\n   3  a report cannot be read"
}

func agreeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "agree REPORT…",
		Short: "Say whether several lanes, or versions, saw the same in every case that more than one of them ran",
		Long: `Say whether the runs of one or more reports saw the same in every case that more than one of them ran: the same
status, outcome, code, reason, failed open, effect of the patches, and calls. A case that a lane cannot run is no
disagreement, nor is one of which the rules expect different things in different runs. Whether what they saw is right, the reports' own verdicts say.

Exit codes: 0 they agree, 1 they do not, 2 usage, 3 a report is incomplete or cannot be read, or no case ran twice.`,
		Example: "  outrigger agree _artifacts/admission/report.json _artifacts/report.json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			merged, err := mergeFiles(args, "")
			if err != nil {
				return err
			}
			a := report.Agree(merged)
			if err := a.Terminal(c.OutOrStdout()); err != nil {
				return err
			}
			if a.Exit != 0 {
				return exit(a.Exit)
			}
			return nil
		},
	}
}

// mergeFiles reads reports and makes one of them, for a folder from which their artefacts can be found ("": none).
func mergeFiles(files []string, folder string) (*report.Report, error) {
	reports := make([]*report.Report, len(files))
	for i, file := range files {
		var err error
		if reports[i], err = report.Read(file); err != nil {
			return nil, err
		}
		if folder != "" {
			reports[i].Rebase(filepath.Dir(file), folder)
		}
	}
	return report.Merge(reports...)
}

func mergeCommand() *cobra.Command {
	var out, artifacts string
	var baseline bool
	c := &cobra.Command{
		Use:   "merge REPORT…",
		Short: "Make one report of several: shards become one column, other runs columns side by side",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			folder := artifacts
			if folder == "" && out != "" {
				folder = filepath.Dir(out)
			}
			merged, err := mergeFiles(args, folder)
			if err != nil {
				return err
			}
			if baseline {
				merged = report.AsBaseline(merged)
			}
			switch {
			case artifacts != "":
				err = run.WriteArtifacts(artifacts, merged)
			case out == "":
				err = report.Encode(c.OutOrStdout(), merged)
			}
			if out != "" {
				err = errors.Join(err, report.Write(out, merged))
			}
			return err
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "", "file to write (default: standard output)")
	c.Flags().StringVar(&artifacts, "artifacts", "", "folder to write the report and all its renderings to")
	c.Flags().BoolVar(&baseline, "baseline", false, "leave out times and artefacts: a report to keep and compare with")
	return c
}

// output renders into a file, which is there whole or not at all, or to standard output where none is named.
func output(c *cobra.Command, file string, render func(io.Writer) error) error {
	if file != "" {
		return report.WriteFile(file, render)
	}
	return render(c.OutOrStdout())
}

// terminalOptions are what standard output copes with.
func terminalOptions() report.Options {
	return report.Options{Colour: report.ColourFor(os.Stdout), ASCII: report.ASCIIFor(os.Getenv)}
}
