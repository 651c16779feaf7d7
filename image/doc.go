// SPDX-License-Identifier: Apache-2.0

// Package image writes container images without a container engine, a Dockerfile or a registry: files in, an archive
// out, which "docker load", "podman load" and "ctr images import" take, and so kind's LoadImageArchive.
//
// An image is for one platform. Its digest depends on nothing but what is in it: files are sorted, have no times, and
// belong to whom they are declared to belong; layers are not compressed, since what a compressor writes changes from
// one version of Go to the next. Who pushes the image to a registry may compress it there.
//
// It is meant for images of statically linked programs: a layer FROM scratch with one program and the few files that
// it reads. [Static] refuses a program that would need more than that.
package image
