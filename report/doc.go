// SPDX-License-Identifier: Apache-2.0

// Package report holds what a run found out, and everything that is made of it: the file, the renderings, the
// comparison of two of them.
//
// A [Report] is a matrix. Its columns are [Run]s (one per lane × Kubernetes version × target), its rows are [Case]s
// (one combination of one value for each dimension of a [Table]), and where they meet there is a [Result]. A run makes
// a report of one column with a [Builder]; [Merge] puts reports side by side, or puts the shards of one run together.
//
// The way of the data:
//
//	Builder → Report → Write (JSON, the source of truth) → Read → Merge, Compare, Render
//
// The package is a ground floor: it knows nothing of clusters, of how tables are written, or of the test runner. All
// it prints is in a stable order, so two reports of the same observations are the same bytes but for times.
//
// # What counts as good
//
// Nothing that did not run reads as a pass. A case that was planned and has no result makes the verdict incomplete; a
// case that cannot run in a lane is there with the status not-run and names the feature that is missing; a case that
// was tried several times with different outcomes is flaky, which is not conformant. See [Verdict] for the exit codes
// of a run and [Comparison] for those of a comparison.
package report
