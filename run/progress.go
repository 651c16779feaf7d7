// SPDX-License-Identifier: Apache-2.0

package run

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/outrigger-k8s/outrigger/probe"
)

// progress writes how far a run is: on a terminal one line that rewrites itself, elsewhere a line now and then.
type progress struct {
	session *Session
	w       io.Writer
	live    bool
	start   time.Time
	quit    chan struct{}
	done    sync.WaitGroup

	mu   sync.Mutex
	what string
}

const (
	liveEvery  = 200 * time.Millisecond
	linesEvery = 10 * time.Second
)

func (s *Session) startProgress() *progress {
	p := &progress{session: s, w: s.options.Progress, start: time.Now(), quit: make(chan struct{})}
	f, ok := p.w.(*os.File)
	p.live = ok && term.IsTerminal(int(f.Fd()))
	every := linesEvery
	if p.live {
		every = liveEvery
	}
	p.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.write(false)
			case <-p.quit:
				p.write(true)
				return
			}
		}
	})
	return p
}

func (p *progress) arranging(a *probe.PlannedArrangement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what = a.Name
}

func (p *progress) write(last bool) {
	p.mu.Lock()
	what := p.what
	p.mu.Unlock()
	done, total, faults := p.session.judged.Load(), p.session.total.Load(), p.session.faults.Load()
	elapsed := time.Since(p.start)
	rate := float64(done) / elapsed.Seconds()
	line := fmt.Sprintf("%s: %d of %d cases, %d not as expected, %.0f/s, %s", p.session.options.Lane, done, total, faults, rate, elapsed.Round(100*time.Millisecond))
	if !last && rate > 0 {
		line += fmt.Sprintf(", about %s left (%s)", (time.Duration(float64(total-done) / rate * float64(time.Second))).Round(time.Second), what)
	}
	if !p.live {
		fmt.Fprintln(p.w, line)
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
	if last {
		fmt.Fprintln(p.w)
	}
}

func (p *progress) stop() {
	close(p.quit)
	p.done.Wait()
}
