// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/modfile"
)

// writeModule generates the main module from which a program is built: in dir, for the module that was downloaded.
func writeModule(dir string, m downloaded, staging string) error {
	data, err := os.ReadFile(m.GoMod)
	if err != nil {
		return fmt.Errorf("read the go.mod of %s: %w", m.Path, err)
	}
	generated, err := mainModule(data, m.Path, m.Version, staging)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), generated, 0o644); err != nil {
		return fmt.Errorf("write the module to build from: %w", err)
	}
	// The checksums that the module's developers had; what is missing, go adds, verified by the checksum database
	// as its environment says.
	sums, err := os.ReadFile(filepath.Join(m.Dir, "go.sum"))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("read the go.sum of %s: %w", m.Path, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644); err != nil {
		return fmt.Errorf("write the module to build from: %w", err)
	}
	return nil
}

// mainModule makes a go.mod that requires path at version, built as its own go.mod would have it: with the same go
// and godebug lines, and its replacements by local folders, which the archive lacks, turned into the published
// modules: of the version that it requires or, where that is none (v0.0.0), of version staging.
func mainModule(gomod []byte, path, version, staging string) ([]byte, error) {
	theirs, err := modfile.Parse("go.mod of "+path, gomod, nil)
	if err != nil {
		return nil, err
	}
	ours := &modfile.File{}
	if err := ours.AddModuleStmt("outrigger.dev/build"); err != nil {
		return nil, err
	}
	if theirs.Go != nil {
		if err := ours.AddGoStmt(theirs.Go.Version); err != nil {
			return nil, err
		}
	}
	for _, g := range theirs.Godebug {
		if err := ours.AddGodebug(g.Key, g.Value); err != nil {
			return nil, err
		}
	}
	if err := ours.AddRequire(path, version); err != nil {
		return nil, err
	}
	required := map[string]string{}
	for _, r := range theirs.Require {
		required[r.Mod.Path] = r.Mod.Version
	}
	for _, r := range theirs.Replace {
		to, toVersion := r.New.Path, r.New.Version
		if toVersion == "" { // a folder
			if published := required[r.Old.Path]; published != "" && published != "v0.0.0" {
				continue // etcd requires what it publishes, and replaces it for its developers only
			}
			if staging == "" {
				return nil, fmt.Errorf("%s replaces %s by the folder %s, which its archive lacks", path, r.Old.Path, to)
			}
			// Required as well, so that its packages are known as those of this version, not of v0.0.0. Not so the
			// ones that Kubernetes itself does not require (samples): the proxy need not have them.
			if required[r.Old.Path] != "" {
				if err := ours.AddRequire(r.Old.Path, staging); err != nil {
					return nil, err
				}
			}
			to, toVersion = r.Old.Path, staging
		}
		if err := ours.AddReplace(r.Old.Path, r.Old.Version, to, toVersion); err != nil {
			return nil, err
		}
	}
	for _, e := range theirs.Exclude {
		if err := ours.AddExclude(e.Mod.Path, e.Mod.Version); err != nil {
			return nil, err
		}
	}
	ours.Cleanup()
	return ours.Format()
}
