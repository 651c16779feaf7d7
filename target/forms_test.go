// SPDX-License-Identifier: Apache-2.0

package target

import (
	"fmt"
	"testing"
)

// Callers that make their settings anew for each case must get the right form, and not fill the memory.
func TestFormsAreBounded(t *testing.T) {
	f := NewFleet(nil, Reference("injector"), Options{})
	defer f.Stop()
	for i := range maxForms + 10 {
		settings := map[string]any{"n": i}
		for range 2 { // the second time from memory
			key, err := f.canonical(settings)
			if want := fmt.Sprintf(`{"n":%d}`, i); err != nil || string(key) != want {
				t.Fatalf("form %q, %v, want %s", key, err, want)
			}
		}
		if len(f.forms) > maxForms {
			t.Fatalf("%d forms are remembered, at most %d should be", len(f.forms), maxForms)
		}
	}
}
