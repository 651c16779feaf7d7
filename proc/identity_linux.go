// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttributes: a group of its own, so that a terminal's ^C reaches only us and we end children in order; and
// death with the thread that starts it, which lives as long as the run.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitExit returns true when the child has ended, without taking it off the process table; false if it cannot say.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

var bootID = sync.OnceValue(func() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
})

// identify looks a process up. A zombie counts as gone.
func identify(pid int) (identity, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return identity{}, err
	}
	state, start, err := parseStat(stat)
	if err != nil {
		return identity{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	if state == "Z" || state == "X" {
		return identity{}, errEnded
	}
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if errors.Is(err, os.ErrNotExist) { // it ended in between
		return identity{}, errEnded
	}
	if err != nil {
		return identity{}, err
	}
	return identity{
		PID:   pid,
		Start: bootID() + "/" + start,
		// A rebuilt program's old file is gone while the process lives on.
		Executable: strings.TrimSuffix(exe, " (deleted)"),
	}, nil
}

// parseStat finds the third field (state) and the 22nd (start time in clock ticks since boot) of /proc/PID/stat. The
// second, the command in brackets, may hold anything, brackets and spaces too.
func parseStat(stat []byte) (state, start string, err error) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return "", "", errors.New("no command in brackets")
	}
	fields := strings.Fields(string(stat[i+1:]))
	if len(fields) < 20 {
		return "", "", fmt.Errorf("%d fields after the command, want at least 20", len(fields))
	}
	return fields[0], fields[19], nil
}

// killAndAwait sends SIGKILL to target (negative: a group) and waits until the process id is gone.
func killAndAwait(id identity, target int) error {
	// The descriptor keeps meaning this process even if its ID is given out again, and can be waited for.
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !id.lives() { // between the look before and the descriptor it may have changed hands
		return nil
	}
	if target < 0 {
		_ = syscall.Kill(target, syscall.SIGKILL)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return err
	}
	for {
		// Readable means ended. Bounded: a process in uninterruptible sleep dies when it wakes up.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return errors.New("it still lives 5 s after SIGKILL")
		default:
			return nil
		}
	}
}

// marked finds the living processes that carry the run's mark in their environment: children, and what they started.
func marked(runID string) []identity {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	mark := []byte("\x00" + runEnv + "=" + runID + "\x00")
	var found []identity
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environment, err := os.ReadFile("/proc/" + entry.Name() + "/environ")
		if err != nil { // gone, or somebody else's
			continue
		}
		environment = append(append([]byte{0}, environment...), 0)
		if !bytes.Contains(environment, mark) {
			continue
		}
		if id, err := identify(pid); err == nil {
			found = append(found, id)
		}
	}
	return found
}
