// SPDX-License-Identifier: Apache-2.0

package run

import (
	"testing"

	"github.com/outrigger-k8s/outrigger/scenarios"
)

// A column of a version matrix is rerun on its own version.
func TestRerun(t *testing.T) {
	for want, o := range map[string]Options{
		"outrigger run --lane admission --focus {case}":                                             {},
		"outrigger run --lane controlplane --k8s-version 1.36.3 --routing endpoints --focus {case}": {Lane: "controlplane", Kubernetes: "1.36.3", Routing: "endpoints"},
		`outrigger run --lane admission --target 'it'\''s mine/target.yaml' --focus {case}`:         {Target: "it's mine/target.yaml"},
		"outrigger run --lane kind --long --focus {case}":                                           {Lane: "kind", Long: true},
		"as the caller says {case}":                                                                 {Rerun: "as the caller says {case}"},
	} {
		if err := o.defaults(); err != nil {
			t.Fatal(err)
		}
		if o.Rerun != want {
			t.Errorf("%s\nwant %s", o.Rerun, want)
		}
	}
}

// The command that a report gives for one case runs that case and no other.
func TestFocusOnAWholeID(t *testing.T) {
	t.Parallel()
	set, err := scenarios.Load()
	if err != nil {
		t.Fatal(err)
	}
	count := func(focus string) (n int) {
		o := Options{Focus: focus}
		tables, selects, err := o.Tables()
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range tables {
			for c := range x.Cases() {
				if selects(c) {
					n++
				}
			}
		}
		return n
	}
	const id = "istio-classic/mutation/pod=annotated,mode=container,review=v1" // and there is review=v1beta1
	if _, err := set.Find(id); err != nil {
		t.Fatal(err)
	}
	if one, both := count(id), count("^"+id); one != 1 || both != 2 {
		t.Errorf("the ID selects %d cases, and as the beginning of others %d; want 1 and 2", one, both)
	}
}
