// SPDX-License-Identifier: Apache-2.0

package table

import (
	"maps"
	"slices"
)

// merge lays patch over base by RFC 7386 and returns the result; neither is changed, and what the result shares with
// them must not be changed either. null deletes, a list replaces a list.
func merge(base, patch map[string]any) map[string]any {
	if len(patch) == 0 {
		return base
	}
	out := make(map[string]any, len(base)+len(patch))
	for k, v := range base {
		out[k] = v
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(out, k)
		case map[string]any:
			under, ok := out[k].(map[string]any)
			if !ok {
				under = map[string]any{}
			}
			out[k] = merge(under, v)
		default:
			out[k] = v
		}
	}
	return out
}

// clash is the first path that both overlays write, "" if there is none. Two dimensions of a table that write the
// same path would make a case depend on the order of the dimensions.
func clash(a, b map[string]any, path string) string {
	for _, k := range sortedKeys(a) {
		bv, both := b[k]
		if !both {
			continue
		}
		at := path + "/" + k
		am, aMap := a[k].(map[string]any)
		bm, bMap := bv.(map[string]any)
		if !aMap || !bMap {
			return at
		}
		if c := clash(am, bm, at); c != "" {
			return c
		}
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

// Overlaid is doc with overlay laid over it, by RFC 7386; neither is changed.
func Overlaid(doc, overlay map[string]any) map[string]any { return merge(doc, overlay) }
