// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/outrigger-k8s/outrigger/tap"
)

// A Rememberer is a lane that stores what is created, and can say what of an attempt is there.
type Rememberer interface {
	// Left are the names of the objects that the attempt has stored.
	Left(ctx context.Context, at *Attempt) ([]string, error)
}

// rehearse makes the attempt by dry run, and then for real. Of the observation's calls only those of the real one count; that
// the dry run was answered otherwise, or left something, stands in Observation.Rehearsal.
func (r *Runner) rehearse(ctx context.Context, t try) (*Observation, []tap.Call, error) {
	rehearsal := *t.attempt
	rehearsal.Object, rehearsal.DryRun = t.attempt.Object.DeepCopyObject(), true
	trial := t
	trial.attempt = &rehearsal
	dry, dryCalls, err := r.once(ctx, trial)
	if err != nil {
		return nil, nil, fmt.Errorf("rehearse: %w", err)
	}
	var left []string
	if lane, ok := r.Lane.(Rememberer); ok {
		if left, err = lane.Left(ctx, &rehearsal); err != nil {
			return nil, nil, fmt.Errorf("look what the dry run has left: %w", err)
		}
	}
	o, calls, err := r.once(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	switch at, err := unlike(dry, o, t.attempt.Key); {
	case err != nil:
		return nil, nil, errors.Join(err, r.settle(ctx, &Evidence{Observation: o}))
	case len(left) > 0:
		o.Rehearsal = fmt.Sprintf("the dry run has left %s", strings.Join(left, ", "))
	case at != "":
		o.Rehearsal = fmt.Sprintf("the dry run and the real request are answered differently: %s", at)
	case len(dryCalls) != len(calls):
		o.Rehearsal = fmt.Sprintf("the tap received %s of the dry run, %d of the real request", plural(len(dryCalls), "call"), len(calls))
	}
	return o, calls, nil
}

// unlike says in what the answers to two requests that were the same differ, "" if in nothing but what each object has to
// itself.
func unlike(dry, o *Observation, key string) (string, error) {
	a, err := answerOf(dry, key)
	if err != nil {
		return "", err
	}
	b, err := answerOf(o, key)
	if err != nil {
		return "", err
	}
	return difference(a, b, ""), nil
}

// answerOf is what the client was answered, as JSON.
func answerOf(o *Observation, key string) (map[string]any, error) {
	raw, err := json.Marshal(map[string]any{"pod": o.Pod, "refused": o.Refused, "warnings": o.Warnings})
	if err != nil {
		return nil, fmt.Errorf("write the answer to %s: %w", key, err)
	}
	answer := map[string]any{}
	if err := json.Unmarshal([]byte(nameless(string(raw), key)), &answer); err != nil {
		return nil, fmt.Errorf("read the answer to %s: %w", key, err)
	}
	pod, _ := answer["pod"].(map[string]any)
	if metadata, ok := pod["metadata"].(map[string]any); ok {
		for _, own := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields"} {
			delete(metadata, own)
		}
	}
	return answer, nil
}
