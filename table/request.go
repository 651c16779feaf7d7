// SPDX-License-Identifier: Apache-2.0

package table

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A Request is what a case asks of the API server: the section `request`. Left out, it is the creation of the case's pod
// by dry run.
type Request struct {
	// GenerateName has the API server make up the object's name, behind the case's key.
	GenerateName bool `json:"generateName,omitempty"`
	// DryRun: false carries it out. Default: true. A CONNECT is always carried out.
	DryRun *bool `json:"dryRun,omitempty"`
	// Timeout is the client's own for the request, and so the deadline of all that the API server does for it: 1500ms.
	// Default: none, which leaves it the API server's own of 34 seconds.
	Timeout string `json:"timeout,omitempty"`
	// Rehearsed has a creation that is carried out made by dry run first. The answers must be the same, and the dry run must
	// leave nothing.
	Rehearsed bool `json:"rehearsed,omitempty"`
	// Operation as the rules of a webhook name it. UPDATE is a merge patch (RFC 7386), so that no other field of the
	// stored object is touched; CONNECT is a POST. Default: CREATE.
	Operation Operation `json:"operation,omitempty"`
	// Resource as its path names it: [GROUP/]VERSION/RESOURCE, as in v1/pods and apps/v1/deployments. Default: v1/pods.
	Resource string `json:"resource,omitempty"`
	// Subresource, as in exec. A CREATE of one is about the stored object, as a binding of a pod is.
	Subresource string `json:"subresource,omitempty"`
	// Scope of the resource: Namespaced (default) or Cluster.
	Scope string `json:"scope,omitempty"`
	// Object is what is sent: by CREATE the object, by UPDATE the patch, by CONNECT the options; by DELETE it is not.
	// It lies over the case's pod where that is created.
	Object map[string]any `json:"object,omitempty"`
	// Remove names what an UPDATE takes away, as JSON pointers: a null in Object would take away a part of Object.
	Remove []string `json:"remove,omitempty"`
	// Stored is what there is under the case's key, before any webhook is: what an UPDATE changes, a DELETE deletes, a
	// subresource is of. It lies over the case's pod where the resource is pods.
	Stored map[string]any `json:"stored,omitempty"`
}

// An Object is something that there is besides: one of the section `objects`, where its name stands before it.
type Object struct {
	// Resource and Scope as a Request has them. An object with a namespace lies in the case's.
	Resource string `json:"resource"`
	Scope    string `json:"scope,omitempty"`
	// Object itself, without a name.
	Object map[string]any `json:"object"`
	// Until says how it is seen that the API server acts on the object; left out, it does as soon as it is there.
	Until *Witness `json:"until,omitempty"`
}

// A Witness is a creation that the API server answers in a certain way once it acts on an object. It is tried, by dry run,
// until it does, before any webhook is there.
type Witness struct {
	Resource string         `json:"resource,omitempty"` // default: v1/pods
	Object   map[string]any `json:"object"`
	// Refused must occur in the refusal; without it the answer must hold Answer.
	Refused string         `json:"refused,omitempty"`
	Answer  map[string]any `json:"answer,omitempty"`
}

// Objects of the case, by their names.
func (c Case) Objects() (map[string]*Object, error) { return readObjects(c.Document(ObjectsSection)) }

func readObjects(doc map[string]any) (map[string]*Object, error) {
	list := map[string]*Object{}
	for _, name := range sortedKeys(doc) {
		one, ok := doc[name].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("object %s: expected a mapping", name)
		}
		o := &Object{}
		if err := strictly(one, o); err != nil {
			return nil, fmt.Errorf("object %s: %w", name, err)
		}
		if o.Scope == "" {
			o.Scope = namespaced
		}
		if o.Until != nil && o.Until.Resource == "" {
			o.Until.Resource = pods
		}
		switch {
		case o.Object["kind"] == nil || o.Until != nil && o.Until.Object["kind"] == nil:
			return nil, fmt.Errorf("object %s: it needs its apiVersion and kind", name)
		case o.Until != nil && (o.Until.Refused == "") == (o.Until.Answer == nil):
			return nil, fmt.Errorf("object %s: until is refused or has an answer: one of them", name)
		}
		resources := []string{o.Resource}
		if o.Until != nil {
			resources = append(resources, o.Until.Resource)
		}
		for _, r := range resources {
			if err := checkResource(r, o.Scope); err != nil {
				return nil, fmt.Errorf("object %s: %w", name, err)
			}
		}
		list[name] = o
	}
	return list, nil
}

func checkResource(resource, scope string) error {
	switch parts := strings.Split(resource, "/"); {
	case len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, ""):
		return fmt.Errorf("resource %q is not [GROUP/]VERSION/RESOURCE", resource)
	case scope != namespaced && scope != clusterScoped:
		return fmt.Errorf("scope %q is neither %s nor %s", scope, namespaced, clusterScoped)
	}
	return nil
}

// The scopes.
const (
	namespaced    = "Namespaced"
	clusterScoped = "Cluster"
)

// Operation is what is asked to be done.
type Operation string

// The operations.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

var operations = []Operation{Create, Update, Delete, Connect}

// pods is the resource of a request that names none.
const pods = "v1/pods"

// Request of the case, with its defaults.
func (c Case) Request() (*Request, error) { return readRequest(c.Document(RequestSection)) }

func readRequest(doc map[string]any) (*Request, error) {
	r := &Request{}
	if err := strictly(doc, r); err != nil {
		return nil, err
	}
	if r.Operation == "" {
		r.Operation = Create
	}
	if r.Resource == "" {
		r.Resource = pods
	}
	if r.Scope == "" {
		r.Scope = namespaced
	}
	if r.Timeout != "" {
		if d, err := time.ParseDuration(r.Timeout); err != nil || d <= 0 {
			return nil, fmt.Errorf("timeout %q is no time: 1500ms, 2s", r.Timeout)
		}
	}
	switch {
	case !slices.Contains(operations, r.Operation):
		return nil, fmt.Errorf("operation %q is none of %v", r.Operation, operations)
	case r.Rehearsed && (!r.OfPod() || r.ByDryRun()):
		return nil, errors.New("rehearsed goes with the creation of a pod that is carried out: dryRun: false")
	case r.Remove != nil && r.Operation != Update:
		return nil, errors.New("remove goes with an UPDATE")
	case slices.ContainsFunc(r.Remove, func(p string) bool { return !strings.HasPrefix(p, "/") }):
		return nil, fmt.Errorf("remove: %q are not all JSON pointers: /metadata/labels/mesh", r.Remove)
	}
	return r, checkResource(r.Resource, r.Scope)
}

// OfPod tells whether the request creates the case's pod, as it does unless the table says otherwise.
func (r *Request) OfPod() bool { return r.Operation == Create && r.Pods() && r.Subresource == "" }

// Pods tells whether the resource is pods.
func (r *Request) Pods() bool { return r.Resource == pods }

// NeedsStored tells whether the request is about an object that must be there before.
func (r *Request) NeedsStored() bool { return r.Operation != Create || r.Subresource != "" }

// ByDryRun tells whether the request is a dry run.
func (r *Request) ByDryRun() bool {
	return r.Operation != Connect && (r.DryRun == nil || *r.DryRun)
}

// Within is Timeout, 0 where there is none.
func (r *Request) Within() time.Duration {
	d, _ := time.ParseDuration(r.Timeout) // readRequest has parsed it
	return d
}

// Sent is Object, new, with a null at every place that Remove names.
func (r *Request) Sent() map[string]any {
	sent := runtime.DeepCopyJSON(r.Object)
	for _, pointer := range r.Remove {
		var patch any
		tokens := strings.Split(pointer[1:], "/")
		for _, token := range slices.Backward(tokens) {
			patch = map[string]any{strings.NewReplacer("~1", "/", "~0", "~").Replace(token): patch}
		}
		sent = nulled(sent, patch.(map[string]any))
	}
	return sent
}

// nulled lays nulls over doc, and keeps them.
func nulled(doc, nulls map[string]any) map[string]any {
	if doc == nil {
		doc = map[string]any{}
	}
	for key, below := range nulls {
		if below == nil {
			doc[key] = nil
			continue
		}
		inner, _ := doc[key].(map[string]any)
		doc[key] = nulled(inner, below.(map[string]any))
	}
	return doc
}

// Namespaced tells whether the resource has namespaces.
func (r *Request) Namespaced() bool { return r.Scope == namespaced }

// Namespaced tells whether the object lies in a namespace.
func (o *Object) Namespaced() bool { return o.Scope == namespaced }

// GVR is a resource as tables name it, taken apart.
func GVR(resource string) schema.GroupVersionResource {
	parts := strings.Split(resource, "/")
	if len(parts) == 2 {
		parts = append([]string{""}, parts...)
	}
	return schema.GroupVersionResource{Group: parts[0], Version: parts[1], Resource: parts[2]}
}
