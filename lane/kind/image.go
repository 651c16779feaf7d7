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
	"sigs.k8s.io/kind/pkg/cluster"
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
	return Load(ctx, c.provider, c.Name(), images...)
}

// Load brings images into every node of a kind cluster, whoever made it, but those that a node has already. A cluster
// without nodes is an error.
func Load(ctx context.Context, provider *cluster.Provider, name string, images ...image.Image) error {
	return eachNode(ctx, provider, name, func(ctx context.Context, node nodes.Node) error {
		for _, i := range images {
			if err := loadInto(ctx, node, i); err != nil {
				return fmt.Errorf("load image %s into node %s: %w", i.Reference, node, advised(err))
			}
		}
		return nil
	})
}

// eachNode brings an image, by do, into all nodes of a cluster at once; after the first that fails ctx has ended for the others.
func eachNode(ctx context.Context, provider *cluster.Provider, name string, do func(context.Context, nodes.Node) error) error {
	list, err := provider.ListInternalNodes(name)
	if err != nil {
		return fmt.Errorf("load an image into kind cluster %s: list its nodes: %w", name, advised(err))
	}
	if len(list) == 0 {
		return fmt.Errorf("load an image into kind cluster %s: there is no such cluster; `kind get clusters` lists them", name)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range list {
		group.Go(func() error { return do(ctx, node) })
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
	if ctx.Err() != nil { // what follows takes no context
		return context.Cause(ctx)
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(i.WriteArchive(writer)) }()
	err := nodeutils.LoadImageArchive(node, reader)
	return errors.Join(err, reader.Close())
}
