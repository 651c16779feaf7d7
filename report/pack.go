// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// The lines between which a packed report stands.
const (
	packBegin = "-----BEGIN OUTRIGGER REPORT-----"
	packEnd   = "-----END OUTRIGGER REPORT-----"
)

// packLine is how many characters a line has: log collectors cut longer ones than some 16 KiB.
const packLine = 4096

// packWindow is how much may stand before a packed report.
const packWindow = 64 << 10

// Pack writes a report, compressed and as text, between two lines by which [Decode] finds it: for where the log of a
// run, a pod's for example, is all that is left of it.
func Pack(w io.Writer, r *Report) error {
	out := bufio.NewWriterSize(w, 1<<16)
	fmt.Fprintln(out, packBegin) // bufio keeps the first error for Flush
	lines := &lineBreaker{w: out}
	text := base64.NewEncoder(base64.StdEncoding, lines)
	z := gzip.NewWriter(text)
	if err := Encode(z, r); err != nil {
		return err
	}
	if err := errors.Join(z.Close(), text.Close()); err != nil {
		return fmt.Errorf("pack the report: %w", err)
	}
	if lines.n > 0 {
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out, packEnd)
	if err := out.Flush(); err != nil {
		return fmt.Errorf("pack the report: %w", err)
	}
	return nil
}

// A lineBreaker breaks what is written to it into lines.
type lineBreaker struct {
	w *bufio.Writer
	n int // characters of the line so far
}

func (l *lineBreaker) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		k := min(len(p), packLine-l.n)
		n, err := l.w.Write(p[:k])
		written += n
		if err != nil {
			return written, err
		}
		p = p[k:]
		if l.n += k; l.n == packLine {
			if err := l.w.WriteByte('\n'); err != nil {
				return written, err
			}
			l.n = 0
		}
	}
	return written, nil
}

// unpack gives the compressed report that stands in a log, nil where none begins.
func unpack(log *bufio.Reader) (io.Reader, error) {
	head, _ := log.Peek(packWindow)
	at := bytes.Index(head, []byte(packBegin))
	if at < 0 || at > 0 && head[at-1] != '\n' {
		return nil, nil
	}
	if _, err := log.Discard(at + len(packBegin)); err != nil {
		return nil, err
	}
	return base64.NewDecoder(base64.StdEncoding, &packedLines{log: log}), nil
}

// packedLines are the lines up to the end of a packed report.
type packedLines struct {
	log  *bufio.Reader
	rest []byte
	done bool
}

func (l *packedLines) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		if l.done {
			return 0, io.EOF
		}
		line, err := l.log.ReadSlice('\n')
		if bytes.HasPrefix(line, []byte(packEnd)) {
			l.done = true
			continue
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return 0, io.ErrUnexpectedEOF // before the end
		}
		l.rest = line
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}
