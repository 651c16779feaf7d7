// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"time"

	"github.com/outrigger-k8s/outrigger/tap"
)

// Evidence is all that is known of a case that does not hold, while what it created is still there.
type Evidence struct {
	Judgement   *Judgement
	Arrangement *Arrangement // what was asked for to hold in the cluster
	Attempt     *Attempt     // its Object is as the lane sent it
	Observation *Observation // nil where nothing was observed
	Calls       []tap.Call
	Found       []Finding // what the lane itself can tell
}

// A Finding is a text that tells something of a case: the objects in the cluster, the end of a log.
type Finding struct {
	Name string // of a file, such as cluster.yaml or kube-apiserver.log
	Data []byte
}

// A Collector is a lane that can tell more of an attempt than its observation does, until the observation's Cleanup is
// called.
type Collector interface {
	// Collect never fails: what it cannot find out, it says in a finding.
	Collect(ctx context.Context, at *Attempt) []Finding
}

// A Keeper keeps evidence.
type Keeper interface {
	// Wants tells whether it will keep evidence of a case that does not hold: what is kept of a run is bounded.
	Wants(*Judgement) bool
	// Keep keeps it, and returns the names of the files as a report lists them.
	Keep(*Evidence) []string
}

// collectTimeout bounds how long a lane may look for what it knows of a case. The case's own time may be over.
const collectTimeout = 10 * time.Second

// keep gives the keeper what is known of a case that does not hold. Call it before the observation's Cleanup.
func (r *Runner) keep(ctx context.Context, e *Evidence) {
	j := e.Judgement
	if r.Keeper == nil || j == nil || j.Holds() || ctx.Err() != nil && !Timeout(context.Cause(ctx)) || !r.Keeper.Wants(j) {
		return
	}
	if c, ok := r.Lane.(Collector); ok {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), collectTimeout)
		defer cancel()
		e.Found = c.Collect(ctx, e.Attempt)
	}
	j.Artefacts = r.Keeper.Keep(e)
}
