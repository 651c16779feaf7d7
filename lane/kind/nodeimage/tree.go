// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/outrigger-k8s/outrigger/image"
)

// A tree is a file system in a tar that is not compressed, to take files out of without unpacking it.
type tree struct {
	file    *os.File
	entries map[string]entry // by absolute path
}

type entry struct {
	link         string // where a symbolic link points
	offset, size int64  // of a file's bytes
	mode         fs.FileMode
}

func openTree(name string) (*tree, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	t := &tree{file: file, entries: map[string]entry{"/": {mode: fs.ModeDir}}}
	if err := t.index(); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), file.Close())
	}
	return t, nil
}

func (t *tree) close() error { return t.file.Close() }

func (t *tree) index() error {
	for reader := tar.NewReader(t.file); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Join("/", header.Name)
		switch header.Typeflag {
		case tar.TypeReg:
			// The reader takes no more from the file than a header, so this is where the bytes begin.
			offset, err := t.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			t.entries[name] = entry{offset: offset, size: header.Size, mode: header.FileInfo().Mode()}
		case tar.TypeLink:
			t.entries[name] = t.entries[path.Join("/", header.Linkname)]
		case tar.TypeSymlink:
			t.entries[name] = entry{link: header.Linkname, mode: fs.ModeSymlink}
		case tar.TypeDir:
			t.entries[name] = entry{mode: fs.ModeDir}
		}
	}
}

// resolve follows symbolic links, in folders on the way too, to a path that is none.
func (t *tree) resolve(name string) (string, error) {
	followed := 0
	resolved, rest := "/", strings.Split(strings.Trim(name, "/"), "/")
	for len(rest) > 0 {
		next := path.Join(resolved, rest[0])
		rest = rest[1:]
		e, ok := t.entries[next]
		if !ok {
			return "", fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		if e.link == "" {
			resolved = next
			continue
		}
		if followed++; followed > 40 {
			return "", fmt.Errorf("%s: too many symbolic links", name)
		}
		if path.IsAbs(e.link) {
			resolved = "/"
		}
		rest = append(strings.Split(strings.Trim(e.link, "/"), "/"), rest...)
	}
	return resolved, nil
}

// open gives a file's bytes.
func (t *tree) open(name string) (*io.SectionReader, error) {
	resolved, err := t.resolve(name)
	if err != nil {
		return nil, err
	}
	e := t.entries[resolved]
	if !e.mode.IsRegular() {
		return nil, fmt.Errorf("%s is no file, but %s", name, e.mode)
	}
	return io.NewSectionReader(t.file, e.offset, e.size), nil
}

// under lists the files in a folder, and links to files, sorted.
func (t *tree) under(folder string) []string {
	var names []string
	for name := range t.entries {
		if path.Dir(name) != folder {
			continue
		}
		if _, err := t.open(name); err == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// libraryFolders are where the loader looks on Debian for amd64.
var libraryFolders = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/lib", "/usr/lib"}

// withLibraries returns programs, and libraries that they load by name, with everything that the loader loads for them.
func (t *tree) withLibraries(names []string) ([]image.File, error) {
	var files []image.File
	seen := map[string]bool{}
	for queue := slices.Clone(names); len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		if seen[name] {
			continue
		}
		seen[name] = true
		reader, err := t.open(name)
		if err != nil {
			return nil, fmt.Errorf("take %s out of the base: %w", name, err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			return nil, fmt.Errorf("take %s out of the base: %w", name, err)
		}
		files = append(files, image.File{Path: name, Mode: 0o755, Content: content})
		needed, err := t.needed(reader)
		if err != nil {
			return nil, fmt.Errorf("find what %s loads: %w", name, err)
		}
		queue = append(queue, needed...)
	}
	return files, nil
}

// needed are the loader and the libraries that an ELF file asks for itself.
func (t *tree) needed(r io.ReaderAt) ([]string, error) {
	file, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	var needed []string
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			loader, err := io.ReadAll(io.LimitReader(segment.Open(), 4096))
			if err != nil {
				return nil, err
			}
			needed = append(needed, strings.TrimRight(string(loader), "\x00"))
		}
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, library := range libraries {
		found := slices.IndexFunc(libraryFolders, func(folder string) bool {
			_, err := t.open(path.Join(folder, library))
			return err == nil
		})
		if found < 0 {
			return nil, fmt.Errorf("library %s is not in the base", library)
		}
		needed = append(needed, path.Join(libraryFolders[found], library))
	}
	return needed, nil
}
