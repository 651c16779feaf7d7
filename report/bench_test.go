// SPDX-License-Identifier: Apache-2.0

package report

import (
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// What is measured with 100,264 results, four versions of a large table: go test -bench . -run '^$' ./report

func BenchmarkWrite(b *testing.B) {
	r := bigReport(b)
	path := filepath.Join(b.TempDir(), "r.json")
	for b.Loop() {
		if err := Write(path, r); err != nil {
			b.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/1e6, "MB")
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "r.json")
	if err := Write(path, bigReport(b)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Read(path); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompare(b *testing.B) {
	old, new := bigReport(b), bigReport(b)
	worse(new)
	for b.Loop() {
		Compare(old, new, CompareOptions{})
	}
}

// worse has every tenth result, at random, fail where it passed: 10,000 changes without a pattern, which are the hardest to
// describe. It gives their number.
func worse(r *Report) (changed int) {
	random := rand.New(rand.NewPCG(3, 4))
	for i := range r.Cases {
		for j := range r.Cases[i].Results {
			res := &r.Cases[i].Results[j]
			if random.IntN(10) != 0 || res.Status != Pass {
				continue
			}
			res.Status, res.Observed = Fail, Observed{Outcome: Altered, Message: "as nobody wanted it"}
			changed++
		}
	}
	r.Judge()
	return changed
}

func BenchmarkMerge(b *testing.B) {
	var parts []*Report
	for _, k := range []string{"1.34.4", "1.35.4", "1.36.3", "1.37.2"} {
		parts = append(parts, sample{kubernetes: k, size: 116}.report(b))
	}
	for b.Loop() {
		if _, err := Merge(parts...); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	r := bigReport(b)
	for _, rd := range Renderers {
		b.Run(rd.Name, func(b *testing.B) {
			var n counter
			for b.Loop() {
				n = 0
				if err := rd.Render(&n, r, Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)/1e6, "MB")
		})
	}
}

// slack is by how much a bar of time may be passed: not at all where OUTRIGGER_BARS=1 (as make bench sets it), threefold
// in ordinary tests, whose machine does other things besides. The race detector's times say nothing.
func slack(t *testing.T) float64 {
	t.Helper()
	if raceDetector {
		t.Skip("times under the race detector say nothing")
	}
	if os.Getenv("OUTRIGGER_BARS") == "1" {
		return 1
	}
	return 3
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// The bars, in a process of its own whose memory is measured by the kernel: 2 s to write, 2 s to read two reports that
// differ in 10,000 cases and compare them, 400 MiB for all of that.
func TestAHundredThousandResultsAreSwiftAndSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: 100,000 results")
	}
	if dir := os.Getenv("OUTRIGGER_TEST_BIG"); dir != "" {
		compareBig(t, dir)
		return
	}
	allowed := time.Duration(2 * slack(t) * float64(time.Second))
	dir := t.TempDir()
	r := bigReport(t)
	best := time.Hour
	for range 3 {
		start := time.Now()
		if err := Write(filepath.Join(dir, "old.json"), r); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	if best > allowed {
		t.Errorf("writing takes %v, over %v", best, allowed)
	}
	changed := worse(r)
	if err := Write(filepath.Join(dir, "new.json"), r); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestAHundredThousandResultsAreSwiftAndSmall$", "-test.v")
	cmd.Env = append(os.Environ(), "OUTRIGGER_TEST_BIG="+dir, "OUTRIGGER_TEST_CHANGED="+strconv.Itoa(changed))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	used := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10 // MiB
	t.Logf("written in %v; reading two, comparing and rendering took %d MiB\n%s", best, used, out)
	if used > 400 {
		t.Errorf("%d MiB are used, over 400", used)
	}
}

func compareBig(t *testing.T, dir string) {
	allowed := time.Duration(2 * slack(t) * float64(time.Second))
	best := time.Hour
	for range 3 {
		start := time.Now()
		old, err := Read(filepath.Join(dir, "old.json"))
		if err != nil {
			t.Fatal(err)
		}
		new, err := Read(filepath.Join(dir, "new.json"))
		if err != nil {
			t.Fatal(err)
		}
		c := Compare(old, new, CompareOptions{})
		if changed := os.Getenv("OUTRIGGER_TEST_CHANGED"); strconv.Itoa(c.Counts[Regression]) != changed || c.Counts[Regression]+c.Unchanged != 100264 {
			t.Fatalf("%s; %s changed", c.Verdict(), changed)
		}
		best = min(best, time.Since(start))
		if err := HTML(io.Discard, new, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("two read and compared in %v", best)
	if best > allowed {
		t.Errorf("comparing takes %v, over %v", best, allowed)
	}
}
