// SPDX-License-Identifier: Apache-2.0

package table

import (
	"encoding/json"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
)

// checkOverlays makes sure, for each value at its own line, that what it lays over the namespace, the pod and the
// webhook is a Namespace, a Pod and a webhook to Kubernetes, and that no two dimensions write the same path.
func (t *Table) checkOverlays() error {
	base := t.profile.Base
	typed := []struct {
		section Section
		base    map[string]any
		into    func() any
	}{
		{NamespaceSection, merge(base.Namespace, t.Base.Namespace), func() any { return &corev1.Namespace{} }},
		{PodSection, merge(base.Pod, t.Base.Pod), func() any { return &corev1.Pod{} }},
		{WebhookSection, merge(base.Webhook, t.Base.Webhook), func() any { return &admissionregistrationv1.MutatingWebhook{} }},
	}
	for _, x := range typed {
		for _, l := range t.layers() {
			if err := strictly(withRule(merge(x.base, l.section(x.section))), x.into()); err != nil {
				return &Error{t.File, l.line, fmt.Sprintf("%s: %s: %v", l.of, x.section, err)}
			}
		}
		if err := strictly(withRule(x.base), x.into()); err != nil {
			return &Error{t.File, 0, fmt.Sprintf("base.%s (with the profile's): %v", x.section, err)}
		}
	}
	if err := t.checkWebhooks(&Documents{}); err != nil {
		return &Error{t.File, 0, "base (with the profile's): " + err.Error()}
	}
	request, objects := merge(base.Request, t.Base.Request), merge(base.Objects, t.Base.Objects)
	if _, err := readRequest(request); err != nil {
		return &Error{t.File, 0, "base.request (with the profile's): " + err.Error()}
	}
	for _, l := range t.layers() {
		if err := t.checkWebhooks(l.Documents); err != nil {
			return &Error{t.File, l.line, fmt.Sprintf("%s: %v", l.of, err)}
		}
		if _, err := readRequest(merge(request, l.Request)); err != nil {
			return &Error{t.File, l.line, fmt.Sprintf("%s: request: %v", l.of, err)}
		}
		if _, err := readObjects(merge(objects, l.Objects)); err != nil {
			return &Error{t.File, l.line, fmt.Sprintf("%s: %v", l.of, err)}
		}
	}
	for i, d := range t.Dimensions {
		for _, e := range t.Dimensions[i+1:] {
			if err := t.checkClash(d, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// A layer is something that lies over the documents of some cases: whose it is, for messages, and where it stands.
type layer struct {
	*Documents
	of   string
	line int
}

// layers are all of the table's: the values', and those of the steps of its course.
func (t *Table) layers() []layer {
	var list []layer
	for i := range t.Course {
		s := &t.Course[i]
		list = append(list, layer{&s.Documents, fmt.Sprintf("step %q", s.Name), s.Line})
	}
	for _, d := range t.Dimensions {
		for i := range d.Values {
			v := &d.Values[i]
			of := fmt.Sprintf("value %q of dimension %q", v.Slug, d.Name)
			list = append(list, layer{&v.Documents, of, v.Line})
			for _, step := range sortedWords(v.At) {
				list = append(list, layer{v.At[step], of + fmt.Sprintf(" at step %q", step), v.Line})
			}
		}
	}
	return list
}

// checkWebhooks looks at the webhook configurations, and at who answers them, as a value leaves them.
func (t *Table) checkWebhooks(value *Documents) error {
	p := t.profile
	list := merge(merge(p.base(WebhooksSection), t.Base.Webhooks), value.Webhooks)
	over := merge(merge(p.base(WebhookSection), t.Base.Webhook), value.Webhook)
	if _, err := p.configurations(list, over); err != nil {
		return fmt.Errorf("webhooks: %w", err)
	}
	return checkMutators(merge(t.Base.Mutators, value.Mutators))
}

func (t *Table) checkClash(d, e Dimension) error {
	for _, v := range d.Values {
		for _, w := range e.Values {
			at := clashOf(&v.Documents, &w.Documents)
			for _, step := range sortedWords(v.At) {
				if other := w.At[step]; other != nil && at == "" {
					at = clashOf(v.At[step], other)
				}
			}
			if at != "" {
				return &Error{t.File, w.Line, fmt.Sprintf("value %q of dimension %q writes %s, and so does value %q of dimension %q (line %d): a case must not depend on the order of the dimensions",
					w.Slug, e.Name, at, v.Slug, d.Name, v.Line)}
			}
		}
	}
	return nil
}

// clashOf is the first path that both write, "" if there is none.
func clashOf(a, b *Documents) string {
	of := b.sections()
	for i, s := range a.sections() {
		if at := clash(s.overlay, of[i].overlay, s.name); at != "" {
			return at
		}
	}
	return ""
}

func checkPod(pod Overlay) error {
	if pod == nil {
		return nil
	}
	return strictly(pod, &corev1.Pod{})
}

// strictly decodes doc into a Kubernetes object; an unknown field is an error.
func strictly(doc map[string]any, into any) error {
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	unknown, err := kjson.UnmarshalStrict(raw, into)
	return errors.Join(append(unknown, err)...)
}
