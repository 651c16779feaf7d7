// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kind/pkg/apis/config/defaults"
	"sigs.k8s.io/yaml"

	"github.com/outrigger-k8s/outrigger/image"
	"github.com/outrigger-k8s/outrigger/lane/source"
)

// The files must be of the kind that the lane links: its library and its node go together.
func TestKindIsTheOneInGoMod(t *testing.T) {
	data, err := os.ReadFile("../../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(kindModule+" "+kindVersion) + `$`).Match(data) {
		t.Errorf("go.mod requires another version of kind than %s; see that the recipe goes with it", kindVersion)
	}
	if versionIn(defaults.Image) == "" {
		t.Errorf("there is no version in the name of kind's default image, %s", defaults.Image)
	}
}

// allPrograms are the names of everything that is built.
func allPrograms() []string {
	names := slices.Clone(kubernetes)
	for _, module := range commands {
		for _, c := range module {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestEveryProgramIsUsedOnce(t *testing.T) {
	used := map[string]int{}
	for name := range placed {
		used[name]++
	}
	for _, a := range archives {
		used[a.program]++
	}
	for _, name := range allPrograms() {
		if used[name] != 1 {
			t.Errorf("%s is built, and used %d times", name, used[name])
		}
		delete(used, name)
	}
	for name := range used {
		t.Errorf("%s is used, but not built", name)
	}
}

func TestTextsAreValid(t *testing.T) {
	for at, text := range texts {
		if strings.HasSuffix(at, ".yaml") || strings.HasSuffix(at, ".conflist") {
			var v map[string]any
			if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil || len(v) == 0 {
				t.Errorf("%s: %v", at, err)
			}
		}
	}
	for at, to := range links {
		if unit, ours := texts[to]; strings.HasPrefix(to, "/etc/systemd/system/outrigger") && (!ours || !strings.Contains(unit, "ExecStart=")) {
			t.Errorf("%s links to %s, which is no unit of ours", at, to)
		}
	}
}

// kinds is a file system with the files that the recipe edits, as they are in kind's module.
func kinds(t *testing.T) fs.FS {
	t.Helper()
	dir, err := source.Module(t.Context(), kindModule, kindVersion, source.CommandOptions{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err) // it is in the module cache: this package's tests are built from it
	}
	tree, err := kindTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func find(files []image.File, at string) image.File {
	i := slices.IndexFunc(files, func(f image.File) bool { return f.Path == at })
	if i < 0 {
		return image.File{}
	}
	return files[i]
}

func TestNodeFiles(t *testing.T) {
	programs := map[string]string{}
	for _, name := range allPrograms() {
		programs[name] = "/cache/" + name
	}
	files, err := nodeFiles(programs, kinds(t), []byte(`{"process": {"rlimits": [1], "args": ["sh"]}, "linux": {"x": 9007199254740993}}`), "1.37.2")
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]image.File{
		"/usr/bin/kubelet":          {Mode: 0o755, Source: "/cache/kubelet"},
		"/usr/local/bin/containerd": {Mode: 0o755, Source: "/cache/containerd"},
		"/opt/cni/bin/ptp":          {Mode: 0o755, Source: "/cache/ptp"},
		"/kind/version":             {Mode: 0o644, Content: []byte("v1.37.2")},
		"/etc/kubernetes/manifests": {Mode: fs.ModeDir | 0o755},
		"/etc/systemd/system/multi-user.target.wants/kubelet.service": {Mode: fs.ModeSymlink, Link: "/etc/systemd/system/kubelet.service"},
	} {
		want.Path = at
		if diff := cmp.Diff(want, find(files, at)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", at, diff)
		}
	}
	for _, at := range []string{"/usr/local/bin/entrypoint", "/usr/local/bin/outrigger-network", "/kind/bin/mount-product-files.sh"} {
		if f := find(files, at); f.Mode != 0o755 || !strings.HasPrefix(string(f.Content), "#!") {
			t.Errorf("%s: mode %s", at, f.Mode)
		}
	}
	unit := string(find(files, "/etc/systemd/system/containerd.service").Content)
	for _, gone := range []string{"Limit", "TasksMax", "OOMScoreAdjust"} {
		if regexp.MustCompile(`(?m)^` + gone).MatchString(unit) {
			t.Errorf("containerd.service still sets %s:\n%s", gone, unit)
		}
	}
	if !strings.Contains(unit, "ExecStart=/usr/local/bin/containerd") || strings.Contains(unit, "ExecStart=/usr/local/bin/containerd\n\n\n\n") {
		t.Errorf("containerd.service:\n%s", unit)
	}
	if c := string(find(files, "/etc/containerd/config.toml").Content); !strings.Contains(c, "restrict_oom_score_adj = true\n") ||
		strings.Contains(c, "restrict_oom_score_adj = false") || !sandboxImage.MatchString(c) {
		t.Errorf("config.toml:\n%s", c)
	}
	spec := string(find(files, "/etc/containerd/cri-base.json").Content)
	for _, want := range []string{`"path": "/kind/bin/mount-product-files.sh"`, `"sh"`, "9007199254740993"} {
		if !strings.Contains(spec, want) {
			t.Errorf("cri-base.json lacks %s:\n%s", want, spec)
		}
	}
	if strings.Contains(spec, "rlimits") {
		t.Errorf("cri-base.json has limits:\n%s", spec)
	}
	for i, f := range files { // a layer that cannot be made from them would fail late
		if slices.ContainsFunc(files[i+1:], func(g image.File) bool { return g.Path == f.Path }) {
			t.Errorf("%s twice", f.Path)
		}
	}
}

func TestAnotherKind(t *testing.T) {
	config := &fstest.MapFile{Data: []byte("  restrict_oom_score_adj = false\n")}
	unit := "LimitNPROC=infinity\nLimitCORE=infinity\nLimitNOFILE=infinity\nTasksMax=infinity\nOOMScoreAdjust=-999\n"
	both := fstest.MapFS{
		"etc/containerd/config.toml":            config,
		"etc/systemd/system/containerd.service": &fstest.MapFile{Data: []byte(unit)},
	}
	if _, err := filesOfKind(both); err != nil {
		t.Fatal(err)
	}
	both["etc/systemd/system/containerd.service"].Data = []byte(strings.Replace(unit, "-999", "-500", 1))
	if _, err := filesOfKind(both); err == nil || !strings.Contains(err.Error(), "OOMScoreAdjust=-999") {
		t.Errorf("a line has changed: %v", err)
	}
	if _, err := kindTree(t.TempDir()); err == nil || !strings.Contains(err.Error(), kindFiles) {
		t.Errorf("no such folder: %v", err)
	}
}

func TestContainerSpecRefused(t *testing.T) {
	for _, spec := range []string{"", "{", "[]", "{}", `{"process": 1}`} {
		if out, err := containerSpec([]byte(spec)); err == nil {
			t.Errorf("%q gave %s", spec, out)
		}
	}
}

func TestReferences(t *testing.T) {
	listed := strings.Fields(`registry.k8s.io/kube-apiserver:v1.37.2 registry.k8s.io/kube-controller-manager:v1.37.2
		registry.k8s.io/kube-scheduler:v1.37.2 registry.k8s.io/kube-proxy:v1.37.2 registry.k8s.io/coredns/coredns:v1.14.6
		registry.k8s.io/pause:3.10.2 registry.k8s.io/etcd:3.7.0-0`)
	got, err := referencesOf(listed, "registry.k8s.io/pause:3.10")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{
		"kube-apiserver":          "registry.k8s.io/kube-apiserver:v1.37.2",
		"kube-controller-manager": "registry.k8s.io/kube-controller-manager:v1.37.2",
		"kube-scheduler":          "registry.k8s.io/kube-scheduler:v1.37.2",
		"kube-proxy":              "registry.k8s.io/kube-proxy:v1.37.2",
		"coredns":                 "registry.k8s.io/coredns/coredns:v1.14.6",
		"pause":                   "registry.k8s.io/pause:3.10",
		"etcd":                    "registry.k8s.io/etcd:3.7.0-0",
	}, got); diff != "" {
		t.Error(diff)
	}
	for want, listed := range map[string][]string{
		"no kube-apiserver": listed[1:], "only 7 images": append(slices.Clone(listed), "registry.k8s.io/new:v1"),
	} {
		if _, err := referencesOf(listed, "registry.k8s.io/pause:3.10"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
