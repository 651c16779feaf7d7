// SPDX-License-Identifier: Apache-2.0

// Package ci is what puts outrigger into other people's pipelines: examples to copy, and the tests that run what of
// them, and of the action in action.yml, can be run without the service that it is made for. docs/ci.md explains them.
package ci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/proc"
	"github.com/outrigger-k8s/outrigger/report"
)

// An action is the part of action.yml that is tested.
type action struct {
	Inputs map[string]struct {
		Default string `yaml:"default"`
	} `yaml:"inputs"`
	Runs struct {
		Steps []actionStep `yaml:"steps"`
	} `yaml:"runs"`
}

type actionStep struct {
	ID  string            `yaml:"id"`
	Env map[string]string `yaml:"env"`
	Run string            `yaml:"run"`
}

// step gives the step of that ID that is a script.
func (a *action) step(t *testing.T, id string) actionStep {
	t.Helper()
	for _, s := range a.Runs.Steps {
		if s.ID == id && s.Run != "" {
			return s
		}
	}
	t.Fatalf("the action has no script of the ID %s", id)
	return actionStep{}
}

func readAction(t *testing.T) *action {
	t.Helper()
	data, err := os.ReadFile("../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	a := &action{}
	if err := yaml.Unmarshal(data, a); err != nil {
		t.Fatal(err)
	}
	return a
}

var expression = regexp.MustCompile(`\$\{\{\s*(\S+)\s*\}\}`)

// environment is what GitHub would make of a step's env.
func (a *action) environment(t *testing.T, env map[string]string, known map[string]string) []string {
	t.Helper()
	var list []string
	for name, value := range env {
		value = expression.ReplaceAllStringFunc(value, func(e string) string {
			name := expression.FindStringSubmatch(e)[1]
			if v, ok := known[name]; ok {
				return v
			}
			input, ok := a.Inputs[strings.TrimPrefix(name, "inputs.")]
			if !ok {
				t.Fatalf("the action's env asks for %s, which is neither an input nor known to this test", e)
			}
			return input.Default
		})
		list = append(list, name+"="+value)
	}
	return list
}

// step runs a script as GitHub does.
func step(t *testing.T, script string, env []string, dir string) (exit int, output string) {
	t.Helper()
	return execute(t, exec.Command("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script), env, dir)
}

func execute(t *testing.T, c *exec.Cmd, env []string, dir string) (exit int, output string) {
	t.Helper()
	var out bytes.Buffer
	c.Env, c.Dir, c.Stdout, c.Stderr = append(os.Environ(), env...), dir, &out, &out
	err := c.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String()
}

// What an expression puts into a script becomes shell: there must be none.
func TestActionScriptsHoldNoExpression(t *testing.T) {
	a := readAction(t)
	scripts := 0
	for _, s := range a.Runs.Steps {
		if s.Run != "" {
			scripts++
		}
		if e := expression.FindString(s.Run); e != "" {
			t.Errorf("step %s: its script holds %s; put it into env", s.ID, e)
		}
	}
	if scripts != 2 {
		t.Errorf("the action has %d scripts, and this test runs 2", scripts)
	}
}

// temp is where the action builds outrigger; linking it takes longer than all these tests, so they share it.
var temp string

func TestMain(m *testing.M) {
	var err error
	if temp, err = os.MkdirTemp("", "outrigger-ci-*"); err != nil {
		fmt.Fprintln(os.Stderr, "make a folder to build outrigger in:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(temp); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// build runs the action's script that builds outrigger, once.
func build(t *testing.T) (bin string) {
	t.Helper()
	bin = filepath.Join(temp, "outrigger-bin")
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	a := readAction(t)
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "path")
	env := a.environment(t, a.step(t, "build").Env, map[string]string{"github.action_path": root, "runner.temp": temp})
	code, out := step(t, a.step(t, "build").Run, append(env, "GITHUB_PATH="+path), t.TempDir())
	said, err := os.ReadFile(path)
	if code != 0 || err != nil || strings.TrimSpace(string(said)) != bin {
		t.Fatalf("build: exit %d, path %q, %v\n%s", code, said, err, out)
	}
	return bin
}

func TestActionScripts(t *testing.T) {
	a := readAction(t)
	build(t)
	work := t.TempDir()
	known := map[string]string{"runner.temp": temp}
	command := map[string]string{"GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary"}
	files := func() (env []string) {
		for name, file := range command {
			path := filepath.Join(work, file)
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			env = append(env, name+"="+path)
		}
		return env
	}
	run := func(inputs map[string]string) (int, string) {
		t.Helper()
		with := map[string]string{}
		for k, v := range known {
			with[k] = v
		}
		for k, v := range inputs {
			with["inputs."+k] = v
		}
		s := a.step(t, "run")
		return step(t, s.Run, append(a.environment(t, s.Env, with), files()...), work)
	}
	read := func(file string) string {
		data, err := os.ReadFile(filepath.Join(work, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}

	if code, out := run(map[string]string{"profile": "kubesphere", "artifacts": "base"}); code != 0 {
		t.Fatalf("make a baseline: exit %d\n%s", code, out)
	}
	valid(t, filepath.Join(work, "base", "report.json"))
	past := filepath.Join(work, "past.yaml")
	if err := os.WriteFile(past, []byte("quarantine:\n- {case: x/*, owner: o, issue: i, expires: 2020-01-01}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		inputs  map[string]string
		exit    int
		summary string // what the summary of the step must say
	}{
		{"all is well", nil, 0, "conformant"},
		{"as the baseline", map[string]string{"baseline": "base/report.json"}, 0, "## Comparison: ✅"},
		{"a shard", map[string]string{"shard": "1/3", "retries": "1"}, 0, "shards 1/3"},
		{"cases are missing", map[string]string{"baseline": "base/report.json", "focus": "host-network=no"}, report.ExitMissing, "missing-case"},
		{"no such lane", map[string]string{"lane": "nowhere"}, report.ExitUsage, ""},
		{"shell in an input", map[string]string{"focus": `"; touch owned; $(touch owned)`}, report.ExitUsage, ""},
		{"no such baseline", map[string]string{"baseline": "nix.json"}, report.ExitInfrastructure, "conformant"},
		{"no such quarantine", map[string]string{"quarantine": "nix.yaml"}, report.ExitUsage, ""},
		{"an expired quarantine", map[string]string{"quarantine": past}, 1, "expired"},
		{"an expired quarantine beside a baseline", map[string]string{"quarantine": past, "baseline": "base/report.json"}, report.ExitExpiredQuarantine, "expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inputs := map[string]string{"profile": "kubesphere", "artifacts": "artifacts"}
			for k, v := range c.inputs {
				inputs[k] = v
			}
			code, out := run(inputs)
			if code != c.exit {
				t.Errorf("exit %d, want %d\n%s", code, c.exit, out)
			}
			if want := fmt.Sprintf("report=artifacts/report.json\nexit-code=%d\n", c.exit); read("output") != want {
				t.Errorf("outputs %q, want %q", read("output"), want)
			}
			if !strings.Contains(read("summary"), c.summary) {
				t.Errorf("the step's summary does not say %q:\n%s", c.summary, read("summary"))
			}
			if file := filepath.Join(work, "artifacts", "report.json"); c.exit != report.ExitUsage {
				valid(t, file)
			}
			if page, err := os.ReadFile(filepath.Join(work, "artifacts", "report.html")); c.exit != report.ExitUsage &&
				(err != nil || strings.Contains(string(page), "What changed since the baseline") != (c.inputs["baseline"] == "base/report.json")) {
				t.Errorf("the page compares, or not, where there is a baseline: %v", err)
			}
			if _, err := os.Stat(filepath.Join(work, "owned")); err == nil {
				t.Error("an input became shell")
			}
		})
	}
}

func readJob(t *testing.T) *batchv1.Job {
	t.Helper()
	data, err := os.ReadFile("indexed-job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	job := &batchv1.Job{}
	if err := sigsyaml.UnmarshalStrict(data, job); err != nil {
		t.Fatal(err)
	}
	return job
}

// A real API server takes the Job, in a namespace that wants the strictest pods there are, and without a warning.
func TestIndexedJobIsTaken(t *testing.T) {
	if os.Getenv("OUTRIGGER_CONTROLPLANE") == "" {
		t.Skip("set OUTRIGGER_CONTROLPLANE=1 to run tests against a real control plane")
	}
	processes, err := proc.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = processes.Close() })
	cp, err := controlplane.Start(t.Context(), processes, controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cp.Stop)
	config := cp.RESTConfig()
	var warnings bytes.Buffer
	config.WarningHandler = rest.NewWarningWriter(&warnings, rest.WarningWriterOptions{})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	strict := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strict", Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), strict, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	options := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict}
	if _, err := client.BatchV1().Jobs(strict.Name).Create(t.Context(), readJob(t), options); err != nil {
		t.Error(err)
	}
	if warnings.Len() > 0 {
		t.Errorf("the API server warns: %s", &warnings)
	}
}

// valid fails where a report that a run left does not follow the published schema.
func valid(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Validate(data); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// The pods' command and the script that collects their logs, without a cluster between them: kubectl is a script that
// knows the logs.
func TestIndexedJob(t *testing.T) {
	job := readJob(t)
	n := int(*job.Spec.Completions)
	container := job.Spec.Template.Spec.Containers[0]
	if part := fmt.Sprintf("--shard=index/%d", n); !slices.Contains(container.Args, part) {
		t.Errorf("%d completions, and the arguments are %q: some cases would be nobody's, or some pods without any", n, container.Args)
	}

	bin, stub, logs, work := build(t), t.TempDir(), t.TempDir(), t.TempDir()
	kubectl := `#!/bin/sh
case "$1" in
wait) [ "$3" = --for=condition=Complete ] || exec sleep 60 ;;
get) case "$*" in *completions*) echo ` + fmt.Sprint(n) + ` ;; *) echo "$*" | sed 's/.*job-completion-index=\([0-9]*\).*/\1/' ;; esac ;;
logs) cat "$LOGS/$2" ;;
esac
`
	if err := os.WriteFile(filepath.Join(stub, "kubectl"), []byte(kubectl), 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + bin + ":" + stub + ":" + os.Getenv("PATH"), "LOGS=" + logs}
	for i := range n {
		c := exec.Command(filepath.Join(bin, "outrigger"), append(slices.Clone(container.Args), "--profile=kubesphere")...)
		code, out := execute(t, c, append(env, fmt.Sprintf("JOB_COMPLETION_INDEX=%d", i)), work)
		if code != 0 || !strings.HasPrefix(lastLine(out), "verdict: conformant") {
			t.Fatalf("index %d: exit %d\n%s", i, code, out)
		}
		if err := os.WriteFile(filepath.Join(logs, fmt.Sprint(i)), []byte("a line before\n"+out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script, err := filepath.Abs("indexed-job-collect.sh")
	if err != nil {
		t.Fatal(err)
	}
	if code, out := execute(t, exec.Command(script, "all"), env, work); code != 0 || !strings.Contains(out, "verdict: conformant (exit 0): 2,430 cases held") {
		t.Errorf("collect: exit %d\n%s", code, out)
	}
	valid(t, filepath.Join(work, "all", "report.json"))
	if err := os.WriteFile(filepath.Join(logs, "1"), []byte("the pod was killed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := execute(t, exec.Command(script, "all"), env, work); code != report.ExitInfrastructure || !strings.Contains(out, "lacks 1 of its 4 shards (2)") {
		t.Errorf("collect without a shard: exit %d\n%s", code, out)
	}
}
