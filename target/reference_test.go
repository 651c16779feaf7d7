// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/target"
)

// The reference injector itself, built and started as a run does it. Two settings, two decisions.
func TestReferenceInjector(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the reference injector")
	}
	program := filepath.Join(t.TempDir(), "injector")
	build := exec.CommandContext(within(t), "go", "build", "-o", program, "../injector/cmd/injector")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the reference injector: %v\n%s", err, out)
	}
	f, _ := newFleet(t, target.Reference(program), target.Options{})
	w := newWire(t)
	for _, tc := range []struct {
		policy string
		patch  bool
	}{{"enabled", true}, {"disabled", false}, {"on", false}} {
		up, release, err := f.Instance(within(t), map[string]any{"dialect": "istio-classic", "policy": tc.policy})
		if err != nil {
			t.Fatal(err)
		}
		call := w.ask(t, up, "")
		release()
		var answer struct {
			Response struct {
				UID     string
				Allowed bool
				Patch   []byte
			}
		}
		if err := json.Unmarshal(call.Response, &answer); err != nil || call.Err != nil || call.Status != 200 {
			t.Fatalf("policy %s: status %d, %v, %v: %s", tc.policy, call.Status, call.Err, err, call.Response)
		}
		if !answer.Response.Allowed || answer.Response.UID == "" || (len(answer.Response.Patch) > 0) != tc.patch {
			t.Errorf("policy %s: %s; want a patch: %v", tc.policy, call.Response, tc.patch)
		}
	}
	if _, _, err := f.Instance(within(t), map[string]any{"dialect": "klingon"}); err == nil ||
		!strings.Contains(err.Error(), "exit status 2") || !strings.Contains(err.Error(), "klingon") {
		t.Errorf("a broken configuration: %v, want the injector's own words and exit code", err)
	}
	if version, err := f.Version(within(t)); err != nil || version == "" {
		t.Errorf("version %q, %v", version, err)
	}

	// As many as the largest tables ask for, and what they cost.
	const many = 108
	var list []map[string]any
	for i := range many {
		list = append(list, map[string]any{"dialect": "istio-classic", "revision": fmt.Sprintf("r%d", i)})
	}
	before := time.Now()
	if err := f.Warm(within(t), list); err != nil {
		t.Fatal(err)
	}
	took := time.Since(before)
	up, release, err := f.Instance(within(t), list[0])
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if call := w.ask(t, up, ""); call.Err != nil {
		t.Error(call.Err)
	}
	t.Logf("%d instances were ready after %v; resident: %s", many, took, resident(program))
}

// resident sums up the resident memory of all processes of a program, where the system shows it.
func resident(program string) string {
	files, _ := filepath.Glob("/proc/[0-9]*/exe")
	total, count := 0, 0
	for _, exe := range files {
		if to, err := os.Readlink(exe); err != nil || to != program {
			continue
		}
		status, _ := os.ReadFile(filepath.Join(filepath.Dir(exe), "status"))
		for line := range strings.Lines(string(status)) {
			if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
				kib, _ := strconv.Atoi(strings.Fields(rest)[0])
				total, count = total+kib, count+1
			}
		}
	}
	if count == 0 {
		return "not known"
	}
	return fmt.Sprintf("%d processes, %d MiB each", count, total/count/1024)
}
