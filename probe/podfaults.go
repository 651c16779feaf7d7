// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/table"
)

// podFaults says, a sentence each, in what the admitted pod differs from what a rule asks of it.
func podFaults(then *table.Then, admitted *corev1.Pod) []string {
	raw, err := json.Marshal(admitted)
	if err != nil {
		return []string{fmt.Sprintf("the admitted pod cannot be written as JSON: %v", err)}
	}
	var pod map[string]any
	if err := json.Unmarshal(raw, &pod); err != nil {
		return []string{fmt.Sprintf("the admitted pod cannot be read back: %v", err)}
	}
	faults := missing(map[string]any(then.Pod), pod, "")
	for _, field := range slices.Sorted(maps.Keys(then.Order)) {
		spec, _ := pod["spec"].(map[string]any)
		if got := namesIn(spec[field]); !slices.Equal(got, then.Order[field]) {
			faults = append(faults, fmt.Sprintf("expected spec.%s to be %v in this order, observed %v", field, then.Order[field], got))
		}
	}
	for _, pointer := range then.Absent {
		if value, found := lookUp(pod, pointer); found {
			faults = append(faults, fmt.Sprintf("expected nothing at %s, observed %s", pointer, compact(value)))
		}
	}
	return faults
}

func namesIn(list any) []string {
	items, _ := list.([]any)
	names := make([]string, len(items))
	for i, x := range items {
		names[i], _ = nameOf(x)
	}
	return names
}

// missing says where have lacks something of want: each key of a mapping must be there; in a list whose elements have
// names each must be found by its name, other lists must be equal.
func missing(want, have any, at string) []string {
	switch want := want.(type) {
	case map[string]any:
		have, _ := have.(map[string]any)
		var faults []string
		for _, k := range slices.Sorted(maps.Keys(want)) {
			value, found := have[k]
			if !found {
				faults = append(faults, fmt.Sprintf("expected %s at %s/%s, observed nothing", compact(want[k]), at, pointerToken(k)))
				continue
			}
			faults = append(faults, missing(want[k], value, at+"/"+pointerToken(k))...)
		}
		return faults
	case []any:
		if len(want) == 0 || !allNamed(want) {
			break
		}
		items, _ := have.([]any)
		var faults []string
		for _, x := range want {
			name, _ := nameOf(x)
			i := slices.IndexFunc(items, func(y any) bool { n, _ := nameOf(y); return n == name })
			if i < 0 {
				faults = append(faults, fmt.Sprintf("expected %q in %s, observed %v", name, at, namesIn(have)))
				continue
			}
			faults = append(faults, missing(x, items[i], at+"/"+name)...)
		}
		return faults
	}
	if compact(want) != compact(have) {
		return []string{fmt.Sprintf("expected %s at %s, observed %s", compact(want), at, compact(have))}
	}
	return nil
}

func allNamed(list []any) bool {
	return !slices.ContainsFunc(list, func(x any) bool { _, ok := nameOf(x); return !ok })
}

// lookUp follows a JSON pointer; in a list a token may be an index or the name of an element.
func lookUp(doc any, pointer string) (any, bool) {
	for _, token := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		switch node := doc.(type) {
		case map[string]any:
			value, ok := node[token]
			if !ok {
				return nil, false
			}
			doc = value
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil {
				i = slices.IndexFunc(node, func(x any) bool { n, _ := nameOf(x); return n == token })
			}
			if i < 0 || i >= len(node) {
				return nil, false
			}
			doc = node[i]
		default:
			return nil, false
		}
	}
	return doc, true
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func pointerToken(key string) string { return pointerEscapes.Replace(key) }

// compact is v as one line of JSON; numbers of one value look the same whatever Go type holds them.
func compact(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}
