// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/table"
)

var _ probe.Follower = (*Lane)(nil)

// nudgeAnnotation is what a nudge writes to a workload. Any change will do: a controller looks at an object that has
// changed at once, whatever its back-off.
const nudgeAnnotation = "outrigger.dev/nudged"

// A trail is every pod that controllers have created for one key, in the order of the audit log.
type trail struct {
	mu      sync.Mutex
	pods    []admission
	refused int           // how often a controller was refused one
	refusal *auditEvent   // the last time
	news    chan struct{} // closed at the next of either
}

type admission struct {
	event *auditEvent
	at    time.Time
}

func (t *trail) add(e *auditEvent) {
	if e.ResponseStatus == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.ResponseStatus.Code < 400 {
		t.pods = append(t.pods, admission{e, time.Now()})
	} else {
		t.refused++
		t.refusal = e
	}
	close(t.news)
	t.news = make(chan struct{})
}

// pod is the n'th, counted from 0; until there is one, news is closed at the next.
func (t *trail) pod(n int) (a admission, found bool, news <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n < len(t.pods) {
		return t.pods[n], true, nil
	}
	return admission{}, false, t.news
}

// refusals is how many there were, and the last of them; until there are others, news is not closed.
func (t *trail) refusals() (n int, last *auditEvent, news <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused, t.refusal, t.news
}

func (t *trail) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.pods)
}

// follow begins the trail of a key; forget ends it.
func (l *AuditLog) follow(key string) (forget func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trails[key] = &trail{news: make(chan struct{})}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.trails, key)
	}
}

func (l *AuditLog) trail(key string) *trail {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trails[key]
}

// Follow comes back to a pod, or to a workload, that Probe has kept.
func (l *Lane) Follow(ctx context.Context, f *probe.FollowUp) (*probe.Observation, error) {
	o, err := l.followUp(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("%s %s in namespace %s: %w", f.Does, f.Key, f.Namespace, l.cluster.explain(err))
	}
	return o, nil
}

func (l *Lane) followUp(ctx context.Context, f *probe.FollowUp) (*probe.Observation, error) {
	switch f.Does {
	case table.Looks:
		return l.look(ctx, f)
	case table.Awaits:
		return l.awaitPod(ctx, f, 0)
	case table.Nudges:
		if err := l.nudge(ctx, f); err != nil {
			return nil, err
		}
		return l.awaitPod(ctx, f, 0)
	case table.Endures:
		return l.awaitRefusals(ctx, f)
	case table.Recreates:
		trail := l.cluster.Audit.trail(f.Key)
		if f.Pod == nil || trail == nil {
			return &probe.Observation{Lacking: "there is no pod that a controller could make again"}, nil
		}
		before := trail.len()
		if err := l.delete(ctx, l.rest(), "pods", f.Namespace, f.Pod.Name); err != nil {
			return nil, err
		}
		return l.awaitPod(ctx, f, before)
	}
	return nil, fmt.Errorf("a lane cannot follow by %q", f.Does)
}

// look finds the pod as it was, but for what nodes report of it.
func (l *Lane) look(ctx context.Context, f *probe.FollowUp) (*probe.Observation, error) {
	if f.Pod == nil {
		return &probe.Observation{Lacking: "there was no pod that could be looked at"}, nil
	}
	live, err := l.client.CoreV1().Pods(f.Namespace).Get(ctx, f.Pod.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return &probe.Observation{Lacking: "the pod is gone"}, nil
	}
	if err != nil {
		return nil, err
	}
	o := &probe.Observation{Pod: live, Looked: true}
	was := f.Pod
	switch {
	case live.UID != was.UID:
		o.Lacking = "another pod stands in its place"
	case live.DeletionTimestamp != nil:
		o.Lacking = "the pod is being deleted"
	case !same(was.Labels, live.Labels) || !same(was.Annotations, live.Annotations):
		o.Lacking = fmt.Sprintf("the pod was changed: its labels were %v and are %v, its annotations were %v and are %v",
			was.Labels, live.Labels, was.Annotations, live.Annotations)
	case !reflect.DeepEqual(names(was), names(live)):
		o.Lacking = fmt.Sprintf("the pod was changed: its containers were %v and are %v", names(was), names(live))
	}
	return o, nil
}

func same(a, b map[string]string) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

func names(pod *corev1.Pod) (list []string) {
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		list = append(list, c.Name+"="+c.Image)
	}
	return list
}

// nudge changes the workload, and nothing of what it is to bring about.
func (l *Lane) nudge(ctx context.Context, f *probe.FollowUp) error {
	client, resource, _, err := l.workload(f.Object)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{nudgeAnnotation: "1"}}})
	if err != nil {
		return err
	}
	err = client.Patch(types.MergePatchType).Namespace(f.Namespace).Resource(resource).Name(f.Key).Body(patch).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("annotate the %s: %w", resource, orCause(ctx, err))
	}
	return nil
}

// awaitPod waits for the n'th pod that a controller has created for the key. A pod that does not come is an observation:
// its controller gave up, or still is refused.
func (l *Lane) awaitPod(ctx context.Context, f *probe.FollowUp, n int) (*probe.Observation, error) {
	trail := l.cluster.Audit.trail(f.Key)
	if trail == nil {
		return &probe.Observation{Lacking: "there is no workload whose pod could be awaited"}, nil
	}
	for {
		a, found, news := trail.pod(n)
		if found {
			o := &probe.Observation{Audit: a.event.Annotations, Seen: a.at}
			if err := o.ReadAudit(); err != nil {
				return nil, err
			}
			var err error
			o.Pod, o.Refused, err = a.event.outcome()
			return o, err
		}
		if lacking, err := l.more(ctx, news); lacking != "" || err != nil {
			return &probe.Observation{Lacking: "no pod of it was created: " + lacking + l.seenSoFar(f.Key)}, err
		}
	}
}

// awaitRefusals waits until controllers have been refused the key's pod so often. What is observed is the last refusal.
func (l *Lane) awaitRefusals(ctx context.Context, f *probe.FollowUp) (*probe.Observation, error) {
	trail := l.cluster.Audit.trail(f.Key)
	if trail == nil {
		return &probe.Observation{Lacking: "there is no workload that could be refused its pod"}, nil
	}
	for {
		n, last, news := trail.refusals()
		if n >= f.Refusals {
			_, refused, err := last.outcome()
			return &probe.Observation{Refused: refused, Events: l.events.seen(f.Key)}, err
		}
		if lacking, err := l.more(ctx, news); lacking != "" || err != nil {
			return &probe.Observation{Lacking: fmt.Sprintf("its controller was refused %d times, not %d: %s", n, f.Refusals, lacking)}, err
		}
	}
}

// more waits for news. It says in words that none came in time; an error is that nothing can be known any more.
func (l *Lane) more(ctx context.Context, news <-chan struct{}) (lacking string, err error) {
	select {
	case <-news:
		return "", nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return context.Cause(ctx).Error(), nil
		}
		return "", context.Cause(ctx)
	case <-l.cluster.Ended:
		return "", errors.Join(errors.New("the cluster has ended"), l.cluster.Why())
	}
}
