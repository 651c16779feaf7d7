// SPDX-License-Identifier: Apache-2.0

// Package mutants proves that the suite notices. A mutant is the injector, its webhook configuration or the harness
// itself, wrong in one known line; a suite that passes on one of them is worth nothing just there.
//
// The mutants are rows of mutants.yaml: a file of the checkout, a piece of its text, and what stands there instead. No
// file is changed: `go build -overlay` reads the wrong text of code in the right one's place, and tables are loaded with
// it, which takes no build. A mutant then meets either the tables, in the admission lane up to the first case that does
// not hold, or, where it is the harness that is wrong in a way that no right injector shows, the unit tests of a package.
//
// Three things count as a finding and fail the command. A mutant that survives: something is not checked. A mutant
// that is noticed by another rule than the row names: the report would send its reader to the wrong place. A mutant
// that is broken, because it does not compile, or does not start: it proves nothing. Each run begins with controls,
// the same without a mutation: what fails unchanged would kill every mutant.
package mutants
