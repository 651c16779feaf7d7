// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/proc"
)

// startEnv lets the tests that start a real control plane run: they need its binaries, which take minutes to build the
// first time.
const startEnv = "OUTRIGGER_CONTROLPLANE"

// Whenever a start is cut off, nothing is left of it.
func TestStartCutOff(t *testing.T) {
	if os.Getenv(startEnv) == "" {
		t.Skip("set " + startEnv + "=1 to run tests against a real control plane")
	}
	base := t.TempDir()
	run, err := proc.Open(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 200 * time.Millisecond, 700 * time.Millisecond, 1500 * time.Millisecond} {
		why := errors.New("^C")
		ctx, cancel := context.WithTimeoutCause(t.Context(), after, why)
		cp, err := Start(ctx, run, Options{})
		cancel()
		if err == nil { // this machine is fast
			cp.Stop()
			continue
		}
		if !errors.Is(err, why) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut off after %v: %v", after, err)
		}
		if left, _ := filepath.Glob(filepath.Join(run.Dir(), "processes", "*")); len(left) != 0 {
			t.Errorf("cut off after %v: left are %v", after, left)
		}
	}
}

func startControlPlane(t testing.TB, options Options) *ControlPlane {
	t.Helper()
	if os.Getenv(startEnv) == "" {
		t.Skip("set " + startEnv + "=1 to run tests against a real control plane")
	}
	run, err := proc.Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Close(); err != nil {
			t.Error(err)
		}
	})
	cp, err := Start(t.Context(), run, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cp.Stop)
	return cp
}

func TestStart(t *testing.T) {
	cp := startControlPlane(t, Options{})
	t.Logf("ready after %v", cp.Startup().Round(time.Millisecond))
	began := time.Now()
	cp.Stop()
	t.Logf("stopped after %v", time.Since(began).Round(time.Millisecond))
}
