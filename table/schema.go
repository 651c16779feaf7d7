// SPDX-License-Identifier: Apache-2.0

package table

import (
	"encoding/json"
	"reflect"
	"slices"

	"github.com/invopop/jsonschema"
)

// Schema is the JSON Schema of a table's or a profile's file, for editors: v is Table{} or Profile{}. What a schema
// cannot say (that every combination meets a rule) Load checks.
func Schema(v any, title string) ([]byte, error) {
	r := jsonschema.Reflector{
		FieldNameTag:               "json",
		RequiredFromJSONSchemaTags: false,
		ExpandedStruct:             true,
		Mapper:                     words,
	}
	s := r.Reflect(v)
	s.ID, s.Title = "", title
	raw, err := json.MarshalIndent(s, "", "  ")
	return append(raw, '\n'), err
}

// words maps the types that are read from YAML in a way of their own.
func words(t reflect.Type) *jsonschema.Schema {
	scalar := &jsonschema.Schema{Type: "string"}
	// A word may be written like a boolean or a number: it is read as it is written.
	word := &jsonschema.Schema{AnyOf: []*jsonschema.Schema{scalar, {Type: "boolean"}, {Type: "number"}, {Type: "null"}}}
	switch t {
	case reflect.TypeFor[Word]():
		return word
	case reflect.TypeFor[Words]():
		return &jsonschema.Schema{AnyOf: append(word.AnyOf, &jsonschema.Schema{Type: "array", Items: word})}
	case reflect.TypeFor[Parts]():
		text := &jsonschema.Schema{Type: "string"}
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{text, {Type: "array", Items: text}}}
	case reflect.TypeFor[When]():
		return &jsonschema.Schema{Type: "object", AdditionalProperties: words(reflect.TypeFor[Words]())}
	case reflect.TypeFor[At]():
		documents := (&jsonschema.Reflector{FieldNameTag: "json", DoNotReference: true, ExpandedStruct: true, Mapper: words}).Reflect(Documents{})
		documents.Version, documents.ID = "", ""
		return &jsonschema.Schema{Type: "object", AdditionalProperties: documents}
	case reflect.TypeFor[Overlay]():
		return &jsonschema.Schema{Type: "object"}
	case reflect.TypeFor[Calls]():
		number := &jsonschema.Schema{Type: "integer", Minimum: json.Number("0")}
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{number, {Type: "object", AdditionalProperties: number}}}
	case reflect.TypeFor[Then]():
		short := &jsonschema.Schema{Type: "string"}
		for _, o := range append(slices.Clone(Outcomes), Accepted, Unchanged) {
			short.Enum = append(short.Enum, o)
		}
		type plain Then
		long := (&jsonschema.Reflector{DoNotReference: true, ExpandedStruct: true, Mapper: words}).Reflect(plain{})
		long.Version, long.ID = "", ""
		// Of steps: what a step of its name must show.
		one := []*jsonschema.Schema{short, long}
		course := &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{AnyOf: one}}
		return &jsonschema.Schema{AnyOf: append(one, course)}
	}
	return nil
}
