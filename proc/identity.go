// SPDX-License-Identifier: Apache-2.0

//go:build unix

package proc

import (
	"errors"
	"fmt"
	"syscall"
)

// An identity is what tells one process from every other one that has or will have the same ID.
type identity struct {
	PID        int    `json:"pid"`
	Start      string `json:"start"`      // when it started, in the kernel's own terms, with the boot it belongs to
	Executable string `json:"executable"` // what it runs
	Name       string `json:"name,omitempty"`
}

// errEnded says that a process has ended, though its parent may not have taken notice yet.
var errEnded = errors.New("the process has ended")

// lives says whether exactly this process still runs.
func (id identity) lives() bool {
	now, err := identify(id.PID)
	return err == nil && now.Start == id.Start && now.Executable == id.Executable
}

// kill kills the process and its group, if it still is the one it was, and returns once it is gone.
func (id identity) kill() error {
	if id.PID <= 1 || !id.lives() {
		return nil
	}
	// Its own group only: a process that shares the group of somebody else is killed alone.
	target := id.PID
	if group, err := syscall.Getpgid(id.PID); err == nil && group == id.PID {
		target = -id.PID
	}
	if err := killAndAwait(id, target); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process %d (%s): %w", id.PID, id.Executable, err)
	}
	return nil
}
