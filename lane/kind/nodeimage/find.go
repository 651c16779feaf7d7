// SPDX-License-Identifier: Apache-2.0

package nodeimage

import "context"

// FindEngine is the command of the container engine that kind is to use: name, or, where that is "", the one that
// KIND_EXPERIMENTAL_PROVIDER names or the first that answers. passed says of those before it why they were passed over. The
// error of one that does not answer says what to do.
func FindEngine(ctx context.Context, name string) (command string, passed []string, err error) {
	e, err := findEngine(ctx, name)
	return e.name, e.passed, err
}
