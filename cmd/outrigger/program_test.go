// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/proc"
	"github.com/outrigger-k8s/outrigger/report"
)

// programs is a folder with outrigger and the reference injector, as `make bin` leaves them; linking takes longer than all
// of these tests, so they share it.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if programs, err = os.MkdirTemp("", "outrigger-programs-*"); err != nil {
			fmt.Fprintln(os.Stderr, "make a folder for the programs:", err)
			return 1
		}
		defer os.RemoveAll(programs)
		build := exec.Command("go", "build", "-o", programs+"/", ".", "../../injector/cmd/injector")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// outrigger is the program, with folders of its own for whatever it leaves.
func outrigger(t *testing.T, ctx context.Context, temp string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(ctx, filepath.Join(programs, "outrigger"), args...)
	c.Env = append(os.Environ(), "TMPDIR="+temp, "XDG_RUNTIME_DIR=", "GITHUB_STEP_SUMMARY=", "KUBEBUILDER_ASSETS=")
	c.WaitDelay = time.Minute
	return c
}

func exitOf(t *testing.T, err error) int {
	t.Helper()
	var failed *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed):
		return failed.ExitCode()
	}
	t.Fatal(err)
	return 0
}

// Each mistake is told as what it is: what was attempted, what is wrong, what to do; and by the exit code.
func TestExitCodes(t *testing.T) {
	folder := t.TempDir()
	foreign := filepath.Join(folder, "foreign.json")
	if err := os.WriteFile(foreign, []byte(`{"some": "thing"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(folder, "left")
	write := func(name, text string) string {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	misspelt := write("misspelt.yaml", "schema: outrigger.dev/target/v1alpha1\nname: x\nprofiles: [kubespere]\nprocess: {command: [x], path: /}\n")
	large := write("large.yaml", strings.Repeat("#", 2<<20))
	authority, err := pki.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	write("ca.pem", string(authority.CABundle()))
	lacking := write("lacking.yaml", "schema: outrigger.dev/target/v1alpha1\nname: x\nprofiles: [kubesphere]\nurl: {address: 'https://127.0.0.1:1/', caFile: nix.pem, settings: {policy: enabled}}\n")
	nobody := write("nobody.yaml", "schema: outrigger.dev/target/v1alpha1\nname: x\nprofiles: [kubesphere]\nurl: {address: 'https://127.0.0.1:1/', caFile: ca.pem, settings: {policy: enabled}}\n")
	const one = "kubesphere/decision/workspace=named,ns-label=enabled,annotation=true,policy=enabled,host-network=no,namespace=ordinary"
	for _, row := range []struct {
		exit int
		says string
		args []string
	}{
		{0, "webhook/failures/", []string{"list"}},
		{0, "kind/runtime/proof=rolled", []string{"list", "--lane", "kind", "--focus", "proof=rolled"}},
		{0, "injected, by rule annotation-true", []string{"explain", one}},
		{0, "1 case held", []string{"run", "--focus", "^" + one + "$"}},
		{2, `can run none of the cases that match: 5 of them: the lane lacks "long" unless LONG=1 (--long) asks for it`, []string{"list", "--lane", "kind", "--focus", "recoveries-backoff"}},
		{0, "webhook/recoveries-backoff/", []string{"list", "--lane", "kind", "--long", "--focus", "recoveries-backoff"}},
		{2, `did you mean "kubesphere"`, []string{"list", "--profile", "kubespere"}},
		{2, "is not a regular expression", []string{"list", "--focus", "("}},
		{2, "no case matches", []string{"list", "--focus", "nowhere"}},
		{2, "is no version", []string{"list", "--lane", "controlplane", "--k8s-version", "banana"}},
		{2, "for 1.36.3 take --lane controlplane", []string{"run", "--k8s-version", "1.36.3"}},
		{2, "there is no lane", []string{"run", "--lane", "moon"}},
		{2, `did you mean "true"`, []string{"explain", strings.Replace(one, "annotation=true", "annotation=ture", 1)}},
		{2, "there is no routing", []string{"run", "--lane", "controlplane", "--routing", "foo"}},
		{2, "the admission lane has no Services", []string{"run", "--routing", "endpoints"}},
		{2, "leave --lane out", []string{"list", "--tables", "--lane", "kind"}},
		{2, "for 1.20.0 take --lane controlplane", []string{"explain", one, "--k8s-version", "1.20.0"}},
		{2, "leave one of them out", []string{"list", "--catalogue", "--tables"}},
		{2, "leave --focus and --profile out", []string{"list", "--catalogue", "--profile", "kubesphere"}},
		{2, "is the report itself", []string{"render", foreign, "--out", foreign}},
		{2, `did you mean "kubesphere"`, []string{"run", "--target", misspelt}},
		{2, "it is larger than", []string{"run", "--focus", one, "--quarantine", large}},
		{3, "verdict: infrastructure (exit 3): ", []string{"run", "--focus", one, "--target", nobody}},
		{0, "kind/runtime/proof=rolled\n", []string{"explain", "kind/runtime/proof=rolled"}},
		{2, "reading the CA file", []string{"run", "--focus", one, "--target", lacking}},
		{0, "dialect: kubesphere", []string{"explain", one, "--settings"}},
		{2, "unknown flag", []string{"run", "--lanes", "admission"}},
		{2, "there is no provider", []string{"provider", "moon"}},
		{2, `unknown field "some"`, []string{"run", "--target", foreign}},
		{3, "foreign.json", []string{"verdict", foreign}},
		{3, "no such file", []string{"verdict", filepath.Join(folder, "nowhere.json")}},
		{3, "foreign.json", []string{"compare", foreign, foreign}},
		{2, `--allow "typo": there is no such kind of change`, []string{"compare", "--allow", "typo", foreign, foreign}},
		{2, "--because", []string{"lost", "--artifacts", filepath.Join(folder, "lost")}},
		{0, "", []string{"lost", "--artifacts", lost, "--lane", "controlplane", "--k8s-version", "1.2.3", "--because", "the job died"}},
		{3, "--artifacts", []string{"run", "--focus", one, "--artifacts", filepath.Join(foreign, "below")}},
	} {
		t.Run(strings.Join(row.args, " "), func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			out, err := outrigger(t, t.Context(), temp, row.args...).CombinedOutput()
			if code := exitOf(t, err); code != row.exit || !strings.Contains(string(out), row.says) {
				t.Errorf("exit %d, want %d, with %q in\n%.2000s", code, row.exit, row.says, out)
			}
			nothingLeft(t, temp)
		})
	}
}

// Where no container engine can be had the kind lane says so, and that it is the infrastructure's fault and not the target's.
func TestNoContainerEngine(t *testing.T) {
	tap := filepath.Join(programs, "outrigger") // never started
	for name, env := range map[string]string{
		"none is installed":  "PATH=" + t.TempDir(),
		"it does not answer": "DOCKER_HOST=unix://" + filepath.Join(t.TempDir(), "nobody.sock"),
	} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			c := outrigger(t, t.Context(), temp, "run", "--lane", "kind", "--tap", tap, "--artifacts", filepath.Join(temp, "artifacts"))
			c.Env = append(c.Env, env)
			out, err := c.CombinedOutput()
			if code := exitOf(t, err); code != 3 || !strings.Contains(string(out), "hack/container-engine.sh") {
				t.Errorf("exit %d, want 3, and what to do about it in\n%.2000s", code, out)
			}
			nothingLeft(t, temp)
		})
	}
}

// A folder of artefacts is one run's at a time: another would take the first one's evidence away.
func TestArtefactsInUse(t *testing.T) {
	folder := t.TempDir()
	unlock, held, err := proc.TryLock(filepath.Join(folder, ".lock"))
	if err != nil || held {
		t.Fatal(held, err)
	}
	defer unlock()
	out, err := outrigger(t, t.Context(), t.TempDir(), "run", "--profile", "kubesphere", "--artifacts", folder).CombinedOutput()
	if code := exitOf(t, err); code != 2 || !strings.Contains(string(out), "in use by another run") {
		t.Errorf("exit %d, want 2, and why, in\n%.2000s", code, out)
	}
}

// What had been started by a run that broke can be read afterwards.
func TestLogsOfWhatBroke(t *testing.T) {
	assets, folder, temp := t.TempDir(), t.TempDir(), t.TempDir()
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
		text := "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'Kubernetes v1.37.2'; exit; fi\necho boom >&2\nexit 3\n"
		if err := os.WriteFile(filepath.Join(assets, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := outrigger(t, t.Context(), temp, "run", "--lane", "controlplane", "--artifacts", folder)
	c.Env = append(c.Env, "KUBEBUILDER_ASSETS="+assets)
	out, err := c.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(folder, "run-logs", "etcd.log"))
	if code := exitOf(t, err); code != 3 || !strings.Contains(string(log), "boom") || !strings.Contains(string(out), "verdict: infrastructure (exit 3)") {
		t.Errorf("exit %d, want 3; etcd's log %q; printed:\n%.2000s", code, log, out)
	}
	nothingLeft(t, temp)
}

// nothingLeft fails where a process, or the folder of a run, is left of what ran with this folder for its temporary files.
func nothingLeft(t *testing.T, temp string) {
	t.Helper()
	for _, p := range processesOf(t, temp) {
		t.Errorf("left running: %s", p)
	}
	runs, _ := filepath.Glob(filepath.Join(temp, "outrigger-*", "*"))
	for _, left := range runs {
		if info, err := os.Stat(left); err == nil && info.IsDir() {
			t.Errorf("left behind: %s", left)
		}
	}
}

// processesOf are the processes that have the folder in their arguments.
func processesOf(t *testing.T, temp string) (list []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range lines {
		raw, err := os.ReadFile(file) // it may have ended meanwhile
		if err == nil && bytes.Contains(raw, []byte(temp+"/")) {
			list = append(list, fmt.Sprintf("%s %.200q", file, raw))
		}
	}
	return list
}

// lanesToInterrupt are those that can be had: a control plane must have been built before.
func lanesToInterrupt() []string {
	if os.Getenv("OUTRIGGER_CONTROLPLANE") == "" {
		return []string{"admission"}
	}
	return []string{"admission", "controlplane"}
}

// Whenever a run is interrupted, it says so, and leaves nothing: no process, no folder, no half of a report. One that is
// killed leaves what the next start sweeps.
func TestInterrupted(t *testing.T) {
	const tries = 3 // a lane: each signal once
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, lane := range lanesToInterrupt() {
		for n := range tries {
			signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL}[n%3]
			after := time.Duration(random.Int64N(int64(6 * time.Second)))
			if n == 0 {
				after = time.Duration(random.Int64N(int64(300 * time.Millisecond))) // while it starts
			}
			t.Run(fmt.Sprintf("%s %s after %s", lane, signal, after.Round(time.Millisecond)), func(t *testing.T) {
				temp, artifacts := t.TempDir(), filepath.Join(t.TempDir(), "a")
				run := outrigger(t, t.Context(), temp, "run", "--lane", lane, "--profile", "istio-classic", "--artifacts", artifacts)
				var out bytes.Buffer
				run.Stdout, run.Stderr = &out, &out
				if err := run.Start(); err != nil {
					t.Fatal(err)
				}
				cut := time.AfterFunc(after, func() { _ = run.Process.Signal(signal) })
				err := run.Wait()
				// By itself, before the signal, or when nothing was left to do but to write down what it had found.
				code := exitOf(t, err)
				ended := cut.Stop() || code == report.ExitConformant
				switch {
				case ended:
					t.Logf("it ended by itself: exit %d", code)
				case signal == syscall.SIGKILL:
					again := outrigger(t, t.Context(), temp, "run", "--focus", "^kubesphere/.*=yes,namespace=ordinary", "--artifacts", artifacts)
					if out, err := again.CombinedOutput(); err != nil {
						t.Errorf("the next run: %v\n%s", err, out)
					}
				case code != report.ExitInfrastructure && code != -1:
					t.Errorf("exit %d, want %d\n%s", code, report.ExitInfrastructure, out.String())
				}
				nothingLeft(t, temp)
				file := filepath.Join(artifacts, "report.json")
				if r, err := report.Read(file); err == nil {
					if data, err := os.ReadFile(file); err != nil || report.Validate(data) != nil {
						t.Errorf("the report is not as its schema says: %v", errors.Join(err, report.Validate(data)))
					}
					if signal != syscall.SIGKILL && r.Verdict.Exit != code {
						t.Errorf("exit %d, and the report's verdict is %+v", code, r.Verdict)
					}
				} else if !errors.Is(err, os.ErrNotExist) {
					t.Errorf("half a report: %v", err)
				}
				half, _ := filepath.Glob(filepath.Join(artifacts, ".*"))
				if len(half) > 0 && signal != syscall.SIGKILL {
					t.Errorf("left in the artefacts' folder: %v", half)
				}
			})
		}
	}
}
