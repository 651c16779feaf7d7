// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"

	generate "github.com/invopop/jsonschema"
	check "github.com/santhosh-tekuri/jsonschema/v6"
)

//go:generate go test -run TestSchemaIsPublished -update .

//go:embed report.schema.json
var publishedSchema []byte

// Schema is the published JSON Schema of the format.
func Schema() []byte { return bytes.Clone(publishedSchema) }

// schemaURL is the schema's name; nothing is fetched from there.
const schemaURL = "https://outrigger.dev/report/v1/report.schema.json"

// generateSchema makes the JSON Schema from the types of this package.
func generateSchema() ([]byte, error) {
	r := &generate.Reflector{Anonymous: true, AllowAdditionalProperties: false, RequiredFromJSONSchemaTags: false}
	s := r.ReflectFromType(reflect.TypeFor[Report]())
	s.ID = generate.ID(schemaURL)
	s.Title = "Outrigger report"
	s.Description = "What a conformance run of a Kubernetes sidecar injector found out. Format " +
		strings.TrimPrefix(SchemaVersion, "outrigger.dev/") + "; see the package github.com/outrigger-k8s/outrigger/report."
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("generate the report's JSON Schema: %w", err)
	}
	return append(data, '\n'), nil
}

var compiledSchema = sync.OnceValues(func() (*check.Schema, error) {
	doc, err := check.UnmarshalJSON(bytes.NewReader(publishedSchema))
	if err != nil {
		return nil, fmt.Errorf("load the report's JSON Schema: %w", err)
	}
	c := check.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, fmt.Errorf("load the report's JSON Schema: %w", err)
	}
	s, err := c.Compile(schemaURL)
	if err != nil {
		return nil, fmt.Errorf("compile the report's JSON Schema: %w", err)
	}
	return s, nil
})

// Validate checks the text of a report against the published JSON Schema. [Decode] checks more, and faster; this is for
// tests, and for reports that other programs write.
func Validate(data []byte) error {
	s, err := compiledSchema()
	if err != nil {
		return err
	}
	doc, err := check.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("validate a report: %w", err)
	}
	if err := s.Validate(doc); err != nil {
		return fmt.Errorf("validate a report: %w", err)
	}
	return nil
}
