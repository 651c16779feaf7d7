// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-k8s/outrigger/image"
)

// An engine is a container engine's command, which kind uses too.
type engine struct {
	name   string
	passed []string // engines before it that do not answer, and why
}

// engines in the order in which they are asked: that of hack/container-engine.sh.
var engines = []string{"docker", "podman", "nerdctl"}

// answerPatience is how long an engine has to answer before it counts as none.
const answerPatience = 10 * time.Second

// findEngine finds the engine of that name or, if it is "", the one that KIND_EXPERIMENTAL_PROVIDER names or the first that
// answers. One that is named must answer.
func findEngine(ctx context.Context, name string) (engine, error) {
	if name == "" {
		name = os.Getenv("KIND_EXPERIMENTAL_PROVIDER")
	}
	if name != "" && !slices.Contains(engines, name) {
		return engine{}, fmt.Errorf("%q is no container engine that kind knows; those are %s", name, strings.Join(engines, ", "))
	}
	if name != "" {
		return engine{name: name}, engine{name: name}.answers(ctx)
	}
	var passed []string
	var errs []error
	for _, candidate := range engines {
		if _, err := exec.LookPath(candidate); err != nil {
			continue
		}
		err := engine{name: candidate}.answers(ctx)
		if err == nil {
			return engine{candidate, passed}, nil
		}
		if ctx.Err() != nil {
			return engine{}, context.Cause(ctx)
		}
		passed, errs = append(passed, err.Error()), append(errs, err)
	}
	if len(errs) > 0 {
		return engine{}, errors.Join(errs...)
	}
	return engine{}, fmt.Errorf("no container engine is installed (%s); on a bare Debian machine hack/container-engine.sh installs and starts one",
		strings.Join(engines, ", "))
}

// answers is nil if the engine itself answers, not only its command: it tells its server's version, as
// hack/container-engine.sh asks it.
func (e engine) answers(ctx context.Context) error {
	asking, cancel := context.WithTimeoutCause(ctx, answerPatience, fmt.Errorf("not within %s", answerPatience))
	defer cancel()
	out, err := e.command(asking, "version", "--format", "{{.Server.Version}}").CombinedOutput()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case asking.Err() != nil:
		err = context.Cause(asking)
	}
	return fmt.Errorf("%s does not answer: %w: %s. Start it, see that you may talk to it (group docker), "+
		"or let hack/container-engine.sh do so", e.name, err, lastLine(out))
}

func (e engine) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, e.name, args...)
}

// has tells whether the engine has an image, so that kind would not pull it.
func (e engine) has(ctx context.Context, image string) bool {
	return e.command(ctx, "image", "inspect", image).Run() == nil
}

// load writes an image into the engine.
func (e engine) load(ctx context.Context, node image.Image) error {
	loading, cancel := context.WithCancel(ctx)
	defer cancel()
	command := e.command(loading, "load")
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	in, err := command.StdinPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	written := node.WriteArchive(in)
	if written != nil {
		cancel() // an archive that is cut short must not end like a whole one
	}
	in.Close()
	waited := command.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case waited != nil && (written == nil || errors.Is(written, syscall.EPIPE)): // it no longer listens, and says why
		return fmt.Errorf("%s load: %w: %s", e.name, waited, lastLine(said.Bytes()))
	}
	return written
}

// lastLine is the last line of what a command printed: where it says why it failed.
func lastLine(out []byte) string {
	text := strings.TrimSpace(string(out[max(0, len(out)-4096):]))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
