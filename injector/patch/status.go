// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Status is the value of the status annotation: what an injection added to the pod, by name. The next injection
// replaces what it names, and nothing else.
type Status struct {
	InitContainers   []string `json:"initContainers"`
	Containers       []string `json:"containers"`
	Volumes          []string `json:"volumes"`
	ImagePullSecrets []string `json:"imagePullSecrets"`
	Revision         string   `json:"revision"`
}

// ParseStatus reads the value of a status annotation. Lists may be missing or null, and unknown fields are passed
// over: other versions of an injector write other fields.
func ParseStatus(value string) (Status, error) {
	var s Status
	text := bytes.TrimSpace([]byte(value))
	if len(text) == 0 || text[0] != '{' { // JSON's null would pass for an empty object otherwise
		return Status{}, errors.New("not a JSON object")
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return Status{}, fmt.Errorf("not the JSON of a status: %w", err)
	}
	return s, nil
}

// String returns the annotation's value.
func (s Status) String() string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and lists of strings always encode
	}
	return string(text)
}
