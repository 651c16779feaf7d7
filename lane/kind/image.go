// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"

	"github.com/outrigger-k8s/outrigger/image"
	"github.com/outrigger-k8s/outrigger/injector/deploy"
)

// InjectorImage is the reference injector's image, out of its program; its tag names what is in it.
func InjectorImage(program string) (image.Image, error) {
	tag, err := tagOf(program)
	if err != nil {
		return image.Image{}, err
	}
	return deploy.Image(program, "outrigger.dev/injector:"+tag, "")
}

// tapImage is the tap's.
func tapImage(program string) (image.Image, error) {
	tag, err := tagOf(program)
	if err != nil {
		return image.Image{}, err
	}
	binary, err := image.Static("/outrigger-tap", program, "")
	if err != nil {
		return image.Image{}, fmt.Errorf("make the tap's image: %w", err)
	}
	layer, err := image.Files(binary)
	if err != nil {
		return image.Image{}, fmt.Errorf("make the tap's image: %w", err)
	}
	return image.Build(image.Spec{
		Reference: "outrigger.dev/tap:" + tag, Layers: []v1.Layer{layer},
		Config: image.Config{User: "65532:65532", Entrypoint: []string{"/outrigger-tap"}},
	})
}

// tagOf names a program's contents, so that another program is another image.
func tagOf(program string) (string, error) {
	f, err := os.Open(program)
	if err != nil {
		return "", fmt.Errorf("make an image of a program: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("make an image of %s: %w", program, err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:6]), nil
}

// Load brings images into every node, but those that a node has already.
func (c *Cluster) Load(ctx context.Context, images ...image.Image) error {
	list, err := c.provider.ListInternalNodes(c.entry.Name)
	if err != nil {
		return fmt.Errorf("list the nodes of cluster %s: %w", c.Name(), err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range list {
		group.Go(func() error {
			for _, i := range images {
				if err := loadInto(ctx, node, i); err != nil {
					return fmt.Errorf("load image %s into node %s: %w", i.Reference, node, advised(err))
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func loadInto(ctx context.Context, node nodes.Node, i image.Image) error {
	var have strings.Builder
	if err := node.CommandContext(ctx, "ctr", "--namespace=k8s.io", "images", "list", "--quiet", "name=="+i.Reference.String()).SetStdout(&have).Run(); err != nil {
		return err
	}
	if strings.TrimSpace(have.String()) != "" {
		return nil
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(i.WriteArchive(writer)) }()
	err := nodeutils.LoadImageArchive(node, reader)
	return errors.Join(err, reader.Close())
}
