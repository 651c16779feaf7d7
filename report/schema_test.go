// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a golden file, or writes it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make it with go test -update", err)
	}
	if !bytes.Equal(want, got) {
		a, b := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
		for i := range max(len(a), len(b)) {
			var x, y string
			if i < len(a) {
				x = a[i]
			}
			if i < len(b) {
				y = b[i]
			}
			if x != y {
				t.Fatalf("%s, line %d:\nwant %.300s\ngot  %.300s\nlook at the difference, then go test -update", path, i+1, x, y)
			}
		}
	}
}

func TestSchemaIsPublished(t *testing.T) {
	got, err := generateSchema()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.schema.json", got)
}

// everything is a report in which every field of the format occurs.
func everything(t *testing.T) *Report {
	t.Helper()
	full := sample{bug: emptyIsTrue}.report(t)
	r, err := Merge(full, sample{kubernetes: "1.36.3", lane: "controlplane", notRun: func(v map[string]string) string {
		if v["fault"] == "timeout" {
			return "the lane has no nodes"
		}
		return ""
	}}.report(t))
	if err != nil {
		t.Fatal(err)
	}
	r.Runs[0].Shards = []Shard{{1, 1}}
	r.Runs[0].Artefacts = []string{"kind/events.json"}
	r.Runs[0].LeftOut, r.Runs[0].NoEvidence = 3, 4
	r.Runs[0].Phases = append(r.Runs[0].Phases, Phase{Name: "DNS", Duration: 8e9, At: 7e8, Beside: true})
	r.Runs[0].Routing, r.Runs[0].Problem = "clusterip", "none"
	r.Runs[0].Budgets = []Budget{{Table: "webhook/faults", Quantile: 0.99, Limit: 1e9, Observed: 3e6}}
	r.Effects = []Effect{{"ab", []string{"w", "/spec goes"}}}
	r.Quarantine = []QuarantineEntry{{Case: "*", Run: "kind/*", Owner: "@anna", Issue: "#7", Expires: "2026-12-31", Because: "of", Expired: true}}
	r.Tables[0].View = &View{Rows: []string{"policy"}, Columns: []string{"annotation"}, Facets: []string{"never"}}
	r.Tables[0].Excluded = []Exclusion{{When: []Term{{"policy", []string{"bogus"}}}, Because: "no", Count: 1}}
	r.Tables[0].Course = []Step{{Name: "before", Title: "well", Does: "request"}, {Name: "after", Does: "await", Of: "before"}}
	r.Tables[0].Rules[0].Course = []StepOutcome{{"before", Accepted}}
	r.Tables[0].Rules[0].Given = "kubernetes >=1.36"
	c := &r.Cases[0]
	c.Expected = Expected{Outcome: Denied, Code: 403, Reason: "Forbidden", Message: "no", FailedOpen: true, Attempted: ">=1", Received: "0"}
	c.Results[0] = Result{Run: 0, Status: Flaky, Rule: "host-network", Expected: &Expected{Outcome: Rejected},
		Observed:  Observed{Outcome: Altered, Code: 422, Reason: "Invalid", Message: "m", FailedOpen: true, Digest: "ab"},
		Attempted: -1, Received: -1, Latency: 1000, Recovery: 2000, Nudged: 1000, Held: 3000, Tries: 3, Quarantined: true, Why: "w", Patch: "[]",
		Review: "{}", Timeline: []Moment{{At: 5, What: "fault", Outcome: Failed, Step: "during", Rule: "host-network", Expected: Rejected, Message: "m", Recovery: 9, Held: 8, Why: "w"}}, Artefacts: []string{"a"}, Rerun: "make"}
	r.Judge()
	return r
}

func TestReportsHoldToTheSchema(t *testing.T) {
	for name, r := range map[string]*Report{
		"sample": sample{}.report(t), "failing": sample{bug: emptyIsTrue}.report(t), "everything": everything(t),
		"baseline": AsBaseline(sample{}.report(t)),
	} {
		var b bytes.Buffer
		if err := Encode(&b, r); err != nil {
			t.Fatal(err)
		}
		if err := Validate(b.Bytes()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the schema must refuse: without these a schema that allows everything would pass the test above.
func TestSchemaRefuses(t *testing.T) {
	var b bytes.Buffer
	if err := Encode(&b, sample{}.report(t)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new string }{
		{"a foreign schema", `"` + SchemaVersion + `"`, `"example.com/v1"`},
		{"an unknown status", `"status":"pass"`, `"status":"passed"`},
		{"an unknown outcome", `"expected":{"outcome":"untouched"}`, `"expected":{"outcome":"left"}`},
		{"an unknown field", `"rule":"not-asked"`, `"rule":"not-asked","colour":1`},
		{"a case without an ID", `"id":"istio-classic/decision/`, `"name":"istio-classic/decision/`},
		{"a negative run", `"run":0`, `"run":-1`},
	} {
		bad := strings.Replace(b.String(), c.old, c.new, 1)
		if bad == b.String() {
			t.Fatalf("%s: nothing was replaced", c.name)
		}
		if err := Validate([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", c.name)
		}
	}
}
