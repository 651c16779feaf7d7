// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	admissionv1beta1 "k8s.io/api/admission/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/outrigger-k8s/outrigger/injector/settings"
)

// fixture is a webhook that serves over TLS, with one configuration.
type fixture struct {
	*Webhook
	registry *prometheus.Registry
	server   *httptest.Server
	log      *bytes.Buffer
}

func newFixture(t testing.TB, configuration string) *fixture {
	t.Helper()
	s, err := settings.Parse("test", []byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{registry: prometheus.NewRegistry(), log: new(bytes.Buffer)}
	current := func() *settings.Settings { return s }
	f.Webhook = New(Options{
		Settings: current, Log: slog.New(slog.NewTextHandler(f.log, nil)), Metrics: NewMetrics(f.registry, current),
	})
	f.server = httptest.NewTLSServer(f.Handler())
	t.Cleanup(f.server.Close)
	return f
}

// post sends a body as JSON.
func (f *fixture) post(t testing.TB, path string, body []byte) (code int, answer []byte) {
	t.Helper()
	r, err := f.server.Client().Post(f.server.URL+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	answer, err = io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, answer
}

// errors returns how many errors of a kind were counted.
func (f *fixture) errors(t testing.TB, kind string) float64 {
	t.Helper()
	var m dto.Metric
	if err := f.metrics.errors.WithLabelValues(kind).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// review posts an AdmissionReview and returns the response to it.
func (f *fixture) review(t testing.TB, path string, r *admissionv1.AdmissionReview) *admissionv1.AdmissionResponse {
	t.Helper()
	code, text := f.post(t, path, encode(t, r))
	if code != http.StatusOK {
		t.Fatalf("got %d: %s", code, text)
	}
	// Strictly, with the API's own types: nothing that they do not have may be in an answer.
	var answer admissionv1.AdmissionReview
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&answer); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if answer.TypeMeta != r.TypeMeta || answer.Response == nil || answer.Response.UID != r.Request.UID {
		t.Fatalf("got %s, want the same kind, version and UID", text)
	}
	if (answer.Response.Patch == nil) != (answer.Response.PatchType == nil) {
		t.Fatalf("a patch and its type go together: %s", text)
	}
	return answer.Response
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// podReview is a review of a pod as the API server sends it.
func podReview(pod string) *admissionv1.AdmissionReview {
	return &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID:       "7f9d0fd4-5f5f-4f6c-9c3e-3a2b1c0d9e8f",
			Kind:      metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Namespace: "shop",
			Operation: admissionv1.Create,
			Object:    runtime.RawExtension{Raw: []byte(pod)},
		},
	}
}

// configMapReview is a review of a ConfigMap as the API server sends it.
func configMapReview(t testing.TB, data map[string]string) *admissionv1.AdmissionReview {
	r := podReview(string(encode(t, corev1.ConfigMap{Data: data})))
	r.Request.Kind = metav1.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	r.Request.Resource = metav1.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	r.Request.Name = "injector"
	return r
}

const web = `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-5d4f-","labels":{"app":"web","pod-template-hash":"5d4f"},
	"ownerReferences":[{"kind":"ReplicaSet","name":"web-5d4f","controller":true}]},"spec":{"containers":[{"name":"app","image":"app"}]}}`

func TestInject(t *testing.T) {
	f := newFixture(t, "dialect: istio-classic")
	got := f.review(t, "/inject", podReview(web))
	if !got.Allowed || got.Patch == nil || *got.PatchType != admissionv1.PatchTypeJSONPatch || len(got.Warnings) > 0 || got.Result != nil {
		t.Errorf("got %+v", got)
	}
	want := map[string]string{"decision": "injected", "rule": "policy-enabled", "workload": "Deployment/web"}
	if diff := cmp.Diff(want, got.AuditAnnotations); diff != "" {
		t.Errorf("audit annotations (-want +got):\n%s", diff)
	}
	decoded, err := jsonpatch.DecodePatch(got.Patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := decoded.Apply([]byte(web))
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := json.Unmarshal(patched, &pod); err != nil {
		t.Fatal(err)
	}
	if len(pod.Spec.Containers) != 2 || pod.Spec.Containers[1].Name != "istio-proxy" || pod.Annotations["sidecar.istio.io/status"] == "" {
		t.Errorf("got %s", patched)
	}

	again := f.review(t, "/inject", podReview(string(patched)))
	if again.Patch != nil || again.AuditAnnotations["decision"] != "injected" {
		t.Errorf("injected already: got %+v, want no patch", again)
	}

	// The second container of the name is found in the full JSON of the review.
	own := strings.Replace(web, `"name":"app"`, `"name":"istio-proxy"`, 1)
	if got := f.review(t, "/inject", podReview(own)); !bytes.Contains(got.Patch, []byte(`"op":"replace","path":"/spec/containers/0"`)) {
		t.Errorf("the pod's own istio-proxy: got %s", got.Patch)
	}
}

func TestInjectNot(t *testing.T) {
	f := newFixture(t, "dialect: istio\npolicy: on")
	got := f.review(t, "/inject", podReview(web))
	if !got.Allowed || got.Patch != nil || len(got.Warnings) != 1 {
		t.Errorf("got %+v, want allowed, no patch, a warning", got)
	}
	want := map[string]string{"decision": "untouched", "rule": "policy-unknown", "workload": "Deployment/web"}
	if diff := cmp.Diff(want, got.AuditAnnotations); diff != "" {
		t.Errorf("audit annotations (-want +got):\n%s", diff)
	}
}

// TestNamespace checks that the request's namespace decides: pods of controllers had none of their own before 1.24.
func TestNamespace(t *testing.T) {
	f := newFixture(t, "dialect: istio-classic")
	r := podReview(web)
	r.Request.Namespace = "kube-system"
	if got := f.review(t, "/inject", r); got.Patch != nil || got.AuditAnnotations["rule"] != "system-namespace" {
		t.Errorf("got %+v", got)
	}
}

func TestMalformedStatusWarns(t *testing.T) {
	f := newFixture(t, "dialect: istio-classic")
	got := f.review(t, "/inject", podReview(`{"metadata":{"annotations":{"sidecar.istio.io/status":"{"}},"spec":{}}`))
	if got.Patch == nil || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "sidecar.istio.io/status") {
		t.Errorf("got %+v", got)
	}
}

func TestV1beta1(t *testing.T) {
	f := newFixture(t, "dialect: istio-classic")
	body := bytes.ReplaceAll(encode(t, podReview(web)), []byte("admission.k8s.io/v1"), []byte("admission.k8s.io/v1beta1"))
	code, text := f.post(t, "/inject", body)
	var answer admissionv1beta1.AdmissionReview
	if err := json.Unmarshal(text, &answer); err != nil || code != http.StatusOK {
		t.Fatalf("%d, %v: %s", code, err, text)
	}
	if answer.APIVersion != "admission.k8s.io/v1beta1" || answer.Response == nil || answer.Response.Patch == nil ||
		answer.Response.UID != podReview(web).Request.UID {
		t.Errorf("got %s", text)
	}
}

// TestMisdirected checks that a review of something else is allowed with a warning, whatever its object looks like.
func TestMisdirected(t *testing.T) {
	tests := []struct {
		name   string
		change func(*admissionv1.AdmissionRequest)
	}{
		{"update", func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update }},
		{"delete, which has no object", func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.Object = admissionv1.Delete, runtime.RawExtension{}
		}},
		{"no operation", func(r *admissionv1.AdmissionRequest) { r.Operation = "" }},
		{"subresource", func(r *admissionv1.AdmissionRequest) { r.SubResource = "binding" }},
		{"another resource", func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "services" }},
		{"another kind", func(r *admissionv1.AdmissionRequest) { r.Kind.Kind = "Service" }},
		{"another group", func(r *admissionv1.AdmissionRequest) { r.Kind.Group = "example.org" }},
		{"another version", func(r *admissionv1.AdmissionRequest) { r.Resource.Version = "v2" }},
		{"an object that is like no pod", func(r *admissionv1.AdmissionRequest) {
			r.Kind.Kind, r.Object.Raw = "Service", []byte(`{"metadata":[],"spec":"x"}`)
		}},
		{"an object that is no object", func(r *admissionv1.AdmissionRequest) { r.Kind.Kind, r.Object.Raw = "Service", []byte(`[1]`) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, "dialect: istio-classic")
			r := podReview(web)
			test.change(r.Request)
			for _, path := range []string{"/inject", "/validate"} {
				got := f.review(t, path, r)
				if !got.Allowed || got.Patch != nil || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "rules") {
					t.Errorf("%s: got %+v, want allowed with one warning", path, got)
				}
			}
			if n := f.errors(t, "misdirected"); n != 2 {
				t.Errorf("counted %v, want 2", n)
			}
		})
	}
}

// TestRefused sends what is no review of a pod.
func TestRefused(t *testing.T) {
	good := string(encode(t, podReview(web)))
	without := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	const json = "application/json"
	tests := []struct {
		name, media, body string
		code              int
		kind, text        string
	}{
		{"empty", json, "", 400, empty, "the body is empty, want an AdmissionReview"},
		{"no JSON", json, "hello", 400, undecodable, "cannot decode the body as an AdmissionReview: invalid character 'h'"},
		{"cut off", json, good[:len(good)/2], 400, undecodable, "cannot decode the body as an AdmissionReview: unexpected end"},
		{"two", json, good + good, 400, undecodable, "after top-level value"},
		{"a list", json, "[]", 400, undecodable, "the body is of kind \"\", want AdmissionReview"},
		{"null", json, "null", 400, undecodable, "the body is of kind \"\", want AdmissionReview"},
		{"another kind", json, `{"kind":"Pod","apiVersion":"v1"}`, 400, undecodable, `the body is of kind "Pod"`},
		{"another version", json, without("admission.k8s.io/v1", "admission.k8s.io/v2"), 400, unimplemented, `apiVersion "admission.k8s.io/v2"`},
		{"no version", json, without("admission.k8s.io/v1", ""), 400, unimplemented, `apiVersion ""`},
		{"no request", json, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`, 400, noRequest, "has no request"},
		{"null request", json, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":null}`, 400, noRequest, "has no request"},
		{"a word for a request", json, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":"x"}`, 400, noRequest, "request has no uid"},
		{"no uid", json, without(`"uid"`, `"Xuid"`), 400, noRequest, "request has no uid"},
		{"no object", json, without(`"object"`, `"Xobject"`), 400, noRequest, "request has no object"},
		{"null object", json, without(`"object":{`, `"object":null,"x":{`), 400, noRequest, "request has no object"},
		{"a pod that is none", json, without(`"containers":[`, `"containers":"x","y":[`), 400, undecodable, "cannot decode the Pod in the AdmissionReview"},
		{"a container that is none", json, without(`"containers":[`, `"containers":[7,`), 400, undecodable, "cannot decode the Pod"},
		{"another type", "text/plain", good, 415, notJSON, `the content type is "text/plain", want application/json`},
		{"another JSON", "application/json-patch+json", good, 415, notJSON, "want application/json"},
		{"no type", "", good, 415, notJSON, `the content type is ""`},
		{"a broken type", "application/json; charset", good, 415, notJSON, "want application/json"},
		{"too long", json, strings.Repeat(" ", DefaultMostBytes+1), 413, tooLong, "longer than 3145728 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, "dialect: istio-classic")
			r, err := f.server.Client().Post(f.server.URL+"/inject", test.media, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			text, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != test.code || !strings.Contains(string(text), test.text) {
				t.Errorf("got %d %q, want %d with %q", r.StatusCode, text, test.code, test.text)
			}
			if n := f.errors(t, test.kind); n != 1 {
				t.Errorf("%s counted %v times, want once", test.kind, n)
			}
			if !slices.Contains(errorKinds, test.kind) {
				t.Errorf("%s does not start at zero", test.kind)
			}
			if !strings.Contains(f.log.String(), "refused a request") {
				t.Errorf("not logged: %s", f.log)
			}
		})
	}
}

func TestBodyJustShortEnough(t *testing.T) {
	f := newFixture(t, "dialect: istio-classic")
	body := encode(t, podReview(web))
	body = append(body, bytes.Repeat([]byte(" "), DefaultMostBytes-len(body))...)
	if code, text := f.post(t, "/inject", body); code != http.StatusOK {
		t.Errorf("got %d: %s", code, text)
	}
	r, err := f.server.Client().Post(f.server.URL+"/inject", "application/json; charset=utf-8", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Errorf("with a charset: got %d", r.StatusCode)
	}
}

func TestMethodsAndPaths(t *testing.T) {
	f := newFixture(t, "dialect: istio-classic")
	for _, test := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/inject", 405}, {"PUT", "/inject", 405}, {"GET", "/validate", 405}, {"POST", "/readyz", 405},
		{"POST", "/", 404}, {"POST", "/inject/x", 404}, {"GET", "/metrics", 404}, {"GET", "/healthz", 200},
	} {
		r, err := http.NewRequestWithContext(t.Context(), test.method, f.server.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := f.server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != test.code {
			t.Errorf("%s %s: got %d, want %d", test.method, test.path, answer.StatusCode, test.code)
		}
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name    string
		data    map[string]string
		allowed bool
		text    string // part of the message, or of the warning
	}{
		{"no configuration", nil, true, ""},
		{"another key", map[string]string{"other": "dialect: x"}, true, ""},
		{"good", map[string]string{"config": "dialect: istio"}, true, ""},
		{"broken", map[string]string{"config": "dialect: istio\npolicies: enabled"}, false,
			`read configuration config of ConfigMap shop/injector: line 2: unknown field "policies"`},
		{"empty", map[string]string{"config": ""}, false, "is not a dialect"},
		{"odd", map[string]string{"config": "dialect: istio\npolicy: on"}, true, `line 2: policy: "on" is neither`},
	}
	for _, test := range tests {
		for _, operation := range []admissionv1.Operation{admissionv1.Create, admissionv1.Update} {
			t.Run(test.name+"/"+string(operation), func(t *testing.T) {
				f := newFixture(t, "dialect: istio-classic")
				r := configMapReview(t, test.data)
				r.Request.Operation = operation
				got := f.review(t, "/validate", r)
				if got.Allowed != test.allowed || got.Patch != nil {
					t.Errorf("got %+v, want allowed %v", got, test.allowed)
				}
				switch {
				case !test.allowed:
					if got.Result == nil || got.Result.Code != 422 || got.Result.Reason != "Invalid" || !strings.Contains(got.Result.Message, test.text) {
						t.Errorf("got %+v, want 422 with %q", got.Result, test.text)
					}
				case test.text == "" && len(got.Warnings) > 0, test.text != "" && !strings.Contains(fmt.Sprint(got.Warnings), test.text):
					t.Errorf("warnings %q, want %q", got.Warnings, test.text)
				}
			})
		}
	}
	f := newFixture(t, "dialect: istio-classic")
	f.configMapKey = "injector.yaml"
	if got := f.review(t, "/validate", configMapReview(t, map[string]string{"injector.yaml": "x"})); got.Allowed {
		t.Error("another key, broken: allowed")
	}
}

// A configuration does not go away without anybody's noticing, and is not hidden where the injector does not look.
func TestValidateWhatIsGone(t *testing.T) {
	raw := func(m *corev1.ConfigMap) runtime.RawExtension {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: text}
	}
	with := &corev1.ConfigMap{Data: map[string]string{"config": "dialect: istio"}}
	without := &corev1.ConfigMap{Data: map[string]string{"other": "x"}}
	binary := &corev1.ConfigMap{BinaryData: map[string][]byte{"config": []byte("dialect: istio")}}
	for name, test := range map[string]struct {
		old, now *corev1.ConfigMap
		text     string // of the refusal; "" where it is allowed
	}{
		"never there":                   {without, without, ""},
		"taken away":                    {with, without, "the key is gone"},
		"added":                         {without, with, ""},
		"binary, where there was text":  {with, binary, "it is in binaryData"},
		"binary, where nothing was yet": {nil, binary, "it is in binaryData"},
	} {
		f := newFixture(t, "dialect: istio-classic")
		r := configMapReview(t, nil)
		r.Request.Object = raw(test.now)
		if test.old != nil {
			r.Request.Operation, r.Request.OldObject = admissionv1.Update, raw(test.old)
		}
		got := f.review(t, "/validate", r)
		if got.Allowed != (test.text == "") || !got.Allowed && !strings.Contains(got.Result.Message, test.text) {
			t.Errorf("%s: allowed %v, %+v; want %q", name, got.Allowed, got.Result, test.text)
		}
	}
}

// TestPanic checks the last line. There is no way to a panic from outside that is known, so settings that are missing
// stand in for one.
func TestPanic(t *testing.T) {
	f := newFixture(t, "dialect: istio-classic")
	f.settings = func() *settings.Settings { panic("boom") }
	if code, text := f.post(t, "/inject", encode(t, podReview(web))); code != http.StatusInternalServerError || strings.Contains(string(text), "boom") {
		t.Errorf("got %d: %s", code, text)
	}
	if n := f.errors(t, "panic"); n != 1 {
		t.Errorf("counted %v, want 1", n)
	}
	if log := f.log.String(); !strings.Contains(log, "boom") || !strings.Contains(log, "webhook_test.go") {
		t.Errorf("the log does not say where: %s", log)
	}
	if code, _ := f.post(t, "/validate", encode(t, configMapReview(t, nil))); code != http.StatusOK {
		t.Errorf("after it: got %d", code)
	}
}

func TestReady(t *testing.T) {
	f := newFixture(t, "dialect: istio\npolicy: disabled")
	plain := httptest.NewServer(f.Plain(f.registry))
	defer plain.Close()
	get := func(url string) (int, string) {
		t.Helper()
		r, err := f.server.Client().Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(text)
	}
	for _, url := range []string{f.server.URL, plain.URL} {
		want := fmt.Sprintf(`{"ready":true,"configuration":%q,"dialect":"istio"}`+"\n", f.settings().Hash)
		if code, text := get(url + "/readyz"); code != 200 || text != want {
			t.Errorf("got %d %s, want 200 %s", code, text, want)
		}
	}
	f.Drain()
	for _, url := range []string{f.server.URL, plain.URL} {
		if code, text := get(url + "/readyz"); code != 503 || !strings.HasPrefix(text, `{"ready":false,`) {
			t.Errorf("draining: got %d %s", code, text)
		}
		if code, _ := get(url + "/healthz"); code != 200 {
			t.Errorf("draining: health is %d", code)
		}
	}
	if got := f.review(t, "/inject", podReview(web)); !got.Allowed {
		t.Error("draining: reviews are still answered")
	}
	if code, _ := get(plain.URL + "/inject"); code != 404 {
		t.Errorf("reviews without TLS: got %d", code)
	}
}

func TestMetrics(t *testing.T) {
	f := newFixture(t, "dialect: istio-classic")
	plain := httptest.NewServer(f.Plain(f.registry))
	defer plain.Close()
	f.review(t, "/inject", podReview(web))
	f.review(t, "/inject", podReview(`{"spec":{"hostNetwork":true}}`))
	f.review(t, "/inject", podReview(`{"spec":{"hostNetwork":true}}`))
	f.metrics.ConfigurationReloaded(nil)
	f.metrics.ConfigurationReloaded(os.ErrInvalid)
	f.metrics.ConfigurationReloaded(os.ErrInvalid)
	f.metrics.CertificateReloaded(os.ErrInvalid)
	r, err := http.Get(plain.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`injector_decisions_total{decision="injected",rule="policy-enabled"} 1`,
		`injector_decisions_total{decision="untouched",rule="host-network"} 2`,
		`injector_decisions_total{decision="untouched",rule="mirror-pod"} 0`,
		`injector_errors_total{kind="undecodable"} 0`,
		`injector_review_duration_seconds_count{endpoint="inject"} 3`,
		`injector_reloads_total{file="configuration",result="ok"} 1`,
		`injector_reloads_total{file="configuration",result="refused"} 2`,
		`injector_reloads_total{file="certificate",result="refused"} 1`,
		`injector_configuration_info{dialect="istio-classic",hash="` + f.settings().Hash + `",policy="enabled"} 1`,
	} {
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// FuzzReview feeds both endpoints anything. What is answered with 200 is an answer in kind, and its patch decodes.
func FuzzReview(f *testing.F) {
	f.Add(encode(f, podReview(web)), false)
	f.Add(encode(f, configMapReview(f, map[string]string{"config": "dialect: istio"})), true)
	f.Add([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"x"}}`), false)
	s, err := settings.Parse("fuzz", []byte("dialect: istio"))
	if err != nil {
		f.Fatal(err)
	}
	hook := New(Options{Settings: func() *settings.Settings { return s }, Log: slog.New(slog.DiscardHandler)})
	handler := hook.Handler()
	f.Fuzz(func(t *testing.T, body []byte, validate bool) {
		path := "/inject"
		if validate {
			path = "/validate"
		}
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusBadRequest:
		case http.StatusOK:
			var got admissionv1.AdmissionReview
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Response == nil || got.Response.UID == "" {
				t.Fatalf("%v: %s", err, w.Body)
			}
			if got.Response.Patch != nil {
				if _, err := jsonpatch.DecodePatch(got.Response.Patch); err != nil {
					t.Fatal(err)
				}
			}
		default:
			t.Fatalf("got %d: %s", w.Code, w.Body)
		}
	})
}
