// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kind/pkg/apis/config/defaults"
)

func TestDecide(t *testing.T) {
	kinds := versionIn(defaults.Image)
	noRegistry := fmt.Errorf("%w: nobody answers", errOutOfReach)
	notThere := errors.New("the registry index.docker.io does not have it")
	for name, test := range map[string]struct {
		options  Options
		has      []string // images that the engine has
		registry error    // what the registry says of every image
		build    error
		want     Choice
		err      []string
	}{
		"kind's default, from the registry": {
			want: Choice{defaults.Image, Published, "it is kind's default and the registry has it", kinds}},
		"kind's default, in the engine, no registry": {has: []string{defaults.Image}, registry: noRegistry,
			want: Choice{defaults.Image, Published, "it is kind's default and the engine has it", kinds}},
		"no registry": {registry: noRegistry,
			want: Choice{"built:" + DefaultVersion, Built,
				"kindest/node:v" + kinds + " cannot be pulled: its registry is not in reach: nobody answers", DefaultVersion}},
		"kind's own version is wanted": {options: Options{K8sVersion: "v" + kinds},
			want: Choice{defaults.Image, Published, "Kubernetes " + kinds + " is wanted and the registry has it", kinds}},
		"another version is wanted": {options: Options{K8sVersion: "1.36.3"},
			want: Choice{"kindest/node:v1.36.3", Published, "Kubernetes 1.36.3 is wanted and the registry has it", "1.36.3"}},
		"a version that nobody publishes": {options: Options{K8sVersion: "v1.36.3"}, registry: notThere,
			want: Choice{"built:1.36.3", Built, "kindest/node:v1.36.3 cannot be pulled: " + notThere.Error(), "1.36.3"}},
		"nor can it be built": {options: Options{K8sVersion: "1.99.0"}, registry: notThere, build: errors.New("no such module"),
			err: []string{"kindest/node:v1.99.0 cannot be pulled", notThere.Error(), "no such module"}},
		"given, in the engine": {options: Options{Image: "mine:v1.36.3"}, has: []string{"mine:v1.36.3"}, registry: noRegistry,
			want: Choice{"mine:v1.36.3", Given, "NODE_IMAGE names it", "1.36.3"}},
		"given, from a registry": {options: Options{Image: "registry.example/mine:latest"},
			want: Choice{"registry.example/mine:latest", Given, "NODE_IMAGE names it", ""}},
		"given, and the registry wants to know who asks": {options: Options{Image: "mine:1"}, registry: errors.New("answers 401"),
			want: Choice{"mine:1", Given, "NODE_IMAGE names it", ""}},
		"given, and nowhere": {options: Options{Image: "mine:1"}, registry: noRegistry,
			err: []string{"NODE_IMAGE names mine:1", "not in reach", "Load it"}},
		"given, and no name at all": {options: Options{Image: "mine image"}, err: []string{"NODE_IMAGE"}},
		"given, and another version is wanted": {options: Options{Image: "mine:v1.36.3", K8sVersion: "1.37.2"}, has: []string{"mine:v1.36.3"},
			err: []string{"1.36.3", "1.37.2", "only one"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decide(t.Context(), test.options,
				func(_ context.Context, image string) bool { return slices.Contains(test.has, image) },
				func(context.Context, string) error { return test.registry },
				func(_ context.Context, version string) (string, error) { return "built:" + version, test.build })
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (err != nil) != (test.err != nil) {
				t.Fatalf("error %v", err)
			}
			for _, want := range test.err {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
		})
	}
}

func TestDecideInterrupted(t *testing.T) {
	interrupt := errors.New("^C")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := decide(ctx, Options{},
		func(context.Context, string) bool { return false },
		func(context.Context, string) error { cancel(interrupt); return errOutOfReach },
		func(context.Context, string) (string, error) { t.Error("it was built"); return "", nil })
	if !errors.Is(err, interrupt) {
		t.Errorf("error %v", err)
	}
}

func TestPublished(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/":
		case "/v2/node/manifests/there":
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
			w.Header().Set("Content-Length", "1")
			w.Header().Set("Docker-Content-Digest", digest)
		case "/v2/node/manifests/secret":
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer registry.Close()
	host := strings.TrimPrefix(registry.URL, "http://")
	for image, want := range map[string]string{
		"/node:there":      "",
		"/node:not-there":  "does not have it",
		"/node:secret":     "answers 403",
		"/not a reference": "could not parse",
	} {
		err := published(t.Context(), host+image)
		if got := fmt.Sprint(err); (want == "") != (err == nil) || !strings.Contains(got, want) || errors.Is(err, errOutOfReach) {
			t.Errorf("%s: %v, want %q", image, err, want)
		}
	}
}

// Nobody listens, somebody listens but never answers: neither may hold the choice up.
func TestPublishedOutOfReach(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, host := range []string{silent.Addr().String(), closed.Addr().String()} {
		began := time.Now()
		if err := published(t.Context(), host+"/node:v1"); !errors.Is(err, errOutOfReach) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took > 10*registryPatience { // generous: the machine may be busy
			t.Errorf("took %s", took)
		}
	}
}

func TestVersionIn(t *testing.T) {
	for image, want := range map[string]string{
		"kindest/node:v1.37.0@sha256:00": "1.37.0", "kindest/node:v1.36.3": "1.36.3", "outrigger/node:v1.37.2-0123": "1.37.2",
		"kindest/node:latest": "", "kindest/node": "", "localhost:5000/node": "", "node:v1.37.0.1": "",
	} {
		if got := versionIn(image); got != want {
			t.Errorf("%s: %q, want %q", image, got, want)
		}
	}
}

func TestFindEngine(t *testing.T) {
	t.Setenv("KIND_EXPERIMENTAL_PROVIDER", "")
	t.Setenv("PATH", t.TempDir())
	if _, err := findEngine(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "hack/container-engine.sh") {
		t.Errorf("none: %v", err)
	}
	if _, err := findEngine(t.Context(), "rkt"); err == nil || !strings.Contains(err.Error(), "docker, podman, nerdctl") {
		t.Errorf("unknown: %v", err)
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir) // and nothing else: this machine may have engines of its own
	script(t, dir, "docker", "echo 'permission denied' >&2; exit 1")
	if _, err := findEngine(t.Context(), "docker"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("no permission: %v", err)
	}
	if _, err := findEngine(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "docker does not answer") || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the only one that is installed does not answer: %v", err)
	}
	script(t, dir, "nerdctl", "exit 0")
	if e, err := findEngine(t.Context(), ""); err != nil || e.name != "nerdctl" || len(e.passed) != 1 || !strings.Contains(e.passed[0], "permission denied") {
		t.Errorf("docker does not answer, nerdctl does: %+v, %v", e, err)
	}
	script(t, dir, "podman", "exit 0")
	if e, err := findEngine(t.Context(), ""); err != nil || e.name != "podman" {
		t.Errorf("podman comes before nerdctl: %+v, %v", e, err)
	}
	t.Setenv("KIND_EXPERIMENTAL_PROVIDER", "nerdctl")
	if e, err := findEngine(t.Context(), ""); err != nil || e.name != "nerdctl" || len(e.passed) != 0 {
		t.Errorf("nerdctl is named: %+v, %v", e, err)
	}
	// hack/container-engine.sh must find the same.
	text, err := os.ReadFile("../../../hack/container-engine.sh")
	if rule := "for name in " + strings.Join(engines, " ") + "; do"; err != nil || !strings.Contains(string(text), rule) {
		t.Errorf("hack/container-engine.sh lacks %q: it asks the engines in another order (%v)", rule, err)
	}
}
