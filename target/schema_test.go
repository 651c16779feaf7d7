// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/invopop/jsonschema"
	check "github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write the golden files anew")

// generateSchema makes the JSON Schema from the types of this package, and the descriptions from their comments, which
// it reads from the sources in the working directory.
func generateSchema() ([]byte, error) {
	r := &jsonschema.Reflector{Anonymous: true, RequiredFromJSONSchemaTags: true, Mapper: asWritten}
	if err := r.AddGoComments("github.com/outrigger-k8s/outrigger/target", "./"); err != nil {
		return nil, fmt.Errorf("generating the JSON Schema of Target files: %w", err)
	}
	s := r.ReflectFromType(reflect.TypeFor[Target]())
	s.ID = schemaID
	s.Title = "Outrigger target"
	s.Description = "The injector under test. Exactly one of process and url; see the package " +
		"github.com/outrigger-k8s/outrigger/target."
	definition := s.Definitions["Target"]
	definition.OneOf = []*jsonschema.Schema{
		{Required: []string{"process"}},
		{Required: []string{"url"}, Not: &jsonschema.Schema{Required: []string{"settings"}}},
	}
	running := s.Definitions["Running"]
	running.OneOf = []*jsonschema.Schema{{Required: []string{"caFile"}}, {Required: []string{"caBundle"}}}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("generating the JSON Schema of Target files: %w", err)
	}
	return append(data, '\n'), nil
}

// asWritten describes the types that are written otherwise than Go holds them.
func asWritten(t reflect.Type) *jsonschema.Schema {
	if t != reflect.TypeFor[Duration]() {
		return nil
	}
	return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`}
}

func TestSchemaIsPublished(t *testing.T) {
	got, err := generateSchema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("target.schema.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(got, JSONSchema()) {
		t.Errorf("target.schema.json is not what the types say; look at what changed after go test -update:\n%s", got)
	}
}

// The JSON Schema and Parse must say the same of every file that a schema can judge.
func TestSchemaAgreesWithParse(t *testing.T) {
	document, err := check.UnmarshalJSON(bytes.NewReader(JSONSchema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := check.NewCompiler()
	if err := compiler.AddResource(schemaID, document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(schemaID)
	if err != nil {
		t.Fatal(err)
	}
	const head = "schema: outrigger.dev/target/v1alpha1\nname: t\nprofiles: [p]\n"
	for _, tc := range []struct {
		file string
		good bool
	}{
		{head + "process: {command: [x]}", true},
		{head + "process: {command: [x], path: /a, ready: /b, startup: 1m30s, env: {A: b}}\nsettings: {file: x, template: y}", true},
		{head + "version: [x]\nurl: {address: 'https://h/x', caFile: y, settings: {a: [1, {b: null}]}}", true},
		{head + "url: {address: 'https://h/x', caBundle: y, settings: {}}", true},
		{head, false},
		{head + "process: {command: [x]}\nurl: {address: 'https://h/x', caFile: y, settings: {}}", false},
		{head + "url: {address: 'https://h/x', caFile: y, settings: {}}\nsettings: {file: x}", false},
		{head + "url: {address: 'https://h/x', caFile: y, caBundle: z, settings: {}}", false},
		{head + "url: {address: 'https://h/x', settings: {}}", false},
		{head + "url: {address: 'https://h/x', caFile: y}", false},
		{head + "url: {address: 'http://h/x', caFile: y, settings: {}}", false},
		{head + "process: {command: []}", false},
		{head + "process: {path: /x}", false},
		{head + "process: {command: [x], startup: 10}", false},
		{head + "process: {command: [x], startup: soon}", false},
		{head + "process: {command: [x], path: a}", false},
		{head + "process: {command: [x], other: a}", false},
		{head + "process: {command: [x]}\nsettings: {file: a/b}", false},
		{head + "process: {command: [x]}\nother: 1", false},
		{"schema: outrigger.dev/target/v9\nname: t\nprofiles: [p]\nprocess: {command: [x]}", false},
		{"schema: outrigger.dev/target/v1alpha1\nname: t t\nprofiles: [p]\nprocess: {command: [x]}", false},
		{"schema: outrigger.dev/target/v1alpha1\nname: t\nprofiles: []\nprocess: {command: [x]}", false},
	} {
		_, parseErr := Parse("t.yaml", []byte(tc.file))
		asJSON, err := yaml.YAMLToJSON([]byte(tc.file))
		if err != nil {
			t.Fatal(err)
		}
		document, err := check.UnmarshalJSON(bytes.NewReader(asJSON))
		if err != nil {
			t.Fatal(err)
		}
		schemaErr := schema.Validate(document)
		if (parseErr == nil) != tc.good || (schemaErr == nil) != tc.good {
			t.Errorf("%s\ngood: %v\nParse says: %v\nthe schema says: %v", tc.file, tc.good, parseErr, schemaErr)
		}
	}
}
