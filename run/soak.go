// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/outrigger-k8s/outrigger/report"
)

// Once is a whole run: from Open to Close. The report is nil only where the run could not be opened.
func Once(ctx context.Context, o Options) (*report.Report, error) {
	s, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	ended := s.Run(ctx, nil)
	r, err := s.Finish(ended)
	return r, err
}

// Soak does the same run again and again and writes a line for each to w. The error says that a run could not be had;
// alike tells whether all verdicts of all runs were the same, and every run conformant.
func Soak(ctx context.Context, o Options, runs int, w io.Writer) (alike bool, err error) {
	var first *report.Report
	var digest string
	differing, conformant := 0, true
	for n := range runs {
		start := time.Now()
		r, err := Once(ctx, o)
		if err == nil && r.Verdict.Conclusion == report.InterruptedRun {
			err = context.Cause(ctx)
		}
		if err != nil {
			return false, fmt.Errorf("soak: run %d of %d: %w", n+1, runs, err)
		}
		d := Digest(r)
		fmt.Fprintf(w, "run %d of %d: %s: %s, digest %s, %s\n", n+1, runs, r.Verdict.Conclusion, r.Verdict.Because, d, time.Since(start).Round(100*time.Millisecond))
		conformant = conformant && r.Verdict.Exit == report.ExitConformant
		if first == nil {
			first, digest = r, d
			continue
		}
		if d != digest {
			differing++
			differences(w, first, r)
		}
	}
	if differing == 0 {
		fmt.Fprintf(w, "%d runs, one digest: %s\n", runs, digest)
	} else {
		fmt.Fprintf(w, "%d of %d runs differ from the first\n", differing, runs)
	}
	return differing == 0 && conformant, nil
}

// Digest is a hash of every verdict of a report's first run, without times and messages: equal digests mean that each
// case had the same status and the same observation.
func Digest(r *report.Report) string {
	h := sha256.New()
	for i := range r.Cases {
		fmt.Fprintln(h, verdictLine(&r.Cases[i]))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func verdictLine(c *report.Case) string {
	res := c.Result(0)
	if res == nil {
		return c.ID + " missing"
	}
	o := &res.Observed
	return fmt.Sprintf("%s %s %s %d %s %v %s %d %d", c.ID, res.Status, o.Outcome, o.Code, o.Reason, o.FailedOpen, o.Digest, res.Attempted, res.Received)
}

// differences writes the first cases that two reports of the same plan tell differently.
func differences(w io.Writer, a, b *report.Report) {
	const most = 20
	lines := map[string]string{}
	for i := range a.Cases {
		lines[a.Cases[i].ID] = verdictLine(&a.Cases[i])
	}
	n := 0
	for i := range b.Cases {
		if line := verdictLine(&b.Cases[i]); line != lines[b.Cases[i].ID] {
			if n++; n <= most {
				fmt.Fprintf(w, "  first run: %s\n  this run:  %s (%s)\n", lines[b.Cases[i].ID], line, b.Cases[i].Results[0].Why)
			}
		}
	}
	for i := range b.Cases {
		delete(lines, b.Cases[i].ID)
	}
	for _, id := range slices.Sorted(maps.Keys(lines)) {
		if n++; n <= most {
			fmt.Fprintf(w, "  first run: %s\n  this run:  %s missing\n", lines[id], id)
		}
	}
	if n > most {
		fmt.Fprintf(w, "  and %d cases more\n", n-most)
	}
}
