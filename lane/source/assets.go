// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// InDir takes the programs of a control plane that lie in dir, and asks the API server which version it is. version,
// with or without the v, must be that one, unless it is "".
func InDir(ctx context.Context, dir, version string) (Binaries, error) {
	wanted, err := pick(controlPlane)
	if err != nil {
		return Binaries{}, err
	}
	return inDir(ctx, "take the Kubernetes binaries in "+dir, dir, version, wanted)
}

// fromAssets takes what is wanted from the folder that KUBEBUILDER_ASSETS names.
func fromAssets(ctx context.Context, dir, version string, wanted []Command) (Binaries, error) {
	return inDir(ctx, "take the Kubernetes binaries that KUBEBUILDER_ASSETS names", dir, version, wanted)
}

func inDir(ctx context.Context, attempt, dir, version string, wanted []Command) (Binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, fmt.Errorf("%s: %w", attempt, err)
	}
	for _, p := range wanted {
		if _, err := exec.LookPath(filepath.Join(dir, p.Name)); err != nil {
			return Binaries{}, fmt.Errorf("%s: %w; put it there, or name no folder (unset KUBEBUILDER_ASSETS) to have it built from source", attempt, err)
		}
	}
	// Whatever is wanted, the API server's version is Kubernetes'.
	probe := wanted[0].Name
	for _, p := range wanted {
		if p.Name != Etcd {
			probe = p.Name
		}
		if p.Name == APIServer {
			break
		}
	}
	printed, err := printedVersion(ctx, filepath.Join(dir, probe), versionArgs(probe))
	if err != nil {
		return Binaries{}, fmt.Errorf("%s: %w", attempt, err)
	}
	match := printedPattern.FindStringSubmatch(printed)
	if match == nil {
		return Binaries{}, fmt.Errorf("%s: %s says its version is %q: there is no version in it", attempt, filepath.Join(dir, probe), printed)
	}
	if version = strings.TrimPrefix(version, "v"); version != "" && version != match[1] {
		return Binaries{}, fmt.Errorf("%s: Kubernetes %s is wanted, but %s is %s; name no folder (unset KUBEBUILDER_ASSETS) to have %s built from source",
			attempt, version, filepath.Join(dir, probe), match[1], version)
	}
	return Binaries{Dir: dir, Version: match[1], Provider: FromAssets}, nil
}

// printedPattern finds the version; "1.37.2" in "Kubernetes v1.37.2-k3s1".
var printedPattern = regexp.MustCompile(`v?(\d+\.\d+\.\d+)`)

func versionArgs(name string) []string {
	for _, p := range programs {
		if p.Name == name {
			return p.VersionArgs
		}
	}
	return nil
}

// versionTimeout bounds how long a program may take to say its version.
const versionTimeout = 30 * time.Second

// printedVersion runs a program for its version.
func printedVersion(ctx context.Context, path string, args []string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, versionTimeout, fmt.Errorf("not within %s", versionTimeout))
	defer cancel()
	command := exec.CommandContext(ctx, path, args...)
	command.WaitDelay = time.Second // a child of it may hold its output open
	command.Env = []string{}        // it needs none, and a KUBECONFIG may make it talk to a cluster
	out, err := command.CombinedOutput()
	if len(out) > 4096 {
		out = out[:4096]
	}
	text := strings.TrimSpace(string(out))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("ask %s for its version: %w: %s", path, err, text)
	}
	return text, nil
}
