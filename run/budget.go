// SPDX-License-Identifier: Apache-2.0

package run

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/outrigger-k8s/outrigger/report"
	"github.com/outrigger-k8s/outrigger/table"
)

var budgetPattern = regexp.MustCompile(`^(?:([^=\s]+)=)?p([0-9]{1,2}(?:\.[0-9]{1,3})?|100)<=(.+)$`)

// ParseBudget reads a bound on latency: "istio-classic/decision=p99<=50ms", or "p99<=50ms" for all tables together.
func ParseBudget(s string) (report.Budget, error) {
	m := budgetPattern.FindStringSubmatch(s)
	if m == nil {
		return report.Budget{}, usage("budget %q: write TABLE=p99<=50ms, or p99<=50ms for all tables", s)
	}
	percent, err := strconv.ParseFloat(m[2], 64)
	if err != nil || percent <= 0 {
		return report.Budget{}, usage("budget %q: p%s is no quantile: it must be above 0, and at most p100", s, m[2])
	}
	limit, err := time.ParseDuration(m[3])
	if err != nil || limit <= 0 {
		return report.Budget{}, usage("budget %q: %q is no duration above 0; write for example 50ms or 1.5s", s, m[3])
	}
	return report.Budget{Table: m[1], Quantile: math.Round(percent*1000) / 100_000, Limit: limit}, nil
}

// checkBudgets makes sure that each budget is about a table that is run: one about nothing would never be broken.
func checkBudgets(budgets []report.Budget, tables []*table.Table) error {
	for _, b := range budgets {
		if b.Table != "" && !slices.ContainsFunc(tables, func(t *table.Table) bool { return t.ID() == b.Table }) {
			return usage("a budget for table %s, which is not run: take one of the tables' IDs, like istio-classic/decision", b.Table)
		}
	}
	return nil
}
