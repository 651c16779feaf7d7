// SPDX-License-Identifier: Apache-2.0

package patch_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"

	"github.com/outrigger-k8s/outrigger/injector/decide"
	"github.com/outrigger-k8s/outrigger/injector/patch"
	"github.com/outrigger-k8s/outrigger/injector/pod"
)

const statusKey = "sidecar.istio.io/status"

// spec is a small template; changes adapt it.
func spec(changes ...func(*patch.Spec)) patch.Spec {
	s := patch.Spec{
		InitContainers: []corev1.Container{{Name: "istio-init", Image: "init"}},
		Containers:     []corev1.Container{{Name: "istio-proxy", Image: "proxy"}},
		Volumes:        []corev1.Volume{{Name: "envoy", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		Revision:       "r1",
		StatusKey:      statusKey,
	}
	for _, change := range changes {
		change(&s)
	}
	return s
}

func keepFields(s *patch.Spec) { s.Own = decide.KeepFields }
func native(s *patch.Spec)     { s.Native = true }
func pullSecret(s *patch.Spec) { s.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "regcred"}} }
func annotations(s *patch.Spec) {
	s.Annotations = map[string]string{"b/~x": "from the template", "a": "from the template"}
}
func only(s *patch.Spec) { s.InitContainers, s.Volumes = nil, nil }

// inject makes the patch for a pod, and applies it as the API server does.
func inject(t testing.TB, s patch.Spec, text string) (ops []patch.Operation, warnings []string, patched string) {
	t.Helper()
	template, err := patch.New(s)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pod.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	result, err := template.Make(p, func() (json.RawMessage, error) { return json.RawMessage(text), nil })
	if err != nil {
		t.Fatal(err)
	}
	return result.Operations, result.Warnings, apply(t, result.Operations, text)
}

func apply(t testing.TB, ops []patch.Operation, text string) string {
	t.Helper()
	encoded, err := json.Marshal(ops)
	if err != nil {
		t.Fatal(err)
	}
	if len(ops) == 0 {
		return text
	}
	decoded, err := jsonpatch.DecodePatch(encoded)
	if err != nil {
		t.Fatalf("%v\n%s", err, encoded)
	}
	patched, err := decoded.Apply([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, encoded, text)
	}
	return string(patched)
}

// status is a status annotation's value.
func status(inits, containers, volumes, secrets []string) string {
	return patch.Status{InitContainers: orEmpty(inits), Containers: orEmpty(containers), Volumes: orEmpty(volumes),
		ImagePullSecrets: orEmpty(secrets), Revision: "r1"}.String()
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func list(names ...string) []string { return names }

// podWith is a pod with a status annotation and a spec.
func podWith(status, spec string) string {
	return fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}},"spec":%s}`, statusKey, quote(status), spec)
}

func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil { // a string always encodes
		panic(err)
	}
	return string(text)
}

const (
	app       = `{"name":"app","image":"app"}`
	initPart  = `{"name":"istio-init","image":"init","resources":{}}`
	proxyPart = `{"name":"istio-proxy","image":"proxy","resources":{}}`
	token     = `{"name":"kube-api-access-x","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}`
	envoyPart = `{"name":"envoy","emptyDir":{}}`
)

var standard = status(list("istio-init"), list("istio-proxy"), list("envoy"), nil)

func TestMake(t *testing.T) {
	alone := status(nil, list("istio-proxy"), nil, nil)
	tests := []struct {
		name    string
		spec    patch.Spec
		pod     string
		want    string   // the pod afterwards
		ops     []string // "op path" of each operation; nil: not looked at
		warning string   // part of the only warning; empty: no warning
	}{
		{
			name: "lists and maps are created",
			spec: spec(),
			pod:  `{"metadata":{},"spec":{"containers":[` + app + `]}}`,
			want: podWith(standard, `{"containers":[`+app+`,`+proxyPart+`],"initContainers":[`+initPart+`],"volumes":[`+envoyPart+`]}`),
			ops:  list("add /spec/initContainers", "add /spec/containers/-", "add /spec/volumes", "add /metadata/annotations"),
		},
		{
			name: "null is missing",
			spec: spec(),
			pod:  `{"metadata":{"annotations":null},"spec":{"initContainers":null,"containers":[` + app + `],"volumes":null}}`,
			want: podWith(standard, `{"containers":[`+app+`,`+proxyPart+`],"initContainers":[`+initPart+`],"volumes":[`+envoyPart+`]}`),
			ops:  list("add /spec/initContainers", "add /spec/containers/-", "add /spec/volumes", "add /metadata/annotations"),
		},
		{
			name: "empty is not missing",
			spec: spec(),
			pod:  `{"metadata":{"annotations":{}},"spec":{"initContainers":[],"containers":[` + app + `],"volumes":[]}}`,
			want: podWith(standard, `{"containers":[`+app+`,`+proxyPart+`],"initContainers":[`+initPart+`],"volumes":[`+envoyPart+`]}`),
			ops: list("add /spec/initContainers/-", "add /spec/containers/-", "add /spec/volumes/-",
				"add /metadata/annotations/sidecar.istio.io~1status"),
		},
		{
			name: "no metadata, no spec",
			spec: spec(only),
			pod:  `{}`,
			want: podWith(alone, `{"containers":[`+proxyPart+`]}`),
			ops:  list("add /spec", "add /spec/containers", "add /metadata"),
		},
		{
			name: "null metadata, null spec",
			spec: spec(only),
			pod:  `{"metadata":null,"spec":null}`,
			want: podWith(alone, `{"containers":[`+proxyPart+`]}`),
		},
		{
			name: "annotations: escaped, sorted, the pod's own stay",
			spec: spec(only, annotations),
			pod:  `{"metadata":{"annotations":{"a":"own"}},"spec":{"containers":[]}}`,
			want: `{"metadata":{"annotations":{"a":"own","b/~x":"from the template",` + quote(statusKey) + `:` + quote(alone) + `}},
				"spec":{"containers":[` + proxyPart + `]}}`,
			ops: list("add /spec/containers/-", "add /metadata/annotations/b~1~0x", "add /metadata/annotations/sidecar.istio.io~1status"),
		},
		{
			name: "annotations: the map is created with all of them",
			spec: spec(only, annotations),
			pod:  `{"metadata":{},"spec":{"containers":[]}}`,
			want: `{"metadata":{"annotations":{"a":"from the template","b/~x":"from the template",` + quote(statusKey) + `:` + quote(alone) + `}},
				"spec":{"containers":[` + proxyPart + `]}}`,
			ops: list("add /spec/containers/-", "add /metadata/annotations"),
		},
		{
			name: "injected already",
			spec: spec(),
			pod: podWith(standard, `{"initContainers":[`+initPart+`],"containers":[`+app+`,{"resources":{},"image":"proxy","name":"istio-proxy"}],
				"volumes":[`+envoyPart+`]}`),
			want: podWith(standard, `{"initContainers":[`+initPart+`],"containers":[`+app+`,`+proxyPart+`],"volumes":[`+envoyPart+`]}`),
			ops:  []string{},
		},
		{
			name: "injected by an older template: replaced at its place",
			spec: spec(),
			pod: podWith(status(list("istio-init"), list("istio-proxy"), list("envoy"), nil),
				`{"initContainers":[{"name":"istio-init","image":"old"},`+app+`],"containers":[{"name":"istio-proxy","image":"old"},`+app+`],
				"volumes":[{"name":"mine"},{"name":"envoy","hostPath":{"path":"/"}}]}`),
			want: podWith(standard, `{"initContainers":[`+initPart+`,`+app+`],"containers":[`+proxyPart+`,`+app+`],"volumes":[{"name":"mine"},`+envoyPart+`]}`),
			ops:  list("replace /spec/initContainers/0", "replace /spec/containers/0", "replace /spec/volumes/1"),
		},
		{
			name: "the older template had more: removed from the end",
			spec: spec(only),
			pod: podWith(status(list("old-init"), list("old-a", "istio-proxy", "old-b"), list("old"), list("old")),
				`{"initContainers":[{"name":"old-init"}],"containers":[{"name":"old-a"},`+app+`,{"name":"old-b"}],"volumes":[{"name":"old"},{"name":"mine"}],
				"imagePullSecrets":[{"name":"mine"},{"name":"old"}]}`),
			want: podWith(alone, `{"initContainers":[],"containers":[`+app+`,`+proxyPart+`],"volumes":[{"name":"mine"}],"imagePullSecrets":[{"name":"mine"}]}`),
			ops: list("remove /spec/initContainers/0", "remove /spec/containers/2", "remove /spec/containers/0", "add /spec/containers/-",
				"remove /spec/volumes/0", "remove /spec/imagePullSecrets/1", "replace /metadata/annotations/sidecar.istio.io~1status"),
		},
		{
			name: "names in the status that the pod lacks are passed over",
			spec: spec(only),
			pod:  podWith(status(nil, list("ghost", "istio-proxy"), list("ghost"), nil), `{"containers":[`+app+`]}`),
			want: podWith(alone, `{"containers":[`+app+`,`+proxyPart+`]}`),
		},
		{
			name: "fields of the status may be missing or null, others are passed over",
			spec: spec(only),
			pod:  podWith(`{"containers":null,"version":"abc"}`, `{"containers":[`+app+`]}`),
			want: podWith(alone, `{"containers":[`+app+`,`+proxyPart+`]}`),
		},
		{
			name:    "malformed status: ignored, overwritten",
			spec:    spec(only),
			pod:     podWith(`{"containers":["app"]`, `{"containers":[`+app+`]}`),
			want:    podWith(alone, `{"containers":[`+app+`,`+proxyPart+`]}`),
			ops:     list("add /spec/containers/-", "replace /metadata/annotations/sidecar.istio.io~1status"),
			warning: "ignored and overwritten",
		},
		{
			name: "the pod's own container of the name, classic: the template's takes its place",
			spec: spec(only),
			pod:  `{"metadata":{},"spec":{"containers":[{"name":"istio-proxy","image":"own","env":[{"name":"A"}]},` + app + `]}}`,
			want: podWith(alone, `{"containers":[`+proxyPart+`,`+app+`]}`),
			ops:  list("replace /spec/containers/0", "add /metadata/annotations"),
		},
		{
			name: "the pod's own container of the name, istio: its fields stay, and it stays its own",
			spec: spec(only, keepFields, func(s *patch.Spec) {
				s.Containers[0].Args = list("proxy", "sidecar")
				s.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "template"}, {Name: "B", Value: "template"}}
			}),
			pod: `{"metadata":{},"spec":{"containers":[{"name":"istio-proxy","image":"own","resources":{},"env":[{"name":"A","value":"own"},{"name":"C"}]},` + app + `]}}`,
			want: podWith(status(nil, nil, nil, nil), `{"containers":[{"name":"istio-proxy","image":"own","resources":{},"args":["proxy","sidecar"],
				"env":[{"name":"B","value":"template"},{"name":"A","value":"own"},{"name":"C"}]},`+app+`]}`),
			ops: list("replace /spec/containers/0", "add /metadata/annotations"),
		},
		{
			name: "a container that the status claims is not the pod's own, in istio neither",
			spec: spec(only, keepFields),
			pod:  podWith(alone, `{"containers":[{"name":"istio-proxy","image":"old"},`+app+`]}`),
			want: podWith(alone, `{"containers":[`+proxyPart+`,`+app+`]}`),
			ops:  list("replace /spec/containers/0"),
		},
		{
			name: "never two of one name",
			spec: spec(only),
			pod:  `{"metadata":{},"spec":{"containers":[{"name":"istio-proxy","image":"a"},` + app + `,{"name":"istio-proxy","image":"b"}]}}`,
			want: podWith(alone, `{"containers":[`+proxyPart+`,`+app+`]}`),
			ops:  list("replace /spec/containers/0", "remove /spec/containers/2", "add /metadata/annotations"),
		},
		{
			name: "native: an init container that restarts",
			spec: spec(native),
			pod:  `{"metadata":{},"spec":{"initContainers":[{"name":"wait"}],"containers":[` + app + `]}}`,
			want: podWith(status(list("istio-init", "istio-proxy"), nil, list("envoy"), nil),
				`{"initContainers":[{"name":"wait"},`+initPart+`,{"name":"istio-proxy","image":"proxy","resources":{},"restartPolicy":"Always"}],
				"containers":[`+app+`],"volumes":[`+envoyPart+`]}`),
			ops: list("add /spec/initContainers/-", "add /spec/initContainers/-", "add /spec/volumes", "add /metadata/annotations"),
		},
		{
			name: "native: what was injected as a container moves",
			spec: spec(only, native),
			pod:  podWith(alone, `{"containers":[`+proxyPart+`,`+app+`]}`),
			want: podWith(status(list("istio-proxy"), nil, nil, nil),
				`{"initContainers":[{"name":"istio-proxy","image":"proxy","resources":{},"restartPolicy":"Always"}],"containers":[`+app+`]}`),
			ops: list("add /spec/initContainers", "remove /spec/containers/0", "replace /metadata/annotations/sidecar.istio.io~1status"),
		},
		{
			name: "native no more: what was injected moves back",
			spec: spec(only),
			pod: podWith(status(list("istio-proxy"), nil, nil, nil),
				`{"initContainers":[{"name":"istio-proxy","image":"proxy","restartPolicy":"Always"}],"containers":[`+app+`]}`),
			want: podWith(alone, `{"initContainers":[],"containers":[`+app+`,`+proxyPart+`]}`),
		},
		{
			name: "native, istio: the pod's own moves with its fields",
			spec: spec(only, native, keepFields),
			pod:  `{"metadata":{},"spec":{"containers":[` + app + `,{"name":"istio-proxy","image":"own"}]}}`,
			want: podWith(status(nil, nil, nil, nil),
				`{"initContainers":[{"name":"istio-proxy","image":"own","resources":{},"restartPolicy":"Always"}],"containers":[`+app+`]}`),
		},
		{
			name: "native, classic: the pod's own gives way",
			spec: spec(only, native),
			pod:  `{"metadata":{},"spec":{"containers":[` + app + `,{"name":"istio-proxy","image":"own"}]}}`,
			want: podWith(status(list("istio-proxy"), nil, nil, nil),
				`{"initContainers":[{"name":"istio-proxy","image":"proxy","resources":{},"restartPolicy":"Always"}],"containers":[`+app+`]}`),
		},
		{
			name: "the service account's token, which the API server mounts, survives a replacement",
			spec: spec(only),
			pod:  podWith(alone, `{"containers":[{"name":"istio-proxy","image":"old","volumeMounts":[{"name":"x","mountPath":"/x"},`+token+`]},`+app+`]}`),
			want: podWith(alone, `{"containers":[{"name":"istio-proxy","image":"proxy","resources":{},"volumeMounts":[`+token+`]},`+app+`]}`),
			ops:  list("replace /spec/containers/0"),
		},
		{
			name: "a token of the template's own takes its place",
			spec: spec(only, func(s *patch.Spec) {
				s.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "mine", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}
			}),
			pod: podWith(alone, `{"containers":[{"name":"istio-proxy","image":"proxy","volumeMounts":[`+token+`]}]}`),
			want: podWith(alone, `{"containers":[{"name":"istio-proxy","image":"proxy","resources":{},
				"volumeMounts":[{"name":"mine","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]}]}`),
		},
		{
			name: "the pod's own volume, classic: replaced",
			spec: spec(),
			pod:  `{"metadata":{},"spec":{"containers":[` + app + `],"volumes":[{"name":"envoy","hostPath":{"path":"/"}},{"name":"mine"}]}}`,
			want: podWith(standard, `{"containers":[`+app+`,`+proxyPart+`],"initContainers":[`+initPart+`],"volumes":[`+envoyPart+`,{"name":"mine"}]}`),
		},
		{
			name: "the pod's own volume, istio: stays whole",
			spec: spec(keepFields),
			pod:  `{"metadata":{},"spec":{"containers":[` + app + `],"volumes":[{"name":"envoy","hostPath":{"path":"/"}},{"name":"mine"}]}}`,
			want: podWith(status(list("istio-init"), list("istio-proxy"), nil, nil),
				`{"containers":[`+app+`,`+proxyPart+`],"initContainers":[`+initPart+`],"volumes":[{"name":"envoy","hostPath":{"path":"/"}},{"name":"mine"}]}`),
		},
		{
			name: "pull secrets: added",
			spec: spec(only, pullSecret),
			pod:  `{"metadata":{},"spec":{"containers":[` + app + `]}}`,
			want: podWith(status(nil, list("istio-proxy"), nil, list("regcred")),
				`{"containers":[`+app+`,`+proxyPart+`],"imagePullSecrets":[{"name":"regcred"}]}`),
		},
		{
			name: "pull secrets: the pod's own is not claimed",
			spec: spec(only, pullSecret),
			pod:  `{"metadata":{},"spec":{"containers":[` + app + `],"imagePullSecrets":[{"name":"regcred"},{"name":"mine"}]}}`,
			want: podWith(alone, `{"containers":[`+app+`,`+proxyPart+`],"imagePullSecrets":[{"name":"regcred"},{"name":"mine"}]}`),
		},
		{
			name: "nothing else of the pod is touched, unknown fields least of all",
			spec: spec(only),
			pod: `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","annotations":{"z":"<&>"},"future":1.50},
				"spec":{"containers":[{"name":"app","future":{"a":[1e400]}}],"futureToo":null},"status":{}}`,
			want: `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","annotations":{"z":"<&>",` + quote(statusKey) + `:` + quote(alone) + `},"future":1.50},
				"spec":{"containers":[{"name":"app","future":{"a":[1e400]}},` + proxyPart + `],"futureToo":null},"status":{}}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ops, warnings, got := inject(t, test.spec, test.pod)
			if diff := cmp.Diff(generic(t, test.want), generic(t, got)); diff != "" {
				t.Errorf("the pod afterwards (-want +got):\n%s", diff)
			}
			if summary := summarize(ops); test.ops != nil && !slices.Equal(summary, test.ops) {
				t.Errorf("operations are\n%s, want\n%s", strings.Join(summary, "\n"), strings.Join(test.ops, "\n"))
			}
			switch {
			case test.warning == "" && len(warnings) > 0:
				t.Errorf("unexpected warnings %q", warnings)
			case test.warning != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], test.warning)):
				t.Errorf("warnings are %q, want one with %q", warnings, test.warning)
			}
			if again, warnings, _ := inject(t, test.spec, got); len(again) > 0 || len(warnings) > 0 {
				t.Errorf("injecting again: operations %q, warnings %q; want none", summarize(again), warnings)
			}
		})
	}
}

func summarize(ops []patch.Operation) []string {
	out := []string{}
	for _, op := range ops {
		out = append(out, op.Op+" "+op.Path)
	}
	return out
}

// generic decodes JSON without losing anything of a number.
func generic(t testing.TB, text string) any {
	t.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func TestParseStatus(t *testing.T) {
	for _, malformed := range []string{``, ` `, `null`, `[]`, `"x"`, `1`, `{`, `{}x`, `{"containers":"app"}`, `{"containers":[1]}`,
		`{"revision":1}`, "injected"} {
		if s, err := patch.ParseStatus(malformed); err == nil {
			t.Errorf("%q: got %+v, want an error", malformed, s)
		}
	}
	for _, wellFormed := range []string{`{}`, " {}\n", `{"containers":null}`, `{"version":"x"}`} {
		if _, err := patch.ParseStatus(wellFormed); err != nil {
			t.Errorf("%q: %v", wellFormed, err)
		}
	}
	want := patch.Status{InitContainers: list("a"), Containers: list("b"), Volumes: list("c"), ImagePullSecrets: []string{}, Revision: "r"}
	got, err := patch.ParseStatus(want.String())
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if text, want := want.String(), `{"initContainers":["a"],"containers":["b"],"volumes":["c"],"imagePullSecrets":[],"revision":"r"}`; text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestPointer(t *testing.T) {
	tests := []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{list("spec", "containers", "-"), "/spec/containers/-"},
		{list("a/b"), "/a~1b"},
		{list("a~b"), "/a~0b"},
		{list("~1"), "/~01"}, // not ~01 → /1
		{list("~/"), "/~0~1"},
		{list(""), "/"},
	}
	for _, test := range tests {
		if got := patch.Pointer(test.names...); got != test.want {
			t.Errorf("%q: got %s, want %s", test.names, got, test.want)
		}
	}
}

func TestDoesNotFetchWhatItDoesNotNeed(t *testing.T) {
	template, err := patch.New(spec())
	if err != nil {
		t.Fatal(err)
	}
	p, err := pod.Parse([]byte(`{"metadata":{},"spec":{"containers":[` + app + `]}}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = template.Make(p, func() (json.RawMessage, error) { return nil, fmt.Errorf("asked for") })
	if err != nil {
		t.Errorf("a pod without a sidecar: %v", err)
	}
	p.Spec.Containers[0].Name = "istio-proxy"
	_, err = template.Make(p, func() (json.RawMessage, error) { return nil, fmt.Errorf("asked for") })
	if err == nil || !strings.Contains(err.Error(), "asked for") {
		t.Errorf("a pod with a sidecar: got %v, want the error of the function", err)
	}
	for _, odd := range []string{`{}`, `[]`, `{"spec":{"containers":{}}}`} {
		if _, err = template.Make(p, func() (json.RawMessage, error) { return json.RawMessage(odd), nil }); err == nil {
			t.Errorf("JSON that is not the pod's: %s: want an error", odd)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	template, err := patch.New(spec())
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{
		"fresh":  `{"metadata":{"annotations":{"a":"b"}},"spec":{"containers":[` + app + `],"volumes":[]}}`,
		"second": podWith(standard, `{"initContainers":[`+initPart+`],"containers":[`+app+`,`+proxyPart+`],"volumes":[`+envoyPart+`]}`),
	} {
		p, err := pod.Parse([]byte(text))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := template.Encode(p, func() (json.RawMessage, error) { return json.RawMessage(text), nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
