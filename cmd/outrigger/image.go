// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/outrigger-k8s/outrigger/image"
	"github.com/outrigger-k8s/outrigger/run"
	"github.com/outrigger-k8s/outrigger/target"
)

// defaultJobImage is what ci/indexed-job.yaml asks for.
const defaultJobImage = "outrigger.dev/outrigger:dev"

func imageCommand() *cobra.Command {
	var out, reference, platform, program string
	var add []string
	c := &cobra.Command{
		Use:   "image --out FILE",
		Short: "Write an image of outrigger and an injector, for runs in a cluster; print its name and its digest",
		Long: `Write an image of outrigger and an injector as an archive, for runs in a cluster (ci/indexed-job.yaml), and print its name
and its digest. There is nothing else in it: no shell, no libraries. docker load, podman load, ctr images import and
kind load image-archive take the archive.

With --add come the files that an injector of yours needs: its program, linked statically, and its target file.`,
		Example: `  outrigger image --out outrigger.tar
  outrigger image --out outrigger.tar --add my-injector=/my-injector --add target.yaml=/target.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return &run.UsageError{Err: errors.New("write the image: --out FILE says where to")}
			}
			made, err := jobImage(reference, platform, program, add)
			if err != nil {
				return err
			}
			id, err := made.ID()
			if err != nil {
				return err
			}
			if err := made.WriteFile(out); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), made.Reference, id)
			return err
		},
	}
	c.Flags().StringVar(&out, "out", "", "the archive's `FILE`")
	c.Flags().StringVar(&reference, "image", defaultJobImage, "`NAME:TAG` of the image")
	c.Flags().StringVar(&platform, "platform", "", "`OS/ARCH` that the programs are for; default: "+image.DefaultPlatform)
	c.Flags().StringArrayVar(&add, "add", nil, "`FILE=PATH`: a file of this machine, and where it is in the image; may be repeated")
	addProgram(c, &program)
	return c
}

// jobImage is outrigger, the reference injector beside it, where outrigger looks for it, and the files of add.
func jobImage(reference, platform, program string, add []string) (image.Image, error) {
	self, err := os.Executable()
	if err != nil {
		return image.Image{}, fmt.Errorf("find outrigger's own program: %w", err)
	}
	if program == "" {
		if program, err = target.FindReference(); err != nil {
			return image.Image{}, &run.UsageError{Err: err}
		}
	}
	var files []image.File
	for _, f := range []struct{ at, from string }{{"/outrigger", self}, {"/injector", program}} {
		file, err := image.Static(f.at, f.from, platform)
		if err != nil {
			return image.Image{}, err
		}
		files = append(files, file)
	}
	for _, a := range add {
		from, at, ok := strings.Cut(a, "=")
		if !ok || from == "" || !path.IsAbs(at) {
			return image.Image{}, &run.UsageError{Err: fmt.Errorf("--add %q: write FILE=PATH, the path in the image absolute", a)}
		}
		info, err := os.Stat(from)
		if err != nil {
			return image.Image{}, &run.UsageError{Err: fmt.Errorf("--add %s: %w", a, err)}
		}
		mode := os.FileMode(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		files = append(files, image.File{Path: path.Clean(at), Mode: mode, Source: from})
	}
	layer, err := image.Files(files...)
	if err != nil {
		return image.Image{}, err
	}
	return image.Build(image.Spec{
		Reference: reference, Platform: platform, Layers: []v1.Layer{layer},
		Config: image.Config{User: "65532:65532", Entrypoint: []string{"/outrigger"},
			Labels: map[string]string{"org.opencontainers.image.title": "outrigger"}},
	})
}
