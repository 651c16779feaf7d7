// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/table"
)

// partLabel is the label by which webhooks are limited to the namespaces of one of several arrangements that stand in the
// cluster side by side. Its value is the part's number.
const partLabel = "outrigger.dev/part"

// Parts whose cases wait more than they keep anybody busy are made aside, by a lane of their own, while others go on. What is
// theirs begins with AsidePrefix if it is a webhook configuration, and has the label AsideLabel if it is a namespace.
const (
	AsidePrefix = "aside."
	AsideLabel  = "outrigger.dev/aside"
)

// maxParts bounds how many arrangements stand side by side: every request is held against the webhooks of all of them.
const maxParts = 64

// Together is the same plan in fewer arrangements: those of tables that say so (isolate) are joined, as parts of one, which
// is made at once and whose cases run side by side. Each part's webhooks are limited to namespaces of its own. To arrange
// takes an API server as long as many cases, and cases that wait wait together.
//
// Parts of one arrangement want the same settings of the injector, if there is one of it; have the same objects beside them,
// which are the cluster's; and where they have a course, are of one table. Those with Services stay by themselves.
func (p *Plan) Together() (*Plan, error) {
	out := &Plan{Facts: p.Facts, Tables: p.Tables, NotRun: p.NotRun}
	open := map[string]*PlannedArrangement{}
	for _, a := range p.Arrangements {
		key, err := a.joins()
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", a.Name, err)
		}
		if key == "" {
			out.Arrangements = append(out.Arrangements, a)
			continue
		}
		whole := open[key]
		if whole == nil || len(whole.Parts) == maxParts {
			whole = &PlannedArrangement{settings: a.settings, Aside: a.waits()}
			whole.Name = a.Name
			for _, stage := range a.Course {
				step := &PlannedArrangement{}
				step.Name = stage.Name
				whole.Course = append(whole.Course, step)
			}
			open[key] = whole
			out.Arrangements = append(out.Arrangements, whole)
		}
		whole.join(a)
	}
	return out, nil
}

// joins is what arrangements that may be parts of one have in common, "" of one that stays by itself.
func (a *PlannedArrangement) joins() (string, error) {
	c := a.Cases[0].Case
	if !c.Table.Isolate {
		return "", nil
	}
	for _, stage := range append(slices.Clone(a.Course), a) {
		if len(stage.Services) > 0 {
			return "", nil
		}
	}
	f := newForms(c.Table)
	for _, p := range a.Cases {
		if named(p.Case) {
			return "", fmt.Errorf("%s: its namespace has a name, and its table isolates", p.Case.ID())
		}
		r, err := f.request(p.Case)
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.Case.ID(), err)
		}
		if !r.Namespaced() {
			return "", fmt.Errorf("%s: its request is about an object outside namespaces, which every part's webhooks would be asked about, and its table isolates", p.Case.ID())
		}
	}
	like := struct {
		Settings, Table, Alone string
		Waits, Aside           bool
		Objects                []map[string]any
	}{Settings: a.settings, Waits: c.Table.Waits, Aside: a.waits()}
	if c.Table.Alone || a.controllers() {
		// Controllers that are refused pods try again and again, and of an event for each refusal the controller manager's
		// recorder drops those that it does not get rid of in time.
		like.Alone = a.Name
	}
	if len(a.Course) > 0 {
		like.Table = c.Table.ID()
		for _, step := range a.Cases[0].Course {
			like.Objects = append(like.Objects, step.Case.Document(table.ObjectsSection))
		}
	} else {
		like.Objects = append(like.Objects, c.Document(table.ObjectsSection))
	}
	key, err := json.Marshal(like) // sorts its keys
	return string(key), err
}

// controllers tells whether any of its cases are about controllers.
func (a *PlannedArrangement) controllers() bool {
	return slices.ContainsFunc(a.Cases, func(p *Planned) bool { return slices.Contains(p.Case.Needs(), FeatureControllers) })
}

// waits tells whether its cases wait more than they keep anybody busy, for timeouts or for controllers.
func (a *PlannedArrangement) waits() bool {
	return !a.changesSettings() && (a.Cases[0].Case.Table.Waits || a.controllers())
}

// join adds a part, in namespaces of its own.
func (a *PlannedArrangement) join(part *PlannedArrangement) {
	n := partID{len(a.Parts), a.Aside}
	own := *part
	own.Cases, own.Course, own.id = nil, nil, n
	for _, p := range part.Cases {
		own.Cases = append(own.Cases, p.inPart(n))
	}
	own.Namespaces = namespacesOf(part, n)
	for k, stage := range part.Course {
		step := *stage
		step.Cases, step.Namespaces, step.id = nil, namespacesOf(stage, n), n
		for _, p := range own.Cases {
			step.Cases = append(step.Cases, p.Course[k])
		}
		own.Course = append(own.Course, &step)
		whole := a.Course[k]
		whole.Parts, whole.Cases = append(whole.Parts, &step), append(whole.Cases, step.Cases...)
	}
	a.Parts, a.Cases = append(a.Parts, &own), append(a.Cases, own.Cases...)
}

// inPart is the same case in its part's namespace.
func (p *Planned) inPart(n partID) *Planned {
	other := *p
	other.Namespace, other.Course = namespaceOfPart(p.Namespace, n), nil
	for _, step := range p.Course {
		other.Course = append(other.Course, step.inPart(n))
	}
	return &other
}

// partID tells a part from all others that there are in the cluster.
type partID struct {
	n     int
	aside bool
}

// label is the value of partLabel.
func (p partID) label() string {
	if p.aside {
		return "aside-" + strconv.Itoa(p.n)
	}
	return strconv.Itoa(p.n)
}

// configuration is what a webhook configuration of the part is called.
func (p partID) configuration(name string) string {
	name = fmt.Sprintf("%02d.%s", p.n, name)
	if p.aside {
		return AsidePrefix + name
	}
	return name
}

func namespaceOfPart(name string, n partID) string { return name + "-" + n.label() }

// namespacesOf are the arrangement's namespaces as those of part n.
func namespacesOf(a *PlannedArrangement, n partID) []*corev1.Namespace {
	var list []*corev1.Namespace
	for _, ns := range a.Namespaces {
		ns = ns.DeepCopy()
		ns.Name = namespaceOfPart(ns.Name, n)
		if ns.Labels == nil {
			ns.Labels = map[string]string{}
		}
		ns.Labels[partLabel] = n.label()
		if n.aside {
			ns.Labels[AsideLabel] = "true"
		}
		list = append(list, ns)
	}
	return list
}

// sideBySide is the arrangement that is made of the parts: their webhook configurations under names of their own, each
// limited to the namespaces of its part. The order of a part's configurations stays what it was.
func sideBySide(name string, parts []*Arrangement, ids []partID) *Arrangement {
	out := &Arrangement{Name: name, Parts: parts}
	stored := map[string]bool{}
	for i, part := range parts {
		n := ids[i]
		for _, c := range part.Webhooks {
			c.Name = n.configuration(c.Name)
		}
		for _, c := range part.Validating {
			c.Name = n.configuration(c.Name)
		}
		for _, selector := range part.namespaceSelectors() {
			limit(selector, n)
		}
		out.Webhooks = append(out.Webhooks, part.Webhooks...)
		out.Validating = append(out.Validating, part.Validating...)
		out.Namespaces = append(out.Namespaces, part.Namespaces...)
		for _, s := range part.Stored {
			key := fmt.Sprint(s.Resource, s.Namespace, "/", s.Object.GetName())
			if !stored[key] { // what lies in no namespace is in every part, and the same
				stored[key] = true
				out.Stored = append(out.Stored, s)
			}
		}
	}
	return out
}

// limit has a namespaceSelector want the label of part n too.
func limit(selector **metav1.LabelSelector, n partID) {
	limited := selecting(*selector)
	if limited.MatchLabels == nil {
		limited.MatchLabels = map[string]string{}
	}
	limited.MatchLabels[partLabel] = n.label()
	*selector = limited
}

// spare has no webhook of the arrangement be asked about what is made aside.
func (a *Arrangement) spare() {
	for _, selector := range a.namespaceSelectors() {
		sparing := selecting(*selector)
		sparing.MatchExpressions = append(sparing.MatchExpressions, metav1.LabelSelectorRequirement{Key: AsideLabel, Operator: metav1.LabelSelectorOpDoesNotExist})
		*selector = sparing
	}
}

// selecting is a copy of a selector; of none, one that selects everything.
func selecting(selector *metav1.LabelSelector) *metav1.LabelSelector {
	if selector == nil {
		return &metav1.LabelSelector{}
	}
	return selector.DeepCopy()
}
