// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/probe"
)

func TestByService(t *testing.T) {
	for url, path := range map[string]string{
		"https://tap.outrigger-tap.svc/inject.outrigger.dev": "/inject.outrigger.dev",
		"https://tap.outrigger-tap.svc/a%20b":                "/a%20b",
		"https://127.0.0.1:1/inject":                         "", // a connection that is to fail
		"https://tap.outrigger-tap.svc.elsewhere/inject":     "",
	} {
		c := admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: []byte("bundle")}
		byService(&c)
		switch {
		case path == "" && (c.URL == nil || *c.URL != url || c.Service != nil):
			t.Errorf("%s: changed to %+v", url, c)
		case path != "" && (c.URL != nil || c.Service == nil || *c.Service.Path != path || c.Service.Namespace != TapNamespace || *c.Service.Port != 443 || string(c.CABundle) != "bundle"):
			t.Errorf("%s: became %+v", url, c)
		}
	}
}

// Nothing that the tables create for real is started; a DaemonSet must make its pods all the same.
func TestHold(t *testing.T) {
	var pod, daemon, bound corev1.PodSpec
	bound.NodeName = "node"
	hold("Deployment", &pod)
	hold("DaemonSet", &daemon)
	hold("Pod", &bound)
	if len(pod.NodeSelector) == 0 || pod.SchedulerName != nobody {
		t.Errorf("a Deployment's pod: %+v", pod)
	}
	if len(daemon.NodeSelector) != 0 || daemon.SchedulerName != nobody {
		t.Errorf("a DaemonSet's pod: %+v", daemon)
	}
	if len(bound.NodeSelector) != 0 || bound.SchedulerName != "" {
		t.Errorf("a pod with a node: %+v", bound)
	}
}

// What waits for the back-off of controllers is run where it is asked for.
func TestFeaturesOfLong(t *testing.T) {
	for _, long := range []bool{false, true} {
		if got := slices.Contains(Features(long), probe.FeatureLong); got != long {
			t.Errorf("asked for: %t; there: %t", long, got)
		}
	}
}

// What an earlier run has left is removed, and nothing else.
func TestRemoveCollected(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"nodes/kubelet.log", "audit.log", "injector-a.log", "report.json", "proofs/pod.json"} {
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := Collected(folder), []string{"audit.log", "injector-a.log", "nodes"}; !slices.Equal(got, want) {
		t.Errorf("collected %v, want %v", got, want)
	}
	if err := RemoveCollected(folder); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 2 || len(Collected(folder)) != 0 {
		t.Errorf("left are %v, error %v", left, err)
	}
}

// What ended by itself and was started again is told of, by its pod and its code; a pod that never did is not.
func TestEndedOf(t *testing.T) {
	well, again := corev1.Pod{}, corev1.Pod{}
	well.Name, again.Name = "tap-a", "tap-b"
	well.Status.ContainerStatuses = []corev1.ContainerStatus{{}}
	again.Status.ContainerStatuses = []corev1.ContainerStatus{{
		RestartCount: 2, LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}},
	}}
	if err := endedOf("tap", []corev1.Pod{well}); err != nil {
		t.Errorf("nothing has ended: %v", err)
	}
	err := endedOf("tap", []corev1.Pod{well, again})
	if want := "the tap's pod tap-b has ended 2 times by itself, last with code 137 (OOMKilled)"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}
