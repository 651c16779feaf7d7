// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// That a run was stopped at its first failure is no error, and hides none.
func TestWithout(t *testing.T) {
	lost := errors.New("the target died")
	for _, row := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errFailFast, ""},
		{fmt.Errorf("arrange: %w", errFailFast), ""},
		{errors.Join(errFailFast, context.Canceled), ""},
		{lost, "the target died"},
		{errors.Join(errFailFast, lost), "the target died"},
		{fmt.Errorf("course: %w", errors.Join(fmt.Errorf("step: %w", context.Canceled), lost)), "course: step: context canceled\nthe target died"},
	} {
		got := ""
		if err := without(row.err, errFailFast, context.Canceled); err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("of %v is left %q, want %q", row.err, got, row.want)
		}
	}
}
