// SPDX-License-Identifier: Apache-2.0

// Package outrigger holds what people edit at the top of the checkout, for programs that run outside of one.
package outrigger

import _ "embed"

// KindConfig is kind-config.yaml.
//
//go:embed kind-config.yaml
var KindConfig []byte
