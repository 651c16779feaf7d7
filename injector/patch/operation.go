// SPDX-License-Identifier: Apache-2.0

package patch

import "strings"

// Operation is one operation of a JSON patch (RFC 6902).
type Operation struct {
	// Op is add, replace or remove.
	Op string `json:"op"`
	// Path is a JSON pointer (RFC 6901); see Pointer.
	Path string `json:"path"`
	// Value is what to add or put in place; nil for remove.
	Value any `json:"value,omitempty"`
}

// escapes are the two characters that a JSON pointer cannot hold as they are. The tilde's own escape must not be
// escaped again, which one pass over the text makes sure of.
var escapes = strings.NewReplacer("~", "~0", "/", "~1")

// Pointer returns the JSON pointer to a nested field: Pointer("metadata", "labels", "a/b") is /metadata/labels/a~1b.
func Pointer(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteByte('/')
		b.WriteString(escapes.Replace(name))
	}
	return b.String()
}
