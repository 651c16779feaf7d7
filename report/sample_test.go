// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A sample makes reports of tables like the real ones, for an injector with bugs of the test's choosing. Its oracle is
// written down here once more, in the plainest way: a report needs something to report.
type sample struct {
	kubernetes, lane, version string
	bug                       func(v map[string]string, want Outcome) Outcome // nil: no bug
	notRun                    func(v map[string]string) string                // the missing feature, or empty
	size                      int                                             // extra dimension's values; makes the table larger
	shard                     Shard
}

func decisionTable(size int) Table {
	t := Table{
		ID: "istio-classic/decision", Profile: "istio-classic", Name: "decision",
		Title: "Who gets a sidecar", Digest: "sha256:decision",
		Dimensions: []Dimension{
			{Name: "host-network", Title: "spec.hostNetwork", Values: []string{"false", "true"}},
			{Name: "policy", Title: "default policy of the injector", Values: []string{"enabled", "disabled", "bogus"}},
			{Name: "ns-label", Title: "istio-injection on the namespace", Values: []string{"enabled", "disabled", "absent"}},
			{Name: "annotation", Title: "sidecar.istio.io/inject", Values: []string{"absent", "empty", "true", "yes", "false", "junk"}},
			{Name: "never", Title: "neverInjectSelector", Values: []string{"absent", "matches"}},
		},
		Rules: []Rule{
			{Name: "not-asked", When: "ns-label is disabled or absent", Outcome: Untouched,
				Because: "The namespaceSelector does not match, so the injector is never called.", Source: "istio 1.8 inject.go"},
			{Name: "host-network", When: "host-network=true", Outcome: Untouched,
				Because: "A pod on the host's network would have its node's traffic redirected.", Source: "istio 1.8 inject.go:injectRequired"},
			{Name: "unknown-policy", When: "policy=bogus", Outcome: Untouched,
				Because: "An unknown policy injects nothing, even with an explicit true.", Source: "istio 1.8 inject.go"},
			{Name: "annotation-true", When: "annotation=(true|yes)", Outcome: Injected,
				Because: "The annotation asks for it.", Source: "istio 1.8 inject.go"},
			{Name: "annotation-false", When: "annotation=(false|junk)", Outcome: Untouched,
				Because: "Any other value that is not empty says no.", Source: "istio 1.8 inject.go"},
			{Name: "never-selector", When: "never=matches", Outcome: Untouched,
				Because: "neverInjectSelector matches and no annotation says otherwise.", Source: "istio 1.8 inject.go"},
			{Name: "policy-enabled", When: "policy=enabled", Outcome: Injected, Because: "The default says yes.", Source: "istio 1.8"},
			{Name: "policy-disabled", When: "policy=disabled", Outcome: Untouched, Because: "The default says no.", Source: "istio 1.8"},
		},
	}
	if size > 1 {
		d := Dimension{Name: "shape"}
		for i := range size {
			d.Values = append(d.Values, fmt.Sprintf("s%d", i))
		}
		t.Dimensions = append(t.Dimensions, d)
	}
	t.Total = 1
	for _, d := range t.Dimensions {
		t.Total *= len(d.Values)
	}
	return t
}

func decide(v map[string]string) (string, Outcome) {
	switch {
	case v["ns-label"] != "enabled":
		return "not-asked", Untouched
	case v["host-network"] == "true":
		return "host-network", Untouched
	case v["policy"] == "bogus":
		return "unknown-policy", Untouched
	case v["annotation"] == "true" || v["annotation"] == "yes":
		return "annotation-true", Injected
	case v["annotation"] == "false" || v["annotation"] == "junk":
		return "annotation-false", Untouched
	case v["never"] == "matches":
		return "never-selector", Untouched
	case v["policy"] == "enabled":
		return "policy-enabled", Injected
	}
	return "policy-disabled", Untouched
}

func faultTable() Table {
	return Table{
		ID: "webhook/faults", Profile: "webhook", Name: "faults", Title: "What a fault on the wire does", Digest: "sha256:faults",
		Dimensions: []Dimension{
			{Name: "fault", Values: []string{"none", "http-500", "timeout", "tls-unknown-ca", "refused"}},
			{Name: "failure-policy", Values: []string{"Fail", "Ignore"}},
		},
		Rules: []Rule{
			{Name: "no-fault", Outcome: Injected, Because: "Nothing is wrong.", Source: "Kubernetes documentation"},
			{Name: "ignored", Outcome: Untouched, Because: "failurePolicy Ignore passes over a call that failed.", Source: "Kubernetes documentation"},
			{Name: "fails", Outcome: Failed, Because: "failurePolicy Fail refuses when the call failed.", Source: "Kubernetes documentation"},
		},
		Total: 10,
	}
}

// product calls f with every case of a table: its ID, the values in words, and the values by dimension.
func product(t *Table, f func(id string, values []string, by map[string]string)) {
	dims := make([]int, len(t.Dimensions))
	for i := range dims {
		dims[i] = i
	}
	for _, values := range labels(t, dims) {
		var pairs []string
		by := map[string]string{}
		for i, v := range values {
			pairs = append(pairs, t.Dimensions[i].Name+"="+v)
			by[t.Dimensions[i].Name] = v
		}
		f(t.ID+"/"+strings.Join(pairs, ","), values, by)
	}
}

func (s sample) builder(tb testing.TB) *Builder {
	tb.Helper()
	if s.kubernetes == "" {
		s.kubernetes = "1.37.2"
	}
	if s.lane == "" {
		s.lane = "admission"
	}
	if s.version == "" {
		s.version = "0.1.0"
	}
	decision, faults := decisionTable(s.size), faultTable()
	run := Run{
		Lane: s.lane, Provider: "in-process", Kubernetes: s.kubernetes,
		Target:   TargetInfo{Name: "reference", Version: s.version, Digest: "sha256:4f2a"},
		Features: []string{"dry-run", "defaulting"}, Outrigger: "0.1.0", Seed: 7, Selection: "full",
		Started: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Duration: 9310 * time.Millisecond,
		Phases: []Phase{{Name: "start", Duration: 700 * time.Millisecond}, {Name: "matrix", Duration: 8610 * time.Millisecond, At: 700 * time.Millisecond}},
		Times:  []TableTime{{decision.ID, 6 * time.Second}, {faults.ID, 2610 * time.Millisecond}},
		Host:   Host{OS: "linux", Arch: "amd64", CPUs: 2, Memory: 24 << 30, Go: "go1.26.8"},
		Rerun:  "outrigger run --lane " + s.lane + " --case {case}",
	}
	if s.shard.Of > 0 {
		run.Shards = []Shard{s.shard}
	}
	b, err := NewBuilder(run, []Table{faults, decision}) // not in order: the builder sorts
	if err != nil {
		tb.Fatal(err)
	}
	n := 0
	add := func(t *Table, rule string, want Outcome) func(string, []string, map[string]string) {
		return func(id string, values []string, by map[string]string) {
			name, outcome := rule, want
			switch {
			case t.Name == "decision":
				name, outcome = decide(by)
			case by["fault"] == "none":
				name, outcome = "no-fault", Injected
			case by["failure-policy"] == "Ignore":
				name, outcome = "ignored", Untouched
			}
			n++
			if s.shard.Of > 0 && n%s.shard.Of != s.shard.Index-1 {
				return
			}
			seen := outcome
			if s.bug != nil {
				seen = s.bug(by, outcome)
			}
			res := Result{Status: Pass, Observed: Observed{Outcome: seen}, Attempted: 1, Received: 1,
				Latency: time.Duration(400+(n*7919)%1700+(n*n)%97*13) * time.Microsecond}
			if name == "not-asked" {
				res.Attempted, res.Received = 0, 0
			}
			if by["failure-policy"] == "Ignore" && by["fault"] != "none" {
				res.Observed.FailedOpen = true
			}
			if by["fault"] != "" && by["fault"] != "none" {
				res.Recovery = time.Duration(20+n*13%400) * time.Millisecond
				if seen == Failed {
					res.Observed.Code, res.Observed.Reason = 500, "InternalError"
					res.Observed.Message = "failed calling webhook \"sidecar-injector.istio.io\": " + by["fault"]
				}
			}
			if seen != outcome {
				res.Status = Fail
				res.Why = fmt.Sprintf("the pod was %s; rule %s says %s", seen, name, outcome)
				res.Artefacts = []string{"cases/" + fmt.Sprint(n) + "/pod.yaml", "cases/" + fmt.Sprint(n) + "/tap.json"}
				if seen == Injected || seen == Altered {
					res.Patch = `[{"op":"add","path":"/spec/containers/-","value":{"name":"istio-proxy","image":"istio/proxyv2:1.8.6",` +
						`"args":["proxy","sidecar"]}},{"op":"add","path":"/metadata/annotations/sidecar.istio.io~1status","value":"{\"version\":\"1\"}"},` +
						`{"op":"replace","path":"/spec/dnsPolicy","value":"None"}]`
				}
				res.Review = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","object":{"apiVersion":"v1",` +
					`"kind":"Pod","metadata":{"annotations":{}},"spec":{"dnsPolicy":"ClusterFirst","containers":[{"name":"app","image":"app:1"}]}}}}`
			}
			if s.notRun != nil {
				if why := s.notRun(by); why != "" {
					res = Result{Status: NotRun, Why: why}
				}
			}
			if err := b.Add(CaseResult{ID: id, Table: t.ID, Values: values, Rule: name, Expected: Expected{Outcome: outcome}, Result: res}); err != nil {
				tb.Fatal(err)
			}
		}
	}
	product(&decision, add(&decision, "", ""))
	product(&faults, add(&faults, "fails", Failed))
	b.Update(func(r *Run) { r.Planned = b2len(b) })
	return b
}

// b2len is how many cases a builder has; Update holds its lock, so Len cannot be asked in there.
func b2len(b *Builder) int { return len(b.cases) }

func (s sample) report(tb testing.TB) *Report {
	tb.Helper()
	return s.builder(tb).Finish()
}

// emptyIsTrue is the bug that the samples have mostly: an empty annotation counts as true.
func emptyIsTrue(v map[string]string, want Outcome) Outcome {
	if v["annotation"] == "empty" && v["policy"] == "disabled" && want == Untouched &&
		v["ns-label"] == "enabled" && v["host-network"] == "false" {
		return Injected
	}
	return want
}
