// SPDX-License-Identifier: Apache-2.0

package run

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// logsFolder is where, in the artefacts' folder, the logs of what a run had started are, if it broke.
const logsFolder = "run-logs"

// maxKeptLog bounds one of them in bytes; its end is kept.
const maxKeptLog = 4 << 20

// keepLogs copies the logs of the processes that the run has started into the artefacts' folder, before they go with the
// run's own, and returns their names as a report lists them. What cannot be had is told of in the progress.
func (s *Session) keepLogs() (names []string) {
	if s.options.Artifacts == "" || s.processes == nil {
		return nil
	}
	folder := filepath.Join(s.options.Artifacts, logsFolder)
	for _, file := range s.processes.Logs() {
		to := filepath.Join(folder, filepath.Base(file))
		if err := errors.Join(os.MkdirAll(folder, 0o755), copyEnd(file, to)); err != nil {
			fmt.Fprintf(s.options.Progress, "the log %s could not be kept: %v\n", filepath.Base(file), err)
			continue
		}
		names = append(names, path.Join(logsFolder, filepath.Base(file)))
	}
	if len(names) > 0 {
		fmt.Fprintf(s.options.Progress, "the logs of what the run had started are in %s\n", folder)
	}
	return names
}

// copyEnd copies the last maxKeptLog bytes of a file.
func copyEnd(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil {
		return err
	} else if info.Size() > maxKeptLog {
		if _, err := in.Seek(-maxKeptLog, io.SeekEnd); err != nil {
			return err
		}
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// removeLogs removes what an earlier run has kept there.
func removeLogs(artifacts string) error {
	files, _ := filepath.Glob(filepath.Join(artifacts, logsFolder, "*.log"))
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	err := os.Remove(filepath.Join(artifacts, logsFolder))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) { // what else is there stays
		return nil
	}
	return err
}
