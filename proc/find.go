// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// FindProgram finds a program that comes with this one: beside the running executable, else on PATH. name is without the
// ending that programs have on Windows. What is returned is an absolute path, of a file that can be executed.
func FindProgram(name string) (string, error) {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	self, err := os.Executable()
	if err == nil {
		// A link to this program may stand in another folder than the others.
		if real, err := filepath.EvalSymlinks(self); err == nil {
			self = real
		}
		// With a separator in it, LookPath looks at this file only: is it there, and can it be executed?
		if beside, err := exec.LookPath(filepath.Join(filepath.Dir(self), name)); err == nil {
			return beside, nil
		}
	}
	if onPath, err := exec.LookPath(name); err == nil {
		return filepath.Abs(onPath)
	}
	return "", fmt.Errorf("there is no program %q beside %s, nor on PATH", name, self)
}
