// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	_ "embed"
	"fmt"

	"github.com/goccy/go-yaml"
)

//go:embed catalogue.yaml
var catalogue []byte

// A Failure is a row of the failure catalogue: something that went wrong for users of a real injector.
type Failure struct {
	Row     int    `yaml:"row"`
	What    string `yaml:"what"`    // what happens → what is seen → what cures it
	Reports string `yaml:"reports"` // where: projects and issues
	// Otherwise says, of a row that no rule and no proof names, why it cannot be a case, and what shows it instead.
	Otherwise string `yaml:"otherwise"`
	// Unshown says, of a row that is named, what of it is not shown all the same, and why.
	Unshown string `yaml:"unshown"`
}

// Catalogue is the failure catalogue, in the order of its rows, which count from 1. An error means that outrigger was
// built with a broken one.
func Catalogue() ([]Failure, error) {
	var file struct {
		Failures []Failure `yaml:"failures"`
	}
	if err := yaml.UnmarshalWithOptions(catalogue, &file, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("read the failure catalogue: %w", err)
	}
	for i, f := range file.Failures {
		if f.Row != i+1 || f.What == "" {
			return nil, fmt.Errorf("read the failure catalogue: row %d stands at place %d, or says nothing", f.Row, i+1)
		}
	}
	return file.Failures, nil
}
