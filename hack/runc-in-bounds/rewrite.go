// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// bounds are what a process that is started here can be given.
type bounds struct {
	missing []string // capabilities that the kernel knows and the bounding set lacks: "CAP_SYS_RESOURCE"
	// hard is the highest hard limit of a resource ("RLIMIT_NOFILE"); nil where any can be set.
	hard map[string]uint64
}

func (b bounds) narrow() bool { return len(b.missing) > 0 }

// resources are the limits that Docker's --ulimit and the OCI's process.rlimits know.
var resources = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// currentBounds are those of this process, whose child's the container's are.
func currentBounds() (bounds, error) {
	var b bounds
	known, err := capability.ListSupported()
	if err != nil {
		return bounds{}, fmt.Errorf("list the kernel's capabilities: %w", err)
	}
	for _, c := range known {
		in, err := capability.GetBound(c)
		if err != nil {
			return bounds{}, fmt.Errorf("look for capability %s in the bounding set: %w", c, err)
		}
		if !in {
			b.missing = append(b.missing, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	if !slices.Contains(b.missing, "CAP_SYS_RESOURCE") {
		return b, nil
	}
	b.hard = map[string]uint64{}
	for name, resource := range resources {
		var limit unix.Rlimit
		if err := unix.Getrlimit(resource, &limit); err != nil {
			return bounds{}, fmt.Errorf("read %s: %w", name, err)
		}
		b.hard[name] = limit.Max
	}
	return b, nil
}

// rewrite makes a file ask for nothing beyond b, whole or not at all; a file that asks for nothing else stays untouched.
func rewrite(f file, b bounds) error {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read what is to be started: %w", err)
	}
	kept, err := within(data, f.bundle, b)
	if err != nil {
		return fmt.Errorf("read what is to be started from %s: %w", f.path, err)
	}
	if kept == nil {
		return nil
	}
	if err := replace(f.path, kept); err != nil {
		return fmt.Errorf("write what is to be started: %w", err)
	}
	return nil
}

// within returns data without what is beyond b, or nil where nothing is. What it does not know it keeps as it is, to the
// last digit.
func within(data []byte, bundle bool, b bounds) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var whole map[string]any
	if err := decoder.Decode(&whole); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	process := whole
	if bundle {
		process, _ = whole["process"].(map[string]any)
	}
	dropped := b.dropCapabilities(process)
	if lowered := b.lowerLimits(process); !dropped && !lowered {
		return nil, nil
	}
	return json.Marshal(whole)
}

func (b bounds) dropCapabilities(process map[string]any) (changed bool) {
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets { // bounding, effective, inheritable, permitted, ambient
		listed, ok := set.([]any)
		if !ok {
			continue
		}
		kept := slices.DeleteFunc(slices.Clone(listed), func(c any) bool {
			capability, _ := c.(string)
			return slices.Contains(b.missing, strings.ToUpper(capability))
		})
		if len(kept) != len(listed) {
			sets[name], changed = kept, true
		}
	}
	return changed
}

func (b bounds) lowerLimits(process map[string]any) (changed bool) {
	limits, _ := process["rlimits"].([]any)
	for _, l := range limits {
		limit, _ := l.(map[string]any)
		name, _ := limit["type"].(string)
		highest, bounded := b.hard[name]
		if !bounded {
			continue
		}
		for _, which := range []string{"hard", "soft"} {
			number, _ := limit[which].(json.Number)
			var value uint64
			if _, err := fmt.Sscan(number.String(), &value); err == nil && value > highest {
				limit[which], changed = json.Number(fmt.Sprint(highest)), true
			}
		}
	}
	return changed
}

// replace writes a file anew, with the mode and the owner that it has.
func replace(path string, data []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone already when all went well
	_, err = temporary.Write(data)
	if err := errors.Join(err, temporary.Chmod(info.Mode().Perm()), temporary.Close()); err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(temporary.Name(), int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return os.Rename(temporary.Name(), path)
}
