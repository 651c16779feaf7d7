// SPDX-License-Identifier: Apache-2.0

package source

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/outrigger-k8s/outrigger/lane/internal/progress"
)

// A store is a folder of built binaries. Beside each lies its manifest, written last: a binary without one, or of
// another size, does not count.
type store struct {
	dir   string
	times progress.Times // how long builds took, of any version
}

// A manifest describes one binary.
type manifest struct {
	Name    string `json:"name"`
	Version string `json:"version"` // what it printed
	Go      string `json:"go"`
	Size    int64  `json:"size"` // bytes
	SHA256  string `json:"sha256"`
}

// missing returns those of the wanted commands that are not in the store.
func (s store) missing(wanted []Command) []Command {
	var missing []Command
	for _, c := range wanted {
		if !s.has(c.Name) {
			missing = append(missing, c)
		}
	}
	return missing
}

func (s store) has(name string) bool {
	data, err := os.ReadFile(s.manifest(name))
	if err != nil {
		return false
	}
	m, err := parseManifest(data)
	if err != nil || m.Name != name {
		return false
	}
	info, err := os.Stat(filepath.Join(s.dir, name))
	return err == nil && info.Mode().IsRegular() && info.Size() == m.Size
}

func (s store) manifest(name string) string { return filepath.Join(s.dir, name+".json") }

func parseManifest(data []byte) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return manifest{}, err
	}
	if m.Name == "" || m.Size <= 0 {
		return manifest{}, errors.New("no name or no size")
	}
	return m, nil
}

// put moves a built binary, on the same file system, into the store.
func (s store) put(built string, m manifest) error {
	size, sum, err := digest(built)
	if err != nil {
		return err
	}
	m.Size, m.SHA256 = size, sum
	if err := os.Remove(s.manifest(m.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(built, filepath.Join(s.dir, m.Name)); err != nil {
		return err
	}
	return progress.WriteJSON(s.manifest(m.Name), m)
}

func digest(path string) (int64, string, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer file.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err != nil {
		return 0, "", fmt.Errorf("read %s: %w", path, err)
	}
	return size, hex.EncodeToString(hash.Sum(nil)), nil
}
