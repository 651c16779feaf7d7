// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/scenarios"
)

// Whatever a table needs of a lane can be said in words.
func TestEveryNeedMeansSomething(t *testing.T) {
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range set.Tables {
		needs := slices.Clone(table.Needs)
		for _, d := range table.Dimensions {
			for _, v := range d.Values {
				needs = append(needs, v.Needs...)
			}
		}
		for _, need := range needs {
			if probe.Means(string(need)) == "" {
				t.Errorf("%s (%s) needs %q, which is no feature of any lane", table.ID(), table.File, need)
			}
		}
	}
	if got := probe.Means("controler"); got != "" {
		t.Errorf("a feature that there is none of means %q", got)
	}
	if got, want := probe.Means("kubernetes-1.36"), "Kubernetes is 1.36 or newer"; got != want {
		t.Errorf("a version means %q, want %q", got, want)
	}
}

func TestListTables(t *testing.T) {
	o := &run.Options{Profile: "webhook"}
	tables, selects, err := o.Tables()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := listTables(&out, o, tables, selects); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`(?m)^table +cases +admission +controlplane +kind `,
		`(?m)^webhook/flapping +12 +12 +12 +12$`,
		`(?m)^webhook/half-broken +28 +0 +28 +28  controllers$`,
		`(?m)^controllers +workload controllers create pods; not in admission$`,
	} {
		if !regexp.MustCompile(line).MatchString(out.String()) {
			t.Errorf("no line like %s in\n%s", line, out.String())
		}
	}
}
