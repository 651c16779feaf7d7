// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/outrigger-k8s/outrigger/proc"
)

// prefix of the names of all clusters that are made here.
const prefix = "outrigger-"

const (
	lockFile       = "lock"
	recordFile     = "cluster.json"
	kubeconfigFile = "kubeconfig"
)

// A record is what the next run must know of a cluster.
type record struct {
	Name   string `json:"name"`
	Engine string `json:"engine"`
	Image  string `json:"image,omitempty"`
	Config string `json:"config,omitempty"` // digest of what it was made from
	// Kubernetes is the API server's version, without the v; "" until it is known.
	Kubernetes string    `json:"kubernetes,omitempty"`
	Kept       bool      `json:"kept,omitempty"` // it is to outlive its run
	Made       time.Time `json:"made"`
}

// A registry is the folder in which every cluster has a folder of its own.
type registry struct{ dir string }

// openRegistry opens the registry in dir; "" is outrigger/kind in the user's cache.
func openRegistry(dir string) (*registry, error) {
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find the folder of clusters: %w", err)
		}
		dir = filepath.Join(cache, "outrigger", "kind")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of clusters: %w", err)
	}
	return &registry{dir}, nil
}

// An entry is a cluster's folder, whose lock this program holds.
type entry struct {
	dir string
	record
	unlock func() error
}

func (e *entry) kubeconfig() string { return filepath.Join(e.dir, kubeconfigFile) }

// kubernetes says which version of Kubernetes the cluster is.
func (e *entry) kubernetes() string {
	if e.Kubernetes == "" {
		return "a version of Kubernetes that nobody noted"
	}
	return "Kubernetes " + e.Kubernetes
}

// write stores the record, whole or not at all.
func (e *entry) write() error {
	raw, err := json.Marshal(e.record)
	if err != nil {
		return fmt.Errorf("record cluster %s: %w", e.Name, err)
	}
	path := filepath.Join(e.dir, recordFile)
	if err := writeSynced(path+".new", raw); err != nil {
		return fmt.Errorf("record cluster %s: %w", e.Name, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("record cluster %s: %w", e.Name, err)
	}
	return nil
}

// writeSynced writes a file, and returns once it is on the disk: renamed before that, it could be empty after a crash, and
// the cluster that it tells of would be nobody's.
func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// remove takes the folder away: the cluster is gone.
func (e *entry) remove() error {
	// The lock goes last: who finds a folder without a record and can lock it has found one that is being removed, or
	// was never finished.
	err := errors.Join(os.RemoveAll(filepath.Join(e.dir, recordFile)), os.RemoveAll(e.dir))
	return errors.Join(err, e.unlock())
}

// claim makes a new entry. Its name is unique on this machine: time, and a random part.
func (r *registry) claim(engine string) (*entry, error) {
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("name a cluster: %w", err)
	}
	made := time.Now().UTC()
	e := &entry{record: record{Name: prefix + made.Format("20060102t150405") + "-" + hex.EncodeToString(random[:]), Engine: engine, Made: made}}
	e.dir = r.folder(e.Name)
	if err := os.Mkdir(e.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of a cluster: %w", err)
	}
	unlock, held, err := proc.TryLock(filepath.Join(e.dir, lockFile))
	if err == nil && held {
		err = errors.New("another run holds it already")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the folder of a cluster: %w", err), os.RemoveAll(e.dir))
	}
	e.unlock = unlock
	if err := e.write(); err != nil {
		return nil, errors.Join(err, e.remove())
	}
	return e, nil
}

// folder of a cluster.
func (r *registry) folder(name string) string { return filepath.Join(r.dir, name) }

// recorded tells whether anything is known of a cluster of that name.
func (r *registry) recorded(name string) bool {
	_, err := os.Stat(filepath.Join(r.folder(name), recordFile))
	return err == nil
}

// idle are the entries that no living run has, newest first; each is locked by this program now.
func (r *registry) idle() ([]*entry, error) {
	folders, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("look for clusters of earlier runs: %w", err)
	}
	var list []*entry
	for _, folder := range folders {
		if !folder.IsDir() || !strings.HasPrefix(folder.Name(), prefix) {
			continue
		}
		e := &entry{dir: filepath.Join(r.dir, folder.Name())}
		unlock, held, err := proc.TryLock(filepath.Join(e.dir, lockFile))
		if err != nil || held {
			continue // it lives, or has gone in between
		}
		e.unlock = unlock
		raw, err := os.ReadFile(filepath.Join(e.dir, recordFile))
		if err != nil || json.Unmarshal(raw, &e.record) != nil || e.Name != folder.Name() {
			// Claimed by a run that died before it wrote the record, and so before it made anything.
			if err := e.remove(); err != nil {
				return nil, fmt.Errorf("remove the unfinished folder %s: %w", e.dir, err)
			}
			continue
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *entry) int { return b.Made.Compare(a.Made) })
	return list, nil
}

// hold keeps every other program from sweeping and claiming.
func (r *registry) hold(ctx context.Context) (release func() error, err error) {
	release, err = proc.Lock(ctx, filepath.Join(r.dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("wait for another run that looks for clusters of earlier ones: %w", err)
	}
	return release, nil
}
