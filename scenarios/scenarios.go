// SPDX-License-Identifier: Apache-2.0

// Package scenarios holds the tables: a folder for each profile, in it profile.yaml and a file for each table. They
// are embedded, so that the outrigger binary needs no checkout.
package scenarios

import (
	"embed"

	"github.com/outrigger-k8s/outrigger/table"
)

//go:embed */*.yaml
var FS embed.FS

// Load reads and proves all tables. An error means that outrigger was built with a broken one.
func Load() (*table.Set, error) { return table.Load(FS, "scenarios") }
