// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childAttributes: a group of its own. There is no parent death signal on this system: the sweep of the next run has
// to do after a kill -9.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitExit: this system cannot wait without taking the child off the table.
func awaitExit(int) bool { return false }

// zombie is SZOMB of <sys/proc.h>.
const zombie = 5

// identify looks a process up.
func identify(pid int) (identity, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return identity{}, err
	}
	if int(info.Proc.P_pid) != pid {
		return identity{}, fmt.Errorf("no process %d", pid)
	}
	if info.Proc.P_stat == zombie {
		return identity{}, errEnded
	}
	started := info.Proc.P_starttime
	return identity{
		PID:        pid,
		Start:      fmt.Sprintf("%d.%06d", started.Sec, started.Usec),
		Executable: unix.ByteSliceToString(info.Proc.P_comm[:]),
	}, nil
}

// killAndAwait sends SIGKILL to target (negative: a group) and waits until the process id is gone.
func killAndAwait(id identity, target int) error {
	if err := syscall.Kill(target, syscall.SIGKILL); err != nil {
		return err
	}
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond) // not our child: there is nothing to wait on
	defer tick.Stop()
	for id.lives() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return errors.New("it still lives 5 s after SIGKILL")
		}
	}
	return nil
}

// marked: other processes' environments cannot be read here.
func marked(string) []identity { return nil }
