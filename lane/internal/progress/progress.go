// SPDX-License-Identifier: Apache-2.0

// Package progress tells people what a lane's long preparations are doing, and how long that took the last time.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// A Progress writes what goes on: lines, and between them, on a terminal, one line that changes; elsewhere a line
// every 20 s, so that nobody who reads a log has to guess whether anything moves. Safe for concurrent use.
type Progress struct {
	every    time.Duration // between two live lines
	terminal bool

	mu   sync.Mutex
	w    io.Writer
	open bool // a live line stands there
}

// New writes to w; nil is nowhere.
func New(w io.Writer) *Progress {
	if w == nil {
		w = io.Discard
	}
	p := &Progress{w: w, every: 20 * time.Second}
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.terminal, p.every = true, time.Second
	}
	return p
}

// Line writes a line that stays.
func (p *Progress) Line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.w, format+"\n", args...)
}

// While writes what text returns, as a live line, every now and then until stop is called. The first comes after a
// while: what is quick is not worth a word.
func (p *Progress) While(text func(elapsed time.Duration) string) (stop func()) {
	began := time.Now()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(p.every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.live(text(time.Since(began)))
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		p.mu.Lock()
		defer p.mu.Unlock()
		p.clear()
	}
}

// live replaces the line before, if that is live too.
func (p *Progress) live(line string) {
	if !p.terminal {
		p.Line("%s", line)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	text := []rune(line)
	if file, ok := p.w.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 1 && len(text) >= width {
			text = text[:width-1] // a line that wraps could not be taken back
		}
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", string(text))
	p.open = true
}

// clear takes a live line away.
func (p *Progress) clear() {
	if p.open {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.open = false
	}
}

// Round writes a duration to the second.
func Round(d time.Duration) string { return d.Round(time.Second).String() }
