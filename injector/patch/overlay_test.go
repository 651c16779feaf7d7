// SPDX-License-Identifier: Apache-2.0

package patch_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/outrigger-k8s/outrigger/injector/patch"
)

// TestOverlay lays a pod's own container over the template's, as the dialect istio does.
func TestOverlay(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	template := corev1.Container{
		Name:  "istio-proxy",
		Image: "proxy",
		Args:  []string{"proxy", "sidecar"},
		Ports: []corev1.ContainerPort{{Name: "prom", ContainerPort: 15090}},
		Resources: corev1.ResourceRequirements{
			Limits: corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi")},
		},
		SecurityContext: &corev1.SecurityContext{RunAsUser: new(int64(1337)), Privileged: new(false)},
		ReadinessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}},
		VolumeMounts:    []corev1.VolumeMount{{Name: "envoy", MountPath: "/etc/istio"}, {Name: "data", MountPath: "/data"}},
	}
	tests := []struct {
		name, own, field, want string
	}{
		{"what it has", `"image":"own"`, "image", `"own"`},
		{"what it lacks", `"image":"own"`, "args", `["proxy","sidecar"]`},
		{"null is what it lacks", `"image":null`, "image", `"proxy"`},
		{"lists without a key whole", `"args":["x"]`, "args", `["x"]`},
		{"empty resources, which the API server adds", `"resources":{}`, "resources", `{"limits":{"cpu":"2","memory":"1Gi"}}`},
		{"resources one by one", `"resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}}`, "resources",
			`{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1"}}`},
		{"security context field by field", `"securityContext":{"runAsUser":0}`, "securityContext", `{"runAsUser":0,"privileged":false}`},
		{"probes whole", `"readinessProbe":{"httpGet":{"port":1}}`, "readinessProbe", `{"httpGet":{"port":1}}`},
		{"mounts by path", `"volumeMounts":[{"name":"mine","mountPath":"/data"},{"name":"mine","mountPath":"/m"}]`, "volumeMounts",
			`[{"name":"envoy","mountPath":"/etc/istio"},{"name":"mine","mountPath":"/data"},{"name":"mine","mountPath":"/m"}]`},
		{"ports by number", `"ports":[{"containerPort":15090,"name":"mine"},{"containerPort":15090,"protocol":"UDP"}]`, "ports",
			`[{"containerPort":15090,"name":"mine"},{"containerPort":15090,"protocol":"UDP"}]`},
		{"where it stands is the template's to say", `"restartPolicy":"Never"`, "restartPolicy", `"Always"`},
		{"unknown fields", `"future":{"a":1.50}`, "future", `{"a":1.50}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			template := template
			template.RestartPolicy = &always
			s := spec(only, keepFields, func(s *patch.Spec) { s.InitContainers, s.Containers = []corev1.Container{template}, nil })
			text := fmt.Sprintf(`{"metadata":{},"spec":{"initContainers":[{"name":"istio-proxy",%s}]}}`, test.own)
			_, _, after := inject(t, s, text)
			got := generic(t, after).(object)["spec"].(object)["initContainers"].([]any)[0].(object)[test.field]
			if diff := cmp.Diff(generic(t, test.want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if again, _, _ := inject(t, s, after); len(again) > 0 {
				t.Errorf("not idempotent: %q", summarize(again))
			}
		})
	}
}

func TestNewLeavesItsSpecAlone(t *testing.T) {
	s := spec(native)
	if _, err := patch.New(s); err != nil {
		t.Fatal(err)
	}
	if s.Containers[0].RestartPolicy != nil || len(s.InitContainers) != 1 {
		t.Errorf("changed: %+v", s)
	}
}

func TestStatusIsNotTheTemplatesToWrite(t *testing.T) {
	s := spec(only, func(s *patch.Spec) { s.Annotations = map[string]string{statusKey: "x"} })
	for _, text := range list(`{}`, `{"metadata":{}}`, `{"metadata":{"annotations":{}}}`) {
		_, _, after := inject(t, s, text)
		got := generic(t, after).(object)["metadata"].(object)["annotations"].(object)[statusKey]
		if want := status(nil, list("istio-proxy"), nil, nil); got != want {
			t.Errorf("%s: got %v, want %s", text, got, want)
		}
		ops, _, _ := inject(t, s, text)
		if paths := summarize(ops); len(paths) > 3 {
			t.Errorf("%s: written twice: %q", text, paths)
		}
	}
}
