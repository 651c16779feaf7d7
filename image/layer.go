// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A File is what a layer has at a path: a file, a folder or a symbolic link, as the type in Mode says.
type File struct {
	Path string // in the image: absolute, clean
	// Permissions, and the type: none for a file, [fs.ModeDir], or [fs.ModeSymlink] (whose permissions do not matter).
	Mode     fs.FileMode
	Source   string // where the file's bytes are on this machine
	Content  []byte // the bytes themselves, if there is no Source
	Link     string // what a symbolic link points to
	UID, GID int    // to whom it belongs; 0 is root
}

// Files makes a layer of files. Folders on the way that are not declared are root's, with mode 0755. Sources are read
// now, for the digest, and again when the image is written; they must not change in between.
func Files(files ...File) (v1.Layer, error) {
	entries, err := arrange(files)
	if err != nil {
		return nil, fmt.Errorf("make a layer of files: %w", err)
	}
	l := &layer{open: func() io.ReadCloser {
		r, w := io.Pipe()
		go func() { w.CloseWithError(writeTar(w, entries)) }()
		return r
	}}
	if err := l.measure(); err != nil {
		return nil, fmt.Errorf("make a layer of files: %w", err)
	}
	return l, nil
}

// Tar makes a layer of a tar file that exists, with all that it holds. It must not change until the image is written.
func Tar(name string) (v1.Layer, error) {
	l := &layer{open: func() io.ReadCloser {
		file, err := os.Open(name)
		if err != nil {
			return failing{err}
		}
		return file
	}}
	if err := l.measure(); err != nil {
		return nil, fmt.Errorf("make a layer of a tar file: %w", err)
	}
	return l, nil
}

// WriteTar writes files as a tar, in the form that a layer has.
func WriteTar(w io.Writer, files ...File) error {
	entries, err := arrange(files)
	if err != nil {
		return fmt.Errorf("write a tar of files: %w", err)
	}
	return writeTar(w, entries)
}

// arrange checks the files, adds the folders on their way and sorts them, folders before what is in them.
func arrange(files []File) ([]File, error) {
	all := map[string]File{}
	for _, f := range files {
		if err := f.check(); err != nil {
			return nil, err
		}
		if _, twice := all[f.Path]; twice {
			return nil, fmt.Errorf("%s is declared twice", f.Path)
		}
		all[f.Path] = f
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "/"; dir = path.Dir(dir) {
			on, declared := all[dir]
			if !declared {
				all[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			} else if !on.Mode.IsDir() {
				return nil, fmt.Errorf("%s lies in %s, which is no folder", f.Path, dir)
			}
		}
	}
	entries := make([]File, 0, len(all))
	for _, f := range all {
		entries = append(entries, f)
	}
	slices.SortFunc(entries, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return entries, nil
}

func (f File) check() error {
	if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
		return fmt.Errorf("%q must be an absolute path below /, without . or .. or a slash at its end", f.Path)
	}
	hasBytes := f.Source != "" || f.Content != nil
	switch f.Mode.Type() {
	case 0:
		if f.Mode.Perm() == 0 {
			return fmt.Errorf("%s has no permissions: nobody could read it", f.Path)
		}
		if (f.Source != "") == (f.Content != nil) {
			return fmt.Errorf("%s must have either a source or content", f.Path)
		}
	case fs.ModeDir:
		if hasBytes {
			return fmt.Errorf("%s is a folder, but has content", f.Path)
		}
	case fs.ModeSymlink:
		if hasBytes || f.Link == "" {
			return fmt.Errorf("%s is a link: it must say to what, and have no content", f.Path)
		}
	default:
		return fmt.Errorf("%s is of a type that a layer here cannot have: %s", f.Path, f.Mode)
	}
	return nil
}

func writeTar(w io.Writer, entries []File) error {
	t := tar.NewWriter(w)
	for _, f := range entries {
		if err := writeEntry(t, f); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return t.Close()
}

func writeEntry(t *tar.Writer, f File) error {
	header := &tar.Header{
		Name: f.Path[1:], Mode: unixMode(f.Mode), Uid: f.UID, Gid: f.GID, ModTime: epoch, Format: tar.FormatPAX,
	}
	switch f.Mode.Type() {
	case fs.ModeDir:
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		return t.WriteHeader(header)
	case fs.ModeSymlink:
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.Link, 0o777
		return t.WriteHeader(header)
	}
	header.Typeflag = tar.TypeReg
	if f.Source == "" {
		header.Size = int64(len(f.Content))
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		_, err := t.Write(f.Content)
		return err
	}
	file, err := os.Open(f.Source)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("its source %s is no ordinary file, but %s", f.Source, info.Mode())
	}
	header.Size = info.Size()
	if err := t.WriteHeader(header); err != nil {
		return err
	}
	if _, err = io.CopyN(t, file, info.Size()); errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF // it has become shorter
	}
	return err
}

// unixMode is a mode as tar writes it.
func unixMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for _, bit := range []struct {
		go_  fs.FileMode
		unix int64
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&bit.go_ != 0 {
			mode |= bit.unix
		}
	}
	return mode
}

// A layer is a tar that is not compressed, made anew each time that it is read.
type layer struct {
	open func() io.ReadCloser
	hash v1.Hash
	size int64
}

var _ v1.Layer = (*layer)(nil)

// measure reads the layer once, for its digest and size.
func (l *layer) measure() error {
	r := l.open()
	defer r.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, r)
	if err != nil {
		return err
	}
	l.hash, l.size = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, size
	return nil
}

func (l *layer) Digest() (v1.Hash, error)             { return l.hash, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.hash, nil }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.DockerUncompressedLayer, nil }
func (l *layer) Compressed() (io.ReadCloser, error)   { return l.Uncompressed() }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.checked(), nil }

// checked reads the layer and fails in the end if it is no longer what was measured.
func (l *layer) checked() io.ReadCloser {
	return &checkedReader{ReadCloser: l.open(), sum: sha256.New(), want: l.hash.Hex}
}

type checkedReader struct {
	io.ReadCloser
	sum  hash.Hash
	want string
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.sum.Write(p[:n]) // a hash's Write never fails
	if errors.Is(err, io.EOF) && hex.EncodeToString(c.sum.Sum(nil)) != c.want {
		err = errors.New("a layer's files have changed while the image was made; make it again")
	}
	return n, err
}

// failing is a reader that has only an error to give.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
func (f failing) Close() error             { return nil }
