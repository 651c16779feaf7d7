// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// A goTool is the go command on this machine.
type goTool struct {
	path    string
	version string // "go1.26.8"
}

func findGo(ctx context.Context) (goTool, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return goTool{}, fmt.Errorf("the go command is needed: %w. Install Go 1.26 or newer (https://go.dev/dl)", err)
	}
	command := exec.CommandContext(ctx, path, "env", "GOVERSION")
	command.Env = goEnvironment(os.Environ(), os.TempDir())
	command.Dir = os.TempDir() // no go.mod's toolchain line may decide
	out, err := command.CombinedOutput()
	if err != nil {
		return goTool{}, fmt.Errorf("ask %s for its version: %w: %s", path, err, strings.TrimSpace(string(out)))
	}
	return goTool{path: path, version: strings.TrimSpace(string(out))}, nil
}

// disturbing are the variables of the caller's environment that would change what is built, or for which platform.
// Where modules and Go's caches come from stays the caller's.
var disturbing = []string{
	"GOFLAGS", "GOWORK", "GO111MODULE", "GOOS", "GOARCH", "GOTMPDIR", "CGO_ENABLED", "GOEXPERIMENT", "GODEBUG",
}

// goEnvironment is the caller's environment without what disturbs. go's temporary files go to tmp.
func goEnvironment(callers []string, tmp string) []string {
	var env []string
	flags := "-mod=mod" // GOFLAGS may not be empty, else a file of "go env -w" would decide
	for _, entry := range callers {
		name, value, _ := strings.Cut(entry, "=")
		if name == "GOFLAGS" {
			flags += parallelism(value)
		}
		if !slices.Contains(disturbing, name) {
			env = append(env, entry)
		}
	}
	return append(env, "GOFLAGS="+flags, "GOWORK=off", "GO111MODULE=on", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH,
		"GOTMPDIR="+tmp, "CGO_ENABLED=0")
}

// parallelism is the one flag of the caller's GOFLAGS that is kept: how many things go does side by side.
func parallelism(flags string) string {
	for _, f := range strings.Fields(flags) {
		if strings.HasPrefix(f, "-p=") {
			return " " + f
		}
	}
	return ""
}
