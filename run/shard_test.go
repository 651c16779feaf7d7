// SPDX-License-Identifier: Apache-2.0

package run

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/outrigger-k8s/outrigger/report"
)

func TestCuts(t *testing.T) {
	for _, c := range []struct {
		weights []time.Duration
		n       int
		want    []int
	}{
		{[]time.Duration{1, 1, 1, 1}, 1, []int{0, 4}},
		{[]time.Duration{1, 1, 1, 1}, 2, []int{0, 2, 4}},
		{[]time.Duration{1, 1, 1, 1, 1, 1}, 3, []int{0, 2, 4, 6}},
		{[]time.Duration{10, 10, 10, 30}, 2, []int{0, 3, 4}},
		{[]time.Duration{90, 10, 10, 10}, 3, []int{0, 1, 2, 4}}, // no part is empty
		{[]time.Duration{10, 10, 90}, 3, []int{0, 1, 2, 3}},
	} {
		if got := cuts(c.weights, c.n); !slices.Equal(got, c.want) {
			t.Errorf("%v in %d: %v, want %v", c.weights, c.n, got, c.want)
		}
	}
}

// Whatever the weights, no part is empty, and none is heavier than its share by more than the heaviest weight on each
// side.
func TestCutsBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(1, int64(maxWeight)).Draw(t, "weight"))
		}), 1, 200).Draw(t, "weights")
		n := rapid.IntRange(1, len(weights)).Draw(t, "n")
		list := cuts(weights, n)
		if len(list) != n+1 || list[0] != 0 || list[n] != len(weights) {
			t.Fatalf("cuts %v of %d weights in %d", list, len(weights), n)
		}
		var total time.Duration
		for _, w := range weights {
			total += w
		}
		for k := range n {
			if list[k+1] <= list[k] {
				t.Fatalf("part %d of %v is empty", k+1, list)
			}
			var sum time.Duration
			for _, w := range weights[list[k]:list[k+1]] {
				sum += w
			}
			if most := total/time.Duration(n) + 2*slices.Max(weights); sum > most {
				t.Fatalf("part %d weighs %s, which is over %s", k+1, sum, most)
			}
		}
	})
}

// In a pod of an Indexed Job the shard is the pod's, which Kubernetes counts from 0.
func TestParseShardOfAJob(t *testing.T) {
	for _, row := range []struct {
		shard, index string
		want         report.Shard // none: refused
	}{
		{"index/4", "0", report.Shard{Index: 1, Of: 4}},
		{"index/4", "3", report.Shard{Index: 4, Of: 4}},
		{"2/4", "3", report.Shard{Index: 2, Of: 4}},
		{"index/4", "4", report.Shard{}},
		{"index/4", "", report.Shard{}},
		{"index/4", "-1", report.Shard{}},
		{"index/", "0", report.Shard{}},
	} {
		got, err := ParseShard(row.shard, func(name string) string {
			if name != JobIndex {
				t.Errorf("asked for $%s", name)
			}
			return row.index
		})
		if got != row.want || (err != nil) != (row.want == report.Shard{}) {
			t.Errorf("%s of index %q: %v, %v; want %v", row.shard, row.index, got, err, row.want)
		}
	}
}

func FuzzParseShard(f *testing.F) {
	for _, s := range []string{"", "1/1", "2/4", "0/1", "5/4", "1/0", "1000/1000", "-1/2", "1/2/3", "01/2", "a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		shard, err := ParseShard(s, func(string) string { return "3" })
		if err != nil {
			if Exit(err) != report.ExitUsage {
				t.Errorf("%q: exit code %d", s, Exit(err))
			}
			return
		}
		if s != "" && (shard.Index < 1 || shard.Index > shard.Of || shard.Of > MaxShards) {
			t.Errorf("%q gives %v", s, shard)
		}
	})
}

func FuzzParseBudget(f *testing.F) {
	for _, s := range []string{"p99<=50ms", "a/b=p99.9<=1s", "p0<=1s", "p100<=1h", "p101<=1s", "p99<=-1s", "=p99<=1s", "p99<50ms"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := ParseBudget(s)
		if err != nil {
			if Exit(err) != report.ExitUsage {
				t.Errorf("%q: exit code %d", s, Exit(err))
			}
			return
		}
		if b.Quantile <= 0 || b.Quantile > 1 || b.Limit <= 0 {
			t.Errorf("%q gives %+v", s, b)
		}
	})
}

func TestParseBudget(t *testing.T) {
	b, err := ParseBudget("istio-classic/decision=p99.9<=1.5s")
	if want := (report.Budget{Table: "istio-classic/decision", Quantile: 0.999, Limit: 1500 * time.Millisecond}); err != nil || b != want {
		t.Errorf("%+v, %v; want %+v", b, err, want)
	}
	for _, bad := range []string{"", "p99", "p99<=", "p0<=1s", "p101<=1s", "p99<=0s", "p99<=fast", "p99 <= 1s"} {
		if _, err := ParseBudget(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
