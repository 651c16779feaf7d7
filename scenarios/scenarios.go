// SPDX-License-Identifier: Apache-2.0

// Package scenarios holds the tables: a folder for each profile, in it profile.yaml and a file for each table. They
// are embedded, so that the outrigger binary needs no checkout.
package scenarios

import (
	"embed"
	"sync"

	"github.com/outrigger-k8s/outrigger/table"
)

//go:embed */*.yaml
var FS embed.FS

// Load reads and proves all tables, once: the set is everybody's, and nobody changes it. An error means that outrigger was
// built with a broken one.
func Load() (*table.Set, error) { return load() }

var load = sync.OnceValues(func() (*table.Set, error) { return table.Load(FS, "scenarios") })
