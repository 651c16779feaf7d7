// SPDX-License-Identifier: Apache-2.0

// Package watch tells when the content of files changes.
//
// Files change in three ways. An editor writes into the file. A tool renames a new file over it. The kubelet, for a
// mounted ConfigMap or Secret, changes nothing about the file's own name: config.yaml is a symbolic link to
// ..data/config.yaml, and ..data, itself a link to a directory, is replaced by a link to another one. All three are
// events in a directory, so directories are what is watched, and content is what is compared.
package watch

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Most is how many bytes of a file are read; a longer one is an error. It is more than a ConfigMap or Secret can hold.
const Most = 2 << 20

// Snapshot is the content of some files at one time.
type Snapshot struct {
	// Files are the contents, in the order of the paths.
	Files [][]byte
	sum   [sha256.Size]byte
}

// Read reads files.
func Read(paths ...string) (Snapshot, error) {
	s := Snapshot{}
	sum := sha256.New()
	for _, path := range paths {
		content, err := readFile(path)
		if err != nil {
			return Snapshot{sum: sha256.Sum256([]byte(err.Error()))}, err
		}
		s.Files = append(s.Files, content)
		fmt.Fprintf(sum, "%d:", len(content))
		sum.Write(content)
	}
	sum.Sum(s.sum[:0])
	return s, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, Most+1))
	if err != nil {
		return nil, err
	}
	if len(content) > Most {
		return nil, fmt.Errorf("read %s: it is longer than %d bytes", path, Most)
	}
	return content, nil
}

// Follow calls changed, from this goroutine, whenever the content of the files is no longer what it was at the last
// call, or since the given snapshot; also for changes between that snapshot and now. A file that cannot be read is a
// change too, with an error. Follow returns when the context is done (nil), or when the directories cannot be watched.
// Where the kernel gives no watcher (a user has 128 inotify instances on many systems) it looks once a second instead.
//
// A file that is written in place can be seen half written, and then again when it is complete.
func Follow(ctx context.Context, since Snapshot, changed func(Snapshot, error), paths ...string) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return poll(ctx, since, changed, paths)
	}
	defer watcher.Close()
	for _, path := range paths {
		if err := watcher.Add(filepath.Dir(path)); err != nil {
			return fmt.Errorf("watch the directory of %s: %w", path, err)
		}
	}
	look := func() {
		for _, path := range paths {
			// Where the file really is may have moved with a link. Its directory can vanish at any time; then an
			// event of the other directory is to come.
			if real, err := filepath.EvalSymlinks(path); err == nil {
				_ = watcher.Add(filepath.Dir(real))
			}
		}
		since = compare(since, changed, paths)
	}
	look()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-watcher.Events:
			if !open {
				return nil
			}
			look()
		case _, open := <-watcher.Errors: // above all an overflow: events were lost
			if !open {
				return nil
			}
			look()
		}
	}
}

// compare reads the files, tells of a change, and returns what is now the last content that was told of.
func compare(since Snapshot, changed func(Snapshot, error), paths []string) Snapshot {
	now, err := Read(paths...)
	if now.sum != since.sum {
		changed(now, err)
	}
	return now
}

const pollEvery = time.Second

// poll is Follow without a watcher.
func poll(ctx context.Context, since Snapshot, changed func(Snapshot, error), paths []string) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		since = compare(since, changed, paths)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
