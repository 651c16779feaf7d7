// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		if got := median(tc.values); got != tc.want {
			t.Errorf("median of %v is %v, want %v", tc.values, got, tc.want)
		}
	}
}

func TestBar(t *testing.T) {
	for _, tc := range []struct {
		bar  *Bar
		x    float64
		want bool
	}{
		{atLeast(0.7), 0.7, true},
		{atLeast(0.7), 0.699, false},
		{atMost(2.5), 2.5, true},
		{atMost(2.5), 2.501, false},
	} {
		if got := tc.bar.reached(tc.x); got != tc.want {
			t.Errorf("%v within %s: %v, want %v", tc.x, tc.bar.String(""), got, tc.want)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, tc := range []struct {
		x    float64
		unit string
		want string
	}{
		{0.7031, percent, "70.3 %"},
		{12345.6, "cases/s", "12346 cases/s"},
		{84.23, "", "84.2"},
		{2.5, "times", "2.50 times"},
		{0.0123, "s", "0.012 s"},
		{0, "s", "0 s"},
	} {
		if got := format(tc.x, tc.unit); got != tc.want {
			t.Errorf("%v in %q is written %q, want %q", tc.x, tc.unit, got, tc.want)
		}
	}
}

// The median is held against the bar, pair by pair, not the ratio of the medians.
func TestPrint(t *testing.T) {
	r := &Results{Pairs: 3}
	m := &Measurement{Name: "admission", Title: "blocks of 10 cases"}
	ours, theirs := []float64{100, 60, 80}, []float64{200, 100, 100}
	m.figure("outrigger", "cases/s", ours, nil)
	m.figure("bare loop", "cases/s", theirs, nil)
	m.figure("outrigger / bare loop", percent, ratios(ours, theirs), atLeast(0.7))
	m.figure("p99", "times", []float64{2, 1, 3}, atMost(2.5))
	r.Measurements = append(r.Measurements, m)
	var out bytes.Buffer
	if err := m.print(&out); err != nil {
		t.Fatal(err)
	}
	if err := r.printVerdict(&out); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "print.txt")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s(-update writes it anew)", out.String(), want)
	}
}

func TestWriteJSON(t *testing.T) {
	r := newResults(5)
	m := &Measurement{Name: "startup", Title: "t"}
	m.figure("start to ready", "s", []float64{3, 1, 2}, nil)
	m.figure("memory", "MiB", []float64{500}, atMost(450))
	r.Measurements = append(r.Measurements, m)
	file := filepath.Join(t.TempDir(), "bench.json")
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var back Results
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	figures := back.Measurements[0].Figures
	if figures[0].Median != 2 || figures[0].Reached != nil || figures[1].Reached == nil || *figures[1].Reached {
		t.Errorf("read back %s", raw)
	}
}

func TestQuantile(t *testing.T) {
	var sorted []time.Duration
	for i := range 200 {
		sorted = append(sorted, time.Duration(i+1))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 100, 0.99: 198, 1: 200} {
		if got := quantile(sorted, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}
