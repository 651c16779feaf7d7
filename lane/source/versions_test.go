// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// What the project is linked with has the version that Kubernetes is linked with (docs/dependencies.md says why).
func TestVersionsAreThoseOfKubernetes(t *testing.T) {
	if os.Getenv("OUTRIGGER_CONTROLPLANE") == "" {
		t.Skip("set OUTRIGGER_CONTROLPLANE=1 to run tests that need Kubernetes' source")
	}
	golang := func(args ...string) []byte {
		t.Helper()
		c := exec.CommandContext(t.Context(), "go", args...)
		var said bytes.Buffer
		c.Dir, c.Stderr = "../..", &said
		out, err := c.Output()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &said)
		}
		return out
	}
	var kubernetes struct{ GoMod string }
	if err := json.Unmarshal(golang("mod", "download", "-json", "k8s.io/kubernetes@v"+DefaultVersion), &kubernetes); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(kubernetes.GoMod)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := modfile.ParseLax(kubernetes.GoMod, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, r := range theirs.Require {
		if want[r.Mod.Path] = r.Mod.Version; r.Mod.Version == "v0.0.0" { // of the same repository
			want[r.Mod.Path] = "v0." + strings.TrimPrefix(DefaultVersion, "1.")
		}
	}
	shared := 0
	seen := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(golang("list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", "./...")))
	for lines.Scan() {
		module, version, _ := strings.Cut(lines.Text(), " ")
		if seen[module] || want[module] == "" {
			continue
		}
		seen[module] = true
		shared++
		if version != want[module] {
			t.Errorf("%s is %s here, and %s in Kubernetes %s: whatever depends on it is compiled twice", module, version, want[module], DefaultVersion)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if shared < 50 {
		t.Errorf("of %d modules in Kubernetes' go.mod only %d are shared: is this test still about anything?", len(want), shared)
	}
}
