// SPDX-License-Identifier: Apache-2.0

package table

import (
	"encoding/json"
	"reflect"
	"testing"
)

// The examples of RFC 7386, appendix A, whose documents are objects, and what only objects within objects show.
func TestMerge(t *testing.T) {
	for _, row := range []struct{ base, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{"a":"foo"}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":null}}`, `{"a":{"c":2}}`},
		{`{"a":{"b":1}}`, `{}`, `{"a":{"b":1}}`},
		{`{"a":{"b":1}}`, `{"a":{}}`, `{"a":{"b":1}}`},
		{`{"a":[1,2]}`, `{"a":[]}`, `{"a":[]}`},
	} {
		base, patch, want := object(t, row.base), object(t, row.patch), object(t, row.want)
		if got := merge(base, patch); !reflect.DeepEqual(got, want) {
			t.Errorf("%s under %s is %v, expected %s", row.base, row.patch, got, row.want)
		}
		if !reflect.DeepEqual(base, object(t, row.base)) || !reflect.DeepEqual(patch, object(t, row.patch)) {
			t.Errorf("%s under %s: one of them was changed", row.base, row.patch)
		}
	}
}

// Where nothing clashes the order does not matter.
func TestClash(t *testing.T) {
	for _, row := range []struct{ a, b, want string }{
		{`{"a":1}`, `{"b":1}`, ""},
		{`{"a":1}`, `{"a":1}`, "s/a"},
		{`{"a":{"b":1}}`, `{"a":{"c":1}}`, ""},
		{`{"a":{"b":1}}`, `{"a":{"b":2}}`, "s/a/b"},
		{`{"a":{"b":1}}`, `{"a":2}`, "s/a"},
		{`{"a":{"b":1}}`, `{"a":null}`, "s/a"},
		{`{"a":[1]}`, `{"a":[2]}`, "s/a"},
		{`{"z":1,"a":1}`, `{"a":1,"z":1}`, "s/a"},
	} {
		a, b := object(t, row.a), object(t, row.b)
		if got := clash(a, b, "s"); got != row.want {
			t.Errorf("%s and %s clash at %q, expected %q", row.a, row.b, got, row.want)
		}
		if clash(a, b, "s") == "" && !reflect.DeepEqual(merge(a, b), merge(b, a)) {
			t.Errorf("%s and %s: the order matters", row.a, row.b)
		}
	}
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}
