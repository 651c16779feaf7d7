// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/outrigger-k8s/outrigger/table"
)

// An eventLog watches the Warning events of all namespaces and keeps the messages of those about a case that is
// waited for.
type eventLog struct {
	client *kubernetes.Clientset
	life   context.Context
	stop   context.CancelFunc

	once    sync.Once // starts the watch: only workloads need it
	started chan struct{}

	mu    sync.Mutex
	cases map[string]*caseEvents
}

type caseEvents struct {
	messages map[string]bool
	first    chan struct{} // closed at the first message
}

func watchEvents(client *kubernetes.Clientset) *eventLog {
	l := &eventLog{client: client, started: make(chan struct{}), cases: map[string]*caseEvents{}}
	l.life, l.stop = context.WithCancel(context.Background())
	return l
}

// expect starts to keep what is said about the case; forget ends it.
func (l *eventLog) expect(ctx context.Context, key string) error {
	l.once.Do(func() { go l.watch() })
	select {
	case <-l.started:
	case <-ctx.Done():
		return errors.Join(errors.New("start watching events"), context.Cause(ctx))
	case <-l.life.Done():
		return errors.New("the lane is closed")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cases[key] = &caseEvents{messages: map[string]bool{}, first: make(chan struct{})}
	return nil
}

func (l *eventLog) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.cases, key)
}

// await returns the messages about the case, sorted; at the latest after limit, be there any or not.
func (l *eventLog) await(ctx context.Context, key string, limit time.Duration) []string {
	l.mu.Lock()
	c := l.cases[key]
	l.mu.Unlock()
	if c == nil {
		return nil
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.first:
	case <-timer.C:
	case <-ctx.Done():
	}
	return l.seen(key)
}

func (l *eventLog) seen(key string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.cases[key]
	if c == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(c.messages))
}

func (l *eventLog) take(object any) {
	e, ok := object.(*corev1.Event)
	if !ok || len(e.InvolvedObject.Name) < table.KeyLength {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.cases[e.InvolvedObject.Name[:table.KeyLength]]
	if c == nil {
		return
	}
	if len(c.messages) == 0 {
		close(c.first)
	}
	c.messages[e.Message] = true
}

// watch lists and watches until the lane is closed, again after every break.
func (l *eventLog) watch() {
	source := cache.NewListWatchFromClient(l.client.CoreV1().RESTClient(), "events", metav1.NamespaceAll,
		fields.OneTermEqualSelector("type", corev1.EventTypeWarning))
	// What goes wrong with the watch, goes wrong with the API server, and Probe says so; klog would only clutter.
	silent := logr.Discard()
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		Logger:        &silent,
		ListerWatcher: source, ObjectType: &corev1.Event{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    l.take,
			UpdateFunc: func(_, now any) { l.take(now) },
		},
		// Of an event only what take looks at is kept in memory.
		Transform: func(object any) (any, error) {
			if e, ok := object.(*corev1.Event); ok {
				return &corev1.Event{
					ObjectMeta:     metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name, ResourceVersion: e.ResourceVersion},
					InvolvedObject: corev1.ObjectReference{Name: e.InvolvedObject.Name}, Message: e.Message,
				}, nil
			}
			return object, nil
		},
	})
	go func() {
		if cache.WaitForCacheSync(l.life.Done(), informer.HasSynced) {
			close(l.started)
		}
	}()
	informer.RunWithContext(klog.NewContext(l.life, silent))
}
