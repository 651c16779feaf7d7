// SPDX-License-Identifier: Apache-2.0

//go:build unix

package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sweep ends what runs under base whose lock nobody holds have left behind: processes, then directories. The caller
// holds base's lock. What cannot be swept is an error: it would be in the way of every later run, unseen.
func sweep(base string) ([]string, error) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil, fmt.Errorf("sweep earlier runs: %w", err)
	}
	var swept []string
	var errs []error
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		line, err := sweepRun(filepath.Join(base, entry.Name()), entry.Name())
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep earlier run %s: %w", entry.Name(), err))
		}
		if line != "" {
			swept = append(swept, line)
		}
	}
	return swept, errors.Join(errs...)
}

func sweepRun(dir, id string) (string, error) {
	if _, err := os.Lstat(filepath.Join(dir, lockFile)); err != nil {
		// Every run directory has a lock from before base's lock is free: without one it is either not ours, or one
		// whose Open was cut short while making it, which has nothing in it but our own empty folders.
		return sweepUnfinished(dir)
	}
	lock, held, err := tryLock(filepath.Join(dir, lockFile))
	if err != nil || held {
		return "", err
	}
	defer lock.Close()

	var killed []string
	left := append(recorded(dir), marked(id)...)
	for _, process := range left {
		if !process.lives() {
			continue
		}
		if err := process.kill(); err != nil {
			return "", err
		}
		killed = append(killed, fmt.Sprintf("%s (%d)", filepath.Base(process.Executable), process.PID))
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if len(killed) == 0 {
		return fmt.Sprintf("removed the directory that run %s had left behind", id), nil
	}
	return fmt.Sprintf("killed what run %s had left running: %s; removed its directory", id, strings.Join(killed, ", ")), nil
}

func sweepUnfinished(dir string) (string, error) {
	for _, d := range []string{filepath.Join(dir, logsDir), filepath.Join(dir, processesDir), dir} {
		// Remove, not RemoveAll: it fails on what is not empty, and then it is not ours to remove.
		if err := os.Remove(d); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", nil
		}
	}
	return "", nil
}

// recorded reads the records of a run's processes. A record that was cut short while being written is passed over:
// there is nothing in it to recognise a process by.
func recorded(dir string) []identity {
	paths, _ := filepath.Glob(filepath.Join(dir, processesDir, "*.json"))
	var found []identity
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if id, ok := parseRecord(data); ok {
			found = append(found, id)
		}
	}
	return found
}

func parseRecord(data []byte) (identity, bool) {
	var id identity
	if json.Unmarshal(data, &id) != nil || id.PID <= 1 || id.Start == "" || id.Executable == "" {
		return identity{}, false
	}
	return id, true
}
