// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"io"
	"runtime/debug"
	"time"

	"github.com/outrigger-k8s/outrigger/report"
)

// ErrInterrupted is the cause of a context that a signal ended.
var ErrInterrupted = errors.New("interrupted by a signal")

// Exit is the exit code that an error stands for: usage or infrastructure. nil is 0.
func Exit(err error) int {
	var u *UsageError
	switch {
	case err == nil:
		return report.ExitConformant
	case errors.As(err, &u):
		return report.ExitUsage
	}
	return report.ExitInfrastructure
}

// Version of outrigger, from the build.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

func now() time.Time { return time.Now() }

func renderTo(renderer report.Renderer, r *report.Report, o report.Options) func(io.Writer) error {
	return func(w io.Writer) error { return renderer.Render(w, r, o) }
}
