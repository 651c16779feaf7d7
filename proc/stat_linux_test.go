// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"testing"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"
	for _, command := range []string{"sh", "a b", "x) R 9 (y", ""} {
		state, start, err := parseStat([]byte("42 (" + command + ")" + rest))
		if state != "S" || start != "12345" || err != nil {
			t.Errorf("command %q: state %q, start %q, error %v", command, state, start, err)
		}
	}
	for _, bad := range []string{"", "42 (sh", "42 (sh) S 1"} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	stat, _ := os.ReadFile("/proc/self/stat")
	f.Add(stat)
	f.Fuzz(func(_ *testing.T, data []byte) { _, _, _ = parseStat(data) })
}
