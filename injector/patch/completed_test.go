// SPDX-License-Identifier: Apache-2.0

package patch_test

import (
	"encoding/json"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/outrigger-k8s/outrigger/injector/patch"
)

// TestPropertyInjectedTwiceThroughTheAPIServer injects, completes the pod as the API server does, and injects again: there
// must be nothing left to do. Whether completePod is right is for the tables to say, on a real one.
func TestPropertyInjectedTwiceThroughTheAPIServer(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := genRichSpec(r)
		_, _, once := inject(t, s, `{"metadata":{},"spec":{"containers":[`+app+`],"volumes":[{"name":"kube-api-access-x"}]}}`)
		var p corev1.Pod
		if err := json.Unmarshal([]byte(once), &p); err != nil {
			r.Fatal(err)
		}
		completePod(&p, rapid.Bool().Draw(r, "LimitRanger"), rapid.Bool().Draw(r, "AlwaysPullImages"), rapid.Bool().Draw(r, "token"))
		seen := encode(r, p)
		if ops, warnings, _ := inject(t, s, seen); len(ops) > 0 || len(warnings) > 0 {
			r.Fatalf("a second patch: %s, warnings %q\ntemplate %s\npod %s", encode(r, ops), warnings, encode(r, s), seen)
		}
	})
}

// TestCompleted states what is the template's as the API server completes it, and what is somebody else's.
func TestCompleted(t *testing.T) {
	s := spec(only, func(s *patch.Spec) {
		s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 1}}
		s.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "a"}}
		s.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1")}
		s.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 1}}, PeriodSeconds: 7}
	})
	// The template's own, in which each test changes one field.
	const ports, env, resources, probe = `[{"containerPort":1}]`, `[{"name":"A","value":"a"}]`, `{"limits":{"cpu":"1"}}`, `{"grpc":{"port":1,"service":null},"periodSeconds":7}`
	tests := []struct {
		name, field, value string
		kept               bool
	}{
		{"nothing", "image", `"proxy"`, true},
		{"a default", "imagePullPolicy", `"IfNotPresent"`, true},
		{"what a plugin prefers to the default", "imagePullPolicy", `"Always"`, true},
		{"null", "lifecycle", `null`, true},
		{"a default within a list", "ports", `[{"containerPort":1,"protocol":"TCP"}]`, true},
		{"a default within an object", "readinessProbe", `{"grpc":{"port":1,"service":""},"periodSeconds":7,"failureThreshold":3}`, true},
		{"requests from limits", "resources", `{"limits":{"cpu":"1"},"requests":{"cpu":"1"}}`, true},
		{"a limit that LimitRanger adds", "resources", `{"limits":{"cpu":"1","memory":"1Gi"}}`, true},
		{"the token", "volumeMounts", `[` + token + `]`, true},

		{"what the template states", "image", `"other"`, false},
		{"what the template states, within an object", "readinessProbe", `{"grpc":{"port":1},"periodSeconds":10}`, false},
		{"what the template states, within a list", "ports", `[{"containerPort":2}]`, false},
		{"what the template states, missing", "env", `[]`, false},
		{"what the template states, null", "env", `null`, false},
		{"a limit that the template states", "resources", `{"limits":{"cpu":"2"}}`, false},
		{"another port", "ports", `[{"containerPort":1},{"containerPort":2}]`, false},
		{"a field that no API server fills in", "command", `["x"]`, false},
		{"one within a list", "ports", `[{"containerPort":1,"hostPort":1}]`, false},
		{"one within an object", "readinessProbe", `{"grpc":{"port":1},"periodSeconds":7,"terminationGracePeriodSeconds":1}`, false},
		{"a mount that is not the token's", "volumeMounts", `[{"name":"x","mountPath":"/x"}]`, false},
		{"mounts that are none", "volumeMounts", `"x"`, false},
		{"a list that is none", "ports", `{}`, false},
		{"an object that is none", "resources", `[]`, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			container := map[string]json.RawMessage{"name": json.RawMessage(`"istio-proxy"`), "image": json.RawMessage(`"proxy"`),
				"ports": json.RawMessage(ports), "env": json.RawMessage(env), "resources": json.RawMessage(resources), "readinessProbe": json.RawMessage(probe)}
			container[test.field] = json.RawMessage(test.value)
			text := podWith(status(nil, list("istio-proxy"), nil, nil), fmt.Sprintf(`{"containers":[%s]}`, encode(t, container)))
			ops, _, _ := inject(t, s, text)
			if kept := len(ops) == 0; kept != test.kept {
				t.Errorf("kept: %v, want %v: %q", kept, test.kept, summarize(ops))
			}
		})
	}
}

// genRichSpec draws a template of which the API server has much to complete.
func genRichSpec(r *rapid.T) patch.Spec {
	some := func(what string) bool { return rapid.Bool().Draw(r, what) }
	http := func(what string) *corev1.HTTPGetAction {
		return &corev1.HTTPGetAction{Port: intstr.FromInt32(1), Path: rapid.SampledFrom(list("", "/x")).Draw(r, what)}
	}
	probe := func(what string) *corev1.Probe {
		p := &corev1.Probe{PeriodSeconds: rapid.SampledFrom([]int32{0, 7}).Draw(r, what+" period")}
		switch rapid.IntRange(0, 3).Draw(r, what) {
		case 0:
			return nil
		case 1:
			p.HTTPGet = http(what)
		case 2:
			p.GRPC = &corev1.GRPCAction{Port: 1}
		default:
			p.Exec = &corev1.ExecAction{Command: list("x")}
		}
		return p
	}
	quantities := func(what string) corev1.ResourceList {
		return rapid.SampledFrom([]corev1.ResourceList{nil, {"cpu": resource.MustParse("1000m")},
			{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1024Mi")}}).Draw(r, what)
	}
	container := func(name string) corev1.Container {
		c := corev1.Container{Name: name, Image: rapid.SampledFrom(list("a", "a:latest", "a:1", "a@sha256:0")).Draw(r, "image")}
		c.Resources.Limits, c.Resources.Requests = quantities("limits"), quantities("requests")
		c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = probe("liveness"), probe("readiness"), probe("startup")
		if some("ports") {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 53, Protocol: "UDP"}, {ContainerPort: 53}}
		}
		if some("env") {
			c.Env = []corev1.EnvVar{{Name: "A", Value: "a"}, {Name: "B", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}
		}
		if some("lifecycle") {
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: http("pre-stop")}}
		}
		if some("mounts") {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "volume", MountPath: "/v"}}
		}
		return c
	}
	fieldRef := []corev1.DownwardAPIVolumeFile{{Path: "x", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}
	return patch.Spec{
		Native:         some("native"),
		Revision:       "r1",
		StatusKey:      statusKey,
		InitContainers: []corev1.Container{container("istio-init")},
		Containers:     []corev1.Container{container("istio-proxy")},
		Volumes: []corev1.Volume{{Name: "volume", VolumeSource: rapid.SampledFrom([]corev1.VolumeSource{
			{},
			{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: "Memory"}},
			{HostPath: &corev1.HostPathVolumeSource{Path: "/x"}},
			{Secret: &corev1.SecretVolumeSource{SecretName: "x"}},
			{ConfigMap: &corev1.ConfigMapVolumeSource{}},
			{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: fieldRef}},
			{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "x"}}, {DownwardAPI: &corev1.DownwardAPIProjection{Items: fieldRef}}}}},
		}).Draw(r, "volume")}},
	}
}

// completePod imitates what the API server's defaults and plugins do to a pod, as pkg/apis/core/v1/defaults.go of
// Kubernetes 1.37 and the plugins have it.
func completePod(p *corev1.Pod, limits, alwaysPull, mountToken bool) {
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			completeContainer(&containers[i], limits, alwaysPull, mountToken)
		}
	}
	for i := range p.Spec.Volumes {
		completeVolume(&p.Spec.Volumes[i].VolumeSource)
	}
}

func completeContainer(c *corev1.Container, limits, alwaysPull, mountToken bool) {
	c.ImagePullPolicy = corev1.PullIfNotPresent
	if alwaysPull {
		c.ImagePullPolicy = corev1.PullAlways
	}
	c.TerminationMessagePath, c.TerminationMessagePolicy = "/dev/termination-log", corev1.TerminationMessageReadFile
	for i := range c.Ports {
		if c.Ports[i].Protocol == "" {
			c.Ports[i].Protocol = corev1.ProtocolTCP
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom != nil {
			e.ValueFrom.FieldRef.APIVersion = "v1"
		}
	}
	if limits && c.Resources.Limits == nil {
		c.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("3")}
	}
	for name, limit := range c.Resources.Limits {
		if c.Resources.Requests == nil {
			c.Resources.Requests = corev1.ResourceList{}
		}
		if _, stated := c.Resources.Requests[name]; !stated {
			c.Resources.Requests[name] = limit
		}
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p == nil {
			continue
		}
		for field, value := range map[*int32]int32{&p.TimeoutSeconds: 1, &p.PeriodSeconds: 10, &p.SuccessThreshold: 1, &p.FailureThreshold: 3} {
			if *field == 0 {
				*field = value
			}
		}
		completeHTTPGet(p.HTTPGet)
		if p.GRPC != nil {
			p.GRPC.Service = new("")
		}
	}
	if c.Lifecycle != nil {
		completeHTTPGet(c.Lifecycle.PreStop.HTTPGet)
	}
	if mountToken {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "kube-api-access-x", ReadOnly: true,
			MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"})
	}
}

func completeHTTPGet(h *corev1.HTTPGetAction) {
	if h == nil {
		return
	}
	if h.Path == "" {
		h.Path = "/"
	}
	h.Scheme = corev1.URISchemeHTTP
}

func completeVolume(v *corev1.VolumeSource) {
	mode := new(int32(0o644))
	switch {
	case *v == corev1.VolumeSource{}:
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	case v.HostPath != nil:
		v.HostPath.Type = new(corev1.HostPathUnset)
	case v.Secret != nil:
		v.Secret.DefaultMode = mode
	case v.ConfigMap != nil:
		v.ConfigMap.DefaultMode = mode
	case v.DownwardAPI != nil:
		v.DownwardAPI.DefaultMode = mode
		v.DownwardAPI.Items[0].FieldRef.APIVersion = "v1"
	case v.Projected != nil:
		v.Projected.DefaultMode = mode
		v.Projected.Sources[0].ServiceAccountToken.ExpirationSeconds = new(int64(3600))
		v.Projected.Sources[1].DownwardAPI.Items[0].FieldRef.APIVersion = "v1"
	}
}
