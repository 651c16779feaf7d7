// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestImage builds the injector from two copies of its source, in two places, as make image does: there is one digest. And
// it looks at what is in the image.
func TestImage(t *testing.T) {
	if os.Getenv("OUTRIGGER_CONTROLPLANE") == "" {
		t.Skip("set OUTRIGGER_CONTROLPLANE=1 to build the injector twice")
	}
	var ids []string
	for range 2 {
		program := build(t)
		made, err := Image(program, "", "")
		if err != nil {
			t.Fatal(err)
		}
		id, err := made.ID()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		if len(ids) == 2 {
			break
		}
		config, err := made.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if c := config.Config; c.User != user || !slices.Equal(c.Entrypoint, []string{"/injector"}) || len(c.Cmd) > 0 {
			t.Errorf("it runs as %s: %v %v", c.User, c.Entrypoint, c.Cmd)
		}
		layers, err := made.Layers()
		if err != nil || len(layers) != 1 {
			t.Fatalf("%d layers, %v", len(layers), err)
		}
		content, err := layers[0].Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for files := tar.NewReader(content); ; {
			header, err := files.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if names = append(names, header.Name); header.Mode != 0o755 || header.Uid != 0 {
				t.Errorf("%s has mode %o and belongs to %d", header.Name, header.Mode, header.Uid)
			}
		}
		content.Close()
		if len(names) != 1 || filepath.Base(names[0]) != "injector" {
			t.Errorf("there is more in it than the injector: %v", names)
		}
	}
	if ids[0] != ids[1] {
		t.Errorf("one source, two digests: %v", ids)
	}
}

// build builds the injector from a copy of its source.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "injector"), os.DirFS("..")); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	c := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "./injector/cmd/injector")
	c.Dir, c.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

func TestImageRefuses(t *testing.T) {
	if _, err := Image(filepath.Join(t.TempDir(), "none"), "", ""); err == nil {
		t.Error("a program that does not exist is taken")
	}
}
