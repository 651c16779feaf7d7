// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/kind/pkg/exec"
)

// advice says what to do about what engines and kind say went wrong. The first whose sign occurs holds.
var advice = []struct{ sign, do string }{
	{"permission denied while trying to connect", "you may not talk to the engine: join its group (docker) and log in again, or run as root"},
	{"Cannot connect to the Docker daemon", "the engine does not answer (any more): start it, or let hack/container-engine.sh start do so"},
	{"error during connect", "the engine does not answer (any more): start it, or let hack/container-engine.sh start do so"},
	{"port is already allocated", "something else has a port that kind-config.yaml names: free it, or take another"},
	{"address already in use", "something else has a port that kind-config.yaml names: free it, or take another"},
	{"already exist for a cluster with the name", "a cluster of this name is there already: delete it with `kind delete cluster`"},
	{"already in use by container", "a container of this name is there already: delete it"},
	{"no space left on device", "the engine's disk is full: `docker system df` says with what"},
	{"pull access denied", "the image cannot be pulled: is its name right, are you logged in? NODE_IMAGE= names another; without it one is built where no registry is in reach"},
	{"failed to pull image", "the image cannot be pulled: NODE_IMAGE= names another; without it one is built where no registry is in reach"},
	{"manifest unknown", "the registry does not have the image: NODE_IMAGE= names another, K8S_VERSION= another version"},
	{"failed to apply patch", "a patch in kind-config.yaml does not fit this version of Kubernetes"},
	{"unknown flag", "a component does not know a flag that kind-config.yaml gives it: does it fit this version of Kubernetes?"},
	{"could not find a log line that matches", "the node's init system did not start: does the image fit this machine, and may containers be privileged?"},
	{"failed to init node with kubeadm", "the control plane did not start: the node's logs say why"},
	{"unable to apply caps", "the machine lacks a capability that privileged containers are given: hack/container-engine.sh sets Docker up to ask for those that there are; for podman hack/runc-in-bounds says how"},
}

// mostOutput is how many of the last lines of a command that failed are shown.
const mostOutput = 12

// advised adds to an error of kind's what the engine said, and what to do about it.
func advised(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	var run *exec.RunError
	if errors.As(err, &run) {
		lines := strings.Split(strings.TrimSpace(string(run.Output)), "\n")
		output := strings.Join(lines[max(0, len(lines)-mostOutput):], "\n  ")
		text += "\n" + string(run.Output)
		if output != "" {
			err = fmt.Errorf("%w\n  %s", err, output)
		}
	}
	for _, a := range advice {
		if strings.Contains(text, a.sign) {
			return fmt.Errorf("%w\n  %s", err, a.do)
		}
	}
	return err
}
