// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/outrigger-k8s/outrigger/tap"
)

// BenchmarkTap measures whole calls, client, tap and target in one process: "through" the tap beside "direct". The
// difference is the tap's cost, its record taken included. A review has 4 KB, an answer 2 KB.
func BenchmarkTap(b *testing.B) {
	bench := newBench(b, tap.Options{})
	answer := strings.Repeat("x", 2000)
	up := bench.target(b, "/inject", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, answer)
	})
	var serial atomic.Int64
	pad := strings.Repeat(`{"name":"SOME_VARIABLE","value":"some value of it"},`, 60)
	run := func(b *testing.B, url string, tapped bool) {
		b.SetParallelism(4) // times the number of cores: connections
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				k := fmt.Sprintf("or-%013d", serial.Add(1))
				body := `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","name":"` + k +
					`","object":{"metadata":{"name":"` + k + `"},"spec":{"env":[` + pad + `{}]}}}}`
				if tapped {
					if err := bench.tap.Expect(k, up); err != nil {
						b.Error(err)
					}
				}
				resp, err := bench.client.Post(url, "application/json", strings.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if tapped && len(bench.tap.Take(b.Context(), k)) != 1 {
					b.Error("no record")
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reviews/s")
	}
	b.Run("direct", func(b *testing.B) { run(b, up.URL().String(), false) })
	b.Run("through", func(b *testing.B) { run(b, bench.tap.URL("w"), true) })
}
