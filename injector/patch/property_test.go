// SPDX-License-Identifier: Apache-2.0

package patch_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/outrigger-k8s/outrigger/injector/decide"
	"github.com/outrigger-k8s/outrigger/injector/patch"
	"github.com/outrigger-k8s/outrigger/injector/pod"
)

// sidecars and others are names that a template uses, and names that only pods use.
var sidecars, others = list("istio-init", "istio-proxy", "agent"), list("app", "db", "old-proxy", "")

// object is JSON as a map; it loses the order of fields, which does not matter.
type object = map[string]any

func genSpec(t *rapid.T) patch.Spec {
	names := rapid.Permutation(sidecars).Draw(t, "template names")
	inits := rapid.IntRange(0, len(names)).Draw(t, "of which init containers")
	container := func(name string) corev1.Container {
		c := corev1.Container{Name: name, Image: rapid.SampledFrom(list("a", "b")).Draw(t, "image")}
		for _, key := range rapid.SliceOfDistinct(rapid.SampledFrom(list("A", "B")), rapid.ID).Draw(t, "env") {
			c.Env = append(c.Env, corev1.EnvVar{Name: key, Value: "template"})
		}
		return c
	}
	s := patch.Spec{
		Native:    rapid.Bool().Draw(t, "native"),
		Own:       rapid.SampledFrom([]decide.Own{decide.Replace, decide.KeepFields}).Draw(t, "own"),
		Revision:  rapid.SampledFrom(list("r1", "r2")).Draw(t, "revision"),
		StatusKey: statusKey,
		Annotations: rapid.MapOf(rapid.SampledFrom(list("a", "b/c~d", "~1")), rapid.Just("template")).
			Draw(t, "template annotations"),
	}
	for i, name := range names {
		if i < inits {
			s.InitContainers = append(s.InitContainers, container(name))
		} else {
			s.Containers = append(s.Containers, container(name))
		}
	}
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(sidecars), rapid.ID).Draw(t, "template volumes") {
		s.Volumes = append(s.Volumes, corev1.Volume{Name: name})
	}
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(sidecars), rapid.ID).Draw(t, "template secrets") {
		s.ImagePullSecrets = append(s.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	return s
}

// genPod draws a pod: lists missing, null, empty or full, names of the template's among them, even twice, with or
// without a status that claims some of them.
func genPod(t *rapid.T) object {
	names := rapid.SampledFrom(slices.Concat(sidecars, others))
	item := rapid.Custom(func(t *rapid.T) any {
		item := object{"name": names.Draw(t, "name"), "future": rapid.IntRange(0, 3).Draw(t, "content")}
		if rapid.Bool().Draw(t, "with env") {
			item["env"] = rapid.SliceOf(rapid.Custom(func(t *rapid.T) any {
				return object{"name": rapid.SampledFrom(list("A", "B", "C")).Draw(t, "variable"), "value": "own"}
			})).Draw(t, "env")
		}
		if rapid.Bool().Draw(t, "with mounts") {
			item["volumeMounts"] = []any{object{"name": "x", "mountPath": "/x"},
				object{"name": "t", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}}
		}
		if rapid.Bool().Draw(t, "with restartPolicy") {
			item["restartPolicy"] = "Always"
		}
		return item
	})
	value := func(field string, full any) any {
		return rapid.SampledFrom([]any{nil, []any{}, full, full, full}).Draw(t, field)
	}
	spec := object{"nodeName": "untouched"}
	for _, field := range list("initContainers", "containers", "volumes", "imagePullSecrets") {
		if rapid.IntRange(0, 4).Draw(t, field+" present") > 0 {
			spec[field] = value(field, rapid.SliceOfN(item, 0, 4).Draw(t, field))
		}
	}
	p := object{"spec": spec, "kind": "Pod"}
	switch rapid.IntRange(0, 4).Draw(t, "metadata") {
	case 0:
	case 1:
		p["metadata"] = nil
	case 2:
		p["metadata"] = object{"annotations": nil}
	default:
		annotations := object{}
		if rapid.Bool().Draw(t, "annotated") {
			annotations["b/c~d"] = "own"
		}
		switch rapid.IntRange(0, 2).Draw(t, "status") {
		case 1:
			annotations[statusKey] = rapid.SampledFrom(list("", "null", "{", "injected", `{"containers":"x"}`)).Draw(t, "malformed")
		case 2:
			claims := rapid.SliceOfN(names, 0, 3)
			annotations[statusKey] = patch.Status{
				InitContainers: claims.Draw(t, "claimed inits"), Containers: claims.Draw(t, "claimed containers"),
				Volumes: claims.Draw(t, "claimed volumes"), ImagePullSecrets: claims.Draw(t, "claimed secrets"), Revision: "r1",
			}.String()
		}
		p["metadata"] = object{"annotations": annotations, "name": "p"}
	}
	return p
}

func encode(t rapid.TB, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPropertyInjection states what must hold for every template and every pod.
func TestPropertyInjection(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s, text := genSpec(r), encode(r, genPod(r))
		ops, _, once := inject(t, s, text)
		r.Logf("template %s\npod %s\npatch %s\nafter %s", encode(r, s), text, encode(r, ops), once)

		if again, _, _ := inject(t, s, text); !cmp.Equal(encode(r, ops), encode(r, again)) {
			r.Fatalf("not deterministic: %s", encode(r, again))
		}
		again, warnings, twice := inject(t, s, once)
		if len(again) > 0 || len(warnings) > 0 {
			r.Fatalf("not idempotent: %s, warnings %q\nfirst  %s\nsecond %s", encode(r, again), warnings, once, twice)
		}

		before, after := parse(r, text), parse(r, once)
		claimed := claims(before)
		template := templateNames(s)
		checkList(r, "initContainers", before, after, slices.Concat(template, claimed.InitContainers))
		checkList(r, "containers", before, after, slices.Concat(template, claimed.Containers))
		checkList(r, "volumes", before, after, slices.Concat(template, claimed.Volumes))
		checkList(r, "imagePullSecrets", before, after, slices.Concat(template, claimed.ImagePullSecrets))
		seen := map[string]bool{}
		for _, item := range slices.Concat(items(after, "initContainers"), items(after, "containers")) {
			name := item.(object)["name"].(string)
			if seen[name] && slices.Contains(template, name) {
				r.Fatalf("two containers %s", name)
			}
			seen[name] = true
		}
		for _, c := range slices.Concat(s.InitContainers, s.Containers) {
			if !seen[c.Name] {
				r.Fatalf("%s was not injected", c.Name)
			}
		}
		if after["spec"].(object)["nodeName"] != "untouched" || after["kind"] != "Pod" {
			r.Fatal("something else was touched")
		}
	})
}

// TestPropertyEncode checks that what is remembered about one pod is right for the next ones.
func TestPropertyEncode(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := genSpec(r)
		template, err := patch.New(s)
		if err != nil {
			r.Fatal(err)
		}
		for range 8 {
			text := encode(r, genPod(r))
			want, _, _ := inject(t, s, text)
			p, err := pod.Parse([]byte(text))
			if err != nil {
				r.Fatal(err)
			}
			raw := func() (json.RawMessage, error) { return json.RawMessage(text), nil }
			for range 2 {
				got, _, err := template.Encode(p, raw)
				if err != nil {
					r.Fatal(err)
				}
				if got == nil && len(want) == 0 {
					continue
				}
				if string(got) != encode(r, want) {
					r.Fatalf("pod %s\ngot  %s\nwant %s", text, got, encode(r, want))
				}
			}
		}
	})
}

// checkList checks that the pod's own items keep their order and content, where own is what has no sidecar's name.
func checkList(r *rapid.T, field string, before, after object, notOwn []string) {
	own := func(p object) []any {
		return slices.DeleteFunc(slices.Clone(items(p, field)), func(item any) bool {
			return slices.Contains(notOwn, item.(object)["name"].(string))
		})
	}
	if diff := cmp.Diff(own(before), own(after)); diff != "" && len(own(before))+len(own(after)) > 0 {
		r.Fatalf("the pod's own %s changed:\n%s", field, diff)
	}
}

func items(p object, field string) []any {
	list, _ := p["spec"].(object)[field].([]any)
	return list
}

func parse(r *rapid.T, text string) (p object) {
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		r.Fatal(err)
	}
	return p
}

func claims(p object) patch.Status {
	meta, _ := p["metadata"].(object)
	annotations, _ := meta["annotations"].(object)
	value, _ := annotations[statusKey].(string)
	s, err := patch.ParseStatus(value)
	if err != nil {
		return patch.Status{}
	}
	return s
}

func templateNames(s patch.Spec) []string {
	names := []string{}
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		names = append(names, c.Name)
	}
	for _, v := range s.Volumes {
		names = append(names, v.Name)
	}
	for _, v := range s.ImagePullSecrets {
		names = append(names, v.Name)
	}
	return names
}

// FuzzPod feeds anything that calls itself a pod: a patch comes out that applies, and that leaves nothing to do.
func FuzzPod(f *testing.F) {
	f.Add(`{"metadata":{},"spec":{"containers":[`+app+`]}}`, "", false)
	f.Add(podWith(standard, `{"initContainers":[`+initPart+`],"containers":[`+app+`,`+proxyPart+`],"volumes":[`+envoyPart+`]}`), "", true)
	f.Add(`{"metadata":{"annotations":{}},"spec":{"containers":[{"name":"istio-proxy","env":[{"name":1},null,{"name":"A"}]}]}}`, standard, true)
	f.Add(`{"spec":{"containers":[null,{}]},"Spec":{"Containers":[]}}`, "", true)
	f.Fuzz(func(t *testing.T, text, status string, keep bool) {
		p, err := pod.Parse([]byte(text))
		if err != nil || !json.Valid([]byte(text)) {
			return
		}
		if exact := new(pod.Pod); !sameCase(text, exact) || !cmp.Equal(p, exact) {
			return // fields that differ in upper and lower case only: the API server sends none
		}
		if status != "" && p.Metadata != nil && p.Metadata.Annotations != nil {
			p.Metadata.Annotations[statusKey] = status
		}
		s := spec(annotations, pullSecret)
		if keep {
			keepFields(&s)
		}
		template, err := patch.New(s)
		if err != nil {
			t.Fatal(err)
		}
		result, err := template.Make(p, func() (json.RawMessage, error) { return json.RawMessage(text), nil })
		if err != nil {
			return // a container that is no object, for one
		}
		if status == "" {
			apply(t, result.Operations, text)
		}
	})
}

// FuzzStatus feeds anything as a status.
func FuzzStatus(f *testing.F) {
	for _, seed := range list("", "null", "{}", standard, `{"containers":["app","app"]}`, `{"containers":"app"}`) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		s, err := patch.ParseStatus(value)
		if err != nil {
			return
		}
		again, err := patch.ParseStatus(s.String())
		if err != nil || !cmp.Equal(s, again) {
			t.Errorf("%+v written and read again: %+v, %v", s, again, err)
		}
		_, _, once := inject(t, spec(), podWith(value, `{"containers":[`+app+`,`+proxyPart+`]}`))
		if ops, _, _ := inject(t, spec(), once); len(ops) > 0 {
			t.Errorf("not idempotent: %q", summarize(ops))
		}
	})
}
