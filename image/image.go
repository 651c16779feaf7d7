// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// DefaultPlatform is the one that images are for unless they say otherwise.
const DefaultPlatform = "linux/amd64"

// A Spec says what is in an image.
type Spec struct {
	Reference string     // name and tag: "registry.k8s.io/pause:3.10"; a tag must be given, a digest cannot be
	Platform  string     // OS/ARCH; "": DefaultPlatform
	Layers    []v1.Layer // lowest first; see Files and Tar
	Config    Config
}

// A Config says how a container of the image runs. The zero value of a field leaves it to the engine.
type Config struct {
	User       string // UID or UID:GID; numbers, so that runAsNonRoot can be checked
	WorkingDir string
	Env        []string // NAME=value
	Entrypoint []string
	Cmd        []string
	Ports      []string // that it listens on: "8443/tcp"; for people to read
	StopSignal string   // "SIGRTMIN+3"; "": SIGTERM
	Labels     map[string]string
}

// An Image can be written as an archive, or handed to whatever takes go-containerregistry's images.
type Image struct {
	v1.Image
	Reference name.Tag
}

// Build puts an image together. It reads every file once, for the digests; it fails if one is not there, or not what
// it is declared to be.
func Build(s Spec) (Image, error) {
	built, err := build(s)
	if err != nil {
		return Image{}, fmt.Errorf("build image %s: %w", s.Reference, err)
	}
	return built, nil
}

func build(s Spec) (Image, error) {
	reference, err := name.NewTag(s.Reference, name.StrictValidation)
	if err != nil {
		return Image{}, fmt.Errorf("its reference must be NAME:TAG, with the registry where that is not Docker's: %w", err)
	}
	if len(s.Layers) == 0 {
		return Image{}, errors.New("it has no layers")
	}
	platform, err := parsePlatform(s.Platform)
	if err != nil {
		return Image{}, err
	}
	adds := make([]mutate.Addendum, len(s.Layers))
	for i, l := range s.Layers {
		adds[i] = mutate.Addendum{Layer: l, History: v1.History{CreatedBy: "outrigger", Created: v1.Time{Time: epoch}}}
	}
	img, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.DockerManifestSchema2), &v1.ConfigFile{
		Architecture: platform.Architecture, OS: platform.OS, Created: v1.Time{Time: epoch},
		RootFS: v1.RootFS{Type: "layers"}, Config: s.Config.oci(),
	})
	if err != nil {
		return Image{}, err
	}
	if img, err = mutate.Append(img, adds...); err != nil {
		return Image{}, err
	}
	return Image{Image: img, Reference: reference}, nil
}

// epoch is the time of everything in an image.
var epoch = time.Unix(0, 0).UTC()

func parsePlatform(s string) (*v1.Platform, error) {
	if s == "" {
		s = DefaultPlatform
	}
	p, err := v1.ParsePlatform(s)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return nil, fmt.Errorf("platform %q is none: write OS/ARCH, as in %q", s, DefaultPlatform)
	}
	return p, nil
}

func (c Config) oci() v1.Config {
	config := v1.Config{
		User: c.User, WorkingDir: c.WorkingDir, Env: slices.Clone(c.Env), Entrypoint: slices.Clone(c.Entrypoint),
		Cmd: slices.Clone(c.Cmd), StopSignal: c.StopSignal, Labels: c.Labels,
	}
	for _, port := range c.Ports {
		if config.ExposedPorts == nil {
			config.ExposedPorts = map[string]struct{}{}
		}
		config.ExposedPorts[port] = struct{}{}
	}
	return config
}

// ID is the digest by which an engine knows the image once it is loaded: "sha256:…", that of its configuration, which
// names the layers by theirs.
func (i Image) ID() (string, error) {
	id, err := i.ConfigName()
	if err != nil {
		return "", fmt.Errorf("take the digest of image %s: %w", i.Reference, err)
	}
	return id.String(), nil
}

// WriteArchive writes the image as an archive in Docker's format. Equal images give equal bytes.
func (i Image) WriteArchive(w io.Writer) error {
	if err := tarball.Write(i.Reference, i.Image, w); err != nil {
		return fmt.Errorf("write the archive of image %s: %w", i.Reference, err)
	}
	return nil
}

// WriteFile writes the image's archive to path, whole or not at all.
func (i Image) WriteFile(path string) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("write the archive of image %s: %w", i.Reference, err)
	}
	defer os.Remove(file.Name()) // gone already when all went well
	err = i.WriteArchive(file)
	if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("write the archive of image %s: %w", i.Reference, err)
	}
	return nil
}
