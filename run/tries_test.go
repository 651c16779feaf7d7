// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
)

// asked is a case in which the sidecar must be injected.
const asked = "kubesphere/decision/workspace=named,ns-label=enabled,annotation=true,policy=enabled,host-network=no,namespace=ordinary"

// fickle is an injector that runs already. It injects at the calls (counted from 1) that the string says yes to: y or n
// for each.
func fickle(t *testing.T, script string) (targetFile string, calls *atomic.Int32) {
	t.Helper()
	calls = &atomic.Int32{}
	return serve(t, script, calls, "kubesphere", asked), calls
}

// ready is the same for another profile, with the settings that one of its cases wants.
func ready(t *testing.T, script, profile, id string) (targetFile string) {
	t.Helper()
	return serve(t, script, &atomic.Int32{}, profile, id)
}

func serve(t *testing.T, script string, calls *atomic.Int32, profile, id string) (targetFile string) {
	t.Helper()
	authority := pkitest.Authority(t)
	server := pkitest.Serve(t, authority, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(calls.Add(1))
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			http.Error(w, "no review", http.StatusBadRequest)
			return
		}
		answer := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if n <= len(script) && script[n-1] == 'y' {
			kind := admissionv1.PatchTypeJSONPatch
			answer.PatchType = &kind
			answer.Patch = []byte(`[{"op":"add","path":"/spec/containers/-","value":{"name":"istio-proxy","image":"registry.example/proxy:1"}}]`)
		}
		review.Request, review.Response = nil, answer
		_ = json.NewEncoder(w).Encode(review) // the tap sees what was not written
	}))

	dir := t.TempDir()
	write(t, filepath.Join(dir, "ca.pem"), string(authority.CABundle()))
	settings, err := json.Marshal(find(t, id).Document(table.SettingsSection))
	if err != nil {
		t.Fatal(err)
	}
	targetFile = filepath.Join(dir, "target.yaml")
	write(t, targetFile, "schema: outrigger.dev/target/v1alpha1\nname: fickle\nprofiles: ["+profile+"]\nurl:\n  address: "+
		server.URL+"/inject\n  caFile: ca.pem\n  settings: "+string(settings)+"\n")
	return targetFile
}

func find(t *testing.T, id string) table.Case {
	t.Helper()
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	c, err := set.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTries(t *testing.T) {
	for _, c := range []struct {
		script          string
		repeat, retries int
		status          report.Status
		tries, exit     int
		why             string
	}{
		{script: "y", status: report.Pass},
		{script: "n", status: report.Fail, exit: 1, why: "expected injected"},
		{script: "yyy", repeat: 3, status: report.Pass, tries: 3},
		{script: "yny", repeat: 3, status: report.Flaky, tries: 3, exit: 1, why: "passed 2 and failed 1 of 3 tries: expected injected"},
		{script: "nnn", repeat: 3, status: report.Fail, tries: 3, exit: 1},
		{script: "y", retries: 2, status: report.Pass},
		{script: "ny", retries: 2, status: report.Flaky, tries: 2, exit: 1, why: "passed 1 and failed 1 of 2 tries"},
		{script: "nnn", retries: 2, status: report.Fail, tries: 3, exit: 1},
		{script: "nnny", repeat: 2, retries: 2, status: report.Flaky, tries: 4, exit: 1},
		{script: "ny", repeat: 2, retries: 2, status: report.Flaky, tries: 2, exit: 1},
	} {
		t.Run(c.script, func(t *testing.T) {
			t.Parallel()
			targetFile, calls := fickle(t, c.script)
			r, err := once(t, run.Options{Target: targetFile, Profile: "kubesphere", Focus: "^" + asked + "$",
				Repeat: c.repeat, Retries: c.retries})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Cases) != 1 {
				t.Fatalf("%d cases in the report, want one", len(r.Cases))
			}
			res := r.Cases[0].Result(0)
			if res.Status != c.status || res.Tries != c.tries || r.Verdict.Exit != c.exit || !strings.Contains(res.Why, c.why) {
				t.Errorf("%s, %d tries, exit %d, %q; want %s, %d, %d, %q", res.Status, res.Tries, r.Verdict.Exit, res.Why,
					c.status, c.tries, c.exit, c.why)
			}
			if n := int(calls.Load()); n != len(c.script) {
				t.Errorf("the injector was called %d times, want %d", n, len(c.script))
			}
			if err := r.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A case that the target cannot have the settings for is not run, however often it is tried.
func TestNotRunIsNotRepeated(t *testing.T) {
	t.Parallel()
	targetFile, _ := fickle(t, "")
	r, err := once(t, run.Options{Target: targetFile, Profile: "kubesphere", Focus: "policy=disabled", Repeat: 2})
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Verdict.Counts.NotRun; n == 0 || n != len(r.Cases) || r.Cases[0].Result(0).Tries != 0 {
		t.Errorf("%d of %d cases not run, tries %d; want all, and none", n, len(r.Cases), r.Cases[0].Result(0).Tries)
	}
	if r.Verdict.Exit != report.ExitInfrastructure {
		t.Errorf("%+v: nothing ran, which must not read as a pass", r.Verdict)
	}
}

// Shards have every case once between them, with its times or without.
func TestShards(t *testing.T) {
	t.Parallel()
	options := run.Options{Target: shy(t), Profile: "kubesphere", Focus: "annotation=false"} // shy is right in these
	whole, err := once(t, options)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "timings.json.gz")
	if err := report.Write(file, whole); err != nil {
		t.Fatal(err)
	}
	for _, timings := range []string{"", file} {
		const n = 3
		var parts []*report.Report
		for i := range n {
			o := options
			o.Shard, o.Timings = report.Shard{Index: i + 1, Of: n}, timings
			r, err := once(t, o)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, r)
		}
		merged, err := report.Merge(parts...)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := ids(whole), ids(merged); !a.Equal(b) {
			t.Errorf("timings %q: the shards lack %d cases, and have %d that are not in the whole", timings, a.Difference(b).Len(), b.Difference(a).Len())
		}
		if merged.Verdict.Conclusion != whole.Verdict.Conclusion {
			t.Errorf("timings %q: merged %s, whole %s", timings, merged.Verdict.Conclusion, whole.Verdict.Conclusion)
		}
		if _, err := report.Merge(parts[0], parts[1], parts[1]); err == nil {
			t.Error("a shard twice was merged")
		}
		if some, err := report.Merge(parts[:n-1]...); err != nil || some.Verdict.Conclusion != report.Incomplete {
			t.Errorf("without one shard: %+v, %v; want incomplete", some.Verdict, err)
		}
	}
}

// Shards of a table whose cases have a course of time take every step of it: merged they are what the whole run is.
func TestShardsKeepCourses(t *testing.T) {
	t.Parallel()
	const id = "webhook/recoveries"
	options := run.Options{Target: ready(t, strings.Repeat("y", 1000), "webhook", firstOf(t, id)), Profile: "webhook", Focus: "^" + id + "/"}
	whole, err := once(t, options)
	if err != nil {
		t.Fatal(err)
	}
	var parts []*report.Report
	for i := range 3 {
		o := options
		o.Shard = report.Shard{Index: i + 1, Of: 3}
		r, err := once(t, o)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, r)
	}
	merged, err := report.Merge(parts...)
	if err != nil {
		t.Fatal(err)
	}
	if c := report.Compare(whole, merged, report.CompareOptions{}); len(c.Changes) > 0 || c.Unchanged == 0 {
		t.Errorf("merged, the shards are not what the whole run is: %s; %+v", c.Because, c.Changes[:min(len(c.Changes), 3)])
	}
	steps := len(whole.Table(id).Course)
	for i := range whole.Cases {
		a, b := whole.Cases[i].Result(0), merged.Cases[i].Result(0)
		if a.Status == report.NotRun {
			continue
		}
		if len(a.Timeline) < steps || len(b.Timeline) != len(a.Timeline) {
			t.Errorf("%s: %d moments in the whole run, %d in its shard, of a course of %d steps", whole.Cases[i].ID, len(a.Timeline), len(b.Timeline), steps)
		}
		for k := range min(len(a.Timeline), len(b.Timeline)) {
			if x, y := a.Timeline[k], b.Timeline[k]; x.Step != y.Step || x.Outcome != y.Outcome || x.Rule != y.Rule {
				t.Errorf("%s, step %s: %s by rule %s; in its shard step %s: %s by rule %s", whole.Cases[i].ID, x.Step, x.Outcome, x.Rule, y.Step, y.Outcome, y.Rule)
			}
		}
	}
}

// firstOf is the ID of a table's first case.
func firstOf(t *testing.T, id string) string {
	t.Helper()
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range set.Tables {
		if x.ID() == id {
			for c := range x.Cases() {
				return c.ID()
			}
		}
	}
	t.Fatalf("there is no table %s", id)
	return ""
}

func ids(r *report.Report) sets.Set[string] {
	s := sets.New[string]()
	for i := range r.Cases {
		s.Insert(r.Cases[i].ID)
	}
	return s
}

// shy never injects.
func shy(t *testing.T) string {
	file, _ := fickle(t, "")
	return file
}

// Shards that were cut by different times do not fit together, and merging says so.
func TestShardsOfDifferentTimes(t *testing.T) {
	t.Parallel()
	options := run.Options{Target: shy(t), Profile: "kubesphere", Shard: report.Shard{Index: 1, Of: 2}}
	one, err := once(t, options)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "timings.json")
	if err := report.Write(file, one); err != nil {
		t.Fatal(err)
	}
	options.Shard.Index, options.Timings = 2, file
	two, err := once(t, options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := report.Merge(one, two); err == nil || !strings.Contains(err.Error(), "selection") {
		t.Errorf("merged with error %v", err)
	}
}

func TestQuarantineAndBudgetOfARun(t *testing.T) {
	t.Parallel()
	quarantine := filepath.Join(t.TempDir(), "quarantine.yaml")
	write(t, quarantine, "quarantine:\n- case: kubesphere/decision/*annotation=true*\n  owner: \"@anna\"\n  issue: https://example.com/7\n  expires: 2999-12-31\n")
	base := run.Options{Target: shy(t), Profile: "kubesphere", Focus: "^" + asked + "$"}
	for _, c := range []struct {
		name   string
		change func(*run.Options)
		want   report.Conclusion
	}{
		{"neither", func(*run.Options) {}, report.NotConformant},
		{"quarantine", func(o *run.Options) { o.Quarantine = quarantine }, report.Conformant},
		{"and a budget", func(o *run.Options) {
			o.Quarantine, o.Budgets = quarantine, []report.Budget{budget(t, "kubesphere/decision=p50<=1ns")}
		}, report.NotConformant},
		{"and a budget that holds", func(o *run.Options) {
			o.Quarantine, o.Budgets = quarantine, []report.Budget{budget(t, "p100<=1h")}
		}, report.Conformant},
	} {
		o := base
		c.change(&o)
		r, err := once(t, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict.Conclusion != c.want {
			t.Errorf("%s: %+v, want %s", c.name, r.Verdict, c.want)
		}
	}
}

func budget(t *testing.T, s string) report.Budget {
	t.Helper()
	b, err := run.ParseBudget(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
