// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/run"
)

func readme(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

var explained = regexp.MustCompile("(?s)\n    bin/outrigger explain '([^']+)'\n\n```\n(.*?)```\n")

// What the README says that explain prints, it prints.
func TestReadmeExplains(t *testing.T) {
	blocks := explained.FindAllStringSubmatch(readme(t), -1)
	if len(blocks) == 0 {
		t.Fatal("the README explains no case")
	}
	for _, block := range blocks {
		out, err := outrigger(t, t.Context(), t.TempDir(), "explain", block[1]).CombinedOutput()
		if err != nil {
			t.Errorf("explain %s: %v\n%s", block[1], err, out)
			continue
		}
		said := strings.Split(string(out), "\n")
		for _, line := range strings.Split(block[2], "\n") {
			if strings.TrimSpace(line) != "…" && !slices.Contains(said, line) {
				t.Errorf("explain %s does not print %q; it prints\n%s", block[1], line, out)
			}
		}
	}
}

// The README shows the end of a run in a control plane; it has as many cases as there are now.
func TestReadmeCountsCases(t *testing.T) {
	o := run.Options{Lane: controlplane.Name}
	tables, _, err := o.Tables()
	if err != nil {
		t.Fatal(err)
	}
	facts := probe.Facts{
		Lane: controlplane.Name, Kubernetes: "1.37.2", Routing: controlplane.RoutingClusterIP, Features: controlplane.FeaturesHere(controlplane.RoutingClusterIP),
	}
	plan, err := probe.NewPlan(tables, facts, nil)
	if err != nil {
		t.Fatal(err)
	}
	stated := regexp.MustCompile(`verdict: conformant \(exit 0\): ([0-9,]+) cases held`).FindStringSubmatch(readme(t))
	if stated == nil {
		t.Fatal("the README does not show how a run ends")
	}
	if n, err := strconv.Atoi(strings.ReplaceAll(stated[1], ",", "")); err != nil || n != plan.Len() {
		t.Errorf("the README says %s, and there are %d cases", stated[1], plan.Len())
	}
}
