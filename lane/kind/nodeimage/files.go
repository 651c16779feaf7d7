// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/outrigger-k8s/outrigger/image"
)

// nodeFiles are all files of the node that are not Debian's: programs at their paths, kind's files, our own. spec is what
// "ctr oci spec" prints.
func nodeFiles(programs map[string]string, kind fs.FS, spec []byte, version string) ([]image.File, error) {
	var files []image.File
	for name, at := range placed {
		files = append(files, image.File{Path: at, Mode: 0o755, Source: programs[name]})
	}
	kinds, err := filesOfKind(kind)
	if err != nil {
		return nil, err
	}
	containers, err := containerSpec(spec)
	if err != nil {
		return nil, err
	}
	files = append(files, kinds...)
	files = append(files, image.File{Path: "/etc/containerd/cri-base.json", Mode: 0o644, Content: containers},
		image.File{Path: "/kind/version", Mode: 0o644, Content: []byte("v" + version)})
	for at, text := range texts {
		files = append(files, textFile(at, []byte(text)))
	}
	for at, to := range links {
		files = append(files, image.File{Path: at, Mode: fs.ModeSymlink, Link: to})
	}
	for _, at := range folders {
		files = append(files, image.File{Path: at, Mode: fs.ModeDir | 0o755})
	}
	return files, nil
}

// filesOfKind reads kind's files, and edits them.
func filesOfKind(kind fs.FS) ([]image.File, error) {
	var files []image.File
	left := slices.Clone(edits)
	err := fs.WalkDir(kind, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(kind, name)
		if err != nil {
			return err
		}
		f := textFile(path.Join("/", name), content)
		left = slices.DeleteFunc(left, func(e edit) bool {
			edited, found := e.apply(f)
			f.Content = edited
			return found
		})
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the files of kind's base image: %w", err)
	}
	for _, e := range left {
		return nil, fmt.Errorf("edit the files of kind's base image: %s has no line %q; the recipe does not go with this version of kind", e.file, e.line)
	}
	return files, nil
}

func textFile(at string, content []byte) image.File {
	f := image.File{Path: at, Mode: 0o644, Content: content}
	if slices.Contains(scripts, path.Dir(at)) {
		f.Mode = 0o755
	}
	return f
}

// apply edits the file if it is the one that is meant.
func (e edit) apply(f image.File) (content []byte, found bool) {
	if f.Path != e.file {
		return f.Content, false
	}
	line := regexp.MustCompile(`(?m)^` + e.line + `\n`)
	if !line.Match(f.Content) {
		return f.Content, false
	}
	becomes := e.becomes
	if becomes != "" {
		becomes += "\n"
	}
	return line.ReplaceAllLiteral(f.Content, []byte(becomes)), true
}

// containerSpec is what every container in the node starts from, as in the Dockerfile of kind's base image: a hook of
// kind's, and limits as the node has them.
func containerSpec(spec []byte) ([]byte, error) {
	var whole map[string]any
	decoder := json.NewDecoder(bytes.NewReader(spec))
	decoder.UseNumber()
	if err := decoder.Decode(&whole); err != nil {
		return nil, fmt.Errorf("read the container specification that ctr prints: %w", err)
	}
	process, ok := whole["process"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("read the container specification that ctr prints: it has no process")
	}
	delete(process, "rlimits")
	hooks, _ := whole["hooks"].(map[string]any)
	if hooks == nil {
		hooks = map[string]any{}
	}
	created, _ := hooks["createContainer"].([]any)
	hooks["createContainer"] = append(created, map[string]any{"path": "/kind/bin/mount-product-files.sh"})
	whole["hooks"] = hooks
	return json.MarshalIndent(whole, "", "  ")
}

// kindTree is the folder of kind's files in its module.
func kindTree(module string) (fs.FS, error) {
	dir := filepath.Join(module, filepath.FromSlash(kindFiles))
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("find the files of kind's base image: module %s %s has no folder %s", kindModule, kindVersion, kindFiles)
	}
	return os.DirFS(dir), nil
}
