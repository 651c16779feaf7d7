// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	gomegatypes "github.com/onsi/gomega/types"

	"github.com/outrigger-k8s/outrigger/probe"
)

// Hold succeeds where a judgement says that its case is as its rule says. Its failure says everything about the case.
func Hold() gomegatypes.GomegaMatcher { return hold{} }

type hold struct{}

func (hold) Match(actual any) (bool, error) {
	j, ok := actual.(*probe.Judgement)
	if !ok {
		return false, fmt.Errorf("Hold expects a *probe.Judgement, not a %T", actual)
	}
	if j.Err != nil {
		return false, j.Err
	}
	return j.Holds(), nil
}

func (hold) FailureMessage(actual any) string {
	j := actual.(*probe.Judgement)
	rule, t := j.Planned.Rule, j.Planned.Case.Table
	source := rule.Source
	if source == "" {
		source = t.Source
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", j.Planned.Case.ID())
	fmt.Fprintf(&b, "  rule      %s (%s:%d)\n", rule.Name, t.File, rule.Line)
	fmt.Fprintf(&b, "  because   %s\n", rule.Because)
	fmt.Fprintf(&b, "  source    %s\n", source)
	fmt.Fprintf(&b, "  expected  %s\n", j.Planned.Then().Outcome)
	fmt.Fprintf(&b, "  observed  %s (attempted %d, received %d)\n", j.Observed, j.Attempted, j.Received)
	for _, why := range j.Why {
		fmt.Fprintf(&b, "  - %s\n", why)
	}
	for i := range j.Calls {
		call := &j.Calls[i]
		fmt.Fprintf(&b, "  review %d of %d\n%s\n", i+1, len(j.Calls), indented(call.Request))
		if patch := probe.Patch(call); patch != nil {
			fmt.Fprintf(&b, "  patch\n%s\n", indented(patch))
			continue
		}
		fmt.Fprintf(&b, "  answer, without a patch\n%s\n", indented(probe.Answer(call)))
	}
	return b.String()
}

func (hold) NegatedFailureMessage(actual any) string {
	return actual.(*probe.Judgement).Planned.Case.ID() + " holds, and should not"
}

func indented(raw []byte) string {
	var b bytes.Buffer
	if json.Indent(&b, raw, "    ", "  ") != nil {
		return "    " + string(raw)
	}
	return "    " + b.String()
}
