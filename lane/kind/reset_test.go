// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/injector/deploy"
)

// What the harness has made is told from what a cluster has of its own, whose nodes are called after it.
func TestLeftBehind(t *testing.T) {
	const cluster = "outrigger-20261126t131455-f8fffe41"
	for name, want := range map[string]bool{
		"or-abcdefghij":                      true,
		"or-abcdefghij-5d4f-x2":              true,
		"outrigger-injector":                 true,
		"outrigger-high":                     true,
		"or-mine.example":                    false,
		"orders":                             false,
		"coredns":                            false,
		cluster + "-control-plane":           false,
		"etcd-" + cluster + "-control-plane": false,
		"outrigger-node-image-network":       false,
	} {
		if got := leftBehind(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name}}, cluster); got != want {
			t.Errorf("%s: left behind by the harness: %t, want %t", name, got, want)
		}
	}
	labelled := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "any", Labels: map[string]string{deploy.Label: deploy.LabelValue}}}
	if !leftBehind(labelled, cluster) {
		t.Error("what has the injector's label is not taken for the harness's")
	}
}

// A kept cluster is taken again only if it is what is asked for, and else the reason is said.
func TestUnfit(t *testing.T) {
	e := &entry{record: record{Name: "outrigger-x", Engine: "docker", Image: "node:v1.36.3", Config: "abc", Kubernetes: "1.36.3", Kept: true}}
	older := &entry{record: record{Name: "outrigger-y", Engine: "docker", Config: "abc", Kept: true}}
	for _, test := range []struct {
		e              *entry
		options        Options
		engine, config string
		want           string
	}{
		{e, Options{}, "podman", "abc", "is docker's, not podman's"},
		{e, Options{}, "docker", "def", "was made from another kind-config.yaml"},
		{e, Options{NodeImage: "node:v1.37.2"}, "docker", "abc", "was made from node:v1.36.3, not node:v1.37.2"},
		{e, Options{Kubernetes: "v1.37.2"}, "docker", "abc", "is Kubernetes 1.36.3, not 1.37.2"},
		{older, Options{Kubernetes: "1.37.2"}, "docker", "abc", "is a version of Kubernetes that nobody noted, not 1.37.2"},
	} {
		c := &Cluster{options: test.options}
		if why := c.unfit(test.e, test.engine, test.config); !strings.Contains(why, test.want) {
			t.Errorf("%+v of %s: %q, want %q", test.options, test.e.Name, why, test.want)
		}
	}
}
