// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/outrigger-k8s/outrigger/report"
)

// What is shown in the cluster comes after its DNS is ready; DNS that does not become ready is an error of the run, and one that
// did is among its phases, beside the others.
func TestWholeCluster(t *testing.T) {
	t.Parallel()
	broken, cut := errors.New("not ready within 10m"), errors.New("^C")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(cut)
	over := make(chan struct{})
	close(over)
	for _, row := range []struct {
		name string
		ctx  context.Context
		dns  *dnsWait
		err  error
	}{
		{"ready", t.Context(), &dnsWait{done: over, took: 9 * time.Second}, nil},
		{"never ready", t.Context(), &dnsWait{done: over, err: broken}, broken},
		{"cut off", ended, &dnsWait{done: make(chan struct{})}, cut},
	} {
		s := &Session{kind: &Kind{dns: row.dns}, options: Options{Progress: io.Discard}}
		if err := s.wholeCluster(row.ctx); !errors.Is(err, row.err) {
			t.Errorf("%s: error %v, want %v", row.name, err, row.err)
		}
		if row.err != nil && len(s.phases) != 0 {
			t.Errorf("%s: phases %v", row.name, s.phases)
		}
		if row.err == nil && (len(s.phases) != 1 || s.phases[0] != report.Phase{Name: "DNS", Duration: 9 * time.Second, At: row.dns.began.Sub(s.started), Beside: true}) {
			t.Errorf("%s: phases %v", row.name, s.phases)
		}
	}
}
