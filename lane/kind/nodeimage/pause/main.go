// SPDX-License-Identifier: Apache-2.0

// Pause holds a pod's namespaces, as Kubernetes' pause does: it waits for a signal that ends it, and takes ended
// processes off the process table where the pod shares one. Kubernetes' own is C, and comes as an image only.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		select {
		case <-children:
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 && err != syscall.EINTR {
					break
				}
			}
		case <-ends:
			return
		}
	}
}
