// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/outrigger-k8s/outrigger/lane/internal/progress"
	"github.com/outrigger-k8s/outrigger/proc"
)

func newWorkshop(t *testing.T) (*workshop, *bytes.Buffer) {
	t.Helper()
	cache := t.TempDir()
	run, err := proc.Open(t.Context(), filepath.Join(cache, "builds"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Close(); err != nil {
			t.Error(err)
		}
	})
	var said bytes.Buffer
	w := &workshop{run: run, parts: filepath.Join(cache, "node-image"), told: progress.New(&said), times: progress.Times(cache)}
	if err := os.Mkdir(w.parts, 0o755); err != nil {
		t.Fatal(err)
	}
	return w, &said
}

func TestPartIsMadeOnce(t *testing.T) {
	w, said := newWorkshop(t)
	made := 0
	p := part{name: "thing", what: "thing", from: map[string]int{"a": 1}, make: func(_ context.Context, out string) error {
		made++
		return os.WriteFile(out, []byte("done"), 0o644)
	}}
	first, err := w.get(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "making the thing") || !strings.Contains(said.String(), "made the thing in") {
		t.Errorf("said %s", said)
	}
	said.Reset()
	if again, err := w.get(t.Context(), p); err != nil || again != first || made != 1 || said.Len() != 0 {
		t.Errorf("%s, %v, made %d times, said %s", again, err, made, said)
	}
	p.from = map[string]int{"a": 2}
	if other, err := w.get(t.Context(), p); err != nil || other == first || made != 2 {
		t.Errorf("of other things: %s, %v, made %d times", other, err, made)
	}
	if !strings.Contains(said.String(), "the last time on this machine") {
		t.Errorf("no word of the last time: %s", said)
	}
}

func TestPartThatFailsIsNotKept(t *testing.T) {
	w, _ := newWorkshop(t)
	broken := errors.New("broken")
	_, err := w.get(t.Context(), part{name: "thing", what: "thing", make: func(_ context.Context, out string) error {
		return errors.Join(os.WriteFile(out, []byte("half"), 0o644), broken)
	}})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "make the thing") {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(w.parts); len(left) != 0 {
		t.Errorf("kept: %v", left)
	}
}

func TestInterruptedCommand(t *testing.T) {
	w, _ := newWorkshop(t)
	interrupt := errors.New("^C")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupt)
	if err := w.do(ctx, proc.Spec{Name: "sleep", Path: "sleep", Args: []string{"1000"}}); !errors.Is(err, interrupt) {
		t.Errorf("error %v", err)
	}
	if err := w.do(t.Context(), proc.Spec{Name: "sh", Path: "sh", Args: []string{"-c", "echo why >&2; exit 3"}}); err == nil ||
		!strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "why") {
		t.Errorf("error %v", err)
	}
}

func TestNoRoot(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may")
	}
	w, _ := newWorkshop(t)
	if err := w.makeBase(t.Context(), DefaultMirror, filepath.Join(t.TempDir(), "base.tar")); err == nil || !strings.Contains(err.Error(), "root") {
		t.Errorf("error %v", err)
	}
}

// A mirror that does not answer: debootstrap's own words are in the error, and nothing is kept. A script stands in for
// debootstrap; it writes what the real one does.
func TestDebootstrapFails(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a mount namespace")
	}
	dir := t.TempDir()
	script(t, dir, "debootstrap", `for tree; do case $tree in */base) mkdir -p "$tree/debootstrap"; echo 'Unable to connect to mirror' >"$tree/debootstrap/debootstrap.log";; esac; done
echo 'E: failed' >&2; exit 1`)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	w, _ := newWorkshop(t)
	_, err := w.get(t.Context(), w.base("http://127.0.0.1:1/debian"))
	for _, want := range []string{"Debian bookworm", "E: failed", "Unable to connect to mirror"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	if left, _ := os.ReadDir(w.parts); len(left) != 0 {
		t.Errorf("kept: %v", left)
	}
	if errors.Is(err, syscall.ENOSPC) {
		t.Errorf("it says that the disk is full: %v", err)
	}
	script(t, dir, "debootstrap", `for tree; do case $tree in */base) mkdir -p "$tree/debootstrap"; echo 'tar: ./x: Cannot write: No space left on device' >"$tree/debootstrap/debootstrap.log";; esac; done
exit 1`)
	if _, err := w.get(t.Context(), w.base(DefaultMirror)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("it does not say that the disk is full: %v", err)
	}
}
