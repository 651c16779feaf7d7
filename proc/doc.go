// SPDX-License-Identifier: Apache-2.0

// Package proc starts child processes that never outlive the program that started them.
//
// A [Run] is a private directory, held by a lock for as long as the program lives, and the processes started in it.
// Four things, each enough for one way a program can end, see to it that nothing is left:
//
//   - an orderly end, or ^C: [Run.Close] stops every process in reverse order of start and removes the directory;
//   - kill -9 of the program, on Linux: the kernel kills the children (parent death signal);
//   - a child that had children of its own: each child leads a process group, and the group is killed with its leader;
//   - whatever is left after all that (kill -9 on other systems, grandchildren, a reboot): the next [Open] finds run
//     directories whose lock nobody holds, kills what is recorded there and still lives, and removes them.
//
// A process is killed by the sweep only if it is beyond doubt the one recorded: process ID, start time and executable
// must all agree, since the kernel gives process IDs out again.
//
// # Ports
//
// Asking the kernel for a free port, closing it and telling a child to listen there is a race: anything may take the
// port in between, most of all a second run doing the same. [Run.ReservePort] has no such gap: it binds the port with
// SO_REUSEPORT and keeps the socket, without listening, for as long as the run lives. The kernel then gives the port
// to nobody else, yet a child of the same user that sets SO_REUSEPORT too can listen on it (kube-apiserver and
// kube-controller-manager: --permit-port-sharing, etcd: --socket-reuse-port); connections go to listeners only. An
// address of its own for each run (all of 127.0.0.0/8 is local on Linux) was the other way: it does not exist on
// other systems, and a listener on 0.0.0.0 collides with it nevertheless. For programs that cannot share a port there
// is [FreePort], with the race, and a caller that tries again.
package proc
