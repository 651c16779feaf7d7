// SPDX-License-Identifier: Apache-2.0

// Package standin is what stands in for a mesh where pods really run: an init container that writes down what it sees
// ([Look]), a sidecar that passes connections on ([Proxy]), and an application ([App]). They do just enough for a test
// to see that a sidecar is there, that its init container ran first, and that traffic goes through it.
package standin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Seen is what a container sees of itself.
type Seen struct {
	Time     time.Time         `json:"time"`
	Hostname string            `json:"hostname"`
	Args     []string          `json:"args"`
	Env      map[string]string `json:"env"`
	// Mounts are the mount points with something of their own on them, sorted.
	Mounts []string `json:"mounts"`
	UID    int      `json:"uid"`
	GID    int      `json:"gid"`
}

// Look looks around. Where there is no /proc, it sees no mounts.
func Look() Seen {
	s := Seen{Time: time.Now().UTC(), Args: os.Args, Env: map[string]string{}, UID: os.Getuid(), GID: os.Getgid()}
	s.Hostname, _ = os.Hostname()
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		s.Env[name] = value
	}
	if text, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		s.Mounts = mountPoints(text)
	}
	return s
}

// mountPoints reads the fifth column of proc(5)'s mountinfo, in which blanks are written as \040.
func mountPoints(mountinfo []byte) []string {
	var out []string
	for lines := bufio.NewScanner(bytes.NewReader(mountinfo)); lines.Scan(); {
		if columns := strings.Fields(lines.Text()); len(columns) > 4 {
			out = append(out, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(columns[4]))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// WriteFile writes what was seen to a file, as JSON, whole or not at all.
func (s Seen) WriteFile(path string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write down what is seen: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".seen-")
	if err != nil {
		return fmt.Errorf("write down what is seen: %w", err)
	}
	defer os.Remove(file.Name()) // gone already when all went well
	_, err = file.Write(append(text, '\n'))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(file.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write down what is seen: %w", err)
	}
	return nil
}

// App is an application: it answers GET on every path with what it sees, as JSON.
func App() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, Look()) })
	return mux
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // who has gone away needs no answer
}
