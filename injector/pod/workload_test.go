// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"testing"

	"github.com/outrigger-k8s/outrigger/injector/pod"
)

func TestOwner(t *testing.T) {
	tests := []struct {
		name, pod, want string
	}{
		{"nothing known", `{}`, "Pod/"},
		{"null metadata", `{"metadata":null}`, "Pod/"},
		{"a pod of its own", `{"metadata":{"name":"web-0","generateName":"web-"}}`, "Pod/web-0"},
		{"a prefix is better than nothing", `{"metadata":{"generateName":"web-"}}`, "Pod/web-"},
		{"deployment", `{"metadata":{"labels":{"pod-template-hash":"5d4f"},
			"ownerReferences":[{"kind":"ReplicaSet","name":"web-5d4f","controller":true}]}}`, "Deployment/web"},
		{"deployment with a dash", `{"metadata":{"labels":{"pod-template-hash":"5d4f"},
			"ownerReferences":[{"kind":"ReplicaSet","name":"my-web-5d4f","controller":true}]}}`, "Deployment/my-web"},
		{"replica set without a hash", `{"metadata":{
			"ownerReferences":[{"kind":"ReplicaSet","name":"web-5d4f","controller":true}]}}`, "ReplicaSet/web-5d4f"},
		{"replica set of another hash", `{"metadata":{"labels":{"pod-template-hash":"beef"},
			"ownerReferences":[{"kind":"ReplicaSet","name":"web-5d4f","controller":true}]}}`, "ReplicaSet/web-5d4f"},
		{"replica set ending in a dash", `{"metadata":{
			"ownerReferences":[{"kind":"ReplicaSet","name":"web-","controller":true}]}}`, "ReplicaSet/web-"},
		{"cron job", `{"metadata":{"ownerReferences":[{"kind":"Job","name":"nightly-29384756","controller":true}]}}`,
			"CronJob/nightly"},
		{"cron job before 1.22", `{"metadata":{"ownerReferences":[{"kind":"Job","name":"nightly-1629384756","controller":true}]}}`,
			"CronJob/nightly"},
		{"job", `{"metadata":{"ownerReferences":[{"kind":"Job","name":"migrate","controller":true}]}}`, "Job/migrate"},
		{"job with a version", `{"metadata":{"ownerReferences":[{"kind":"Job","name":"migrate-2","controller":true}]}}`,
			"Job/migrate-2"},
		{"job that is only a time", `{"metadata":{"ownerReferences":[{"kind":"Job","name":"-29384756","controller":true}]}}`,
			"Job/-29384756"},
		{"stateful set", `{"metadata":{"name":"db-0","ownerReferences":[{"kind":"StatefulSet","name":"db","controller":true}]}}`,
			"StatefulSet/db"},
		{"the controller among owners", `{"metadata":{"ownerReferences":[{"kind":"Node","name":"n1","controller":false},
			{"kind":"DaemonSet","name":"log","controller":true}]}}`, "DaemonSet/log"},
		{"owner without the field controller", `{"metadata":{"name":"p","ownerReferences":[{"kind":"ReplicaSet","name":"web-5d4f"}]}}`,
			"Pod/p"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := pod.Parse([]byte(test.pod))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Owner().String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	var none *pod.Pod
	if got := none.Owner().String(); got != "Pod/" {
		t.Errorf("nil pod: got %s", got)
	}
}

func TestParseTellsMissingFromEmpty(t *testing.T) {
	p, err := pod.Parse([]byte(`{"spec":{"containers":[],"volumes":null}}`))
	if err != nil {
		t.Fatal(err)
	}
	if spec := p.Lists(); spec.Containers == nil || spec.Volumes != nil || spec.InitContainers != nil {
		t.Errorf("got %+v, want empty containers, no volumes, no init containers", spec)
	}
	if _, err := pod.Parse([]byte(`{"spec":{"hostNetwork":"yes"}}`)); err == nil {
		t.Error("a wrong type must be an error")
	}
}
