// SPDX-License-Identifier: Apache-2.0

package target

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-k8s/outrigger/proc"
)

// referenceName is the reference injector's program.
const referenceName = "injector"

// Reference is the reference injector as a target; binary is its program.
func Reference(binary string) *Target {
	program := binary
	if strings.Contains(program, "{{") { // a path is no template, whatever it looks like
		program = "{{" + strconv.Quote(program) + "}}"
	}
	t := &Target{
		Schema:   Schema,
		Name:     "reference",
		Profiles: []string{"istio-classic", "kubesphere", "istio", "webhook"},
		Version:  []string{binary, "version", "--short"},
		Process: &Process{
			Command: []string{
				program, "serve", "--config", "{{.Config}}", "--tls-cert", "{{.Cert}}", "--tls-key", "{{.Key}}",
				"--listen", "{{.Host}}:{{.Port}}", "--metrics-listen", "",
				"--follow=false", // an instance lives and dies with its settings; a hundred watchers are more than many systems allow
			},
			Path:    "/inject",
			Ready:   "/readyz",
			Startup: Duration(10 * time.Second),
		},
	}
	if path, what := t.check(); what != "" {
		panic("the reference injector's own description is wrong at " + path + ": " + what)
	}
	return t
}

// FindReference finds the reference injector's program: beside the running executable, else on PATH.
func FindReference() (string, error) {
	program, err := proc.FindProgram(referenceName)
	if err != nil {
		return "", fmt.Errorf("looking for the reference injector: %w. Build it with `make bin`, or with `go build -o bin/injector "+
			"./injector/cmd/injector`, or name another target", err)
	}
	return program, nil
}
