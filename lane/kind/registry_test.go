// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r, err := openRegistry(filepath.Join(t.TempDir(), "kind"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func claim(t *testing.T, r *registry) *entry {
	t.Helper()
	e, err := r.claim("docker")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// names of the idle entries, whose locks are given back.
func idle(t *testing.T, r *registry) []string {
	t.Helper()
	list, err := r.idle()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name)
		if err := e.unlock(); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// A run that lives has its cluster; once it is dead, however it ended, the next finds it, newest first.
func TestOnlyTheDeadAreSwept(t *testing.T) {
	r := newRegistry(t)
	living, dead, older := claim(t, r), claim(t, r), claim(t, r)
	older.Made = time.Now().Add(-time.Hour)
	if err := older.write(); err != nil {
		t.Fatal(err)
	}
	if names := idle(t, r); len(names) != 0 {
		t.Errorf("clusters of living runs are idle: %v", names)
	}
	for _, e := range []*entry{dead, older} { // what the kernel does when a process ends
		if err := e.unlock(); err != nil {
			t.Fatal(err)
		}
	}
	if names := idle(t, r); len(names) != 2 || names[0] != dead.Name || names[1] != older.Name {
		t.Errorf("idle are %v, want %s and then %s", names, dead.Name, older.Name)
	}
	if err := living.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(living.dir); !os.IsNotExist(err) {
		t.Errorf("its folder is still there: %v", err)
	}
}

// A folder whose run died before it wrote its record has no cluster, and goes; one that is not ours stays.
func TestUnfinishedFolders(t *testing.T) {
	r := newRegistry(t)
	unfinished := claim(t, r)
	if err := os.Remove(filepath.Join(unfinished.dir, recordFile)); err != nil {
		t.Fatal(err)
	}
	if err := unfinished.unlock(); err != nil {
		t.Fatal(err)
	}
	torn := claim(t, r)
	if err := os.WriteFile(filepath.Join(torn.dir, recordFile), []byte(`{"name": "outri`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := torn.unlock(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(r.dir, "somebody-elses")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if names := idle(t, r); len(names) != 0 {
		t.Errorf("idle are %v", names)
	}
	for _, dir := range []string{unfinished.dir, torn.dir} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

func TestNamesAreUnique(t *testing.T) {
	r := newRegistry(t)
	seen := map[string]bool{}
	for range 50 {
		e := claim(t, r)
		if seen[e.Name] || len(e.Name) > 50 { // kind warns above 50
			t.Fatalf("name %s", e.Name)
		}
		seen[e.Name] = true
	}
}

// What a dead run has left of an engine that this one does without is warned of, and not in its way; of its own engine it is
// an error.
func TestLeftoverOfAnotherEngine(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no engine answers
	r := newRegistry(t)
	left := claim(t, r)
	if err := left.unlock(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	c := &Cluster{options: Options{Progress: &said, Reuse: true}, provider: providerOf("docker", io.Discard)}
	if _, err := c.enter(t.Context(), r, "docker", "digest"); err == nil || !strings.Contains(err.Error(), "delete cluster "+left.Name) {
		t.Errorf("a leftover of its own engine that cannot be deleted: %v", err)
	}
	e, err := c.enter(t.Context(), r, "podman", "digest")
	if err != nil {
		t.Fatalf("a leftover of another engine: %v", err)
	}
	for _, want := range []string{"look for clusters whose folder is gone: ", "delete cluster " + left.Name, "a later run tries again", "none is kept"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("it does not say %q: %s", want, said.String())
		}
	}
	if names := idle(t, r); len(names) != 1 || names[0] != left.Name {
		t.Errorf("idle are %v, want %s: the next run must find it", names, left.Name)
	}
	if err := e.remove(); err != nil {
		t.Error(err)
	}
	if _, err := exists(providerOf("docker", io.Discard), "x"); err == nil {
		t.Error("an engine that does not answer has no cluster, it is said")
	}
}
