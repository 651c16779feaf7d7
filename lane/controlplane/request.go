// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/table"
)

// probeRequest makes a request that is not the creation of a pod. What is sent is the JSON as it stands, mistakes
// included.
func (l *Lane) probeRequest(ctx context.Context, at *probe.Attempt) (*probe.Observation, error) {
	request, err := l.requestFor(at)
	if err != nil {
		return nil, err
	}
	if !at.DryRun {
		l.touch(at.Resource)
	}
	var answer map[string]any
	undo := func(ctx context.Context) error { return l.unmake(ctx, at) }
	o, err := l.ask(ctx, at, request, func(result rest.Result) error {
		raw, err := result.Raw()
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &answer)
	}, undo)
	if err != nil {
		return nil, err
	}
	if o.Refused == nil {
		o.Object = answer
		if !at.DryRun {
			o.Cleanup = undo
		}
	}
	return o, nil
}

// touch notes that somebody other than an arrangement writes an object of this resource.
func (l *Lane) touch(r schema.GroupVersionResource) {
	if r.Group == admissionregistrationv1.GroupName || r.Group == "" && r.Resource == "namespaces" {
		l.touched.Store(true)
	}
}

// requestFor is the request of an attempt whose object is JSON.
func (l *Lane) requestFor(at *probe.Attempt) (*rest.Request, error) {
	options := url.Values{}
	if at.DryRun {
		options.Set("dryRun", metav1.DryRunAll)
	}
	if at.Timeout > 0 {
		options.Set("timeout", at.Timeout.String())
	}
	body, err := json.Marshal(at.Object)
	if err != nil {
		return nil, fmt.Errorf("write the object: %w", err)
	}
	stored := path(at.Resource, at.Namespace, at.Key)
	if at.Subresource != "" {
		stored = append(stored, at.Subresource)
	}
	client := l.client.RESTClient()
	switch at.Operation {
	case "", table.Create:
		if at.Subresource == "" {
			stored = path(at.Resource, at.Namespace, "")
		}
		return asJSON(client.Post().AbsPath(stored...), options).Body(body), nil
	case table.Update:
		return asJSON(client.Patch(types.MergePatchType).AbsPath(stored...), options).
			SetHeader("Content-Type", string(types.MergePatchType)).Body(body), nil
	case table.Delete:
		return asJSON(client.Delete().AbsPath(stored...), options).Param("gracePeriodSeconds", "0"), nil
	case table.Connect:
		connection, err := parameters(at.Object)
		if err != nil {
			return nil, err
		}
		return asJSON(client.Post().AbsPath(stored...), connection), nil
	}
	return nil, fmt.Errorf("there is no operation %q", at.Operation)
}

// asJSON has the request, and its answer, be JSON.
func asJSON(request *rest.Request, parameters url.Values) *rest.Request {
	for name, values := range parameters {
		for _, v := range values {
			request.Param(name, v)
		}
	}
	return request.SetHeader("Accept", runtime.ContentTypeJSON).SetHeader("Content-Type", runtime.ContentTypeJSON)
}

// parameters are options as they stand in a URL: each of their fields, lists once for each element.
func parameters(options runtime.Object) (url.Values, error) {
	u, ok := options.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("a %T holds no options to connect with", options)
	}
	values := url.Values{}
	for name, value := range u.Object {
		if name == "apiVersion" || name == "kind" {
			continue
		}
		list, several := value.([]any)
		if !several {
			list = []any{value}
		}
		for _, v := range list {
			values.Add(name, fmt.Sprint(v))
		}
	}
	return values, nil
}

// path of an object, or with an empty name of its collection.
func path(r schema.GroupVersionResource, namespace, name string) []string {
	segments := []string{"/apis", r.Group, r.Version}
	if r.Group == "" {
		segments = []string{"/api", r.Version}
	}
	if namespace != "" {
		segments = append(segments, "namespaces", namespace)
	}
	segments = append(segments, r.Resource)
	if name != "" {
		segments = append(segments, name)
	}
	return segments
}

// unmake deletes what an attempt created.
func (l *Lane) unmake(ctx context.Context, at *probe.Attempt) error {
	if at.Operation != "" && at.Operation != table.Create || at.Subresource != "" {
		return nil // what is stored goes with the arrangement
	}
	return l.deleteObject(ctx, at.Resource, at.Namespace, at.Key)
}

// deleteObject deletes an object without grace, if it is there. The deadline of ctx does not hold for it: nothing may be
// left.
func (l *Lane) deleteObject(ctx context.Context, r schema.GroupVersionResource, namespace, name string) error {
	l.touch(r)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	err := asJSON(l.client.RESTClient().Delete().AbsPath(path(r, namespace, name)...), nil).
		Param("gracePeriodSeconds", "0").
		Param("propagationPolicy", string(metav1.DeletePropagationBackground)).
		Do(ctx).
		Error()
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // a namespace may be going already
		return fmt.Errorf("delete %s %s/%s: %w", r.Resource, namespace, name, err)
	}
	return nil
}

// arrangeStored takes away what was stored for the arrangement before, and stores what a wants; what governs requests, and
// is the same in both, stays. No webhook of either is in force meanwhile: it would be called, and might refuse.
func (l *Lane) arrangeStored(ctx context.Context, a *probe.Arrangement) error {
	wanted, fresh := map[string]*probe.Stored{}, []*probe.Stored{}
	for _, s := range a.Stored {
		// However it was shown that the API server acts on it, it does.
		object := *s
		object.Until = nil
		content, err := json.Marshal(object)
		if err != nil {
			return fmt.Errorf("write %s %s: %w", s.Resource.Resource, s.Object.GetName(), err)
		}
		wanted[string(content)] = s
		if l.stored[string(content)] == nil || !s.Shared {
			fresh = append(fresh, s)
		}
	}
	var stale []*probe.Stored
	for content, s := range l.stored {
		if wanted[content] == nil || !s.Shared {
			stale = append(stale, s)
		}
	}
	if len(stale) == 0 && len(fresh) == 0 {
		return nil
	}
	if err := l.bring(ctx, &probe.Arrangement{Namespaces: a.Namespaces}); err != nil {
		return err
	}
	if err := eachStored(ctx, stale, l.unstore); err != nil {
		return err
	}
	if err := l.awaitAccounts(ctx, a.Namespaces); err != nil {
		return err
	}
	l.stored = wanted
	return eachStored(ctx, fresh, l.store)
}

// removeStored deletes what the lane stored.
func (l *Lane) removeStored(ctx context.Context) error {
	return l.arrangeStored(ctx, &probe.Arrangement{})
}

// unstore deletes the object, and returns once its witness shows that the API server acts on it no more: it would vouch
// for another of the same name.
func (l *Lane) unstore(ctx context.Context, s *probe.Stored) error {
	err := l.deleteObject(ctx, s.Resource, s.Namespace, s.Object.GetName())
	if err != nil || s.Until == nil {
		return err
	}
	return l.awaitWitness(ctx, s, "no longer acts", func(seen bool) bool { return !seen })
}

// eachStored does it side by side to what governs requests, and then to what requests are about.
func eachStored(ctx context.Context, list []*probe.Stored, do func(context.Context, *probe.Stored) error) error {
	for _, shared := range []bool{true, false} {
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(8)
		for _, s := range list {
			if s.Shared == shared {
				group.Go(func() error { return do(groupCtx, s) })
			}
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// witnessTimeout bounds the wait until the API server acts on an object: it takes well below a second on an idle machine.
const witnessTimeout = time.Minute

// store creates the object, and returns once its witness shows that the API server acts on it. One of the same name that
// is on its way out is waited for.
func (l *Lane) store(ctx context.Context, s *probe.Stored) error {
	what := fmt.Sprintf("%s %s/%s", s.Resource.Resource, s.Namespace, s.Object.GetName())
	body, err := l.held(s.Object)
	if err != nil {
		return fmt.Errorf("write %s: %w", what, err)
	}
	l.touch(s.Resource)
	if s.Until != nil {
		// Quotas and limits kube-apiserver looks up itself where its cache has none, and goes by what it found for 30 s
		// (k8s.io/apiserver pkg/admission/plugin/resourcequota, kubernetes plugin/pkg/admission/limitranger). Asked now, it
		// finds none. Asked first between an object's creation and its arrival in the cache, it would find the object, and
		// might act on it for half a minute after its deletion.
		if err := l.awaitWitness(ctx, s, "does not act yet", func(seen bool) bool { return !seen }); err != nil {
			return err
		}
	}
	err = l.cluster.awaitEvery(ctx, lookInterval, what+" is stored", func(ctx context.Context) (bool, error) {
		err := asJSON(l.client.RESTClient().Post().AbsPath(path(s.Resource, s.Namespace, "")...), nil).Body(body).Do(ctx).Error()
		if apierrors.IsAlreadyExists(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil || s.Until == nil {
		return err
	}
	return l.awaitWitness(ctx, s, "acts", func(seen bool) bool { return seen })
}

// awaitWitness tries the object's witness until that it has been seen, or has not, is enough.
func (l *Lane) awaitWitness(ctx context.Context, s *probe.Stored, acts string, enough func(seen bool) bool) error {
	what := fmt.Sprintf("%s %s/%s", s.Resource.Resource, s.Namespace, s.Object.GetName())
	witness, err := json.Marshal(s.Until.Object)
	if err != nil {
		return fmt.Errorf("write the witness of %s: %w", what, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, witnessTimeout,
		fmt.Errorf("not within %s: does its witness show that it does?", witnessTimeout))
	defer cancel()
	last := "nothing yet"
	err = l.cluster.awaitEvery(ctx, lookInterval, "the API server "+acts+" on "+what, func(ctx context.Context) (bool, error) {
		result := asJSON(l.client.RESTClient().Post().AbsPath(path(s.Until.Resource, s.Until.Namespace, "")...),
			url.Values{"dryRun": {metav1.DryRunAll}}).Body(witness).Do(ctx)
		err := result.Error() // it reads the refusal, as Raw does not
		var answer map[string]any
		refusal := ""
		var status apierrors.APIStatus
		switch {
		case errors.As(err, &status):
			refusal, err = status.Status().Message, nil
		case err == nil:
			raw, _ := result.Raw()
			err = json.Unmarshal(raw, &answer)
		}
		last = cmp.Or(refusal, "it is admitted")
		return enough(s.Until.Seen(answer, refusal)), err
	})
	if err != nil {
		return fmt.Errorf("%w (its witness was last answered: %s)", err, last)
	}
	return nil
}

// held is the JSON of an object; of a pod such that nothing starts it.
func (l *Lane) held(object *unstructured.Unstructured) ([]byte, error) {
	if object.GetKind() != "Pod" {
		return json.Marshal(object)
	}
	pod := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, pod); err != nil {
		return nil, err
	}
	l.hold("Pod", &pod.Spec)
	return json.Marshal(pod)
}
