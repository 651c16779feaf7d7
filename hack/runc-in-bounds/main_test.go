// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhereTheProcessIsDescribed(t *testing.T) {
	for args, want := range map[string]file{
		"":                                    {},
		"--version":                           {},
		"features":                            {},
		"list --b x":                          {},
		"start id":                            {},
		"delete -f id":                        {},
		"kill id 9":                           {},
		"create --bundle /b --pid-file /p id": {"/b/config.json", true},
		"create --bundle=/b id":               {"/b/config.json", true},
		"create -b /b id":                     {"/b/config.json", true},
		"create -bundle /b id":                {"/b/config.json", true},
		"create --pid-file /p id":             {"config.json", true},
		"run --no-pivot -b /b id":             {"/b/config.json", true},
		"run --keep id -b /elsewhere":         {"config.json", true},
		"restore --detach --image-path /i --bundle /b id":             {"/b/config.json", true},
		"--root /r --log /l --log-format json create --bundle /b id":  {"/b/config.json", true},
		"--root=/r --systemd-cgroup --debug create --bundle /b id":    {"/b/config.json", true},
		"--log create run --bundle /b id":                             {"/b/config.json", true},
		"--root /r exec --process /tmp/p --detach --pid-file /pid id": {"/tmp/p", false},
		"exec -p /tmp/p id": {"/tmp/p", false},
		"exec --tty --console-socket /s -d --process=/tmp/p id": {"/tmp/p", false},
		"exec --env p=q id":    {},
		"exec id cp -p /tmp/p": {}, // that -p is cp's
		"exec -t id sh":        {},
		"create --bundle":      {"config.json", true},
		"create --console-socket --bundle --bundle /b id":                       {"/b/config.json", true},
		"--criu /c --rootless auto create --no-new-keyring --preserve-fds 3 id": {"config.json", true},
	} {
		if got := fileOf(strings.Fields(args)); got != want {
			t.Errorf("runc %s: %+v, want %+v", args, got, want)
		}
	}
}

// lacking is what is missing on the machines that this program is for.
var lacking = bounds{missing: []string{"CAP_SYS_RESOURCE"}, hard: map[string]uint64{"RLIMIT_NOFILE": 1024}}

func TestWithinBounds(t *testing.T) {
	for name, test := range map[string]struct {
		bundle     bool
		data, want string // want "": untouched
	}{
		"a bundle that asks for all": {true,
			`{"ociVersion": "1.0", "process": {"capabilities": {
			   "bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_SYS_ADMIN"], "effective": ["CAP_SYS_RESOURCE"],
			   "permitted": ["cap_sys_resource"], "ambient": []}}, "linux": {"resources": {"memory": {"limit": 9223372036854775807}}}}`,
			`{"ociVersion": "1.0", "process": {"capabilities": {
			   "bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"], "effective": [], "permitted": [], "ambient": []}},
			   "linux": {"resources": {"memory": {"limit": 9223372036854775807}}}}`},
		"an exec's process": {false,
			`{"args": ["sh"], "capabilities": {"inheritable": ["CAP_SYS_RESOURCE"]}}`,
			`{"args": ["sh"], "capabilities": {"inheritable": []}}`},
		"limits too high": {false,
			`{"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1048576, "soft": 1000}, {"type": "RLIMIT_NPROC", "hard": 5, "soft": 5}]}`,
			`{"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1000}, {"type": "RLIMIT_NPROC", "hard": 5, "soft": 5}]}`},
		"no limit at all is too high": {false,
			`{"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 18446744073709551615, "soft": 18446744073709551615}]}`,
			`{"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]}`},
		"within already":                 {true, `{"process": {"capabilities": {"bounding": ["CAP_CHOWN"]}}}`, ""},
		"no capabilities":                {true, `{"process": {"args": ["sh"]}}`, ""},
		"no process":                     {true, `{"ociVersion": "1.0"}`, ""},
		"not what it should be":          {true, `{"process": {"capabilities": {"bounding": "all"}, "rlimits": {"a": 1}}}`, ""},
		"a process is not in the bundle": {false, `{"process": {"capabilities": {"bounding": ["CAP_SYS_RESOURCE"]}}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := within([]byte(test.data), test.bundle, lacking)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" {
				if got != nil {
					t.Errorf("changed to %s", got)
				}
				return
			}
			if diff := cmp.Diff(parsed(t, []byte(test.want)), parsed(t, got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again, err := within(got, test.bundle, lacking); again != nil || err != nil {
				t.Errorf("a second time: %s, %v", again, err)
			}
		})
	}
	for _, broken := range []string{"", "{", "[]", "{} {}", "{}x"} {
		if _, err := within([]byte(broken), true, lacking); err == nil {
			t.Errorf("%q was taken", broken)
		}
	}
}

func parsed(t *testing.T, data []byte) any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.UseNumber() // 9223372036854775807 is no float64
	var v any
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return v
}

func TestRewriteKeepsTheMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(`{"process": {"capabilities": {"bounding": ["CAP_SYS_RESOURCE"]}}}`), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := rewrite(file{path, true}, lacking); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(path); strings.Contains(string(data), "SYS_RESOURCE") || info.Mode() != 0o640 {
		t.Errorf("%s %s", info.Mode(), data)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := rewrite(file{path + "-not-there", true}, lacking); err == nil {
		t.Error("a file that is not there was rewritten")
	}
}

func TestCurrentBounds(t *testing.T) {
	b, err := currentBounds()
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	// Bit 24 is CAP_SYS_RESOURCE, see capability.h; the last eight digits hold bits 0 to 31.
	_, rest, _ := strings.Cut(string(status), "CapBnd:\t")
	lacks := !strings.ContainsAny(rest[len("0000000000000000")-7:][:1], "13579bdf")
	if got := slices.Contains(b.missing, "CAP_SYS_RESOURCE"); got != lacks {
		t.Errorf("missing are %v; /proc says %.16s", b.missing, rest)
	}
	if (b.hard != nil) != lacks {
		t.Errorf("limits %v", b.hard)
	}
}

// TestHandsOver runs the program itself, with a script in runc's place that tells what it was given.
func TestHandsOver(t *testing.T) {
	dir := t.TempDir()
	self := filepath.Join(dir, "runc-in-bounds")
	if out, err := exec.Command("go", "build", "-o", self, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	runc := filepath.Join(dir, "runc")
	if err := os.WriteFile(runc, []byte("#!/bin/sh\necho \"$@\"; cat \"$5/config.json\"; exit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"),
		[]byte(`{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"]}}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := currentBounds()
	if err != nil {
		t.Fatal(err)
	}
	want := "--root /r create --bundle " + dir + " an id\n" + `{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"]}}}`
	if slices.Contains(b.missing, "CAP_SYS_RESOURCE") {
		want = strings.Replace(want, `,"CAP_SYS_RESOURCE"`, "", 1)
	}
	command := exec.Command(self, "--root", "/r", "create", "--bundle", dir, "an id")
	command.Env = append(os.Environ(), "RUNC="+runc)
	out, err := command.CombinedOutput()
	if string(out) != want || command.ProcessState.ExitCode() != 7 {
		t.Errorf("%v, %s\nwant exit status 7, %s", err, out, want)
	}

	for runc, want := range map[string]string{self: "is this program", dir + "/no": "no such file"} {
		command := exec.Command(self, "--version")
		command.Env = append(os.Environ(), "RUNC="+runc)
		if out, err := command.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("RUNC=%s: %v, %s", runc, err, out)
		}
	}
}

// Podman gives a runtime no PATH where it clears up.
func TestFindsRuncWithoutPath(t *testing.T) {
	dir := t.TempDir()
	runc := filepath.Join(dir, "runc")
	if err := os.WriteFile(runc, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "")
	t.Setenv("RUNC", "")
	usual := folders
	t.Cleanup(func() { folders = usual })
	folders = []string{filepath.Join(dir, "none"), dir}
	if got, err := findRunc(); err != nil || got != runc {
		t.Errorf("%q, %v, want %s", got, err, runc)
	}
	folders = folders[:1]
	if got, err := findRunc(); err == nil {
		t.Errorf("found %s where there is none", got)
	}
}

func FuzzWithin(f *testing.F) {
	f.Add([]byte(`{"process": {"capabilities": {"bounding": ["CAP_SYS_RESOURCE"]}, "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1e9}]}}`), true)
	f.Add([]byte(`{"capabilities": {"bounding": [1, null]}, "rlimits": [null, {"hard": "x"}]}`), false)
	f.Fuzz(func(t *testing.T, data []byte, bundle bool) {
		kept, err := within(data, bundle, lacking)
		if err != nil || kept == nil {
			return
		}
		if again, err := within(kept, bundle, lacking); again != nil || err != nil {
			t.Errorf("%s became %s, and a second time %s, %v", data, kept, again, err)
		}
	})
}
