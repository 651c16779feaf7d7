// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/table"
)

// deleteTimeout bounds the deletion of what a probe created, which goes on when the probe's context has ended.
const deleteTimeout = 10 * time.Second

// hangUpTimeout bounds the wait for a request that may never have reached the API server, and so leaves no event.
const hangUpTimeout = time.Second

// Probe makes one attempt and says what became of it. What it creates for real, the observation's Cleanup deletes.
func (l *Lane) Probe(ctx context.Context, at *probe.Attempt) (*probe.Observation, error) {
	o, err := l.probe(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("probe %s in namespace %s: %w", at.Key, at.Namespace, l.cluster.explain(err))
	}
	return o, nil
}

func (l *Lane) probe(ctx context.Context, at *probe.Attempt) (*probe.Observation, error) {
	if len(at.Key) != table.KeyLength {
		return nil, fmt.Errorf("the key has %d characters, want %d", len(at.Key), table.KeyLength)
	}
	if at.Pods {
		return l.probeWorkload(ctx, at)
	}
	pod, ok := at.Object.(*corev1.Pod)
	if !ok {
		return l.probeRequest(ctx, at)
	}
	if !at.DryRun || at.Rehearsed {
		l.hold("Pod", &pod.Spec)
	}
	o, err := l.create(ctx, at, l.rest(), "pods", pod, &corev1.Pod{})
	if err != nil {
		return nil, err
	}
	created := o.object.(*corev1.Pod)
	if o.Refused == nil {
		created.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		o.Pod = created
		if !at.DryRun {
			o.Cleanup = func(ctx context.Context) error { return l.delete(ctx, l.rest(), "pods", at.Namespace, created.Name) }
		}
	}
	return o.Observation, nil
}

// created is a creation by the harness, as its client and the audit log saw it.
type created struct {
	*probe.Observation
	object runtime.Object
}

// create makes one creation. A refusal is no error.
func (l *Lane) create(
	ctx context.Context, at *probe.Attempt, client rest.Interface, resource string, object, into runtime.Object,
) (created, error) {
	options := &metav1.CreateOptions{}
	if at.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	request := client.Post().
		NamespaceIfScoped(at.Namespace, at.Namespace != "").
		Resource(resource).
		VersionedParams(options, scheme.ParameterCodec).
		Body(object)
	if at.Timeout > 0 { // as a parameter alone: the client itself would give up at the same time, and hear nothing
		request = request.Param("timeout", at.Timeout.String())
	}
	o, err := l.ask(ctx, at, request,
		func(result rest.Result) error { return result.Into(into) },
		func(ctx context.Context) error { return l.deleteAll(ctx, client, resource, at) })
	return created{o, into}, err
}

// ask makes one request, and joins to the answer what the API server says of it in its audit log. read takes the answer.
// undo takes away what the request may have made although nothing can be said of it.
func (l *Lane) ask(
	ctx context.Context, at *probe.Attempt, request *rest.Request, read func(rest.Result) error, undo func(context.Context) error,
) (*probe.Observation, error) {
	id := at.Key + "." + strconv.FormatUint(l.serial.Add(1), 10)
	event, forget := l.cluster.Audit.expectID(id)
	defer forget()

	began := time.Now()
	result := request.
		SetHeader("Audit-ID", id).
		MaxRetries(0). // a refusal with Retry-After is an observation too
		Do(ctx)
	o := &probe.Observation{Latency: time.Since(began)}
	err := result.Error()
	if err == nil {
		err = read(result)
	}
	for _, w := range result.Warnings() {
		o.Warnings = append(o.Warnings, w.Text)
	}
	if err != nil && ctx.Err() == nil && o.Latency >= at.Timeout && at.Timeout > 0 {
		return l.outOfTime(ctx, event, o, err)
	}
	if err != nil {
		var refusal apierrors.APIStatus
		if ctx.Err() != nil || !errors.As(err, &refusal) {
			err = fmt.Errorf("ask the API server: %w", orCause(ctx, err))
			if !at.DryRun { // it may have been done all the same: only the answer was cut off
				l.awaitEnd(ctx, event)
				err = errors.Join(err, undo(ctx))
			}
			return nil, err
		}
		status := refusal.Status()
		o.Refused = &status
	}
	if err := l.readAudit(ctx, event, o); err != nil {
		if !at.DryRun && o.Refused == nil {
			err = errors.Join(err, undo(ctx))
		}
		return nil, err
	}
	return o, nil
}

// outOfTime is what the API server makes of a request whose own time was over before the client heard err. Two of its parts
// notice that at the same moment: the handler, which refuses the request, and the filter around it, which answers in its
// place with words of its own, or, where the handler has begun to, cuts the answer off (k8s.io/apiserver
// pkg/server/filters/timeout.go). Which of the three the client gets is chance; what the handler decided is in the audit log.
// What admission did is there too only if it ended before the event was written, chance again, and is left out.
func (l *Lane) outOfTime(ctx context.Context, event <-chan *auditEvent, o *probe.Observation, err error) (*probe.Observation, error) {
	e, eventErr := l.awaitEvent(ctx, event)
	if eventErr != nil {
		return nil, fmt.Errorf("ask the API server: %w; wait for its audit event: %w", err, eventErr)
	}
	if e.ResponseStatus == nil || e.ResponseStatus.Code < 400 {
		return nil, fmt.Errorf("ask the API server: %w; its audit log tells of no refusal", err)
	}
	o.Refused = e.ResponseStatus
	return o, nil
}

// readAudit waits for the event of a request and fills in what it says. It is written before the request's handler
// returns, but the client may have the answer before that.
func (l *Lane) readAudit(ctx context.Context, event <-chan *auditEvent, o *probe.Observation) error {
	e, err := l.awaitEvent(ctx, event)
	if err != nil {
		return fmt.Errorf("wait for its audit event: %w", err)
	}
	o.Audit = e.Annotations
	return o.ReadAudit()
}

func (l *Lane) awaitEvent(ctx context.Context, event <-chan *auditEvent) (*auditEvent, error) {
	select {
	case e := <-event:
		return e, nil
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), l.cluster.Audit.err())
	case <-l.cluster.Ended:
		return nil, errors.Join(errors.New("the cluster has ended"), l.cluster.Why())
	case <-l.cluster.Audit.done:
		return nil, l.cluster.Audit.err()
	}
}

// delete deletes without grace. The probe's deadline does not hold for it: nothing may be left.
func (l *Lane) delete(ctx context.Context, client rest.Interface, resource, namespace, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	background, now := metav1.DeletePropagationBackground, int64(0)
	err := client.Delete().
		Namespace(namespace).
		Resource(resource).
		Name(name).
		Body(&metav1.DeleteOptions{GracePeriodSeconds: &now, PropagationPolicy: &background}).
		Do(ctx).
		Error()
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s %s/%s again: %w", resource, namespace, name, err)
	}
	return nil
}

// awaitEnd waits until the API server is done with a request whose client has hung up: until then what it creates may
// still appear.
func (l *Lane) awaitEnd(ctx context.Context, event <-chan *auditEvent) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpTimeout)
	defer cancel()
	_, _ = l.awaitEvent(ctx, event)
}

// deleteAll deletes whatever of the resource carries the attempt's key at the head of its name. An API server that
// has ended has nothing to be deleted from.
func (l *Lane) deleteAll(ctx context.Context, client rest.Interface, resource string, at *probe.Attempt) error {
	select {
	case <-l.cluster.Ended:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	names, err := l.named(ctx, client, resource, at)
	if err != nil {
		return fmt.Errorf("look for what was left of it among the %s: %w", resource, err)
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, l.delete(ctx, client, resource, at.Namespace, name))
	}
	return errors.Join(errs...)
}

// Left are the names of the pods that the attempt has stored.
func (l *Lane) Left(ctx context.Context, at *probe.Attempt) ([]string, error) {
	return l.named(ctx, l.rest(), "pods", at)
}

// named are the names of what of the resource carries the attempt's key at the head of its name.
func (l *Lane) named(ctx context.Context, client rest.Interface, resource string, at *probe.Attempt) ([]string, error) {
	var list metav1.PartialObjectMetadataList
	data, err := client.Get().
		Namespace(at.Namespace).
		Resource(resource).
		SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").
		DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	var names []string
	for _, object := range list.Items {
		if strings.HasPrefix(object.Name, at.Key) {
			names = append(names, object.Name)
		}
	}
	return names, nil
}

// orCause is err, or why the context ended where that is what err comes from.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
