// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-k8s/outrigger/lane/internal/progress"
	"github.com/outrigger-k8s/outrigger/proc"
)

// A workshop is where an image's parts are made. Its run is beside the parts, so that what is done can be renamed to
// where it is kept; what is not done is gone with the run, however that ends.
type workshop struct {
	run   *proc.Run
	parts string // folder of the parts that are done
	told  *progress.Progress
	times progress.Times
}

// A part is a tar that is kept under a key of everything that it is made from.
type part struct {
	name     string
	what     string        // for people
	from     any           // what it is made from, as JSON
	estimate time.Duration // on 2 cores
	make     func(ctx context.Context, out string) error
}

// key names what the part is made from.
func (p part) key() (string, error) { return keyOf(p.from) }

func keyOf(from any) (string, error) {
	data, err := json.Marshal(from)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8]), nil
}

// get returns the part's file, made first where it is not there.
func (w *workshop) get(ctx context.Context, p part) (string, error) {
	key, err := p.key()
	if err != nil {
		return "", fmt.Errorf("make the %s: %w", p.what, err)
	}
	kept := filepath.Join(w.parts, p.name+"-"+key+".tar")
	if info, err := os.Stat(kept); err == nil && info.Mode().IsRegular() {
		return kept, nil
	}
	timed := "node-image-" + p.name
	w.told.Line("node image: making the %s, since %s is not there (%s)", p.what, kept, w.times.Expect(timed, p.estimate, ""))
	began := time.Now()
	stop := w.told.While(func(elapsed time.Duration) string {
		return fmt.Sprintf("node image: making the %s: %s", p.what, progress.Round(elapsed))
	})
	made := filepath.Join(w.run.Dir(), p.name+".tar")
	err = p.make(ctx, made)
	stop()
	if err == nil {
		err = keep(made, kept)
	}
	if err != nil {
		return "", fmt.Errorf("make the %s: %w", p.what, err)
	}
	w.times.Note(timed, progress.Past{Took: time.Since(began)})
	w.told.Line("node image: made the %s in %s", p.what, progress.Round(time.Since(began)))
	return kept, nil
}

// keep moves a part that is done to where it is kept. It is on the disk before it has its name there: a part of the right
// name must be whole, after a power failure too.
func keep(made, kept string) error {
	file, err := os.Open(made)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(made, kept)
}

// do runs a command to its end. When ctx ends, it and everything that it has started is stopped.
func (w *workshop) do(ctx context.Context, spec proc.Spec) error { return do(ctx, w.run, spec) }

func do(ctx context.Context, run *proc.Run, spec proc.Spec) error {
	p, err := run.Start(spec)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop(5 * time.Second)
		return context.Cause(ctx)
	}
	if p.ExitCode() == 0 {
		return nil
	}
	said := p.LastLines(12)
	if diskFull(said) {
		return fmt.Errorf("%s: %w%s", spec.Name, syscall.ENOSPC, said)
	}
	return fmt.Errorf("%s: exit status %d%s", spec.Name, p.ExitCode(), said)
}

// diskFull tells whether a program complains of a full disk; some begin the sentence with a capital.
func diskFull(said string) bool {
	return strings.Contains(strings.ToLower(said), syscall.ENOSPC.Error())
}
