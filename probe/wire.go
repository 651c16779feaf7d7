// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// review is the little of an AdmissionReview that the judge looks at.
type review struct {
	Request struct {
		Object json.RawMessage `json:"object"`
	} `json:"request"`
	Response struct {
		Allowed bool   `json:"allowed"`
		Patch   []byte `json:"patch"`
	} `json:"response"`
}

// Patch is the JSON patch in a call's answer, nil if there is none.
func Patch(call *tap.Call) json.RawMessage {
	var answer review
	if json.Unmarshal(Answer(call), &answer) != nil {
		return nil
	}
	return answer.Response.Patch
}

// Answer is the body of a call's answer as the API server reads it: the API server asks for compressed ones, and the tap
// hands on what the target sent. What cannot be unpacked, or is larger than the tap's limit then, is nothing.
func Answer(call *tap.Call) []byte {
	if call.Header.Get("Content-Encoding") != "gzip" {
		return call.Response
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(call.Response))
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(unpacked, tap.DefaultLimit+1))
	if err != nil || len(body) > tap.DefaultLimit {
		return nil
	}
	return body
}

// strip takes out of a pod all that an injection may add or replace, and what is then empty.
func strip(pod map[string]any, adds *table.Added) {
	metadata, _ := pod["metadata"].(map[string]any)
	stripKeys(metadata, "annotations", adds.Annotations)
	stripKeys(metadata, "labels", adds.Labels)
	spec, _ := pod["spec"].(map[string]any)
	stripNamed(spec, "containers", adds.Containers)
	stripNamed(spec, "initContainers", adds.InitContainers)
	stripNamed(spec, "volumes", adds.Volumes)
	stripNamed(spec, "imagePullSecrets", adds.ImagePullSecrets)
}

func stripKeys(parent map[string]any, field string, keys []string) {
	m, _ := parent[field].(map[string]any)
	for _, k := range keys {
		delete(m, k)
	}
	if len(m) == 0 {
		delete(parent, field)
	}
}

func stripNamed(parent map[string]any, field string, names []string) {
	list, _ := parent[field].([]any)
	list = slices.DeleteFunc(list, func(x any) bool {
		name, _ := nameOf(x)
		return slices.Contains(names, name)
	})
	if len(list) == 0 {
		delete(parent, field)
		return
	}
	parent[field] = list
}

func nameOf(x any) (string, bool) {
	m, _ := x.(map[string]any)
	name, ok := m["name"].(string)
	return name, ok
}

// difference is the JSON pointer of the first place in which a and b differ, in sorted order, "" if they are equal.
func difference(a, b any, at string) string {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			return at
		}
		for _, k := range keysOf(a, b) {
			x, inA := a[k]
			y, inB := b[k]
			if inA != inB {
				return at + "/" + pointerToken(k)
			}
			if d := difference(x, y, at+"/"+pointerToken(k)); d != "" {
				return d
			}
		}
		return ""
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return at
		}
		for i := range a {
			if d := difference(a[i], b[i], fmt.Sprintf("%s/%d", at, i)); d != "" {
				return d
			}
		}
		return ""
	}
	if !reflect.DeepEqual(a, b) {
		return at
	}
	return ""
}

func keysOf(a, b map[string]any) []string {
	keys := make([]string, 0, len(a)+len(b))
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
