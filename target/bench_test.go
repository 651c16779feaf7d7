// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/outrigger-k8s/outrigger/target"
)

// BenchmarkReference measures reviews of 4 KB that go through the tap to the reference injector, a process of its own,
// and come back with a patch: all that a case costs but for the API server's part.
func BenchmarkReference(b *testing.B) {
	program := filepath.Join(b.TempDir(), "injector")
	build := exec.CommandContext(b.Context(), "go", "build", "-o", program, "../injector/cmd/injector")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("building the reference injector: %v\n%s", err, out)
	}
	f, _ := newFleet(b, target.Reference(program), target.Options{})
	w := newWire(b)
	w.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	up, release, err := f.Instance(b.Context(), map[string]any{"dialect": "istio-classic", "policy": "enabled"})
	if err != nil {
		b.Fatal(err)
	}
	defer release()
	env := strings.Repeat(`{"name":"SOME_VARIABLE","value":"some value of it"},`, 60) + `{"name":"LAST"}`
	var serial atomic.Int64
	b.SetParallelism(4) // times the number of cores: connections
	b.ReportAllocs()
	b.ResetTimer() // building and starting the injector is none of it
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			key := fmt.Sprintf("or-%013d", serial.Add(1))
			body := `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"",` +
				`"version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},"name":"` + key +
				`","namespace":"shop","operation":"CREATE","object":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + key +
				`"},"spec":{"containers":[{"name":"app","image":"app","env":[` + env + `]}]}}}}`
			if err := w.tap.Expect(key, up); err != nil {
				b.Error(err)
			}
			resp, err := w.client.Post(w.tap.URL("w"), "application/json", strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			calls := w.tap.Take(b.Context(), key)
			if len(calls) != 1 || calls[0].Err != nil || !strings.Contains(string(calls[0].Response), `"patch"`) {
				b.Errorf("recorded %+v, want one answer with a patch", calls)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reviews/s")
}
