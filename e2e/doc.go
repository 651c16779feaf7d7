// SPDX-License-Identifier: Apache-2.0

// Package e2e is the Ginkgo face of a run: a spec for each case of each table, labelled with its profile, its table,
// its lane and its values.
//
// The specs do not drive anything. One runner (package probe) takes the cases through the lane, arrangement by
// arrangement and many at once; a spec awaits its case's judgement and asserts it. So a spec reads as if it were alone,
// and the order in which Ginkgo takes the specs does not matter. Only the cases whose specs Ginkgo selected are run.
package e2e
