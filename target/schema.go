// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	_ "embed"
)

//go:generate go test -run TestSchemaIsPublished -update .

//go:embed target.schema.json
var publishedSchema []byte

// JSONSchema returns the published JSON Schema of Target files, for editors and other programs. [Parse] checks more.
func JSONSchema() []byte { return bytes.Clone(publishedSchema) }

// schemaID is the JSON Schema's name; nothing is fetched from there.
const schemaID = "https://outrigger.dev/target/v1alpha1/target.schema.json"
