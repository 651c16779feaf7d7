// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/outrigger-k8s/outrigger/table"
)

// request of the case. Cases of one variant share it.
func (f *forms) request(c table.Case) (*table.Request, error) {
	variant := c.Variant(table.RequestSection)
	r := f.requests[variant]
	if r == nil {
		var err error
		if r, err = c.Request(); err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		f.requests[variant] = r
	}
	return r, nil
}

// asked is the attempt of a request that is not the creation of a pod.
func asked(r *table.Request, p *Planned) (*Attempt, error) {
	at := &Attempt{
		Key: p.Key, Namespace: namespaceFor(r, p), Operation: r.Operation, Resource: table.GVR(r.Resource), Subresource: r.Subresource,
		Timeout: r.Within(), DryRun: r.ByDryRun(),
	}
	object := r.Sent()
	switch {
	case r.Operation == table.Delete:
		return at, nil
	case object["kind"] == nil && r.Operation != table.Update:
		return nil, errors.New("request: object needs its apiVersion and kind")
	case r.GenerateName:
		return nil, errors.New("request: generateName goes with the creation of a pod")
	case r.Operation == table.Create:
		at.Object = called(object, p.Key)
	default:
		at.Object = &unstructured.Unstructured{Object: object}
	}
	return at, nil
}

// called is object under the name.
func called(object map[string]any, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: object}
	u.SetName(name)
	return u
}

func namespaceFor(r *table.Request, p *Planned) string {
	if !r.Namespaced() {
		return ""
	}
	return p.Namespace
}

// objects are what there is besides while the cases of the arrangement run. All of them have the same.
func (a *PlannedArrangement) objects() ([]*Stored, error) {
	if len(a.Cases) == 0 {
		return nil, nil
	}
	declared, err := a.Cases[0].Case.Objects()
	if err != nil {
		return nil, err
	}
	var list []*Stored
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		o := declared[name]
		for _, namespace := range a.namespacesFor(o) {
			s := &Stored{
				Resource: table.GVR(o.Resource), Namespace: namespace, Object: called(runtime.DeepCopyJSON(o.Object), name), Shared: true,
			}
			if u := o.Until; u != nil {
				s.Until = &Witness{
					Resource: table.GVR(u.Resource), Namespace: a.Cases[0].Namespace,
					Object: called(runtime.DeepCopyJSON(u.Object), "outrigger-witness"), Refused: u.Refused, Answer: u.Answer,
				}
				if namespace != "" {
					s.Until.Namespace = namespace
				}
			}
			list = append(list, s)
		}
	}
	return list, nil
}

// namespacesFor are the namespaces that the object lies in: each of the cases', or "" for none.
func (a *PlannedArrangement) namespacesFor(o *table.Object) []string {
	if !o.Namespaced() {
		return []string{""}
	}
	var names []string
	for _, p := range a.Cases {
		names = append(names, p.Namespace)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// stored are the objects that the requests of the arrangement's cases are about.
func (a *PlannedArrangement) stored() ([]*Stored, error) {
	list, err := a.objects()
	if err != nil {
		return nil, err
	}
	var f *forms
	for _, p := range a.Cases {
		if f == nil {
			f = newForms(p.Case.Table)
		}
		r, err := f.request(p.Case)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Case.ID(), err)
		}
		if !r.NeedsStored() {
			continue
		}
		object := r.Stored
		if r.Pods() {
			object = table.Overlaid(map[string]any{"apiVersion": "v1", "kind": "Pod"},
				table.Overlaid(p.Case.Document(table.PodSection), object))
		}
		if object["kind"] == nil {
			return nil, fmt.Errorf("%s: request: stored needs its apiVersion and kind", p.Case.ID())
		}
		list = append(list, &Stored{
			Resource: table.GVR(r.Resource), Namespace: namespaceFor(r, p), Object: called(runtime.DeepCopyJSON(object), p.Key),
		})
	}
	return list, nil
}
