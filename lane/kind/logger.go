// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/kind/pkg/log"
)

// logger writes what kind says to the user, a line each; not what it says to its developers.
type logger struct{ w io.Writer }

var _ log.Logger = logger{}

func (l logger) Warn(message string)            { l.line("warning: " + message) }
func (l logger) Warnf(format string, a ...any)  { l.Warn(fmt.Sprintf(format, a...)) }
func (l logger) Error(message string)           { l.line(message) }
func (l logger) Errorf(format string, a ...any) { l.Error(fmt.Sprintf(format, a...)) }
func (l logger) V(level log.Level) log.InfoLogger {
	if level > 0 {
		return log.NoopInfoLogger{}
	}
	return l
}
func (l logger) Info(message string)           { l.line(message) }
func (l logger) Infof(format string, a ...any) { l.Info(fmt.Sprintf(format, a...)) }
func (l logger) Enabled() bool                 { return true }

func (l logger) line(text string) {
	text = strings.TrimSpace(text)
	// kind tells of each step twice, at its begin ("• … ...") and at its end ("✓ …").
	if text != "" && !strings.HasPrefix(text, "•") {
		fmt.Fprintln(l.w, "kind:", text)
	}
}
