// SPDX-License-Identifier: Apache-2.0

package table_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
)

var update = flag.Bool("update", false, "write the schemas instead of comparing them")

var schemas = []struct {
	file, title string
	v           any
}{
	{"../scenarios/table.schema.json", "A table of Outrigger", table.Table{}},
	{"../scenarios/profile.schema.json", "A profile of Outrigger", table.Profile{}},
}

func TestSchemaIsGenerated(t *testing.T) {
	for _, s := range schemas {
		want, err := table.Schema(s.v, s.title)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(s.file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(s.file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the types say: make generate", s.file)
		}
	}
}

// What the loader reads, the schema must let an editor accept; and each file must point its editor at the schema.
func TestSchemaAcceptsTheTables(t *testing.T) {
	compile := func(file string) *jsonschema.Schema {
		s, err := jsonschema.NewCompiler().Compile(file)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ofTable, ofProfile := compile(schemas[0].file), compile(schemas[1].file)
	files, err := fs.Glob(scenarios.FS, "*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := fs.ReadFile(scenarios.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		schema, name := ofTable, "table"
		if path.Base(file) == "profile.yaml" {
			schema, name = ofProfile, "profile"
		}
		if line := "# yaml-language-server: $schema=../" + name + ".schema.json\n"; !bytes.HasPrefix(raw, []byte(line)) {
			t.Errorf("%s: the first line must be %s", file, line)
		}
		var doc any
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestSchemaRefusesAnUnknownField(t *testing.T) {
	s, err := jsonschema.NewCompiler().Compile(schemas[0].file)
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{
		`{"schema":"outrigger.dev/table/v1alpha1","profile":"p","table":"t","title":"","source":"s","dimensions":[],"rules":[],"extra":1}`,
		`{"schema":"outrigger.dev/table/v1alpha1","profile":"p","table":"t","title":"","source":"s","dimensions":[],"rules":[{"rule":"r","then":"injectd","because":"b"}]}`,
	} {
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(doc)))
		if err != nil {
			t.Fatal(err)
		}
		if s.Validate(instance) == nil {
			t.Errorf("accepted %s", doc)
		}
	}
}
