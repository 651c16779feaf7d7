// SPDX-License-Identifier: Apache-2.0

package mutants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/outrigger-k8s/outrigger/scenarios"
)

// modulePath is what go.mod of a checkout says.
const modulePath = "github.com/outrigger-k8s/outrigger"

// A checkout is the source that mutants are made of, and the toolchain that builds them.
type checkout struct {
	root string // absolute
	tool string // go
}

// ErrNoCheckout says that there is no source to make mutants of.
var ErrNoCheckout = errors.New("mutants are built from source: run the command in a checkout of " + modulePath +
	", with the Go toolchain on PATH")

// findCheckout looks for the checkout that dir is in.
func findCheckout(dir string) (*checkout, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoCheckout, err)
	}
	for root := dir; ; root = filepath.Dir(root) {
		text, err := os.ReadFile(filepath.Join(root, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module "+modulePath+"\n")) {
			return &checkout{root, tool}, nil
		}
		if filepath.Dir(root) == root {
			return nil, fmt.Errorf("%w; %s is in none", ErrNoCheckout, dir)
		}
	}
}

// check makes sure that this program was built from the checkout as it is now, as far as it matters: the mutants and
// the tables are embedded.
func (c *checkout) check() error {
	stale := func(file string) error {
		return fmt.Errorf("compare this program with the checkout %s: %s is another: build the program again (make bin)", c.root, file)
	}
	now, err := os.ReadFile(filepath.Join(c.root, "mutants", "mutants.yaml"))
	if err != nil || !bytes.Equal(now, declared) {
		return stale("mutants/mutants.yaml")
	}
	return fs.WalkDir(scenarios.FS, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		built, err := fs.ReadFile(scenarios.FS, file)
		if err != nil {
			return err
		}
		now, err := os.ReadFile(filepath.Join(c.root, "scenarios", filepath.FromSlash(file)))
		if err != nil || !bytes.Equal(now, built) {
			return stale("scenarios/" + file)
		}
		return nil
	})
}

// overlay writes the mutant's file, and beside it what `go build -overlay` takes, into dir. It returns the latter's path.
func (c *checkout) overlay(m *Mutant, dir string) (string, error) {
	right := filepath.Join(c.root, filepath.FromSlash(m.File))
	text, err := os.ReadFile(right)
	if err != nil {
		return "", fmt.Errorf("apply mutant %s: %w", m.Name, err)
	}
	if text, err = m.Apply(text); err != nil {
		return "", err
	}
	wrong := filepath.Join(dir, filepath.Base(right))
	if err := os.WriteFile(wrong, text, 0o600); err != nil {
		return "", fmt.Errorf("apply mutant %s: %w", m.Name, err)
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {right: wrong}})
	if err != nil {
		return "", fmt.Errorf("apply mutant %s: %w", m.Name, err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return "", fmt.Errorf("apply mutant %s: %w", m.Name, err)
	}
	return overlay, nil
}

// environment of everything that is built and tested: this program's own, without cgo unless it is asked for, so that
// what make has built is not built once more.
func environment() []string {
	env := os.Environ()
	for _, e := range env {
		if strings.HasPrefix(e, "CGO_ENABLED=") {
			return env
		}
	}
	return append(env, "CGO_ENABLED=0")
}
