// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// Times is a folder that remembers how long things took on this machine.
type Times string

// A Past is how something went the last time.
type Past struct {
	Took     time.Duration `json:"nanoseconds"`
	Packages int           `json:"packages,omitempty"` // compiled, not found in Go's build cache
}

// Last is how it went the last time; false if there was none.
func (t Times) Last(name string) (Past, bool) {
	data, err := os.ReadFile(t.file(name))
	if err != nil {
		return Past{}, false
	}
	var p Past
	if json.Unmarshal(data, &p) != nil || p.Took <= 0 {
		return Past{}, false
	}
	return p, true
}

// Expect says how long it will take: what it took the last time, else what was measured elsewhere.
func (t Times) Expect(name string, estimate time.Duration, estimated string) string {
	if past, ok := t.Last(name); ok {
		return "took " + Round(past.Took) + " the last time on this machine"
	}
	return "about " + Round(estimate) + estimated
}

// Note keeps how it went. It is of use only for the next time's progress, so failing is no error.
func (t Times) Note(name string, p Past) {
	if os.MkdirAll(string(t), 0o755) == nil {
		_ = WriteJSON(t.file(name), p)
	}
}

func (t Times) file(name string) string { return filepath.Join(string(t), name+".json") }

// WriteJSON writes a file whole or not at all.
func WriteJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already when all went well
	_, err = file.Write(append(data, '\n'))
	if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
