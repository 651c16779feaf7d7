// SPDX-License-Identifier: Apache-2.0

package scenarios_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The oracle never shares code with what it judges: an oracle that did would share its mistakes.
func TestOracleKnowsNoInjector(t *testing.T) {
	const module = "github.com/outrigger-k8s/outrigger/"
	for _, oracle := range []string{"table", "scenarios", "probe", "report", "tap", "target", "mutator"} {
		out, err := exec.Command("go", "list", "-deps", module+oracle).Output()
		if err != nil {
			t.Fatalf("list what %s imports: %v", oracle, err)
		}
		if !strings.Contains(string(out), module+oracle+"\n") {
			t.Fatalf("%s is not among what it imports: %s", oracle, out)
		}
		for _, imported := range strings.Fields(string(out)) {
			if imported == module+"injector" || strings.HasPrefix(imported, module+"injector/") {
				t.Errorf("%s imports %s", oracle, imported)
			}
		}
	}
}
