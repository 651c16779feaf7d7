// SPDX-License-Identifier: Apache-2.0

// Package kind is the lane of a real cluster: the injector runs in it behind a Service, pods start, sidecars run.
//
// [Create] makes a [Cluster] of the containers of an engine (docker, podman or nerdctl), from kind-config.yaml, ready
// with kube-proxy; [Cluster.Ready] waits for its DNS too. [NewLanes] makes it the place where cases run, as lane/controlplane
// does: what differs is where the target and the tap are. Both are in the cluster:
//
//   - the injector ([Install]) as its users install it. There is one, so its settings are changed and waited for, case by
//     case in an order that changes them rarely ([Injector]);
//   - the tap ([StartTap]), a Deployment with a Service on the API server's node, told over mutual TLS what to expect.
//     Webhooks are called by that Service; only connections that are to fail are made to the node's loopback, where the
//     messages are those of the other lanes.
//
// # Nothing is left
//
// Each cluster has a folder in the user's cache, locked while its run lives. The next [Create] deletes the clusters of
// folders that nobody has locked, unless they were to be kept. A cluster without such a folder is somebody else's.
package kind
