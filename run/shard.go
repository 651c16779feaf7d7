// SPDX-License-Identifier: Apache-2.0

package run

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/report"
)

// MaxShards is the largest n of a shard i/n.
const MaxShards = 1000

var shardPattern = regexp.MustCompile(`^([0-9]{1,4})/([0-9]{1,4})$`)

// JobIndex is where Kubernetes tells a pod of an Indexed Job which one it is, counted from 0.
const JobIndex = "JOB_COMPLETION_INDEX"

// ParseShard reads "i/n", the i'th of n parts, counted from 1; "index/n" is the part that the environment variable
// [JobIndex] names. "" is the whole.
func ParseShard(s string, getenv func(string) string) (report.Shard, error) {
	if s == "" {
		return report.Shard{}, nil
	}
	if of, indexed := strings.CutPrefix(s, "index/"); indexed {
		index, err := strconv.Atoi(getenv(JobIndex))
		if err != nil || index < 0 {
			return report.Shard{}, usage("shard %q: $%s is %q: it numbers the pods of an Indexed Job from 0; elsewhere write i/n", s, JobIndex, getenv(JobIndex))
		}
		s = strconv.Itoa(index+1) + "/" + of
	}
	m := shardPattern.FindStringSubmatch(s)
	if m == nil {
		return report.Shard{}, usage("shard %q: write i/n, for example 2/4 for the second of four parts", s)
	}
	i, _ := strconv.Atoi(m[1])
	n, _ := strconv.Atoi(m[2])
	if i < 1 || i > n || n > MaxShards {
		return report.Shard{}, usage("shard %q: the part is counted from 1 to the number of parts, of which there are at most %d", s, MaxShards)
	}
	return report.Shard{Index: i, Of: n}, nil
}

// timings are how long cases took in an earlier run.
type timings struct {
	latency map[string]time.Duration // by the case's ID
	usual   time.Duration            // the median, for cases that it does not have
	digest  string
}

// perCase is what a case costs beside its latency: to prepare it, to judge it, to report it.
const perCase = 100 * time.Microsecond

// maxWeight keeps the sum of a large plan within an int64 whatever a report says.
const maxWeight = time.Hour

func (t *timings) of(id string) time.Duration {
	if t == nil {
		return 1 // by count
	}
	latency, ok := t.latency[id]
	if !ok {
		latency = t.usual
	}
	return min(perCase+latency, maxWeight)
}

// readTimings takes the latencies out of a report; of several runs in it, those in this lane, and of these the longest.
func readTimings(file, lane string) (*timings, error) {
	r, err := report.Read(file)
	if err != nil {
		return nil, fmt.Errorf("read timings to balance the shards by: %w", err)
	}
	t := &timings{latency: map[string]time.Duration{}}
	for i := range r.Cases {
		c := &r.Cases[i]
		for j := range c.Results {
			if res := &c.Results[j]; res.Latency > 0 && r.Runs[res.Run].Lane == lane {
				t.latency[c.ID] = max(t.latency[c.ID], res.Latency)
			}
		}
	}
	if len(t.latency) == 0 {
		return nil, usage("the report %s has no times of the lane %s to balance the shards by: a baseline keeps none; take the report.json of a run", file, lane)
	}
	all := slices.Sorted(maps.Values(t.latency))
	t.usual = all[len(all)/2]
	h := sha256.New()
	for _, id := range slices.Sorted(maps.Keys(t.latency)) {
		fmt.Fprintln(h, id, int64(t.latency[id]))
	}
	t.digest = hex.EncodeToString(h.Sum(nil)[:4])
	return t, nil
}

// shardOf is one part of a plan: a stretch of its order, since neighbours share arrangements and the injector's
// settings. All parts together are the plan, none has a case of another, and none is empty. The same plan and times
// give the same parts on every machine.
func shardOf(plan *probe.Plan, shard report.Shard, t *timings) (*probe.Plan, error) {
	if shard.Of == 0 {
		return plan, nil
	}
	var weights []time.Duration
	for _, a := range plan.Arrangements {
		for _, p := range a.Cases {
			weights = append(weights, t.of(p.Case.ID()))
		}
	}
	if len(weights) < shard.Of {
		return nil, usage("shard %d/%d: only %d cases can be run, so some shards would be empty; ask for fewer", shard.Index, shard.Of, len(weights))
	}
	from, to := stretch(weights, shard)
	at := 0
	out := plan.Only(func(*probe.Planned) bool {
		at++
		return from < at && at <= to
	})
	n := len(plan.NotRun)
	out.NotRun = plan.NotRun[n*(shard.Index-1)/shard.Of : n*shard.Index/shard.Of]
	return out, nil
}

// stretch is the first index of the shard's part and the one after its last. There are at least as many weights as
// shards.
func stretch(weights []time.Duration, shard report.Shard) (from, to int) {
	cuts := cuts(weights, shard.Of)
	return cuts[shard.Index-1], cuts[shard.Index]
}

// cuts are the n+1 indexes between which n parts lie: each is where the weight before it comes nearest to its share, as
// long as every part keeps at least one.
func cuts(weights []time.Duration, n int) []int {
	var total time.Duration
	for _, w := range weights {
		total += w
	}
	list := make([]int, n+1)
	list[n] = len(weights)
	at, before := 0, time.Duration(0)
	for k := 1; k < n; k++ {
		share := total / time.Duration(n) * time.Duration(k) // dividing first: the product could be too large
		for at < len(weights) && (at < list[k-1]+1 || before+weights[at]/2 < share) && at < len(weights)-(n-k) {
			before += weights[at]
			at++
		}
		list[k] = at
	}
	return list
}
