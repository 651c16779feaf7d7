// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// collectingLane is a fake lane that knows more, as long as what a case created is there.
type collectingLane struct {
	fakeLane
	mu    sync.Mutex
	there map[string]bool // by key
}

func (l *collectingLane) Collect(ctx context.Context, at *Attempt) []Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	return []Finding{{Name: "cluster.yaml", Data: fmt.Appendf(nil, "there: %v, in time: %v", l.there[at.Key], ctx.Err() == nil)}}
}

// fakeKeeper keeps evidence in memory.
type fakeKeeper struct {
	mu     sync.Mutex
	wanted int
	kept   map[string]*Evidence // by case ID
}

func (k *fakeKeeper) Wants(*Judgement) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wanted--
	return k.wanted >= 0
}

func (k *fakeKeeper) Keep(e *Evidence) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := e.Judgement.Planned.Case.ID()
	if k.kept == nil {
		k.kept = map[string]*Evidence{}
	}
	k.kept[id] = e
	return []string{"cases/" + id}
}

// Evidence is kept of every case that does not hold and of no other, before what it created is taken away.
func TestEvidenceIsKeptBeforeTheCleanup(t *testing.T) {
	lane := &collectingLane{there: map[string]bool{}}
	lane.probed = func(_ context.Context, at *Attempt, call func()) (*Observation, error) {
		call()
		o := &Observation{Pod: podOf(t, plainPod), Attempts: tried(1, strings.HasPrefix(at.Namespace, "x"))}
		lane.mu.Lock()
		lane.there[at.Key] = true
		lane.mu.Unlock()
		o.Cleanup = func(context.Context) error {
			lane.mu.Lock()
			defer lane.mu.Unlock()
			delete(lane.there, at.Key)
			return nil
		}
		return o, nil
	}
	r, _ := bench(t, &lane.fakeLane)
	r.Lane = lane
	keeper := &fakeKeeper{wanted: 100}
	r.Keeper = keeper
	plan := twenty(t)
	wrong := 0
	for _, a := range plan.Arrangements {
		for i, p := range a.Cases {
			if i%2 == 0 { // of these the rule says otherwise
				rule := *p.Rule
				rule.Then.Outcome = "injected"
				p.Rule = &rule
				wrong++
			}
		}
	}
	judged, err := run(t, t.Context(), r, plan)
	if err != nil {
		t.Fatal(err)
	}
	if len(keeper.kept) != wrong || wrong == 0 {
		t.Errorf("evidence of %d cases, %d do not hold", len(keeper.kept), wrong)
	}
	for id, j := range judged {
		e := keeper.kept[id]
		if j.Holds() {
			if e != nil || j.Artefacts != nil {
				t.Errorf("%s holds, and there is evidence of it", id)
			}
			continue
		}
		if e == nil || e.Judgement != j || e.Observation == nil || len(e.Calls) != 1 || e.Attempt.Key != j.Planned.Key ||
			e.Arrangement == nil || e.Arrangement.Webhooks[0].Webhooks[0].ClientConfig.URL == nil {
			t.Fatalf("%s: %+v", id, e)
		}
		if got := string(e.Found[0].Data); got != "there: true, in time: true" {
			t.Errorf("%s: the lane was asked when %s", id, got)
		}
		if !slices.Equal(j.Artefacts, []string{"cases/" + id}) {
			t.Errorf("%s: artefacts %q", id, j.Artefacts)
		}
	}
	if len(lane.there) != 0 {
		t.Errorf("left behind: %v", lane.there)
	}
}

// What broke leaves evidence too, and a cleanup that fails does not lose it.
func TestEvidenceOfWhatBroke(t *testing.T) {
	broke := errors.New("it broke")
	for name, probed := range map[string]func(*Attempt) (*Observation, error){
		"the probe": func(*Attempt) (*Observation, error) { return nil, broke },
		"the cleanup": func(*Attempt) (*Observation, error) {
			return &Observation{Pod: podOf(t, injectedPod), Attempts: tried(1, true), Cleanup: func(context.Context) error { return broke }}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			lane := &fakeLane{probed: func(_ context.Context, at *Attempt, _ func()) (*Observation, error) { return probed(at) }}
			r, _ := bench(t, lane)
			keeper := &fakeKeeper{wanted: 5}
			r.Keeper = keeper
			judged, err := run(t, t.Context(), r, twenty(t))
			if err != nil {
				t.Fatal(err)
			}
			artefacts := 0
			for id, j := range judged {
				if !errors.Is(j.Err, broke) {
					t.Errorf("%s: %v", id, j.Err)
				}
				artefacts += len(j.Artefacts)
			}
			if len(keeper.kept) != 5 || artefacts != 5 {
				t.Errorf("evidence of %d cases, %d artefacts; 5 are wanted", len(keeper.kept), artefacts)
			}
		})
	}
}
