// SPDX-License-Identifier: Apache-2.0

package ci

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/outrigger-k8s/outrigger/report"
)

// A gitlabJob is the part of a job of gitlab-ci.yaml that is tested.
type gitlabJob struct {
	BeforeScript []string `yaml:"before_script"`
	Script       []string `yaml:"script"`
	Parallel     int      `yaml:"parallel"`
}

// The jobs' scripts, as GitLab's runner joins them, in the repository of an injector. Only the toolchain is not the real one:
// what it would fetch and build is there already.
func TestGitLabScripts(t *testing.T) {
	data, err := os.ReadFile("gitlab-ci.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Common gitlabJob `yaml:".outrigger"`
		Run    gitlabJob `yaml:"outrigger"`
		Gate   gitlabJob `yaml:"outrigger-gate"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	bin, work := build(t), t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	put("outrigger/target.yaml", `schema: outrigger.dev/target/v1alpha1
name: my-injector
profiles: [kubesphere]
process:
  command: [`+work+`/bin/my-injector, serve, --config, "{{.Config}}", --tls-cert, "{{.Cert}}", --tls-key, "{{.Key}}", --listen, "{{.Host}}:{{.Port}}", --metrics-listen, "", --follow=false]
  path: /inject
  ready: /readyz
`, 0o600)
	put("outrigger/quarantine.yaml", "quarantine: []\n", 0o600)
	put("toolchain/go", fmt.Sprintf(`#!/bin/bash
set -e
case $1 in
env) echo %[1]s/gopath;;
install) mkdir -p %[1]s/gopath/bin && ln -sf %[2]s/outrigger %[1]s/gopath/bin/;;
build) mkdir -p bin && cp %[2]s/injector bin/my-injector;;
*) exit 9;;
esac
`, work, bin), 0o700)
	run := func(job gitlabJob, env ...string) (int, string) {
		script := strings.Join(append(append([]string{}, file.Common.BeforeScript...), job.Script...), "\n")
		return step(t, script, append(env, "PATH="+filepath.Join(work, "toolchain")+":/usr/bin:/bin"), work)
	}

	if file.Run.Parallel < 2 || len(file.Gate.Script) == 0 {
		t.Fatalf("the file has other jobs than this test: %+v", file)
	}
	for i := range file.Run.Parallel {
		code, out := run(file.Run, fmt.Sprintf("CI_NODE_INDEX=%d", i+1), fmt.Sprintf("CI_NODE_TOTAL=%d", file.Run.Parallel))
		if code != 0 {
			t.Fatalf("part %d: exit %d\n%s", i+1, code, out)
		}
	}
	if code, out := run(file.Gate); code != report.ExitInfrastructure || !strings.Contains(out, "baseline.json.gz") {
		t.Errorf("without a baseline: exit %d\n%s", code, out)
	}
	whole := filepath.Join(work, "_artifacts", "report.json")
	valid(t, whole)
	r, err := report.Read(whole)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict.Exit != report.ExitConformant || len(r.Runs) != 1 || len(r.Runs[0].Shards) != file.Run.Parallel {
		t.Errorf("put together, the parts are %+v of %d runs", r.Verdict, len(r.Runs))
	}
	if err := report.Write(filepath.Join(work, "outrigger", "baseline.json.gz"), report.AsBaseline(r)); err != nil {
		t.Fatal(err)
	}
	if code, out := run(file.Gate); code != 0 {
		t.Errorf("as the baseline: exit %d\n%s", code, out)
	}
	if err := os.RemoveAll(filepath.Join(work, "shards", "3")); err != nil {
		t.Fatal(err)
	}
	if code, out := run(file.Gate); code != report.ExitInfrastructure || !strings.Contains(out, "lacks 1 of its 4 shards (3)") {
		t.Errorf("a part is missing: exit %d\n%s", code, out)
	}
}
