// SPDX-License-Identifier: Apache-2.0

// Command bench measures outrigger and its reference injector against the bars that they must reach:
//
//	go run ./bench [--only NAME,…] [--pairs N] [--json FILE]
//
// It measures, it does not judge: the exit code is 0 whenever it could measure, whatever it measured, 2 when it was
// called wrongly and 3 when the machine did not let it.
//
// Machines are noisy: the same loop varies twofold within a minute. So two things are never measured one after the
// other and compared. They take turns in short blocks, A B A B …, each pair of neighbours gives one ratio, and the
// median of the ratios is what the bar is for. Rates and times are printed with them, to see what kind of machine it
// was, and have no bars.
//
// What is compared with what:
//
//   - admission, controlplane: the runner (probe.Runner with a report at its end, all that a run does for a case)
//     against a bare loop that does what cannot be left out: the same pods, made before, through the same tap to the
//     same instances of the injector, as many at once. The cases are every k-th of the largest table. Arranging is in
//     neither side's time, it happens once for thousands of cases; it has a line of its own.
//   - injector: a process of its own, against a process with an HTTPS server that reads the body and answers with what
//     the injector answered.
//   - startup: how long a control plane takes from its first process to ready.
//   - memory: the whole Ginkgo suite in the admission lane, and the most memory that its process ever had.
package main
