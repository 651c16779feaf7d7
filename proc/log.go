// SPDX-License-Identifier: Apache-2.0

//go:build unix

package proc

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
)

// logLimit is the size of a log file in bytes; there are at most two of a process.
const logLimit = 8 << 20

// A boundedLog is a log file that is moved aside (PATH.1, over the one before) when it is full, so that a process
// that talks without end fills neither the disk nor memory.
type boundedLog struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
}

func newBoundedLog(path string, limit int64) (*boundedLog, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &boundedLog{path: path, limit: limit, file: file}, nil
}

// Write never fails: a full disk must not make the process that logs stop, or block.
func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return len(p), nil
	}
	if l.size+int64(len(p)) > l.limit && l.size > 0 {
		l.rotate()
		if l.file == nil {
			return len(p), nil
		}
	}
	n, _ := l.file.Write(p)
	l.size += int64(n)
	return len(p), nil
}

func (l *boundedLog) rotate() {
	l.file.Close()
	_ = os.Rename(l.path, l.path+".1")
	l.file, l.size = nil, 0
	if file, err := os.OpenFile(l.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err == nil {
		l.file = file
	}
}

func (l *boundedLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// tailBytes is how much of the log's end is looked at for its last lines.
const tailBytes = 16 << 10

// end is the last n bytes.
func (l *boundedLog) end(n int64) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	data := readEnd(l.path, n)
	if int64(len(data)) < n { // just moved aside, perhaps
		data = append(readEnd(l.path+".1", n-int64(len(data))), data...)
	}
	return data
}

func (l *boundedLog) tail(n int) []string {
	data := bytes.TrimRight(l.end(tailBytes), "\n")
	if len(data) == 0 {
		return nil
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	for i, line := range lines {
		if len(line) > 400 { // one line must not hide the others
			lines[i] = strings.ToValidUTF8(line[:400], "") + "…"
		}
	}
	return lines
}

func readEnd(path string, n int64) []byte {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil
	}
	data := make([]byte, min(n, size))
	if _, err := file.ReadAt(data, size-int64(len(data))); err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return data
}
