// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/outrigger-k8s/outrigger/lane/internal/progress"
)

func TestParseVersion(t *testing.T) {
	for _, test := range []struct {
		in, out, staging string
	}{
		{"1.37.2", "1.37.2", "v0.37.2"},
		{"v1.34.0", "1.34.0", "v0.34.0"},
		{"1.37", "", ""},
		{"", "", ""},
		{"2.0.0", "", ""},
		{"1.37.2-rc.1", "", ""},
		{"1.037.2", "", ""},
		{"1.37.2/../..", "", ""},
	} {
		r, err := parseVersion(test.in)
		if test.out == "" {
			if err == nil || !strings.Contains(err.Error(), "1.36.3") {
				t.Errorf("%q: %v, %v: want an error that names known versions", test.in, r, err)
			}
			continue
		}
		if err != nil || r.String() != test.out || r.staging() != test.staging {
			t.Errorf("%q: %v %v, %v", test.in, r, r.staging(), err)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("v1.37.2")
	f.Fuzz(func(t *testing.T, in string) {
		if r, err := parseVersion(in); err == nil && r.String() != strings.TrimPrefix(in, "v") {
			t.Errorf("%q was read as %s", in, r)
		}
	})
}

const kubernetesGoMod = `module k8s.io/kubernetes

go 1.26.0

godebug default=go1.26

require (
	example.com/other v1.2.3
	k8s.io/api v0.0.0
	k8s.io/utils v0.0.0-20260626114624-be93311217bd
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/sample-controller => ./staging/src/k8s.io/sample-controller
)
`

func TestMainModule(t *testing.T) {
	for _, test := range []struct {
		name, gomod, path, version, staging, want, err string
	}{
		{
			name: "kubernetes", gomod: kubernetesGoMod, path: "k8s.io/kubernetes", version: "v1.37.2", staging: "v0.37.2",
			want: `module outrigger.dev/build

go 1.26.0

godebug default=go1.26

require (
	k8s.io/api v0.37.2
	k8s.io/kubernetes v1.37.2
)

replace k8s.io/api => k8s.io/api v0.37.2

replace k8s.io/sample-controller => k8s.io/sample-controller v0.37.2
`,
		},
		{
			name: "etcd requires what it replaces",
			gomod: `module go.etcd.io/etcd/server/v3
go 1.26
require go.etcd.io/etcd/api/v3 v3.7.3
replace go.etcd.io/etcd/api/v3 => ../api
`,
			path: "go.etcd.io/etcd/server/v3", version: "v3.7.3",
			want: `module outrigger.dev/build

go 1.26

require go.etcd.io/etcd/server/v3 v3.7.3
`,
		},
		{
			name: "a folder that nothing stands in for", gomod: "module example.com/x\nreplace example.com/y => ../y\n",
			path: "example.com/x", version: "v1.0.0", err: "example.com/y",
		},
		{name: "no go.mod", gomod: "<html>", path: "example.com/x", version: "v1.0.0", err: "go.mod of example.com/x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := mainModule([]byte(test.gomod), test.path, test.version, test.staging)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// The order of requirements is that in which they were added.
			if diff := cmp.Diff(sortedLines(test.want), sortedLines(string(got))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func sortedLines(s string) map[string]bool {
	lines := map[string]bool{}
	for _, l := range strings.Split(s, "\n") {
		lines[l] = true
	}
	return lines
}

func FuzzMainModule(f *testing.F) {
	f.Add([]byte(kubernetesGoMod))
	f.Fuzz(func(_ *testing.T, gomod []byte) {
		_, _ = mainModule(gomod, "k8s.io/kubernetes", "v1.37.2", "v0.37.2")
	})
}

func TestGoEnvironment(t *testing.T) {
	env := goEnvironment([]string{
		"HOME=/home/x", "GOPROXY=https://proxy.example", "GOFLAGS=-mod=vendor -p=1 -tags=x", "GOOS=plan9", "GOWORK=/x/go.work",
		"CGO_ENABLED=1", "GODEBUG=gctrace=1",
	}, "/tmp/x")
	values := map[string][]string{}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		values[name] = append(values[name], value)
	}
	for name, want := range map[string][]string{
		"GOFLAGS": {"-mod=mod -p=1"}, "GOWORK": {"off"}, "CGO_ENABLED": {"0"}, "GOTMPDIR": {"/tmp/x"},
		"GOPROXY": {"https://proxy.example"}, "HOME": {"/home/x"}, "GODEBUG": nil,
	} {
		if diff := cmp.Diff(want, values[name]); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if len(values["GOOS"]) != 1 || values["GOOS"][0] == "plan9" {
		t.Errorf("GOOS: %v", values["GOOS"])
	}
}

func TestCounter(t *testing.T) {
	c := &counter{}
	for _, piece := range []string{
		"go: downloading k8s.io/api v0.3", "7.2\nk8s.io/api/co", "re/v1\n# k8s.io/broken\nx.go:1: oops\ninternal/abi\n", "half",
	} {
		if _, err := c.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	if packages, modules := c.counts(); packages != 2 || modules != 1 {
		t.Errorf("%d packages, %d modules", packages, modules)
	}
}

func TestHalfWrittenDoesNotCount(t *testing.T) {
	s := store{dir: t.TempDir(), times: progress.Times(t.TempDir())}
	built := filepath.Join(t.TempDir(), "built")
	if err := os.WriteFile(built, []byte("a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.put(built, manifest{Name: Etcd}); err != nil {
		t.Fatal(err)
	}
	if !s.has(Etcd) {
		t.Fatal("not there although it was put there")
	}
	path := filepath.Join(s.dir, Etcd)
	for name, spoil := range map[string]func() error{
		"cut short":   func() error { return os.WriteFile(path, []byte("a prog"), 0o755) },
		"gone":        func() error { return os.Remove(path) },
		"no manifest": func() error { return os.Remove(s.manifest(Etcd)) },
		"manifest cut short": func() error {
			return os.WriteFile(s.manifest(Etcd), []byte(`{"name": "etcd"`), 0o644)
		},
		"another's manifest": func() error {
			return os.WriteFile(s.manifest(Etcd), []byte(`{"name": "kubectl", "size": 9}`), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(built, []byte("a program"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := s.put(built, manifest{Name: Etcd}); err != nil {
				t.Fatal(err)
			}
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			if s.has(Etcd) {
				t.Error("counts as there")
			}
		})
	}
}

// script writes an executable that prints text when it is asked for its version.
func script(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+text+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestAssets(t *testing.T) {
	for _, test := range []struct {
		name, prints, version, missing, err, want string
	}{
		{name: "taken as they are", prints: "Kubernetes v1.36.3", want: "1.36.3"},
		{name: "vendor's version", prints: "Kubernetes v1.36.3-k3s1", want: "1.36.3"},
		{name: "the version that is wanted", prints: "Kubernetes v1.36.3", version: "v1.36.3", want: "1.36.3"},
		{name: "another version", prints: "Kubernetes v1.36.3", version: "1.37.2", err: "1.37.2 is wanted"},
		{name: "not all there", prints: "Kubernetes v1.36.3", missing: Etcd, err: Etcd},
		{name: "no version", prints: "hello", err: "hello"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{APIServer, ControllerManager, Etcd} {
				if name != test.missing {
					script(t, dir, name, test.prints)
				}
			}
			t.Setenv("KUBEBUILDER_ASSETS", dir)
			b, err := Ensure(t.Context(), Options{Version: test.version})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || !strings.Contains(err.Error(), "KUBEBUILDER_ASSETS") {
					t.Fatalf("error %v, want one with %q and KUBEBUILDER_ASSETS", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := (Binaries{Dir: dir, Version: test.want, Provider: FromAssets}); b != want {
				t.Errorf("%+v, want %+v", b, want)
			}
		})
	}
}

// fakeGo puts a go command on PATH that does in an instant what the real one does in minutes. It is a stand-in for the
// command, not for what is tested: locks, cache, checks, messages, cancellation. It logs its calls.
func fakeGo(t *testing.T, script string) (calls func() int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	module := filepath.Join(dir, "go.mod")
	if err := os.WriteFile(module, []byte("module example.com/m\ngo 1.26\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	text := `#!/bin/sh
case "$1" in
env) echo go1.26.99; exit 0;;
mod) ` + strings.ReplaceAll(script, "%MODULE%", module) + `
  echo '{"Path": "p", "Version": "v", "GoMod": "` + module + `", "Dir": "` + dir + `"}'; exit 0;;
esac
echo build >> ` + log + `
while [ "$1" != -o ]; do shift; done
out=$2
` + script + `
echo example.com/a >&2
printf '#!/bin/sh\necho Kubernetes v1.37.2\necho etcd Version: 3.7.3\n' > "$out"
chmod +x "$out"
`
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("KUBEBUILDER_ASSETS", "")
	return func() int {
		data, _ := os.ReadFile(log)
		return strings.Count(string(data), "\n")
	}
}

func TestConcurrentEnsuresBuildOnce(t *testing.T) {
	calls := fakeGo(t, "")
	cache := t.TempDir()
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			b, err := Ensure(t.Context(), Options{CacheDir: cache})
			if err != nil {
				t.Error(err)
				return
			}
			for _, name := range []string{APIServer, ControllerManager, Etcd} {
				if _, err := os.Stat(b.Path(name)); err != nil {
					t.Error(err)
				}
			}
			if b.Version != DefaultVersion || b.Provider != FromSource {
				t.Errorf("%+v", b)
			}
		})
	}
	wg.Wait()
	if n := calls(); n != 3 {
		t.Errorf("%d builds, want one of each of the three", n)
	}
	// Without a go command, what is in the cache serves.
	t.Setenv("PATH", t.TempDir())
	if _, err := Ensure(t.Context(), Options{CacheDir: cache}); err != nil {
		t.Errorf("without go: %v", err)
	}
	if _, err := Ensure(t.Context(), Options{CacheDir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "Install Go") {
		t.Errorf("without go or cache: %v", err)
	}
}

func TestBuildErrors(t *testing.T) {
	for _, test := range []struct {
		name, script string
		want         []string
	}{
		{"not served", `echo '{"Error": "k8s.io/kubernetes@v1.36.0: reading https://proxy/x: 404 Not Found"}'; exit 1`,
			[]string{"does not serve", "1.36.3", "KUBEBUILDER_ASSETS"}},
		{"not served, as other proxies say it", `printf '%s' '{"Error": "reading https://proxy/x: 403 Forbidden\n\tserver response: This module version is not available."}'; exit 1`,
			[]string{"does not serve", "not available). Versions"}},
		{"no network", `echo '{"Error": "dial tcp: lookup proxy.example: no such host"}'; exit 1`,
			[]string{"no such host", "GOPROXY"}},
		{"disk full", `echo 'write /x: no space left on device' >&2; exit 1`, []string{"6 GB", "GOCACHE"}},
		{"does not compile", `echo 'x.go:1: syntax error' >&2; exit 1`, []string{"syntax error", "exit status 1"}},
		{"another program", `printf '#!/bin/sh\necho v0.0.0\n' > "$out"; chmod +x "$out"; [ -n "$out" ] && exit 0`,
			[]string{"v0.0.0", "3.7.3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			fakeGo(t, test.script)
			cache := t.TempDir()
			_, err := Ensure(t.Context(), Options{CacheDir: cache})
			for _, want := range append(test.want, "1.37.2") {
				if !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
			assertNothingLeft(t, cache)
		})
	}
}

func assertNothingLeft(t *testing.T, cache string) {
	t.Helper()
	for _, pattern := range []string{"builds/*", "kubernetes/*/*", "kubernetes/*[0-9]"} {
		left, _ := filepath.Glob(filepath.Join(cache, pattern))
		for _, path := range left {
			if filepath.Base(path) != "lock" {
				t.Errorf("left behind: %s", path)
			}
		}
	}
}

func TestInterruptedBuildLeavesNothing(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	fakeGo(t, `if [ -n "$out" ]; then sleep 1000 & echo $! > `+pidFile+`.tmp; mv `+pidFile+`.tmp `+pidFile+`; wait; fi`)
	cache := t.TempDir()
	interrupt := errors.New("^C")
	ctx, cancel := context.WithCancelCause(t.Context())
	var compiler int
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if data, err := os.ReadFile(pidFile); err == nil {
				compiler, _ = strconv.Atoi(strings.TrimSpace(string(data)))
				cancel(interrupt)
				return
			}
		}
	}()
	_, err := Ensure(ctx, Options{CacheDir: cache})
	if !errors.Is(err, interrupt) {
		t.Errorf("error %v", err)
	}
	assertNothingLeft(t, cache)
	if compiler == 0 {
		t.Fatal("the build was never under way")
	}
	if err := syscall.Kill(compiler, 0); err == nil && !zombie(compiler) {
		t.Errorf("process %d, which go had started, still lives", compiler)
	}
}

// zombie tells whether a process has ended, and only waits to be noticed by its new parent.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func TestEnsureCommands(t *testing.T) {
	calls := fakeGo(t, "")
	options := CommandOptions{CacheDir: t.TempDir()}
	one := Command{Name: "one", Module: "example.com/m", Version: "v1.0.0", Package: "cmd/one"}
	two := Command{Name: "two", Module: "example.com/m", Version: "v1.0.0", VersionArgs: []string{"--version"}, Prints: "v1.37.2"}
	lone := Command{Name: "lone", Version: "v1", Main: "package main\n\nfunc main() {}\n"}
	for range 2 { // the second time from the cache
		dir, err := EnsureCommands(t.Context(), []Command{one, two}, options)
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(options.CacheDir, "commands", "example.com-m@v1.0.0_linux-amd64_go1.26.99"); runtime.GOOS == "linux" && runtime.GOARCH == "amd64" && dir != want {
			t.Errorf("in %s, want %s", dir, want)
		}
		for _, name := range []string{"one", "two"} {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if sum, err := Digest(dir, name); err != nil || sum != fmt.Sprintf("%x", sha256.Sum256(data)) {
				t.Errorf("digest of %s: %s, %v", name, sum, err)
			}
		}
	}
	if _, err := EnsureCommands(t.Context(), []Command{lone}, options); err != nil {
		t.Fatal(err)
	}
	if n := calls(); n != 3 {
		t.Errorf("%d builds, want 3", n)
	}
	for _, main := range []string{lone.Main, lone.Main + "// another", lone.Main} {
		own := Command{Name: "own", Module: "example.com/m", Version: "v1.0.0", Main: main}
		if _, err := EnsureCommands(t.Context(), []Command{own}, options); err != nil {
			t.Fatal(err)
		}
	}
	if n := calls(); n != 5 {
		t.Errorf("%d builds, want 5: one for each main package", n)
	}

	other := one
	other.Version = "v1.0.1"
	wrong := two
	wrong.Version, wrong.Prints = "v2.0.0", "v9"
	for want, commands := range map[string][]Command{
		"none is named": nil, "one is of example.com/m v1.0.1": {two, other}, "not v9": {wrong},
	} {
		if _, err := EnsureCommands(t.Context(), commands, options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := Digest(t.TempDir(), "one"); err == nil {
		t.Error("a digest of what is not there")
	}
}

func TestProgressSaysWhatAndWhyAndHowLong(t *testing.T) {
	fakeGo(t, "")
	cache := t.TempDir()
	var out bytes.Buffer
	if _, err := Ensure(t.Context(), Options{CacheDir: cache, Progress: &out, Want: []string{Etcd}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"building etcd", "lacks it", "about 40s on 2 cores", "built etcd in", "1 packages"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
	out.Reset()
	if _, err := Ensure(t.Context(), Options{CacheDir: cache, Progress: &out, Want: []string{Etcd}}); err != nil {
		t.Fatal(err)
	}
	if out.Len() != 0 {
		t.Errorf("said although nothing was built: %s", out.String())
	}
	if _, err := Ensure(t.Context(), Options{CacheDir: cache, Progress: &out, Version: "1.36.3", Want: []string{Etcd}}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "the last time on this machine") {
		t.Errorf("no word of the last time:\n%s", out.String())
	}
}

func TestUnknownProgram(t *testing.T) {
	if _, err := Ensure(t.Context(), Options{Want: []string{"kube-what"}}); err == nil || !strings.Contains(err.Error(), "kube-what") {
		t.Errorf("error %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"name": "etcd", "size": 3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := parseManifest(data); err == nil && (m.Name == "" || m.Size <= 0) {
			t.Errorf("took %+v", m)
		}
	})
}
