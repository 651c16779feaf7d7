// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
)

// Results are everything that was measured, as --json writes it.
type Results struct {
	Outrigger    string         `json:"outrigger"`
	Host         report.Host    `json:"host"`
	Pairs        int            `json:"pairs"`
	Measurements []*Measurement `json:"measurements"`
}

// A Measurement is what was measured of one subject.
type Measurement struct {
	Name    string    `json:"name"`
	Title   string    `json:"title"`
	Figures []*Figure `json:"figures"`
}

// A Figure is one quantity, once a block (or a start, or a run).
type Figure struct {
	What   string    `json:"what"`
	Unit   string    `json:"unit,omitempty"`
	Values []float64 `json:"values"` // in the order in which they were measured
	Min    float64   `json:"min"`
	Median float64   `json:"median"`
	Max    float64   `json:"max"`
	// Bar is what the median must reach; nil where there is none.
	Bar     *Bar  `json:"bar,omitempty"`
	Reached *bool `json:"reached,omitempty"` // nil without a bar
}

// A Bar is a limit.
type Bar struct {
	Least float64 `json:"least,omitempty"` // 0: no such limit
	Most  float64 `json:"most,omitempty"`  // 0: no such limit
}

func atLeast(x float64) *Bar { return &Bar{Least: x} }
func atMost(x float64) *Bar  { return &Bar{Most: x} }

// reached tells whether x is within the limit.
func (b *Bar) reached(x float64) bool {
	return (b.Least == 0 || x >= b.Least) && (b.Most == 0 || x <= b.Most)
}

// figure takes the values, at least one, and the bar (nil: none).
func (m *Measurement) figure(what, unit string, values []float64, bar *Bar) {
	f := &Figure{What: what, Unit: unit, Values: values, Min: slices.Min(values), Median: median(values), Max: slices.Max(values), Bar: bar}
	if bar != nil {
		reached := bar.reached(f.Median)
		f.Reached = &reached
	}
	m.Figures = append(m.Figures, f)
}

// median of at least one value; of an even number, the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratios are a[i]/b[i].
func ratios(a, b []float64) []float64 {
	list := make([]float64, len(a))
	for i := range a {
		list[i] = a[i] / b[i]
	}
	return list
}

func newResults(pairs int) *Results {
	return &Results{
		Outrigger: run.Version(), Pairs: pairs,
		Host: report.Host{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0), Go: runtime.Version()},
	}
}

// print writes a measurement as a small table.
func (m *Measurement) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s: %s\n", m.Name, m.Title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  \tmin\tmedian\tmax\tbar\t")
	for _, f := range m.Figures {
		row := []string{"  " + f.What, format(f.Min, f.Unit), format(f.Median, f.Unit), format(f.Max, f.Unit)}
		fmt.Fprintln(t, strings.Join(append(row, f.Bar.String(f.Unit), f.verdict()), "\t"))
	}
	return t.Flush()
}

func (f *Figure) verdict() string {
	switch {
	case f.Reached == nil:
		return ""
	case *f.Reached:
		return "reached"
	}
	return "BELOW THE BAR"
}

// String is the limit in words, "" for none.
func (b *Bar) String(unit string) string {
	switch {
	case b == nil:
		return ""
	case b.Least != 0:
		return "at least " + format(b.Least, unit)
	}
	return "at most " + format(b.Most, unit)
}

// percent is the unit of ratios that are printed as percentages; their values are fractions.
const percent = "%"

// format writes three significant digits or the whole number, and the unit.
func format(x float64, unit string) string {
	if unit == percent {
		return strconv.FormatFloat(100*x, 'f', 1, 64) + " %"
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(x)))))
	if x == 0 {
		digits = 0
	}
	return strings.TrimSpace(strconv.FormatFloat(x, 'f', min(digits, 3), 64) + " " + unit)
}

// printVerdict says in a line which bars were reached.
func (r *Results) printVerdict(w io.Writer) error {
	bars, below := 0, []string(nil)
	for _, m := range r.Measurements {
		for _, f := range m.Figures {
			if f.Reached == nil {
				continue
			}
			if bars++; !*f.Reached {
				below = append(below, fmt.Sprintf("%s: %s is %s, the bar is %s", m.Name, f.What, format(f.Median, f.Unit), f.Bar.String(f.Unit)))
			}
		}
	}
	_, err := fmt.Fprintf(w, "\n%d of %d bars reached (medians)\n", bars-len(below), bars)
	for _, line := range below {
		_, err = fmt.Fprintln(w, "below the bar:", line)
	}
	return err
}

// write writes everything as JSON.
func (r *Results) write(file string) error {
	err := report.WriteFile(file, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	})
	if err != nil {
		return fmt.Errorf("write the figures to %s: %w", file, err)
	}
	return nil
}

func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	return abs, nil
}
