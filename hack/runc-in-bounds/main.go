// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Runc-in-bounds is an OCI runtime for machines whose capability bounding set lacks a capability, as that of many CI
// machines lacks CAP_SYS_RESOURCE. A privileged container asks for every capability there is; runc refuses the whole
// container if one of them cannot be had ("unable to apply caps: operation not permitted").
//
// It takes out of the bundle's config.json, and out of the file of an exec's process, the capabilities that are beyond
// the bounding set, lowers limits that only CAP_SYS_RESOURCE may raise, and hands over to runc with the arguments it was
// given. Where nothing is missing it changes nothing. An engine is told of it in its daemon.json:
//
//	{"runtimes": {"in-bounds": {"path": "/path/to/runc-in-bounds"}}, "default-runtime": "in-bounds"}
//
// Podman goes by the file that CONTAINERS_CONF names:
//
//	[engine]
//	runtime = "in-bounds"
//	runtime_supports_json = ["in-bounds"]
//	[engine.runtimes]
//	in-bounds = ["/path/to/runc-in-bounds"]
//
// runc is the one that $RUNC names, or the one on PATH, or, since podman gives a runtime no PATH, the one in a folder where
// distributions have it.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "runc-in-bounds: %v\n", err)
		os.Exit(1)
	}
}

// run does not return unless it fails: runc takes the process's place.
func run(args []string) error {
	runc, err := findRunc()
	if err != nil {
		return err
	}
	b, err := currentBounds()
	if err != nil {
		return err
	}
	if file := fileOf(args); file.path != "" && b.narrow() {
		if err := rewrite(file, b); err != nil {
			return err
		}
	}
	return fmt.Errorf("hand over to %s: %w", runc, syscall.Exec(runc, append([]string{"runc"}, args...), os.Environ()))
}

func findRunc() (string, error) {
	runc, err := lookUp()
	if err != nil {
		return "", fmt.Errorf("find runc: %w; install it, or name it in $RUNC", err)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find runc: %w", err)
	}
	if same(self, runc) {
		return "", errors.New("find runc: the one on PATH is this program; name the right one in $RUNC")
	}
	return runc, nil
}

// folders are where distributions and Docker's packages have runc.
var folders = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"}

func lookUp() (string, error) {
	if name := os.Getenv("RUNC"); name != "" {
		return exec.LookPath(name)
	}
	runc, err := exec.LookPath("runc")
	if err == nil {
		return runc, nil
	}
	for _, dir := range folders {
		if runc, err := exec.LookPath(filepath.Join(dir, "runc")); err == nil {
			return runc, nil
		}
	}
	return "", err
}

func same(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// A file is one that says what a process may do.
type file struct {
	path   string
	bundle bool // a config.json, which has the process in it; else the process itself
}

// switches are the flags of runc and of its commands below that take no value. All others do.
var switches = set("auto-dedup", "d", "debug", "detach", "ext-unix-sk", "file-locks", "h", "help", "ignore-paused", "keep",
	"lazy-pages", "no-new-keyring", "no-new-privs", "no-pivot", "no-subreaper", "shell-job", "systemd-cgroup", "t",
	"tcp-established", "tty", "v", "version")

func set(names ...string) map[string]bool {
	s := map[string]bool{}
	for _, name := range names {
		s[name] = true
	}
	return s
}

// commands of runc that start a process, and their flag for the file that describes it, long and short.
var commands = map[string]struct {
	flags  [2]string
	bundle bool
}{
	"create":  {[2]string{"bundle", "b"}, true},
	"run":     {[2]string{"bundle", "b"}, true},
	"restore": {[2]string{"bundle", "b"}, true},
	"exec":    {[2]string{"process", "p"}, false},
}

// fileOf finds in runc's arguments the file that describes the process it is to start; none if it starts none, or an
// exec's process is described by flags alone: that one gets the capabilities of the container's, which are in bounds.
func fileOf(args []string) file {
	_, args = flags(args)
	if len(args) == 0 {
		return file{}
	}
	command, ok := commands[args[0]]
	if !ok {
		return file{}
	}
	given, _ := flags(args[1:])
	value := cmp.Or(given[command.flags[0]], given[command.flags[1]])
	switch {
	case !command.bundle:
		return file{path: value}
	case value == "":
		value = "." // runc's default
	}
	return file{path: filepath.Join(value, "config.json"), bundle: true}
}

// flags reads flags up to the first argument that is none, as runc does: -name, --name, with its value after = or as the
// next argument. It returns the values by name, and the rest.
func flags(args []string) (values map[string]string, rest []string) {
	values = map[string]string{}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && args[0] != "--" {
		name := strings.TrimPrefix(args[0][1:], "-")
		args = args[1:]
		name, value, given := strings.Cut(name, "=")
		if !given && !switches[name] && len(args) > 0 {
			value, args = args[0], args[1:]
		}
		values[name] = value
	}
	return values, args
}
