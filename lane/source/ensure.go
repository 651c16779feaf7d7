// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/outrigger-k8s/outrigger/lane/internal/progress"
	"github.com/outrigger-k8s/outrigger/proc"
)

// Options of Ensure.
type Options struct {
	Version  string    // of Kubernetes, with or without the v; "": DefaultVersion, or what KUBEBUILDER_ASSETS holds
	CacheDir string    // where built binaries are kept; "": outrigger in os.UserCacheDir
	Progress io.Writer // where to say what is going on; one live line on a terminal; nil: nowhere
	Want     []string  // names of programs; nil: those of a control plane
	// Build from source even where KUBEBUILDER_ASSETS is set.
	FromSource bool
}

// controlPlane are the programs of a control plane.
var controlPlane = []string{APIServer, ControllerManager, Etcd}

// Ensure returns the programs that are wanted: those in KUBEBUILDER_ASSETS where it is set, else those in the cache,
// built first where they are missing. It returns early when ctx ends; nothing half-done is left then.
func Ensure(ctx context.Context, options Options) (Binaries, error) {
	if options.Want == nil {
		options.Want = controlPlane
	}
	wanted, err := pick(options.Want)
	if err != nil {
		return Binaries{}, err
	}
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" && !options.FromSource {
		return fromAssets(ctx, assets, options.Version, wanted)
	}
	if options.Version == "" {
		options.Version = DefaultVersion
	}
	version, err := parseVersion(options.Version)
	if err != nil {
		return Binaries{}, err
	}
	g := group{what: "Kubernetes " + version.String(), served: known(), otherwise: otherwiseAssets, store: func(goVersion string) string {
		return filepath.Join("kubernetes", fmt.Sprintf("%s_etcd%s_%s", version, EtcdVersion, platform(goVersion)))
	}}
	if options.FromSource {
		g.otherwise = ""
	}
	for _, p := range wanted {
		g.commands = append(g.commands, p.of(version))
	}
	dir, err := g.ensure(ctx, options.CacheDir, options.Progress)
	return Binaries{Dir: dir, Version: version.String(), Provider: FromSource}, err
}

const otherwiseAssets = "Or set KUBEBUILDER_ASSETS to a folder with the binaries of the version that you want."

// CommandOptions of EnsureCommands and Module.
type CommandOptions struct {
	CacheDir string    // where built binaries are kept; "": outrigger in os.UserCacheDir
	Progress io.Writer // where to say what is going on; one live line on a terminal; nil: nowhere
}

// EnsureCommands returns the folder that holds commands of one module, built first where they are missing in the cache.
// It returns early when ctx ends; nothing half-done is left then. What is built with other tags or variables under the
// same name and version counts as the same; another main package of a module does not.
func EnsureCommands(ctx context.Context, commands []Command, options CommandOptions) (dir string, err error) {
	if len(commands) == 0 {
		return "", errors.New("build commands from source: none is named")
	}
	module, version := commands[0].Module, commands[0].Version
	for _, c := range commands {
		if c.Module != module || c.Version != version {
			return "", fmt.Errorf("build commands from source: %s is of %s %s, others are of %s %s", c.Name, c.Module, c.Version, module, version)
		}
	}
	if module == "" {
		module = commands[0].Name
	}
	key := strings.ReplaceAll(module, "/", "-") + "@" + version
	if commands[0].Module != "" && commands[0].Main != "" { // else the version says all
		sum := sha256.Sum256([]byte(commands[0].Main))
		key += "-" + hex.EncodeToString(sum[:6])
	}
	g := group{what: module + " " + version, commands: commands, store: func(goVersion string) string {
		return filepath.Join("commands", key+"_"+platform(goVersion))
	}}
	return g.ensure(ctx, options.CacheDir, options.Progress)
}

// Digest is the SHA-256 of a command in a folder that Ensure or EnsureCommands returned, as it was when it was built:
// nothing is read but what was written down then.
func Digest(dir, name string) (string, error) {
	data, err := os.ReadFile(store{dir: dir}.manifest(name))
	if err != nil {
		return "", fmt.Errorf("look up the digest of %s: %w", name, err)
	}
	m, err := parseManifest(data)
	if err != nil {
		return "", fmt.Errorf("look up the digest of %s in %s: %w", name, store{dir: dir}.manifest(name), err)
	}
	return m.SHA256, nil
}

// Module downloads a module and returns the folder with its files, in Go's module cache: read only, and shared.
func Module(ctx context.Context, path, version string, options CommandOptions) (dir string, err error) {
	g := group{what: path + " " + version}
	tool, err := findGo(ctx)
	if err != nil {
		return "", err
	}
	cacheDir, err := CacheDirectory(options.CacheDir)
	if err != nil {
		return "", err
	}
	run, err := proc.Open(ctx, filepath.Join(cacheDir, "builds"))
	if err != nil {
		return "", err
	}
	build := &build{group: g, run: run, tool: tool}
	m, err := build.download(ctx, path, version)
	return m.Dir, errors.Join(err, run.Close())
}

// CacheDirectory is the directory for everything that is kept: named or, if that is "", outrigger in os.UserCacheDir.
func CacheDirectory(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w (set XDG_CACHE_HOME)", err)
	}
	return filepath.Join(dir, "outrigger"), nil
}

// A group is commands that are built together, into one store.
type group struct {
	what     string // "Kubernetes 1.37.2"
	commands []Command
	store    func(goVersion string) string // its folder, within the cache directory
	// Sentences for errors: which versions there are, and what to do instead of building. May be "".
	served, otherwise string
}

// ensure returns the store's folder once all commands are in it.
func (g group) ensure(ctx context.Context, cacheDir string, w io.Writer) (string, error) {
	dir, err := g.inCache(ctx, cacheDir, w)
	if err != nil {
		return "", fmt.Errorf("build %s from source: %w", g.what, err)
	}
	return dir, nil
}

func (g group) inCache(ctx context.Context, cacheDir string, w io.Writer) (string, error) {
	cacheDir, err := CacheDirectory(cacheDir)
	if err != nil {
		return "", err
	}
	tool, err := findGo(ctx)
	if err != nil {
		// What was built before serves without Go too.
		if cached, ok := g.anyCached(cacheDir); ok {
			return cached, nil
		}
		if g.otherwise == "" {
			return "", err
		}
		return "", fmt.Errorf("%w. %s", err, g.otherwise)
	}
	store := store{dir: filepath.Join(cacheDir, g.store(tool.version)), times: progress.Times(filepath.Join(cacheDir, "build-times"))}
	if len(store.missing(g.commands)) == 0 {
		return store.dir, nil
	}

	if err := os.MkdirAll(filepath.Dir(store.dir), 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w; XDG_CACHE_HOME says where it is", err)
	}
	told := progress.New(w)
	unlock, err := told.Lock(ctx, store.dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	missing := store.missing(g.commands) // another process may have built them meanwhile
	if len(missing) == 0 {
		return store.dir, nil
	}

	if err := os.MkdirAll(store.dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", err)
	}
	defer os.Remove(store.dir) // fails unless it is empty, after a version that cannot be had

	// The run is where the build happens, beside the cache so that its results can be renamed into it: a run's
	// processes and files are gone in the end, however that end comes about.
	run, err := proc.Open(ctx, filepath.Join(cacheDir, "builds"))
	if err != nil {
		return "", err
	}
	build := &build{group: g, run: run, tool: tool, store: store, progress: told}
	err = build.all(ctx, missing)
	return store.dir, errors.Join(err, run.Close())
}

// platform is what, beside the source, decides what a build gives.
func platform(goVersion string) string {
	return fmt.Sprintf("%s-%s_%s", runtime.GOOS, runtime.GOARCH, goVersion)
}

// anyCached looks for a store that any version of Go has filled.
func (g group) anyCached(cacheDir string) (string, bool) {
	dirs, _ := filepath.Glob(filepath.Join(cacheDir, g.store("go*"))) // sorted
	for i := len(dirs) - 1; i >= 0; i-- {
		if s := (store{dir: dirs[i]}); !strings.HasSuffix(dirs[i], ".lock") && len(s.missing(g.commands)) == 0 {
			return s.dir, true
		}
	}
	return "", false
}
