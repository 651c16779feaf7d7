// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/outrigger-k8s/outrigger/image"
	"github.com/outrigger-k8s/outrigger/lane/internal/progress"
	"github.com/outrigger-k8s/outrigger/lane/source"
	"github.com/outrigger-k8s/outrigger/proc"
)

// DefaultVersion of Kubernetes that is built where none is asked for, without the v.
const DefaultVersion = source.DefaultVersion

// BuildOptions of Build.
type BuildOptions struct {
	K8sVersion string    // of Kubernetes, with or without the v; "": DefaultVersion
	Engine     string    // docker, podman or nerdctl; "": the first that answers, in kind's order
	CacheDir   string    // where the parts are kept; "": outrigger in os.UserCacheDir
	Mirror     string    // of Debian; "": DefaultMirror
	Progress   io.Writer // where to say what is going on; nil: nowhere
}

// Build makes a node image from Debian packages and Go modules, loads it into the engine, and returns its name. What is
// made is kept, part by part, under a key of what went into it: a second build takes seconds, and one that was
// interrupted goes on where it was. It returns early when ctx ends; nothing half-done is left then.
func Build(ctx context.Context, o BuildOptions) (reference string, err error) {
	version := strings.TrimPrefix(cmp.Or(o.K8sVersion, DefaultVersion), "v")
	reference, err = o.build(ctx, version)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			err = fmt.Errorf("the disk is full: the first node image takes about 9 GB, parts, compiled code and the engine's own copy "+
				"together. Free some; what is done so far is kept: %w", err)
		}
		return "", fmt.Errorf("build a node image with Kubernetes %s: %w", version, err)
	}
	return reference, nil
}

func (o BuildOptions) build(ctx context.Context, version string) (reference string, err error) {
	engine, err := findEngine(ctx, o.Engine) // without one, all else is in vain
	if err != nil {
		return "", err
	}
	if o.CacheDir, err = source.CacheDirectory(o.CacheDir); err != nil {
		return "", err
	}
	ingredients, err := o.gather(ctx, version)
	if err != nil {
		return "", err
	}

	told := progress.New(o.Progress)
	parts := filepath.Join(o.CacheDir, "node-image")
	if err := os.MkdirAll(parts, 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	unlock, err := told.Lock(ctx, filepath.Join(parts, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	run, err := proc.Open(ctx, filepath.Join(o.CacheDir, "builds"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	w := &workshop{run: run, parts: parts, told: told, times: progress.Times(filepath.Join(o.CacheDir, "build-times"))}
	return w.build(ctx, engine, ingredients, cmp.Or(o.Mirror, DefaultMirror))
}

// ingredients are what an image is put together from, all on this machine.
type ingredients struct {
	version  string            // of Kubernetes
	programs map[string]string // files, by name
	digests  map[string]string // of programs, by name
	kind     fs.FS             // kind's files
}

// gather builds and downloads what goes into the image, beside Debian.
func (o BuildOptions) gather(ctx context.Context, version string) (ingredients, error) {
	in := ingredients{version: version, programs: map[string]string{}, digests: map[string]string{}}
	options := source.CommandOptions{CacheDir: o.CacheDir, Progress: o.Progress}
	binaries, err := source.Ensure(ctx, source.Options{
		Version: version, CacheDir: o.CacheDir, Progress: o.Progress, Want: kubernetes, FromSource: true,
	})
	if err != nil {
		return ingredients{}, err
	}
	if err := in.add(binaries.Dir, kubernetes...); err != nil {
		return ingredients{}, err
	}
	for _, module := range commands {
		dir, err := source.EnsureCommands(ctx, module, options)
		if err != nil {
			return ingredients{}, err
		}
		for _, c := range module {
			if err := in.add(dir, c.Name); err != nil {
				return ingredients{}, err
			}
		}
	}
	module, err := source.Module(ctx, kindModule, kindVersion, options)
	if err != nil {
		return ingredients{}, err
	}
	in.kind, err = kindTree(module)
	return in, err
}

func (in ingredients) add(dir string, names ...string) error {
	for _, name := range names {
		digest, err := source.Digest(dir, name)
		if err != nil {
			return err
		}
		in.programs[name], in.digests[name] = filepath.Join(dir, name), digest
	}
	return nil
}

// build makes the image and loads it, unless the engine has it.
func (w *workshop) build(ctx context.Context, e engine, in ingredients, mirror string) (string, error) {
	references, err := w.references(ctx, in.programs["kubeadm"], in.version, in.kind)
	if err != nil {
		return "", err
	}
	base, err := w.get(ctx, w.base(mirror))
	if err != nil {
		return "", err
	}
	wanted, err := w.images(base, in, references)
	if err != nil {
		return "", err
	}
	images, err := w.get(ctx, wanted)
	if err != nil {
		return "", err
	}
	var spec bytes.Buffer
	if err := w.do(ctx, proc.Spec{Name: "ctr-oci-spec", Path: in.programs["ctr"], Args: []string{"oci", "spec"}, Stdout: &spec}); err != nil {
		return "", err
	}
	files, err := nodeFiles(in.programs, in.kind, spec.Bytes(), in.version)
	if err != nil {
		return "", err
	}
	key, err := w.key(base, images, in, files)
	if err != nil {
		return "", err
	}
	reference := repository + ":v" + in.version + "-" + key
	if e.has(ctx, reference) {
		return reference, nil
	}
	return reference, w.load(ctx, e, reference, base, files, images)
}

// key names what the image is made from.
func (w *workshop) key(base, images string, in ingredients, files []image.File) (string, error) {
	type described struct {
		Path, Mode, Digest, Link string
		Content                  []byte
	}
	byPath := map[string]described{}
	for _, f := range files {
		byPath[f.Path] = described{Mode: f.Mode.String(), Digest: in.digests[filepath.Base(f.Source)], Link: f.Link, Content: f.Content}
	}
	return keyOf(struct {
		Base, Images string
		Files        map[string]described
		Config       image.Config
	}{filepath.Base(base), filepath.Base(images), maps.Clone(byPath), nodeConfig})
}

// load writes the image's archive straight into the engine.
func (w *workshop) load(ctx context.Context, e engine, reference, base string, files []image.File, images string) error {
	began := time.Now()
	w.told.Line("node image: putting it together and loading it into %s (%s)", e.name, w.times.Expect("node-image-load", 25*time.Second, ""))
	stop := w.told.While(func(elapsed time.Duration) string { return "node image: loading it: " + progress.Round(elapsed) })
	err := func() error {
		var layers []v1.Layer
		for _, layer := range []func() (v1.Layer, error){
			func() (v1.Layer, error) { return image.Tar(base) },
			func() (v1.Layer, error) { return image.Files(files...) },
			func() (v1.Layer, error) { return image.Tar(images) },
		} {
			l, err := layer()
			if err != nil {
				return err
			}
			layers = append(layers, l)
		}
		node, err := image.Build(image.Spec{Reference: reference, Layers: layers, Config: nodeConfig})
		if err != nil {
			return err
		}
		return e.load(ctx, node)
	}()
	stop()
	if err != nil {
		return fmt.Errorf("load %s: %w", reference, err)
	}
	w.times.Note("node-image-load", progress.Past{Took: time.Since(began)})
	w.told.Line("node image: loaded %s in %s", reference, progress.Round(time.Since(began)))
	return nil
}
