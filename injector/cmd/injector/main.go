// SPDX-License-Identifier: Apache-2.0

// Command injector is the reference sidecar injector: a mutating admission webhook with one configuration file.
//
//	injector serve --config FILE --tls-cert FILE --tls-key FILE [--listen HOST:PORT] …
//	injector serve --namespace NAMESPACE …
//	injector check --config FILE
//	injector init, injector proxy, injector app
//	injector version
//
// It exits with 0 when it was asked to stop or all is well, 2 when it was called wrongly or its configuration is
// broken, 3 when the machine does not let it: a certificate that cannot be read, an address that is taken.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/outrigger-k8s/outrigger/injector/settings"
)

// The exit codes.
const (
	exitOK             = 0
	exitUsage          = 2
	exitInfrastructure = 3
)

// gcPercent lets garbage grow to twice what is alive before it is collected: at full load that costs 4 MiB, and takes
// a third off the slowest reviews. The environment variable GOGC goes before it.
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is one subcommand. What it returns is the process's end: see exitCode.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

func commands() []command {
	return []command{
		{"serve", "answer the API server's reviews", serveCommand},
		{"check", "read a configuration and say what is wrong with it", checkCommand},
		{"init", "stand in for an init container: write down what it sees", initCommand},
		{"proxy", "stand in for a sidecar: pass connections on", proxyCommand},
		{"app", "stand in for an application: answer with what it sees", appCommand},
		{"version", "print the version", versionCommand},
	}
}

// usageError is a mistake of the caller's, in the flags or in the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run runs the program and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage())
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, usage())
		return exitOK
	}
	for _, c := range commands() {
		if c.name == args[0] {
			err := c.run(ctx, args[1:], stdout, stderr)
			if err != nil && !errors.Is(err, flag.ErrHelp) {
				fmt.Fprintf(stderr, "injector %s: %v\n", c.name, err)
			}
			return exitCode(err)
		}
	}
	fmt.Fprintf(stderr, "injector: there is no command %q\n\n%s", args[0], usage())
	return exitUsage
}

func exitCode(err error) int {
	var broken *settings.Error
	var usage usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &usage), errors.As(err, &broken):
		return exitUsage
	}
	return exitInfrastructure
}

func usage() string {
	var b strings.Builder
	b.WriteString("injector is a sidecar injector for Kubernetes.\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-8s  %s\n", c.name, c.summary)
	}
	b.WriteString("\nFlags of a command: injector COMMAND --help\n")
	return b.String()
}

// parse reads a command's flags. All that are named must be given.
func parse(flags *flag.FlagSet, args []string, stderr io.Writer, required ...string) error {
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err} // flag has printed the flags
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("there is no argument %q: see injector %s --help", flags.Arg(0), flags.Name())}
	}
	for _, name := range required {
		if flags.Lookup(name).Value.String() == "" {
			return usageError{fmt.Errorf("--%s is required: see injector %s --help", name, flags.Name())}
		}
	}
	return nil
}

// checkCommand reads a configuration.
func checkCommand(_ context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	path := flags.String("config", "", "the configuration `FILE`; required")
	if err := parse(flags, args, stderr, "config"); err != nil {
		return err
	}
	source, err := settings.Open(*path)
	if err != nil {
		return usageError{err}
	}
	s := source.Current()
	for _, w := range s.Warnings {
		fmt.Fprintf(stdout, "%s: warning: %v\n", *path, w)
	}
	fmt.Fprintf(stdout, "%s: ok: dialect %s, policy %s, sha256 %s\n", *path, s.Decision.Dialect.Name, s.Decision.Policy, s.Hash)
	return nil
}

// versionCommand prints what the build says about itself.
func versionCommand(_ context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("version", flag.ContinueOnError)
	short := flags.Bool("short", false, "the version alone")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	if *short {
		_, err := fmt.Fprintln(stdout, version())
		return err
	}
	fmt.Fprintf(stdout, "injector %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// version returns the module's version, or what stands for it in a build from a working tree.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
