// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/injector/watch"
)

// patience is how long a test waits for what must come. It is for tests that fail only.
const patience = 20 * time.Second

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// replace renames a new file over an old one.
func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	do(t, os.Rename(path+".new", path))
}

// project lays out files as the kubelet does for a ConfigMap or Secret, or replaces them with a new version.
func project(t *testing.T, dir, version, content string) {
	t.Helper()
	do(t, os.Mkdir(filepath.Join(dir, "..version-"+version), 0o700))
	write(t, filepath.Join(dir, "..version-"+version, "file"), content)
	do(t, os.Symlink("..version-"+version, filepath.Join(dir, "..data_tmp")))
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	do(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if old == "" {
		do(t, os.Symlink("..data/file", filepath.Join(dir, "file")))
	} else {
		do(t, os.RemoveAll(filepath.Join(dir, old)))
	}
}

// follow follows files until the test ends. What it sees comes out of the function, content or error.
func follow(t *testing.T, paths ...string) (next func() string) {
	t.Helper()
	since, err := watch.Read(paths...)
	do(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	seen, end := make(chan string, 100), make(chan error, 1)
	go func() {
		end <- watch.Follow(ctx, since, func(s watch.Snapshot, err error) {
			if err != nil {
				seen <- "error"
				return
			}
			var texts []string
			for _, f := range s.Files {
				texts = append(texts, string(f))
			}
			seen <- strings.Join(texts, "|")
		}, paths...)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-end; err != nil {
			t.Errorf("follow: %v", err)
		}
	})
	return func() string {
		select {
		case s := <-seen:
			return s
		case <-time.After(patience):
			t.Fatal("no change was seen")
			return ""
		}
	}
}

// until takes what is seen until it is what is wanted: a file written in place may be seen half written.
func until(t *testing.T, next func() string, want string) {
	t.Helper()
	for next() != want {
	}
}

func TestFollow(t *testing.T) {
	t.Run("written in place", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		write(t, path, "one")
		next := follow(t, path)
		write(t, path, "two")
		until(t, next, "two")
		write(t, path, "three")
		until(t, next, "three")
	})
	t.Run("renamed over", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		write(t, path, "one")
		next := follow(t, path)
		for _, content := range []string{"two", "three", "four"} {
			replace(t, path, content)
			until(t, next, content)
		}
	})
	t.Run("as the kubelet does", func(t *testing.T) {
		dir := t.TempDir()
		project(t, dir, "1", "one")
		next := follow(t, filepath.Join(dir, "file"))
		for version, content := range map[string]string{"2": "two", "3": "three", "4": "four"} {
			project(t, dir, version, content)
			until(t, next, content)
		}
	})
	t.Run("behind a link to another directory", func(t *testing.T) {
		here, there := t.TempDir(), t.TempDir()
		write(t, filepath.Join(there, "real"), "one")
		do(t, os.Symlink(filepath.Join(there, "real"), filepath.Join(here, "file")))
		next := follow(t, filepath.Join(here, "file"))
		replace(t, filepath.Join(there, "real"), "two")
		until(t, next, "two")
	})
	t.Run("gone and back", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		write(t, path, "one")
		next := follow(t, path)
		do(t, os.Remove(path))
		until(t, next, "error")
		replace(t, path, "one")
		until(t, next, "one")
	})
	t.Run("one of two", func(t *testing.T) {
		a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
		write(t, a, "one")
		write(t, b, "two")
		next := follow(t, a, b)
		replace(t, b, "three")
		until(t, next, "one|three")
		replace(t, a, "four")
		until(t, next, "four|three")
	})
	t.Run("changed between snapshot and start", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		write(t, path, "one")
		since, err := watch.Read(path)
		do(t, err)
		write(t, path, "two")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		seen := ""
		do(t, watch.Follow(ctx, since, func(s watch.Snapshot, _ error) { seen = string(s.Files[0]); cancel() }, path))
		if seen != "two" {
			t.Errorf("saw %q", seen)
		}
	})
	t.Run("what has not changed is not told", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		write(t, path, "one")
		next := follow(t, path)
		write(t, filepath.Join(filepath.Dir(path), "other"), "x")
		do(t, os.Chmod(path, 0o400))
		replace(t, path, "one")
		replace(t, path, "two")
		if got := next(); got != "two" {
			t.Errorf("told about %q", got)
		}
	})
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if _, err := watch.Read(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	write(t, path, strings.Repeat("x", watch.Most))
	if s, err := watch.Read(path, path); err != nil || len(s.Files) != 2 || len(s.Files[1]) != watch.Most {
		t.Errorf("just short enough: %v", err)
	}
	write(t, path, strings.Repeat("x", watch.Most+1))
	if _, err := watch.Read(path); err == nil {
		t.Error("too long: want an error")
	}
	if _, err := watch.Read(filepath.Dir(path)); err == nil {
		t.Error("a directory: want an error")
	}
	if err := watch.Follow(t.Context(), watch.Snapshot{}, nil, filepath.Join(path, "no", "such")); err == nil {
		t.Error("no directory: want an error")
	}
}
