// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/lane/admission"
)

// TestMain makes the test binary what the program is: its own children, and one more, which takes much memory.
func TestMain(m *testing.M) {
	if code, ok := asChild(os.Args[1:]); ok {
		os.Exit(code)
	}
	if len(os.Args) == 2 && os.Args[1] == "child:glutton" {
		eaten := make([]byte, gluttony)
		for i := range eaten {
			eaten[i] = byte(i)
		}
		os.Exit(int(eaten[0]))
	}
	os.Exit(m.Run())
}

const gluttony = 96 << 20

func TestWeigh(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	result := filepath.Join(t.TempDir(), "result")
	if out, err := exec.CommandContext(t.Context(), self, weighCommand, result, self, "child:glutton").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	raw, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	peak, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || peak < gluttony || peak > 10*gluttony { // the race detector takes some for itself
		t.Errorf("weighed %s, %v; the child took a little more than %d", raw, err, gluttony)
	}
	if err := exec.CommandContext(t.Context(), self, weighCommand, result, filepath.Join(t.TempDir(), "nothing")).Run(); err == nil {
		t.Error("a program that is not there was weighed")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, args := range [][]string{{"--pairs=0"}, {"--only=nothing"}, {"extra"}, {"--requests=1"}, {"--unknown"}} {
		if _, _, err := parse(args, &bytes.Buffer{}); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v, want a mistake in usage", args, err)
		}
	}
	_, chosen, err := parse([]string{"--only=memory,admission"}, &bytes.Buffer{})
	if err != nil || len(chosen) != 2 || chosen[0].name != "memory" || chosen[1].name != "admission" {
		t.Errorf("chose %v, %v", chosen, err)
	}
}

// Every value of every dimension must have its share of a slice: else it is another mix than that of a run.
func TestSliceIsEven(t *testing.T) {
	plan, err := slicePlan(admission.Facts(), admissionCases)
	if err != nil {
		t.Fatal(err)
	}
	if n := plan.Len(); n < admissionCases/2 || n > 2*admissionCases {
		t.Errorf("%d cases, want about %d", n, admissionCases)
	}
	table := plan.Tables[0]
	for d, dimension := range table.Dimensions {
		seen := make([]int, len(dimension.Values))
		for _, a := range plan.Arrangements {
			for _, p := range a.Cases {
				seen[p.Case.Index(d)]++
			}
		}
		fair := float64(plan.Len()) / float64(len(seen))
		for i, n := range seen {
			if float64(n) < 0.95*fair || float64(n) > 1.05*fair {
				t.Errorf("%s=%s is in %d cases, its share is %.0f", dimension.Name, dimension.Values[i].Slug, n, fair)
			}
		}
	}
}

func TestReview(t *testing.T) {
	body, err := review()
	if err != nil {
		t.Fatal(err)
	}
	if len(body) < reviewBytes || len(body) > reviewBytes+100 {
		t.Errorf("the review has %d bytes, want about %d", len(body), reviewBytes)
	}
}

func TestReadHeap(t *testing.T) {
	good := "# HELP x\ngo_memstats_alloc_bytes_total 2.5e+06\nother 3\ngo_memstats_mallocs_total 1234\n"
	if h, err := readHeap(strings.NewReader(good)); err != nil || h != (heap{1234, 2.5e6}) {
		t.Errorf("read %v, %v", h, err)
	}
	for _, bad := range []string{"", "go_memstats_mallocs_total 1\n", strings.Replace(good, "1234", "many", 1)} {
		if h, err := readHeap(strings.NewReader(bad)); err == nil {
			t.Errorf("read %v from %q", h, bad)
		}
	}
}

// A line may come in pieces, and among others.
func TestAnnounced(t *testing.T) {
	a := newAnnounced()
	for _, piece := range []string{"not JSON\n{\"msg\":\"starting\"}\n{\"msg\":\"ser", "ving\",\"listen\":\"127.0.0.1:1\"}\n", "{\"msg\":\"serving\",\"listen\":\"127.0.0.1:2\"}\n"} {
		if n, err := a.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	select {
	case s := <-a.said:
		if s.Listen != "127.0.0.1:1" {
			t.Errorf("announced %v", s)
		}
	default:
		t.Error("nothing was announced")
	}
}

// The small subjects, whole: real processes, few requests.
func TestBench(t *testing.T) {
	injector := filepath.Join(t.TempDir(), "injector")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", injector, "../injector/cmd/injector").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := filepath.Join(t.TempDir(), "bench.json")
	var out, progress bytes.Buffer
	err := bench(t.Context(), []string{"--injector", injector, "--only=injector", "--pairs=2", "--requests=40", "--json", file}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r Results
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Measurements[0].Figures {
		if len(f.Values) == 0 || f.Min <= 0 {
			t.Errorf("%s: %v", f.What, f.Values)
		}
	}
	if !strings.Contains(out.String(), "bars reached") {
		t.Errorf("printed %s", out.String())
	}
	// What cannot be measured is an error, and leaves nothing running.
	if err := bench(t.Context(), []string{"--injector", file, "--only=injector"}, &out, &progress); err == nil {
		t.Error("a file that is no program was measured")
	}
}
