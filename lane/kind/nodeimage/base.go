// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-k8s/outrigger/proc"
)

// base is the node's Debian.
func (w *workshop) base(mirror string) part {
	return part{
		name: "base", what: "node's base, Debian " + suite, estimate: 150 * time.Second,
		from: struct {
			Mirror, Suite, Architecture string
			Packages, Tar               []string
		}{mirror, suite, architecture, packages, baseTar()},
		make: func(ctx context.Context, out string) error { return w.makeBase(ctx, mirror, out) },
	}
}

func (w *workshop) makeBase(ctx context.Context, mirror, out string) error {
	if os.Getuid() != 0 {
		return errors.New("debootstrap, which installs Debian into a folder, needs root: run this as root once, and copy " +
			w.parts + " to the same place in your own cache; or give an image with NODE_IMAGE")
	}
	if err := w.installDebootstrap(ctx); err != nil {
		return err
	}
	tree := filepath.Join(w.run.Dir(), "base")
	// In a mount namespace of its own: what debootstrap mounts in the tree is gone with it, also after kill -9, so that
	// nothing that removes the tree can reach through a mount.
	err := w.do(ctx, proc.Spec{Name: "debootstrap", Path: "unshare", Args: []string{
		"--mount", "--propagation", "private",
		"debootstrap", "--variant=minbase", "--arch=" + architecture, "--include=" + strings.Join(packages, ","), suite, tree, mirror,
	}, Env: append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")})
	if err != nil && ctx.Err() == nil {
		log := debootstrapLog(tree)
		if diskFull(log) && !errors.Is(err, syscall.ENOSPC) {
			err = fmt.Errorf("%w: %w", syscall.ENOSPC, err)
		}
		return fmt.Errorf("%w%s", err, log)
	}
	if err != nil {
		return err
	}
	return w.do(ctx, proc.Spec{Name: "tar", Path: "tar", Args: append([]string{"--file", out, "--directory", tree}, baseTar()...)})
}

// baseTar is how the part is written, beside from where and whereto.
func baseTar() []string {
	args := []string{
		"--create", "--sort=name", "--numeric-owner", "--mtime=@0", "--format=posix", "--pax-option=delete=atime,delete=ctime",
		"--xattrs", "--one-file-system", "--anchored", "--wildcards",
	}
	for _, pattern := range leftOut {
		args = append(args, "--exclude="+pattern)
	}
	return append(args, ".")
}

// debootstrapLog is the end of the log that says why debootstrap failed; its own output seldom does.
func debootstrapLog(tree string) string {
	data, err := os.ReadFile(filepath.Join(tree, "debootstrap", "debootstrap.log"))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return "\n  and of debootstrap's own log:\n    " + strings.Join(lines[max(0, len(lines)-5):], "\n    ")
}

func (w *workshop) installDebootstrap(ctx context.Context) error {
	if _, err := exec.LookPath("debootstrap"); err == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("debootstrap is needed to install Debian into a folder: install your distribution's package of that name " +
			"(and debian-archive-keyring), or give an image with NODE_IMAGE")
	}
	w.told.Line("node image: installing debootstrap, which installs Debian into a folder")
	env := append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	for _, args := range [][]string{{"update", "-qq"}, {"install", "-y", "-qq", "--no-install-recommends", "debootstrap"}} {
		if err := w.do(ctx, proc.Spec{Name: "apt-get", Path: "apt-get", Args: args, Env: env}); err != nil {
			return fmt.Errorf("install debootstrap: %w", err)
		}
	}
	return nil
}
