// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/target"
)

const processTarget = `schema: outrigger.dev/target/v1alpha1
name: my-injector
profiles: [istio-classic, "yes"]
version: [my-injector, version]
process:
  command: [my-injector, --config, "{{.Config}}", "--address={{.Host}}:{{.Port}}", "{{.Cert}}{{.Key}}{{.Dir}}"]
  path: /mutate
  ready: /ready
  startup: 1m30s
  env: {LOG_LEVEL: info}
settings:
  file: values.yaml
  template: |
    policy: {{json .policy}}
`

const urlTarget = `schema: outrigger.dev/target/v1alpha1
name: running
profiles: [istio]
url:
  address: https://injector.example:8443/inject
  caFile: ca.pem
  settings: {policy: on, revision: 1.10}
`

func TestParse(t *testing.T) {
	got, err := target.Parse("t.yaml", []byte(processTarget))
	if err != nil {
		t.Fatal(err)
	}
	want := &target.Target{
		Schema: target.Schema, Name: "my-injector", Profiles: []string{"istio-classic", "yes"},
		Version: []string{"my-injector", "version"},
		Process: &target.Process{
			Command: []string{"my-injector", "--config", "{{.Config}}", "--address={{.Host}}:{{.Port}}",
				"{{.Cert}}{{.Key}}{{.Dir}}"},
			Path: "/mutate", Ready: "/ready", Startup: target.Duration(90 * time.Second),
			Env: map[string]string{"LOG_LEVEL": "info"},
		},
		Settings: &target.SettingsFile{File: "values.yaml", Template: "policy: {{json .policy}}\n"},
	}
	if diff := cmp.Diff(want, got, cmp.FilterPath(unexported, cmp.Ignore())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !got.Speaks("yes") || got.Speaks("istio") || got.Fixed() {
		t.Error("Speaks or Fixed say otherwise than the file")
	}

	got, err = target.Parse("t.yaml", []byte(urlTarget))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&target.Running{
		Address: "https://injector.example:8443/inject", CAFile: "ca.pem",
		Settings: table.Overlay{"policy": "on", "revision": 1.10},
	}, got.URL); diff != "" || !got.Fixed() {
		t.Errorf("fixed %v, -want +got:\n%s", got.Fixed(), diff)
	}
}

func unexported(p cmp.Path) bool {
	field, ok := p.Last().(cmp.StructField)
	return ok && field.Name() == "file"
}

func TestParseFillsInDefaults(t *testing.T) {
	got, err := target.Parse("t.yaml", []byte(
		"schema: outrigger.dev/target/v1alpha1\nname: t\nprofiles: [p]\nprocess: {command: [x]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&target.Process{
		Command: []string{"x"}, Path: "/inject", Startup: target.Duration(10 * time.Second),
	}, got.Process); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.Settings == nil || got.Settings.File != "config.yaml" {
		t.Errorf("settings %+v, want file config.yaml", got.Settings)
	}
}

// Each row replaces one piece of a good file, and must be refused with the line and the text.
func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, file, old, new, want string }{
		{"another schema", processTarget, "v1alpha1", "v9", `t.yaml:1: schema is "outrigger.dev/target/v9"`},
		{"no schema", processTarget, "schema: outrigger.dev/target/v1alpha1\n", "", "schema is \"\""},
		{"bad name", processTarget, "my-injector\nprofiles", "my injector\nprofiles", "t.yaml:2: name"},
		{"no profiles", processTarget, `[istio-classic, "yes"]`, "[]", "profiles are missing"},
		{"doubled profile", processTarget, `"yes"]`, "istio-classic]", "t.yaml:3: profile"},
		{"unknown field", processTarget, "  ready:", "  redy:", `t.yaml:8: unknown field "redy"`},
		{"doubled field", processTarget, "name: my-injector\n", "name: a\nname: b\n", "t.yaml:3: "},
		{"no command", processTarget, "  command: [", "  command: []\n  env2: [", "t.yaml:7: unknown field"},
		{"empty command", processTarget, "[my-injector, --config", `["", --config`, "command is missing"},
		{"unknown placeholder", processTarget, "{{.Cert}}", "{{.Cert2}}", "t.yaml:6: "},
		{"broken placeholder", processTarget, "{{.Cert}}", "{{.Cert", "t.yaml:6: "},
		{"path without slash", processTarget, "/mutate", "mutate", "t.yaml:7: path"},
		{"path with a host", processTarget, "/mutate", "//host/x", "t.yaml:7: "},
		{"ready with a query", processTarget, "/ready", "/ready?x=1", "t.yaml:8: "},
		{"startup without unit", processTarget, "1m30s", "90", "t.yaml:9: \"90\" is no duration"},
		{"negative startup", processTarget, "1m30s", "-1s", "is no duration"},
		{"environment", processTarget, "LOG_LEVEL", "\"A=B\"", "t.yaml:10: "},
		{"file in a folder", processTarget, "values.yaml", "../values.yaml", "t.yaml:12: file"},
		{"broken template", processTarget, "{{json .policy}}", "{{jsn .policy}}", `t.yaml:13: template: settings.template:1: function "jsn"`},
		{"both kinds", processTarget, "settings:\n", "url: {address: https://h/, caFile: x, settings: {}}\nsettings:\n", "both process and url"},
		{"neither kind", processTarget, processTarget[strings.Index(processTarget, "process:"):], "", "neither process nor url"},
		{"settings of a running one", urlTarget, "profiles:", "settings: {file: x}\nprofiles:", "settings go with process only"},
		{"http", urlTarget, "https:", "http:", "t.yaml:5: address"},
		{"no host", urlTarget, "injector.example:8443", "", "t.yaml:5: address"},
		{"no CA", urlTarget, "  caFile: ca.pem\n", "", "exactly one of caFile and caBundle"},
		{"two CAs", urlTarget, "ca.pem\n", "ca.pem\n  caBundle: x\n", "exactly one of caFile and caBundle"},
		{"no settings", urlTarget, "  settings: {policy: on, revision: 1.10}\n", "", "url.settings are missing"},
		{"not YAML", urlTarget, "profiles: [", "profiles: [[", "t.yaml:"},
		{"a tag without a value", urlTarget, "[istio]\n", "!000\n00000000:\n  0000000: 0\n", "t.yaml: it cannot be read as YAML"},
		{"a second document", urlTarget, "name:", "name: other\n---\nname:", "t.yaml:"},
		{"empty", urlTarget, urlTarget, "", "schema is"},
		{"another document's shape", urlTarget, urlTarget, "- a\n- b\n", "t.yaml:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !strings.Contains(tc.file, tc.old) {
				t.Fatalf("the row replaces %q, which is not there", tc.old)
			}
			_, err := target.Parse("t.yaml", []byte(strings.Replace(tc.file, tc.old, tc.new, 1)))
			var at *table.Error
			if !errors.As(err, &at) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.yaml")
	if _, err := target.Load(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(file, []byte(processTarget), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Load(file); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Load(file); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a file that is too large: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(processTarget))
	f.Add([]byte(urlTarget))
	f.Add([]byte("schema: outrigger.dev/target/v1alpha1\nname: t\nprofiles: [p]\nprocess: {command: ['{{']}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := target.Parse("t.yaml", raw)
		if err != nil {
			var at *table.Error
			if !errors.As(err, &at) || !strings.HasPrefix(err.Error(), "t.yaml:") {
				t.Fatalf("the error does not begin with the file: %v", err)
			}
			return
		}
		if (got.Process == nil) == (got.URL == nil) || len(got.Profiles) == 0 {
			t.Fatalf("accepted: %+v", got)
		}
	})
}

func TestReferenceIsComplete(t *testing.T) {
	// A path that looks like a template must be taken as it is.
	got := target.Reference("/opt/{{.Config}}/injector")
	if got.Process.Ready != "/readyz" || got.Settings == nil || !got.Speaks("kubesphere") {
		t.Errorf("reference target %+v", got)
	}
}

func TestFindReference(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	_, err := target.FindReference()
	if err == nil || !strings.Contains(err.Error(), "make bin") || !strings.Contains(err.Error(), "go build") {
		t.Errorf("without one: %v, want an error that says how to get it", err)
	}
	program := filepath.Join(dir, "injector")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := target.FindReference(); err == nil {
		t.Error("a file that cannot be executed was found")
	}
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	if found, err := target.FindReference(); err != nil || found != program {
		t.Errorf("found %q, %v; want %q", found, err, program)
	}
}
