// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"

	kjson "sigs.k8s.io/json"
)

// decode decodes the document strictly: a field that the target does not have is a problem, and so is one that occurs
// twice. Names of fields are told apart by upper and lower case. All problems come with their line.
func (d *document) decode(into any) []Problem {
	strict, err := kjson.UnmarshalStrict(d.json, into)
	if err != nil {
		return []Problem{d.explain(err, into)}
	}
	var problems []Problem
	for _, err := range strict {
		var field kjson.FieldError
		if errors.As(err, &field) {
			problems = append(problems, Problem{Line: d.line(field.FieldPath()), Text: err.Error()})
		} else {
			problems = append(problems, Problem{Text: err.Error()})
		}
	}
	return problems
}

// explain turns an error of the JSON decoder into one about the YAML.
func (d *document) explain(err error, into any) Problem {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		v := d.containing(int(kind.Offset))
		text := fmt.Sprintf("want a %s, got a %s", wordFor(kind.Type), yamlWords.Replace(kind.Value))
		if kind.Type.Kind() == reflect.String && v.scalar {
			text += ": put it into quotation marks"
		}
		return Problem{Line: v.line, Path: v.path, Text: text}
	}
	v := d.culprit(err, into)
	return Problem{Line: v.line, Path: v.path, Text: err.Error()}
}

// yamlWords are YAML's words for what JSON calls otherwise.
var yamlWords = strings.NewReplacer("object", "mapping", "array", "list")

// wordFor returns what a Go type is in YAML.
func wordFor(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "mapping"
	case reflect.Slice:
		return "list"
	}
	return t.Kind().String()
}

// containing returns the last value that begins before an offset in the JSON.
func (d *document) containing(offset int) value {
	i := sort.Search(len(d.values), func(i int) bool { return d.values[i].start >= offset })
	if i == 0 {
		return value{}
	}
	return d.values[i-1]
}

// culprit finds the scalar behind an error without an offset, as a quantity's is: with more and more scalars from the
// start on taken away, it is the one whose going changes the error.
func (d *document) culprit(err error, into any) value {
	scalars := slices.DeleteFunc(slices.Clone(d.values), func(v value) bool { return !v.scalar })
	i := sort.Search(len(scalars), func(i int) bool {
		var text []byte
		from := 0
		for _, v := range scalars[:i+1] {
			text = append(append(text, d.json[from:v.start]...), "null"...)
			from = v.end
		}
		text = append(text, d.json[from:]...)
		got := kjson.UnmarshalCaseSensitivePreserveInts(text, fresh(into))
		return got == nil || got.Error() != err.Error()
	})
	if i == len(scalars) {
		return value{}
	}
	return scalars[i]
}

// line returns the line of a value; where it has none, the line of what it stands in; 0 where nothing is known.
func (d *document) line(path string) int {
	for _, v := range d.values {
		if v.path == path {
			return v.line
		}
	}
	if i := strings.LastIndexAny(path, ".["); i >= 0 {
		return d.line(path[:i])
	}
	return 0
}

// fresh returns a new zero value of what a pointer points to.
func fresh(into any) any { return reflect.New(reflect.TypeOf(into).Elem()).Interface() }
