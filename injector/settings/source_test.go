// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestFollow changes a mounted ConfigMap as the kubelet does. A broken configuration is refused, and the old one stays.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	swap := func(version, text string) {
		t.Helper()
		real := filepath.Join(dir, "..version-"+version)
		err := errors.Join(
			os.Mkdir(real, 0o700),
			os.WriteFile(filepath.Join(real, "config"), []byte(text), 0o600),
			os.Symlink(filepath.Base(real), filepath.Join(dir, "..data_tmp")),
			os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if err != nil {
			t.Fatal(err)
		}
	}
	swap("1", "dialect: istio\npolicy: enabled\n")
	path := filepath.Join(dir, "config")
	if err := os.Symlink("..data/config", path); err != nil {
		t.Fatal(err)
	}
	source, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	first := source.Current()

	type report struct {
		settings *Settings
		err      error
	}
	reports, end := make(chan report, 10), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { end <- source.Follow(ctx, func(s *Settings, err error) { reports <- report{s, err} }) }()
	defer func() {
		cancel()
		if err := <-end; err != nil {
			t.Error(err)
		}
	}()
	next := func() report {
		select {
		case r := <-reports:
			return r
		case <-time.After(20 * time.Second):
			t.Fatal("no change was reported")
			return report{}
		}
	}

	swap("2", "dialect: istio\npolicy: enabled\npolicy: disabled\n")
	var broken *Error
	if r := next(); !errors.As(r.err, &broken) || r.settings != first || source.Current() != first {
		t.Errorf("broken: reported %+v, in force %+v; want the first configuration", r, source.Current())
	}
	swap("3", "dialect: istio\npolicy: disabled\n")
	if r := next(); r.err != nil || r.settings != source.Current() || source.Current().Decision.Policy != "disabled" {
		t.Errorf("good: reported %+v, in force %+v", r, source.Current())
	}
	if source.Current().Hash == first.Hash {
		t.Error("the hash has not changed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if r := next(); !errors.Is(r.err, os.ErrNotExist) || source.Current().Decision.Policy != "disabled" {
		t.Errorf("gone: reported %+v, in force %+v", r, source.Current())
	}
}
