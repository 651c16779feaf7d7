// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/outrigger-k8s/outrigger/image"
	"github.com/outrigger-k8s/outrigger/proc"
)

// images is what the node's containerd has from the start.
func (w *workshop) images(base string, in ingredients, references map[string]string) (part, error) {
	debian, err := openTree(base)
	if err != nil {
		return part{}, err
	}
	defer debian.close()
	var built []image.Image
	from := struct {
		Containerd string
		Tar        []string
		Images     map[string]string // IDs, by name
	}{in.digests["containerd"], imagesTar, map[string]string{}}
	for _, a := range archives {
		i, err := a.build(debian, in.programs, references[a.name])
		if err != nil {
			return part{}, err
		}
		if from.Images[references[a.name]], err = i.ID(); err != nil {
			return part{}, err
		}
		built = append(built, i)
	}
	return part{
		name: "images", what: fmt.Sprintf("node's %d images", len(archives)), estimate: 20 * time.Second, from: from,
		make: func(ctx context.Context, out string) error { return w.makeImages(ctx, in.programs, built, out) },
	}, nil
}

// imagesTar is how the part is written, beside from where and whereto.
var imagesTar = []string{
	"--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--format=posix",
	"--pax-option=delete=atime,delete=ctime", "--transform", `s,^\./,var/lib/containerd/,`,
	"./io.containerd.content.v1.content", "./io.containerd.metadata.v1.bolt",
}

func (w *workshop) makeImages(ctx context.Context, programs map[string]string, built []image.Image, out string) error {
	c, err := w.startContainerd(ctx, programs)
	if err != nil {
		return err
	}
	for _, i := range built {
		if err := w.importImage(ctx, c, i); err != nil {
			return errors.Join(err, c.stop())
		}
	}
	if err := c.stop(); err != nil {
		return err
	}
	return w.do(ctx, proc.Spec{Name: "tar", Path: "tar", Args: append([]string{"--file", out, "--directory", c.root}, imagesTar...)})
}

// build makes an archive's image.
func (a archive) build(debian *tree, programs map[string]string, reference string) (image.Image, error) {
	own, err := image.Static(a.path, programs[a.program], "")
	if err != nil {
		return image.Image{}, err
	}
	var called []string
	called = append(called, a.calls...)
	for _, folder := range a.plugins {
		called = append(called, debian.under(folder)...)
	}
	files, err := debian.withLibraries(called)
	if err != nil {
		return image.Image{}, fmt.Errorf("build image %s: %w", reference, err)
	}
	for at, to := range a.links {
		files = append(files, image.File{Path: at, Mode: fs.ModeSymlink, Link: to})
	}
	files = append(files, own, image.File{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777})
	layer, err := image.Files(files...)
	if err != nil {
		return image.Image{}, fmt.Errorf("build image %s: %w", reference, err)
	}
	config := image.Config{Env: []string{archivePath}}
	if a.entry {
		config.Entrypoint = []string{a.path}
	}
	return image.Build(image.Spec{Reference: reference, Layers: []v1.Layer{layer}, Config: config})
}

func (w *workshop) importImage(ctx context.Context, c *daemon, i image.Image) error {
	file := filepath.Join(w.run.Dir(), "image.tar")
	if err := i.WriteFile(file); err != nil {
		return err
	}
	defer os.Remove(file)
	return c.ctr(ctx, "--namespace=k8s.io", "images", "import", "--label=io.cri-containerd.pinned=pinned", "--all-platforms", "--no-unpack",
		"--digests", file)
}

// A daemon is the node's containerd, run here to fill its folder as it would on the node. It starts no container.
type daemon struct {
	sockets *proc.Run // a short path: a socket's may have 107 characters
	process *proc.Process
	root    string
	ctrPath string
	socket  string
}

// Nothing but images: neither containers nor what unpacks them.
const containerdConfig = `version = 3
disabled_plugins = [
  "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri",
  "io.containerd.internal.v1.restart", "io.containerd.internal.v1.opt", "io.containerd.podsandbox.controller.v1.podsandbox",
]
`

func (w *workshop) startContainerd(ctx context.Context, programs map[string]string) (*daemon, error) {
	sockets, err := proc.Open(ctx, "")
	if err != nil {
		return nil, err
	}
	c := &daemon{
		sockets: sockets, root: filepath.Join(w.run.Dir(), "containerd"), ctrPath: programs["ctr"],
		socket: filepath.Join(sockets.Dir(), "containerd.sock"),
	}
	config := filepath.Join(sockets.Dir(), "config.toml")
	if err := os.WriteFile(config, []byte(containerdConfig), 0o600); err != nil {
		return nil, errors.Join(err, sockets.Close())
	}
	c.process, err = sockets.Start(proc.Spec{Name: "containerd", Path: programs["containerd"], Args: []string{
		"--config", config, "--root", c.root, "--state", filepath.Join(sockets.Dir(), "state"), "--address", c.socket,
	}})
	if err != nil {
		return nil, errors.Join(err, sockets.Close())
	}
	if err := c.await(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// await waits until containerd answers. It does so within a second, or ends.
func (c *daemon) await(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(c.socket); err == nil { // ctr does not give up waiting for one
			return c.ctr(ctx, "version")
		}
		select {
		case <-tick.C:
		case <-c.process.Done():
			return c.process.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *daemon) ctr(ctx context.Context, args ...string) error {
	return do(ctx, c.sockets, proc.Spec{Name: "ctr", Path: c.ctrPath, Args: append([]string{"--address", c.socket}, args...)})
}

func (c *daemon) stop() error {
	c.process.Stop(10 * time.Second)
	return c.sockets.Close()
}

// references are the images' names and tags, by their last part: those that kubeadm wants for this version of Kubernetes,
// and pause as containerd's configuration has it.
func (w *workshop) references(ctx context.Context, kubeadm, version string, kind fs.FS) (map[string]string, error) {
	var out bytes.Buffer
	err := w.do(ctx, proc.Spec{
		Name: "kubeadm", Path: kubeadm, Args: []string{"config", "images", "list", "--kubernetes-version", "v" + version},
		Env: []string{"HOME=" + w.run.Dir()}, Stdout: &out,
	})
	if err != nil {
		return nil, fmt.Errorf("ask kubeadm for its images: %w", err)
	}
	config, err := fs.ReadFile(kind, "etc/containerd/config.toml")
	if err != nil {
		return nil, err
	}
	sandbox := sandboxImage.FindSubmatch(config)
	if sandbox == nil {
		return nil, errors.New("kind's configuration of containerd names no sandbox_image")
	}
	return referencesOf(strings.Fields(out.String()), string(sandbox[1]))
}

var sandboxImage = regexp.MustCompile(`(?m)^\s*sandbox_image = "([^"]+)"$`)

// referencesOf sorts the names by the archives that they are for.
func referencesOf(listed []string, sandbox string) (map[string]string, error) {
	references := map[string]string{}
	for _, reference := range append(listed, sandbox) { // the last pause counts
		repository, _, _ := strings.Cut(reference, ":")
		references[repository[strings.LastIndexByte(repository, '/')+1:]] = reference
	}
	for _, a := range archives {
		if references[a.name] == "" {
			return nil, fmt.Errorf("kubeadm wants %s: there is no %s among them, which the recipe has", strings.Join(listed, ", "), a.name)
		}
	}
	if len(references) != len(archives) {
		return nil, fmt.Errorf("kubeadm wants %s: the recipe has only %d images", strings.Join(listed, ", "), len(archives))
	}
	return references, nil
}
