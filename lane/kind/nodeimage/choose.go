// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"sigs.k8s.io/kind/pkg/apis/config/defaults"
)

// Options of Choose.
type Options struct {
	Image      string    // the image to use, as NODE_IMAGE gives it; "": choose one
	K8sVersion string    // of Kubernetes, with or without the v; "": whatever kind's own default image has
	Engine     string    // docker, podman or nerdctl; "": the first that answers, in this order
	CacheDir   string    // where what is built is kept; "": outrigger in os.UserCacheDir
	Progress   io.Writer // where to say what is going on; nil: nowhere
}

// Where an image can come from.
const (
	Given     = "given"     // Options.Image named it
	Published = "published" // kind's developers publish it: the engine has it, or can pull it
	Built     = "built"     // built here
)

// A Choice is an image for kind's nodes.
type Choice struct {
	Image   string // what to hand to kind; with Given and Built, the engine has it
	Source  string // Given, Published or Built
	Because string // why this one, in a clause: "no registry is in reach"
	// Of Kubernetes in it, without the v: "1.37.2". "" where the name does not tell.
	K8sVersion string
}

// String is the line that announces the choice.
func (c Choice) String() string {
	return fmt.Sprintf("node image: %s (%s), since %s", c.Image, c.Source, c.Because)
}

// registryPatience is how long a registry has to answer before it counts as out of reach. kind itself would try to pull
// five times.
const registryPatience = 2 * time.Second

// Choose finds the image for a cluster's nodes, and builds it where it must; that takes minutes the first time. Whether
// a registry is in reach is known within 2 s.
func Choose(ctx context.Context, o Options) (Choice, error) {
	choice, err := o.choose(ctx)
	if err != nil {
		return Choice{}, fmt.Errorf("choose the image of kind's nodes: %w", err)
	}
	return choice, nil
}

func (o Options) choose(ctx context.Context) (Choice, error) {
	engine, err := findEngine(ctx, o.Engine)
	if err != nil {
		return Choice{}, err
	}
	build := func(ctx context.Context, version string) (string, error) {
		return Build(ctx, BuildOptions{K8sVersion: version, Engine: engine.name, CacheDir: o.CacheDir, Progress: o.Progress})
	}
	return decide(ctx, o, engine.has, published, build)
}

// decide does the choosing; the rest of the world is behind its three functions. has tells whether the engine has an
// image, published whether a registry has, build makes one and returns its name.
func decide(ctx context.Context, o Options, has func(context.Context, string) bool,
	published func(context.Context, string) error, build func(context.Context, string) (string, error)) (Choice, error) {
	if o.Image != "" {
		return given(ctx, o, has, published)
	}
	version := strings.TrimPrefix(o.K8sVersion, "v")
	image := defaults.Image
	if version != "" && version != versionIn(defaults.Image) {
		image = "kindest/node:v" + version
	}
	what := "it is kind's default"
	if version != "" {
		what = "Kubernetes " + version + " is wanted"
	}
	if has(ctx, image) {
		return Choice{Image: image, Source: Published, Because: what + " and the engine has it", K8sVersion: versionIn(image)}, nil
	}
	looked := published(ctx, image)
	if looked == nil {
		return Choice{Image: image, Source: Published, Because: what + " and the registry has it", K8sVersion: versionIn(image)}, nil
	}
	if ctx.Err() != nil {
		return Choice{}, context.Cause(ctx)
	}
	version = cmp.Or(version, DefaultVersion)
	built, err := build(ctx, version)
	if err != nil {
		return Choice{}, fmt.Errorf("%s cannot be pulled (%w), and building an image failed: %w", image, looked, err)
	}
	return Choice{Image: built, Source: Built, Because: fmt.Sprintf("%s cannot be pulled: %v", short(image), looked), K8sVersion: version}, nil
}

func given(ctx context.Context, o Options, has func(context.Context, string) bool,
	published func(context.Context, string) error) (Choice, error) {
	choice := Choice{Image: o.Image, Source: Given, Because: "NODE_IMAGE names it", K8sVersion: versionIn(o.Image)}
	if _, err := name.ParseReference(o.Image); err != nil {
		return Choice{}, fmt.Errorf("NODE_IMAGE: %w", err)
	}
	wanted := strings.TrimPrefix(o.K8sVersion, "v")
	if wanted != "" && choice.K8sVersion != "" && wanted != choice.K8sVersion {
		return Choice{}, fmt.Errorf("NODE_IMAGE names %s, which has Kubernetes %s, but K8S_VERSION asks for %s: set only one of them",
			o.Image, choice.K8sVersion, wanted)
	}
	if has(ctx, o.Image) {
		return choice, nil
	}
	// The engine may know credentials, mirrors and proxies that we do not, so only what is certain is an error.
	if err := published(ctx, o.Image); errors.Is(err, errOutOfReach) {
		return Choice{}, fmt.Errorf("NODE_IMAGE names %s, which the engine does not have and cannot pull: %w. "+
			"Load it into the engine, or name none to have one built", o.Image, err)
	}
	return choice, nil
}

// errOutOfReach is the error of a registry that does not answer.
var errOutOfReach = errors.New("its registry is not in reach")

// published asks an image's registry whether it has the image.
func published(ctx context.Context, image string) error {
	reference, err := name.ParseReference(image)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	done := make(chan error, 1) // a lookup that nobody answers must not hold us up
	go func() {
		_, err := remote.Head(reference, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
			remote.WithRetryPredicate(func(error) bool { return false }))
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	var answer *transport.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		return fmt.Errorf("the registry %s does not have it", reference.Context().RegistryStr())
	case errors.As(err, &answer):
		return fmt.Errorf("the registry %s answers %d", reference.Context().RegistryStr(), answer.StatusCode)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %s has not answered within %s", errOutOfReach, reference.Context().RegistryStr(), registryPatience)
	}
	return fmt.Errorf("%w: %w", errOutOfReach, err)
}

var versionTag = regexp.MustCompile(`:v(\d+\.\d+\.\d+)(?:[-@]|$)`)

// versionIn is the version of Kubernetes that an image's tag names, "" if it names none.
func versionIn(image string) string {
	if match := versionTag.FindStringSubmatch(image); match != nil {
		return match[1]
	}
	return ""
}

// short is an image's name without its digest.
func short(image string) string {
	name, _, _ := strings.Cut(image, "@")
	return name
}
