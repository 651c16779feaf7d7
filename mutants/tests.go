// SPDX-License-Identifier: Apache-2.0

package mutants

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// testTimeout bounds the tests of a package: a mutant may make them hang, which is a way of noticing.
const testTimeout = "90s"

// testsFail runs a test program in its package's folder: the name of the first test that fails, "" if none does.
func (w *workshop) testsFail(ctx context.Context, name, program, pkg, run string) (string, error) {
	dir := filepath.Join(w.root, filepath.FromSlash(pkg))
	// What tests that are cut off leave of their temporary files, the workshop's end removes.
	e, err := w.do(ctx, name, dir, []string{"TMPDIR=" + w.processes.Dir()}, program, "-test.failfast", "-test.timeout="+testTimeout, "-test.run="+run)
	if err != nil {
		return "", err
	}
	if e.code == 0 {
		if strings.Contains(string(e.output), "testing: warning: no tests to run") {
			return "", fmt.Errorf("run the tests of %s: there are none like %q", pkg, run)
		}
		return "", nil
	}
	if test := failedTest(string(e.output)); test != "" {
		return test, nil
	}
	if strings.Contains(string(e.output)+e.told, "panic: test timed out") {
		return "the timeout of " + testTimeout, nil
	}
	return "", fmt.Errorf("run the tests of %s: exit code %d, and no test says that it failed%s", pkg, e.code, e.told)
}

var failLine = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// failedTest is the first test that failed, the innermost of it, "" if output names none.
func failedTest(output string) string {
	test := ""
	for _, line := range failLine.FindAllStringSubmatch(output, -1) {
		if test == "" || strings.HasPrefix(line[1], test+"/") {
			test = line[1]
		}
	}
	return test
}
