// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/outrigger-k8s/outrigger/injector/pod"
)

// list is one list of the pod's spec, on its way from what the pod has to what the template wants.
type list struct {
	path string
	// have is the pod's; nil when the pod has no such list.
	have []pod.Named
	// want is the template's.
	want []part
	// claimed is what the status annotation says was injected.
	claimed []string
	// twin is the other list of containers, since no name may stand in both; nil for other lists.
	twin *list
	// keep leaves an item of the pod's own to the pod: merge says what it looks like then.
	keep  bool
	merge func(own, want json.RawMessage) (json.RawMessage, error)
	// carry takes over from an item that is replaced what the API server put there.
	carry func(current, want json.RawMessage) (json.RawMessage, error)
}

// operations returns the operations on the list.
//
// Items are replaced where they stand, then removed from the end, so that the indices before them hold, and then
// added at the end. Thus what stays keeps its order.
func (l *list) operations(full *contents) ([]Operation, error) {
	var replaces, removes, adds []Operation
	placed := map[string]bool{}
	for i, item := range l.have {
		w, wanted := l.wanted(item.Name)
		switch {
		case wanted && !placed[item.Name]:
			placed[item.Name] = true
			op, err := l.replace(full, i, w)
			if err != nil {
				return nil, err
			}
			replaces = append(replaces, op...)
		case wanted, l.claims(item.Name), l.twin.wants(item.Name): // a second one; an older template's; moving
			removes = append(removes, Operation{Op: "remove", Path: l.at(strconv.Itoa(i))})
		}
	}
	slices.Reverse(removes)

	var values []json.RawMessage
	for _, w := range l.want {
		if placed[w.name] {
			continue
		}
		value, err := l.content(full, w)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	if l.have == nil && len(values) > 0 {
		return []Operation{{Op: "add", Path: l.at(), Value: values}}, nil
	}
	for _, value := range values {
		adds = append(adds, Operation{Op: "add", Path: l.at("-"), Value: value})
	}
	return slices.Concat(replaces, removes, adds), nil
}

// replace returns the operation that makes the pod's item i what it should be; none when it is that already, as the API
// server completes it.
func (l *list) replace(full *contents, i int, w part) ([]Operation, error) {
	current, err := full.item(l.path, i)
	if err != nil {
		return nil, err
	}
	value, err := l.content(full, w)
	if err != nil {
		return nil, err
	}
	if completed(current, value) {
		return nil, nil
	}
	if value, err = l.carry(current, value); err != nil {
		return nil, err
	}
	return []Operation{{Op: "replace", Path: l.at(strconv.Itoa(i)), Value: value}}, nil
}

// content returns what the item that the template wants is to look like in this pod.
func (l *list) content(full *contents, w part) (json.RawMessage, error) {
	home, i := l.own(w.name)
	if home == nil || !l.keep {
		return w.json, nil
	}
	own, err := full.item(home.path, i)
	if err != nil {
		return nil, err
	}
	return l.merge(own, w.json)
}

// injected returns the names that the status annotation is to claim: what the template gave, without what stays the
// pod's own. Were that claimed too, the next injection would take the pod's fields from it. Never nil.
func (l *list) injected() []string {
	names := make([]string, 0, len(l.want))
	for _, w := range l.want {
		if home, _ := l.own(w.name); home == nil || !l.keep {
			names = append(names, w.name)
		}
	}
	return names
}

// own finds the pod's own item of a name, one that no status annotation claims, in this list or in its twin. It returns
// the list and the index; a nil list when there is none.
func (l *list) own(name string) (home *list, index int) {
	for _, home := range []*list{l, l.twin} {
		if home == nil || home.claims(name) {
			continue
		}
		if i := slices.IndexFunc(home.have, func(n pod.Named) bool { return n.Name == name }); i >= 0 {
			return home, i
		}
	}
	return nil, 0
}

// claims reports whether the status annotation says that the item was injected.
func (l *list) claims(name string) bool { return slices.Contains(l.claimed, name) }

// wants reports whether the template has an item of a name for the list. A nil list wants nothing.
func (l *list) wants(name string) bool {
	if l == nil {
		return false
	}
	_, wanted := l.wanted(name)
	return wanted
}

func (l *list) wanted(name string) (part, bool) {
	i := slices.IndexFunc(l.want, func(p part) bool { return p.name == name })
	if i < 0 {
		return part{}, false
	}
	return l.want[i], true
}

// at returns the pointer to the list, or to something in it.
func (l *list) at(names ...string) string {
	return Pointer(append([]string{"spec", l.path}, names...)...)
}

// contents are the items of a pod's lists in full, decoded when the first is asked for.
type contents struct {
	fetch func() (json.RawMessage, error)
	lists map[string][]json.RawMessage
}

// item returns the JSON of an item of a list of the pod's spec.
func (c *contents) item(path string, i int) (json.RawMessage, error) {
	if c.lists == nil {
		if err := c.decode(); err != nil {
			return nil, err
		}
	}
	if i >= len(c.lists[path]) {
		return nil, fmt.Errorf("the pod's JSON has no item %d", i)
	}
	return c.lists[path][i], nil
}

func (c *contents) decode() error {
	text, err := c.fetch()
	if err != nil {
		return fmt.Errorf("read the pod's JSON: %w", err)
	}
	var full struct {
		Spec struct {
			InitContainers   []json.RawMessage `json:"initContainers"`
			Containers       []json.RawMessage `json:"containers"`
			Volumes          []json.RawMessage `json:"volumes"`
			ImagePullSecrets []json.RawMessage `json:"imagePullSecrets"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(text, &full); err != nil {
		return fmt.Errorf("decode the pod's JSON: %w", err)
	}
	c.lists = map[string][]json.RawMessage{
		"initContainers":   full.Spec.InitContainers,
		"containers":       full.Spec.Containers,
		"volumes":          full.Spec.Volumes,
		"imagePullSecrets": full.Spec.ImagePullSecrets,
	}
	return nil
}

// generic decodes JSON, keeping numbers as they are written.
func generic(text json.RawMessage) (value any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&value)
	return value, err
}
