// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/outrigger-k8s/outrigger/image"
)

func mustOpen(t *testing.T, files ...image.File) *tree {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tree.tar")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(image.WriteTar(file, files...), file.Close()); err != nil {
		t.Fatal(err)
	}
	tree, err := openTree(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.close() })
	return tree
}

func link(at, to string) image.File { return image.File{Path: at, Mode: fs.ModeSymlink, Link: to} }

func text(at, content string) image.File {
	return image.File{Path: at, Mode: 0o644, Content: []byte(content)}
}

func TestTree(t *testing.T) {
	long := strings.Repeat("long/", 60) + "name" // a name that takes headers of its own in a tar
	tree := mustOpen(t,
		text("/usr/lib/a.so", "a"), text("/usr/lib/b.so", strings.Repeat("b", 1000)), text("/usr/"+long, "long"),
		link("/lib", "usr/lib"), link("/usr/lib/alias.so", "b.so"), link("/absolute", "/usr/lib/a.so"), link("/up", "usr/../usr/lib/a.so"),
		link("/loop", "loop"), link("/dangling", "nowhere"),
	)
	for name, want := range map[string]string{
		"/usr/lib/a.so": "a", "/lib/a.so": "a", "/lib/alias.so": strings.Repeat("b", 1000), "/absolute": "a", "/up": "a", "/usr/" + long: "long",
	} {
		reader, err := tree.open(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if content, err := io.ReadAll(reader); err != nil || string(content) != want {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
	for name, want := range map[string]string{
		"/loop": "too many", "/dangling": "not exist", "/usr/lib": "no file", "/nothing": "not exist",
	} {
		if _, err := tree.open(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", name, err, want)
		}
	}
	// A link is as good as a file: some of iptables' plugins are links to others.
	if diff := cmp.Diff([]string{"/usr/lib/a.so", "/usr/lib/alias.so", "/usr/lib/b.so"}, tree.under("/usr/lib")); diff != "" {
		t.Error(diff)
	}
	if _, err := openTree(filepath.Join(t.TempDir(), "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// This machine's own ls, and what it loads, put into a folder: it must run there.
func TestWithLibraries(t *testing.T) {
	if _, err := os.Stat("/lib/x86_64-linux-gnu/libc.so.6"); err != nil || os.Getuid() != 0 {
		t.Skip("needs Debian on amd64, and root to change the root folder")
	}
	var files []image.File
	for _, name := range []string{"/bin/ls", "/lib64/ld-linux-x86-64.so.2"} {
		files = append(files, hosts(t, name))
	}
	for _, pattern := range []string{"libc.so.6", "libselinux.so.1", "libpcre2-8.so.0"} {
		files = append(files, hosts(t, "/lib/x86_64-linux-gnu/"+pattern))
	}
	tree := mustOpen(t, files...)
	taken, err := tree.withLibraries([]string{"/bin/ls"})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range taken {
		at := filepath.Join(root, f.Path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, f.Content, f.Mode)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chroot", root, "/bin/ls", "/bin").CombinedOutput(); err != nil || string(out) != "ls\n" {
		t.Errorf("%s, %v", out, err)
	}

	if _, err := mustOpen(t, files[0], files[1]).withLibraries([]string{"/bin/ls"}); err == nil || !strings.Contains(err.Error(), ".so") {
		t.Errorf("without its libraries: %v", err)
	}
	if _, err := tree.withLibraries([]string{"/bin/no"}); err == nil {
		t.Error("a program that is not there")
	}
}

func hosts(t *testing.T, name string) image.File {
	t.Helper()
	resolved, err := filepath.EvalSymlinks(name)
	if err != nil {
		t.Skip(err)
	}
	return image.File{Path: name, Mode: 0o755, Source: resolved}
}

func FuzzTree(f *testing.F) {
	f.Add("usr/lib", "/usr/lib/a", byte(tar.TypeSymlink))
	f.Add("../x", "..", byte(tar.TypeLink))
	f.Fuzz(func(t *testing.T, name, to string, kind byte) {
		tree := &tree{entries: map[string]entry{}}
		if kind == tar.TypeSymlink {
			tree.entries["/"+name] = entry{link: to, mode: fs.ModeSymlink}
		}
		tree.entries["/usr"] = entry{mode: fs.ModeDir}
		if resolved, err := tree.resolve(to); err == nil && !strings.HasPrefix(resolved, "/") {
			t.Errorf("%q resolves to %q", to, resolved)
		}
	})
}
