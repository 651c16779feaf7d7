// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// sample is an image with one of everything; at is the time of its source file.
func sample(t *testing.T, at time.Time) Spec {
	t.Helper()
	source := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(source, []byte("a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(source, at, at); err != nil {
		t.Fatal(err)
	}
	below, err := Files(File{Path: "/etc/motd", Mode: 0o644, Content: []byte("hello\n")})
	if err != nil {
		t.Fatal(err)
	}
	above, err := Files(
		File{Path: "/usr/bin/su", Mode: fs.ModeSetuid | 0o755, Source: source},
		File{Path: "/usr/bin/alias", Mode: fs.ModeSymlink, Link: "su"},
		File{Path: "/data", Mode: fs.ModeDir | fs.ModeSticky | 0o777, UID: 65532, GID: 65533},
		File{Path: "/empty", Mode: 0o400, Content: []byte{}},
	)
	if err != nil {
		t.Fatal(err)
	}
	return Spec{
		Reference: "registry.example/sample:1.0", Layers: []v1.Layer{below, above},
		Config: Config{
			User: "65532:65532", WorkingDir: "/data", Env: []string{"container=docker"}, Entrypoint: []string{"/usr/bin/su"},
			Cmd: []string{"--help"}, Ports: []string{"8443/tcp"}, StopSignal: "SIGRTMIN+3", Labels: map[string]string{"a": "b"},
		},
	}
}

func mustBuild(t *testing.T, s Spec) Image {
	t.Helper()
	i, err := Build(s)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestArchiveHoldsWhatWasDeclared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sample.tar")
	if err := mustBuild(t, sample(t, time.Now())).WriteFile(path); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("registry.example/sample:1.0")
	if err != nil {
		t.Fatal(err)
	}
	read, err := tarball.ImageFromPath(path, &tag) // finds nothing unless the archive carries the name
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(read); err != nil { // every digest, every size
		t.Error(err)
	}
	config, err := read.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "amd64" {
		t.Errorf("for %s/%s", config.OS, config.Architecture)
	}
	want := v1.Config{
		User: "65532:65532", WorkingDir: "/data", Env: []string{"container=docker"}, Entrypoint: []string{"/usr/bin/su"},
		Cmd: []string{"--help"}, ExposedPorts: map[string]struct{}{"8443/tcp": {}}, StopSignal: "SIGRTMIN+3",
		Labels: map[string]string{"a": "b"},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("its configuration (-want +got):\n%s", diff)
	}
	layers, err := read.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, list(t, r)...)
	}
	if diff := cmp.Diff([]string{
		"5 755 0:0 etc/",
		"0 644 0:0 etc/motd hello\n",
		"5 1777 65532:65533 data/",
		"0 400 0:0 empty",
		"5 755 0:0 usr/",
		"5 755 0:0 usr/bin/",
		"2 777 0:0 usr/bin/alias -> su",
		"0 4755 0:0 usr/bin/su a program",
	}, listed); diff != "" {
		t.Errorf("its files (-want +got):\n%s", diff)
	}
}

// list writes a tar's entries as lines: type, mode, owner, name, target or content.
func list(t *testing.T, r io.Reader) []string {
	t.Helper()
	var lines []string
	for reader := tar.NewReader(r); ; {
		h, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(epoch) {
			t.Errorf("%s has the time %s", h.Name, h.ModTime)
		}
		line := fmt.Sprintf("%c %o %d:%d %s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Name)
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		if content, _ := io.ReadAll(reader); len(content) > 0 {
			line += " " + string(content)
		}
		lines = append(lines, line)
	}
}

func TestSameContentSameBytes(t *testing.T) {
	var archives [2]bytes.Buffer
	for i, at := range []time.Time{time.Unix(1, 0), time.Now()} {
		if err := mustBuild(t, sample(t, at)).WriteArchive(&archives[i]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0].Bytes(), archives[1].Bytes()) {
		t.Error("two archives of the same content differ")
	}
	s := sample(t, time.Now())
	one, err := mustBuild(t, s).ID()
	if err != nil {
		t.Fatal(err)
	}
	const known = "sha256:1593325a817c76ba50bf0f6f07a5ee91bce0208470ab1261366139f625057789" // so that a change of what is written is seen; it changes every image's digest
	if one != known {
		t.Errorf("the sample's ID is %s, not %s", one, known)
	}
	s.Config.User = "0"
	if other, _ := mustBuild(t, s).ID(); other == one {
		t.Error("another configuration has the same ID")
	}
}

func TestTarLayer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "layer.tar")
	files := []File{{Path: "/a", Mode: 0o644, Content: []byte("a")}}
	var written bytes.Buffer
	if err := WriteTar(&written, files...); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, written.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	fromTar, err := Tar(path)
	if err != nil {
		t.Fatal(err)
	}
	fromFiles, err := Files(files...)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := fromTar.Digest()
	other, _ := fromFiles.Digest()
	if one != other {
		t.Errorf("a tar and the files in it make different layers: %s, %s", one, other)
	}
	if _, err := Tar(path + "-not-there"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such tar: %v", err)
	}
}

func TestRefusedFiles(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		files []File
		want  string
	}{
		"relative":         {[]File{{Path: "a", Mode: 0o644, Content: []byte{}}}, "absolute path"},
		"upwards":          {[]File{{Path: "/../a", Mode: 0o644, Content: []byte{}}}, "absolute path"},
		"the root":         {[]File{{Path: "/", Mode: fs.ModeDir | 0o755}}, "absolute path"},
		"no permissions":   {[]File{{Path: "/a", Content: []byte{}}}, "no permissions"},
		"no content":       {[]File{{Path: "/a", Mode: 0o644}}, "either a source or content"},
		"two contents":     {[]File{{Path: "/a", Mode: 0o644, Content: []byte{}, Source: dir}}, "either a source or content"},
		"folder's content": {[]File{{Path: "/a", Mode: fs.ModeDir | 0o755, Content: []byte{}}}, "a folder, but"},
		"link to nothing":  {[]File{{Path: "/a", Mode: fs.ModeSymlink}}, "to what"},
		"device":           {[]File{{Path: "/a", Mode: fs.ModeDevice | 0o644}}, "a type"},
		"twice":            {[]File{{Path: "/a", Mode: fs.ModeDir | 0o755}, {Path: "/a", Mode: fs.ModeDir | 0o700}}, "/a is declared twice"},
		"in a file": {[]File{{Path: "/a", Mode: 0o644, Content: []byte{}}, {Path: "/a/b/c", Mode: 0o644, Content: []byte{}}},
			"/a/b/c lies in /a, which is no folder"},
		"source not there":   {[]File{{Path: "/a", Mode: 0o644, Source: dir + "/no"}}, "no such file"},
		"source is a folder": {[]File{{Path: "/a", Mode: 0o644, Source: dir}}, "no ordinary file"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Files(test.files...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestRefusedSpecs(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no tag":      {func(s *Spec) { s.Reference = "registry.example/sample" }, "NAME:TAG"},
		"a digest":    {func(s *Spec) { s.Reference = "sample@sha256:" + strings.Repeat("0", 64) }, "NAME:TAG"},
		"no layers":   {func(s *Spec) { s.Layers = nil }, "no layers"},
		"no platform": {func(s *Spec) { s.Platform = "amd64" }, `"amd64"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := sample(t, time.Now())
			test.change(&s)
			if _, err := Build(s); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestSourceThatChangesWhileTheImageIsMade(t *testing.T) {
	for _, content := range []string{"b program", "a longer program", "short"} {
		source := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(source, []byte("a program"), 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := Files(File{Path: "/program", Mode: 0o755, Source: source})
		if err != nil {
			t.Fatal(err)
		}
		i := mustBuild(t, Spec{Reference: "registry.example/app:1", Layers: []v1.Layer{l}})
		if err := os.WriteFile(source, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := i.WriteFile(filepath.Join(dir, "a.tar")); err == nil {
			t.Errorf("changed to %q: the image was written nevertheless", content)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestStatic(t *testing.T) {
	dir := t.TempDir()
	build := func(name, goarch string) string {
		source := filepath.Join(dir, "main.go")
		if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		built := filepath.Join(dir, name)
		command := exec.Command("go", "build", "-o", built, source)
		command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+goarch, "GOFLAGS=")
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return built
	}
	amd64 := build("amd64", "amd64")
	f, err := Static("/program", amd64, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(File{Path: "/program", Mode: 0o755, Source: amd64}, f); diff != "" {
		t.Error(diff)
	}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ source, platform, want string }{
		{amd64, "linux/arm64", "EM_X86_64"},
		{amd64, "arm64", `"arm64"`},
		{script, "", "must be an ELF program"},
		{dir + "/no", "", "no such file"},
	} {
		if _, err := Static("/program", test.source, test.platform); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s for %q: error %v, want one with %q", test.source, test.platform, err, test.want)
		}
	}
	if _, err := os.Stat("/bin/sh"); err == nil {
		sh, _ := filepath.EvalSymlinks("/bin/sh")
		if _, err := Static("/sh", sh, DefaultPlatform); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
			t.Errorf("a dynamic program: %v", err)
		}
	}
}
