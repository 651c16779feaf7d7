// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"encoding/json"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/outrigger-k8s/outrigger/injector/settings"
)

func manifests(t *testing.T, o Options) Set {
	t.Helper()
	s, err := Manifests(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func names(objects []*unstructured.Unstructured) []string {
	var out []string
	for _, o := range objects {
		out = append(out, strings.TrimPrefix(o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName(), "/"))
	}
	return out
}

func TestManifests(t *testing.T) {
	s := manifests(t, Options{})
	want := []string{
		"Namespace /outrigger-injector",
		"ServiceAccount outrigger-injector/injector",
		"Role outrigger-injector/injector",
		"RoleBinding outrigger-injector/injector",
		"ClusterRole /outrigger-injector",
		"ClusterRoleBinding /outrigger-injector",
		"ConfigMap outrigger-injector/injector",
		"Service outrigger-injector/injector",
		"NetworkPolicy outrigger-injector/injector",
		"Deployment outrigger-injector/injector",
		"PodDisruptionBudget outrigger-injector/injector",
	}
	if diff := cmp.Diff(want, names(s.Injector)); diff != "" {
		t.Errorf("the injector (-want +got):\n%s", diff)
	}
	want = []string{"MutatingWebhookConfiguration /outrigger-injector", "ValidatingWebhookConfiguration /outrigger-injector"}
	if diff := cmp.Diff(want, names(s.Webhooks)); diff != "" {
		t.Errorf("the webhooks (-want +got):\n%s", diff)
	}
	for _, o := range slices.Concat(s.Injector, s.Webhooks) {
		if o.GetLabels()[Label] != LabelValue {
			t.Errorf("%s %s has no label %s", o.GetKind(), o.GetName(), Label)
		}
		if text := encoded(t, o); strings.Contains(text, "caBundle") {
			t.Errorf("%s %s has a caBundle: applying it again would take the injector's away", o.GetKind(), o.GetName())
		}
	}
}

// TestKustomizationsNameEveryFile: a file that is not named is in no cluster.
func TestKustomizationsNameEveryFile(t *testing.T) {
	var read int
	for _, kustomization := range []string{injectorKustomization, webhooksKustomization} {
		top, err := decode(kustomization)
		if err != nil {
			t.Fatal(err)
		}
		named, _, _ := unstructured.NestedStringSlice(top[0].Object, "resources")
		read += len(named) + 1
		for _, n := range named {
			if _, err := fs.Stat(files, path.Join(path.Dir(kustomization), n)); err != nil {
				t.Errorf("%s names %s: %v", kustomization, n, err)
			}
		}
	}
	all := 0
	err := fs.WalkDir(files, ".", func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all++
		}
		return err
	})
	if err != nil || all != read {
		t.Errorf("there are %d files, and the kustomizations name %d, %v", all, read, err)
	}
}

func TestOptions(t *testing.T) {
	plain, other := manifests(t, Options{}), manifests(t, Options{
		Namespace: "mesh", Image: "registry.example/injector:1", Replicas: 3, Args: []string{"--log-level=debug"},
	})
	before, after := slices.Concat(plain.Injector, plain.Webhooks), slices.Concat(other.Injector, other.Webhooks)
	for i := range before {
		// What stays is the label alone; everything else of the namespace and the image has moved.
		got := encoded(t, after[i])
		got = strings.ReplaceAll(got, `"`+Label+`":"`+LabelValue+`"`, "")
		if strings.Contains(got, DefaultNamespace) || strings.Contains(got, DefaultImage) {
			t.Errorf("%s still names the default namespace or image: %s", after[i].GetKind(), got)
		}
		if after[i].GetKind() == "Deployment" || after[i].GetKind() == "ConfigMap" {
			continue
		}
		moved := strings.ReplaceAll(encoded(t, before[i]), `"outrigger-injector"`, `"mesh"`)
		moved = strings.ReplaceAll(moved, `"`+Label+`":"mesh"`, `"`+Label+`":"`+LabelValue+`"`)
		if moved != encoded(t, after[i]) {
			t.Errorf("%s is\n%s\nwant\n%s", after[i].GetKind(), encoded(t, after[i]), moved)
		}
	}
	deployment := encoded(t, find(t, other, "Deployment"))
	for _, part := range []string{`"replicas":3`, `"image":"registry.example/injector:1"`, `"--drain=10s","--log-level=debug"]`} {
		if !strings.Contains(deployment, part) {
			t.Errorf("no %s in %s", part, deployment)
		}
	}
	own := manifests(t, Options{Configuration: []byte("dialect: istio\n")})
	if got, _, _ := unstructured.NestedString(find(t, own, "ConfigMap").Object, "data", ConfigurationKey); got != "dialect: istio\n" {
		t.Errorf("the configuration is %q", got)
	}
	for _, bad := range []Options{{Namespace: "Mesh"}, {Replicas: -1}} {
		if _, err := Manifests(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

// TestConfiguration reads the deployed configuration as the injector does.
func TestConfiguration(t *testing.T) {
	text, _, _ := unstructured.NestedString(find(t, manifests(t, Options{}), "ConfigMap").Object, "data", ConfigurationKey)
	s, err := settings.Parse("configuration.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Warnings) > 0 {
		t.Errorf("warnings: %v", s.Warnings)
	}
	if strings.Count(text, DefaultImage) != 2 {
		t.Errorf("the stand-ins are not of image %s", DefaultImage)
	}
}

func find(t *testing.T, s Set, kind string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range slices.Concat(s.Injector, s.Webhooks) {
		if o.GetKind() == kind {
			return o
		}
	}
	t.Fatalf("there is no %s", kind)
	return nil
}

func encoded(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	text, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestWebhookIsWhatUninstallLooksFor: see awaitForgotten.
func TestWebhookIsWhatUninstallLooksFor(t *testing.T) {
	webhook := encoded(t, find(t, manifests(t, Options{}), "MutatingWebhookConfiguration"))
	key, value, _ := strings.Cut(selected, "=")
	for _, part := range []string{`"name":"` + webhookName + `"`, `"matchLabels":{"` + key + `":"` + value + `"}`} {
		if !strings.Contains(webhook, part) {
			t.Errorf("no %s in %s", part, webhook)
		}
	}
}

// A file that is no kustomization is told of as such.
func TestNoKustomization(t *testing.T) {
	for name, want := range map[string]string{
		"configuration.yaml": "configuration.yaml: it names no resources",
		"none.yaml":          "none.yaml",
	} {
		if _, err := read(name); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "%!") {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
