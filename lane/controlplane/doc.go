// SPDX-License-Identifier: Apache-2.0

// Package controlplane is the lane of a real control plane without nodes: etcd, kube-apiserver and
// kube-controller-manager as local processes on loopback, with the full semantics of the API, the workload controllers
// and events. Nothing in it starts a pod.
//
// [Start] makes a [ControlPlane], ready in a few seconds. [NewLane] makes it the place where cases run; [Provider]
// offers it to e2e-framework.
//
// What is unlike a cluster of a distribution, and why:
//
//   - etcd keeps its data without fsync and talks over unix sockets in the run's own directory: nobody outside can
//     reach it, and no port can collide.
//   - Priority and fairness, and the limits on requests in flight, are off: they would throttle the harness.
//   - One Node object stands there without a kubelet and without taints, so that the DaemonSet controller makes pods.
//     The node lifecycle controller, which would taint it, and the pod garbage collector do not run.
//   - ClusterIPs lie in 127.96.0.0/16, that is on loopback: what the API server dials for a webhook's Service never
//     leaves the machine.
//   - Each webhook configuration of a case has one webhook more than the table says, the last, named in-force.outrigger.dev.
//     It matches nothing but ConfigMaps with a label of the lane's own, and shows that the API server acts on what the
//     configuration says now. What there is of the lane's own, zz-outrigger-beacon and zz-outrigger-marker-…, sorts last.
//
// Facts about a pod's creation that only the API server knows (which webhooks it called, which failed open) come from
// its audit log, which it writes to its standard output, which is our pipe.
package controlplane
