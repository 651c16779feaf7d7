// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"os"
	"strings"
	"testing"
)

// The version that the lane says it is must be the one it is linked with.
func TestKubernetesIsTheLinkedVersion(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	want := "k8s.io/apiserver v0." + strings.TrimPrefix(Kubernetes, "1.")
	if !strings.Contains(string(mod), want+"\n") {
		t.Errorf("go.mod does not require %s: change Kubernetes to what it requires", want)
	}
}
