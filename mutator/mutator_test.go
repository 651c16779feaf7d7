// SPDX-License-Identifier: Apache-2.0

package mutator_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/mutator"
	"github.com/outrigger-k8s/outrigger/pki/pkitest"
)

func TestAnswers(t *testing.T) {
	authority := pkitest.Authority(t)
	s, err := mutator.Listen(authority)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	const label = `[{"op":"add","path":"/metadata/labels/a","value":"b"}]`
	up, err := s.Answering(t.Context(), json.RawMessage(label))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Answering(t.Context(), json.RawMessage(label)); err != nil || again != up {
		t.Errorf("the same patch again: %v, another upstream: %v", err, again != up)
	}
	nothing, err := s.Answering(t.Context(), json.RawMessage(`[]`))
	if err != nil || nothing == up {
		t.Fatalf("another patch: %v, the same upstream: %v", err, nothing == up)
	}
	if _, err := s.Answering(t.Context(), json.RawMessage(`{}`)); err == nil {
		t.Error("a patch that is no list was taken")
	}

	for _, row := range []struct {
		name, path, body string
		status           int
		want             string
	}{
		{"v1", "", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1"}}`, 200,
			`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u-1","allowed":true,"patch":"W3sib3AiOiJhZGQiLCJwYXRoIjoiL21ldGFkYXRhL2xhYmVscy9hIiwidmFsdWUiOiJiIn1d","patchType":"JSONPatch"}}`},
		{"v1beta1", "", `{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u-2"}}`, 200, `"apiVersion":"admission.k8s.io/v1beta1"`},
		{"no operations, no patch", "=" + nothing.URL().Path, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-3"}}`, 200, `{"uid":"u-3","allowed":true}}`},
		{"no review", "", `{"kind":"Pod"}`, 400, `no AdmissionReview with a request, but a "Pod"`},
		{"no request", "", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, 400, "no AdmissionReview"},
		{"no JSON", "", `{`, 400, "no AdmissionReview"},
		{"too large", "", strings.Repeat(" ", 5<<20), 400, "too large"},
		{"another path", "/x", `{}`, 404, "no mutator answers"},
	} {
		t.Run(row.name, func(t *testing.T) {
			client := http.Client{Transport: transport}
			at := up.URL().String() + row.path
			if path, other := strings.CutPrefix(row.path, "="); other {
				at = "https://" + up.URL().Host + path
			}
			resp, err := client.Post(at, "application/json", strings.NewReader(row.body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != row.status || !strings.Contains(string(got), row.want) {
				t.Errorf("status %d, answer %s\nexpected %d and %s", resp.StatusCode, got, row.status, row.want)
			}
		})
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1"}}`))
	f.Add([]byte(`{"kind":"AdmissionReview","request":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, err := mutator.AnswerTo(body, json.RawMessage(`[]`))
		if err == nil && !json.Valid(answer) {
			t.Errorf("%s is answered with %s", body, answer)
		}
	})
}
