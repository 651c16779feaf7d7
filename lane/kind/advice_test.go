// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/kind/pkg/exec"
)

// What engines say is somewhere in a failed command's output; the advice is about that.
func TestAdvised(t *testing.T) {
	failed := func(output string) error {
		return fmt.Errorf("failed to create cluster: %w", &exec.RunError{
			Command: []string{"docker", "run"}, Output: []byte(output), Inner: errors.New("exit status 125"),
		})
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{failed("docker: Error response from daemon: driver failed programming external connectivity: Bind for 127.0.0.1:6443 failed: port is already allocated."), "free it, or take another"},
		{failed("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"), "hack/container-engine.sh start"},
		{failed("permission denied while trying to connect to the Docker daemon socket"), "join its group"},
		{failed("write /var/lib/docker/tmp: no space left on device"), "docker system df"},
		{errors.New(`node(s) already exist for a cluster with the name "x"`), "kind delete cluster"},
		{failed("Error response from daemon: manifest for kindest/node:v9.9.9 not found: manifest unknown"), "K8S_VERSION= another version"},
		{failed("docker: Error response from daemon: pull access denied for nobody/node, repository does not exist or may require 'docker login'"), "are you logged in"},
		{errors.New(`failed to pull image "kindest/node:v1.37.2": command "docker pull kindest/node:v1.37.2" failed with error: exit status 1`), "NODE_IMAGE= names another"},
		{failed("runc create failed: unable to start container process: unable to apply caps: operation not permitted"), "for podman hack/runc-in-bounds"},
		{failed("something else"), "something else"},
		{errors.New("nothing to add"), "nothing to add"},
	} {
		got := advised(test.err)
		if !errors.Is(got, test.err) || !strings.Contains(got.Error(), test.want) {
			t.Errorf("%v: the error lacks %q", got, test.want)
		}
	}
	if advised(nil) != nil {
		t.Error("no error became one")
	}
	long := failed(strings.Repeat("a line\n", 100) + "the last")
	if got := advised(long).Error(); strings.Count(got, "a line") >= 100 || !strings.Contains(got, "the last") {
		t.Errorf("of a long output the last lines are shown: %s", got)
	}
}
