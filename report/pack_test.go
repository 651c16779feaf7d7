// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// A report comes out of a log as it went in, whatever stands around it.
func TestPack(t *testing.T) {
	r := sample{size: 30, bug: emptyIsTrue}.report(t)
	var packed bytes.Buffer
	if err := Pack(&packed, r); err != nil {
		t.Fatal(err)
	}
	text := packed.String()
	for _, line := range strings.Split(text, "\n") {
		if len(line) > packLine {
			t.Errorf("a line of %d characters", len(line))
		}
	}
	if n := strings.Count(text, "\n"); n < 4 {
		t.Errorf("%d lines: too small to show anything", n)
	}
	var want bytes.Buffer
	if err := Encode(&want, r); err != nil {
		t.Fatal(err)
	}
	for name, log := range map[string]string{
		"alone": text, "in a log": "outrigger: something\n" + text + "verdict: all is well\n", "of Windows": strings.ReplaceAll(text, "\n", "\r\n"),
		"with the longest head": strings.Repeat("x", packWindow-len(packBegin)-1) + "\n" + text,
	} {
		got, err := Decode(strings.NewReader(log))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(got.Cases, r.Cases) || !reflect.DeepEqual(got.Verdict, r.Verdict) {
			t.Errorf("%s: another report", name)
		}
	}
	for name, c := range map[string]struct{ log, want string }{
		"cut off":           {text[:len(text)/2], "it ends in the middle"},
		"cut off at a line": {text[:strings.LastIndex(text, packEnd)], "it ends in the middle"},
		"no end":            {strings.Replace(text, packEnd, "", 1), ""},
		"garbage":           {packBegin + "\nnonsense!\n" + packEnd + "\n", ""},
		"nothing in it":     {packBegin + "\n" + packEnd + "\n", "it ends in the middle"},
		"in a line":         {"say " + text, "it is not an Outrigger report"},
		"no report at all":  {"the pod was killed\n", "it is not an Outrigger report"},
	} {
		if _, err := Decode(strings.NewReader(c.log)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestPackOnAFullDisk(t *testing.T) {
	r := small(t)
	var whole bytes.Buffer
	if err := Pack(&whole, r); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if err := Pack(&limitedWriter{left: n}, r); !errors.Is(err, io.ErrShortWrite) {
			t.Fatalf("room for %d of %d bytes: %v", n, whole.Len(), err)
		}
	}
}

// A limitedWriter has room for so many bytes.
type limitedWriter struct{ left int }

func (l *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > l.left {
		n := l.left
		l.left = 0
		return n, io.ErrShortWrite
	}
	l.left -= len(p)
	return len(p), nil
}
