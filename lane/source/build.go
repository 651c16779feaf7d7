// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/outrigger-k8s/outrigger/lane/internal/progress"
	"github.com/outrigger-k8s/outrigger/proc"
)

// A build makes the commands that are missing in a store, one after the other: go itself uses all cores.
type build struct {
	group
	run      *proc.Run
	tool     goTool
	store    store
	progress *progress.Progress
	modules  map[string]string // folder of the generated main module, by the module that it builds
}

func (b *build) all(ctx context.Context, missing []Command) error {
	b.modules = map[string]string{}
	for _, c := range missing { // a version that cannot be had is known before anything is built
		if _, err := b.prepare(ctx, c); err != nil {
			return err
		}
	}
	for _, c := range missing {
		if err := b.one(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) one(ctx context.Context, c Command) error {
	b.progress.Line("building %s (%s) from source, since %s lacks it (%s)", c.Name, b.what, b.store.dir,
		b.store.times.Expect(c.Name, c.Estimate, " on 2 cores where Go has compiled none of it yet"))
	began := time.Now()
	dir, err := b.prepare(ctx, c)
	if err != nil {
		return err
	}

	built := filepath.Join(b.run.Dir(), c.Name)
	target := path.Join(c.Module, c.Package)
	if c.Main != "" {
		target = "."
	}
	// Without -trimpath, as people build: then what this project, or anything else on the machine, has compiled of the same
	// packages is taken from Go's cache. The project's own go.mod asks for the versions that Kubernetes has.
	args := []string{"build", "-v", "-mod=mod", "-o", built, "-ldflags", c.linkerFlags(), "-tags", strings.Join(c.Tags, ","), target}
	counter := &counter{}
	stop := b.progress.While(func(elapsed time.Duration) string { return c.progress(elapsed, counter) })
	err = b.golang(ctx, "go-build-"+c.Name, dir, args, nil, counter)
	stop()
	if err != nil {
		return fmt.Errorf("build %s: %w", c.Name, err)
	}

	m := manifest{Name: c.Name, Version: c.Version, Go: b.tool.version}
	if c.VersionArgs != nil {
		if m.Version, err = c.try(ctx, built); err != nil {
			return err
		}
	}
	if err := b.store.put(built, m); err != nil {
		return fmt.Errorf("put %s into the cache: %w", c.Name, b.explainFull(err))
	}
	took := time.Since(began)
	compiled, _ := counter.counts()
	b.store.times.Note(c.Name, progress.Past{Took: took, Packages: compiled})
	b.progress.Line("built %s in %s (%d packages compiled)", c.Name, progress.Round(took), compiled)
	return nil
}

// progress says how far a command's build is.
func (c Command) progress(elapsed time.Duration, counter *counter) string {
	compiled, modules := counter.counts()
	text := fmt.Sprintf("building %s: %s, %d/≈%d packages", c.Name, progress.Round(elapsed), compiled, c.Packages)
	if modules > 0 {
		text += fmt.Sprintf(", %d modules downloaded", modules)
	}
	return text
}

// try runs a command that was just built, and returns what it says its version is.
func (c Command) try(ctx context.Context, built string) (string, error) {
	printed, err := printedVersion(ctx, built, c.VersionArgs)
	if err != nil {
		return "", fmt.Errorf("try %s, just built: %w", c.Name, err)
	}
	if !regexp.MustCompile(`(^|\s)` + regexp.QuoteMeta(c.Prints) + `(\s|$)`).MatchString(printed) {
		return "", fmt.Errorf("try %s, just built: it says its version is %q, not %s", c.Name, printed, c.Prints)
	}
	return printed, nil
}

// prepare generates the main module for the command's module, once, and returns its folder.
func (b *build) prepare(ctx context.Context, c Command) (string, error) {
	if dir := b.modules[c.Module]; dir != "" {
		return dir, nil
	}
	dir := filepath.Join(b.run.Dir(), "module-"+strings.ReplaceAll(c.Module, "/", "-"))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := b.generate(ctx, dir, c); err != nil {
		return "", err
	}
	if c.Main != "" {
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(c.Main), 0o600); err != nil {
			return "", err
		}
	}
	b.modules[c.Module] = dir
	return dir, nil
}

// generate writes the main module in dir.
func (b *build) generate(ctx context.Context, dir string, c Command) error {
	if c.Module == "" {
		return os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module outrigger.dev/build\n\ngo 1.26\n"), 0o600)
	}
	m, err := b.download(ctx, c.Module, c.Version)
	if err != nil {
		return err
	}
	return writeModule(dir, m, c.staging)
}

// downloaded is what "go mod download -json" says of a module.
type downloaded struct {
	Path, Version, Error, GoMod, Dir string
}

func (b *build) download(ctx context.Context, module, version string) (downloaded, error) {
	var out bytes.Buffer
	err := b.golang(ctx, "go-mod-download", b.run.Dir(), []string{"mod", "download", "-json", module + "@" + version},
		&limited{w: &out, left: 1 << 20}, nil)
	var m downloaded
	if decodeErr := json.Unmarshal(out.Bytes(), &m); decodeErr != nil {
		if err == nil {
			err = decodeErr
		}
		return downloaded{}, fmt.Errorf("download module %s %s: %w", module, version, err)
	}
	if m.Error != "" {
		return downloaded{}, fmt.Errorf("download module %s %s: %w", module, version, b.explainDownload(m.Error))
	}
	if err != nil {
		return downloaded{}, fmt.Errorf("download module %s %s: %w", module, version, err)
	}
	return m, nil
}

// linkerFlags strip the program and set its variables.
func (c Command) linkerFlags() string {
	flags := []string{"-s", "-w"}
	for _, set := range c.Set {
		flags = append(flags, "-X", set)
	}
	return strings.Join(flags, " ")
}
