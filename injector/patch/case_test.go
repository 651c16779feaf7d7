// SPDX-License-Identifier: Apache-2.0

package patch_test

import (
	kjson "sigs.k8s.io/json"
)

// sameCase decodes as the API server does, which tells names of fields apart by upper and lower case, and twins.
func sameCase(text string, into any) bool {
	strict, err := kjson.UnmarshalStrict([]byte(text), into, kjson.DisallowDuplicateFields)
	return err == nil && len(strict) == 0
}
