// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"os"

	"github.com/outrigger-k8s/outrigger/report"
)

// reportUnopened leaves, of a run that could not be opened, a report that says so: whoever reads the artefacts must not
// find nothing there and take it for nothing wrong; logs are those that were kept of it. A mistake in usage is no run and
// leaves none.
func reportUnopened(o *Options, cause error, logs []string) error {
	if o.Artifacts == "" || Exit(cause) != report.ExitInfrastructure {
		return nil
	}
	return leaveBroken(o, cause, logs)
}

// Lost writes, into the artefacts' folder that the options name, the report of a run that left none by itself: merged
// with others it is a column that broke, where nothing would be taken for nothing wrong.
func Lost(o Options, because string) error {
	if o.Artifacts == "" || because == "" {
		return usage("say where the report goes, and why the run left none: --artifacts, --because")
	}
	if err := o.checkArtifacts(); err != nil {
		return err
	}
	if file := ReportFile(o.Artifacts); fileExists(file) {
		return usage("there is a report already, so the run is not lost: %s", file)
	}
	return leaveBroken(&o, errors.New(because), nil)
}

func fileExists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}

func leaveBroken(o *Options, cause error, logs []string) error {
	facts, err := o.Facts()
	if err != nil {
		return err
	}
	run := report.Run{
		Lane: facts.Lane, Provider: facts.Provider, Kubernetes: facts.Kubernetes, Routing: facts.Routing, Features: facts.Features,
		Target: report.TargetInfo{Name: "unknown"}, Outrigger: Version(), Started: now().UTC(),
		Ended: report.Infrastructure, Problem: cause.Error(), Artefacts: logs,
	}
	if errors.Is(cause, ErrInterrupted) {
		run.Ended = report.Interrupted
	}
	b, err := report.NewBuilder(run, nil)
	if err != nil {
		return err
	}
	return WriteArtifacts(o.Artifacts, b.Finish())
}
