// SPDX-License-Identifier: Apache-2.0

//go:build unix

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// tryLock takes the lock on the file at path, made if need be. held says that somebody else has it. The lock goes
// with the returned file, and with the process: the kernel frees it however the process ends. Children do not
// inherit it, as Go opens files close-on-exec.
func tryLock(path string) (file *os.File, held bool, err error) {
	file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, err
	}
	switch err := flock(file, syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		file.Close()
		return nil, true, nil
	case err != nil:
		file.Close()
		return nil, false, fmt.Errorf("lock %s: %w", path, err)
	}
	return file, false, nil
}

// TryLock takes the lock on the file at path (made if need be, mode 0600) unless somebody else has it: then held is true,
// and unlock nil. unlock gives it back; the kernel does so too when the process ends, however it ends.
func TryLock(path string) (unlock func() error, held bool, err error) {
	file, held, err := tryLock(path)
	if err != nil || held {
		return nil, held, err
	}
	return file.Close, false, nil
}

// Lock waits until this program alone holds the lock on the file at path (made if need be, mode 0600) or ctx is done.
// unlock gives it back; the kernel does so too when the process ends, however it ends.
func Lock(ctx context.Context, path string) (unlock func() error, err error) {
	file, err := lockWait(ctx, path)
	if err != nil {
		return nil, err
	}
	return file.Close, nil
}

func lockWait(ctx context.Context, path string) (*os.File, error) {
	file, held, err := tryLock(path)
	if err != nil || !held {
		return file, err
	}
	file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// flock cannot be interrupted by a context: it waits in a goroutine, which hands a lock that nobody wants any
	// more straight back.
	locked := make(chan error, 1)
	go func() { locked <- flock(file, syscall.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return file, nil
	case <-ctx.Done():
		go func() { <-locked; file.Close() }()
		return nil, fmt.Errorf("wait for the lock %s, which another process holds: %w", path, context.Cause(ctx))
	}
}

func flock(file *os.File, how int) error {
	for {
		err := syscall.Flock(int(file.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func ownerOf(info os.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
