// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/scenarios"
	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// planned is the case as it is planned in a control plane.
func planned(t *testing.T, id string) *probe.Planned {
	t.Helper()
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	c, err := set.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	facts := probe.Facts{Lane: controlplane.Name, Kubernetes: "1.37.2", Routing: controlplane.RoutingClusterIP, Features: controlplane.Features}
	plan, err := probe.NewPlan([]*table.Table{c.Table}, facts, func(other table.Case) bool { return other.ID() == id })
	if err != nil {
		t.Fatal(err)
	}
	return plan.Arrangements[0].Cases[0]
}

// What a spec prints of a case that does not hold is all that somebody needs who has to mend it.
func TestFailureMessage(t *testing.T) {
	for _, test := range []struct {
		id, expected, rule string
	}{
		{"kubesphere/decision/workspace=named,ns-label=enabled,annotation=true,policy=enabled,host-network=no,namespace=ordinary", "injected", "annotation-true"},
		{"webhook/recoveries/fault=refused,recovery=delete-configuration,namespace=selected", "untouched", ""}, // a course: the step that is shown
	} {
		p := planned(t, test.id)
		message := Hold().FailureMessage(&probe.Judgement{
			Planned: p, Observed: table.Altered, Why: []string{"it went wrong"},
			Calls: []tap.Call{{Request: []byte(`{"request":{"uid":"1"}}`), Response: []byte("no review at all")}},
		})
		for _, want := range []string{
			test.id + "\n", "rule      " + string(p.Rule.Name) + " (" + p.Case.Table.File + ":", "because   " + p.Rule.Because, "source    ",
			"expected  " + test.expected + "\n", "observed  altered (attempted 0, received 0)", "- it went wrong",
			"review 1 of 1", `"uid": "1"`, "answer, without a patch", "no review at all",
		} {
			if !strings.Contains(message, want) {
				t.Errorf("%s: the message lacks %q:\n%s", test.id, want, message)
			}
		}
		if test.rule != "" && string(p.Rule.Name) != test.rule {
			t.Errorf("%s is decided by rule %s, want %s", test.id, p.Rule.Name, test.rule)
		}
	}
}

func TestHold(t *testing.T) {
	p := planned(t, "kubesphere/decision/workspace=named,ns-label=enabled,annotation=true,policy=enabled,host-network=no,namespace=ordinary")
	gone := errors.New("the cluster is gone")
	for name, test := range map[string]struct {
		judgement *probe.Judgement
		holds     bool
		err       error
	}{
		"as expected":     {&probe.Judgement{Planned: p}, true, nil},
		"not as expected": {&probe.Judgement{Planned: p, Why: []string{"x"}}, false, nil},
		"broken":          {&probe.Judgement{Planned: p, Err: gone}, false, gone},
	} {
		holds, err := Hold().Match(test.judgement)
		if holds != test.holds || !errors.Is(err, test.err) {
			t.Errorf("%s: holds %v, %v", name, holds, err)
		}
	}
	if _, err := Hold().Match("a word"); err == nil {
		t.Error("a word was judged")
	}
}

func TestPinboard(t *testing.T) {
	b := newBoard[int]()
	b.put("a", 1)
	if got, err := b.await(t.Context(), "a"); got != 1 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := b.await(t.Context(), "b")
		waited <- err
	}()
	broken := errors.New("the run broke")
	b.close(broken)
	if err := <-waited; !errors.Is(err, broken) {
		t.Errorf("a case that never came: %v", err)
	}
}
