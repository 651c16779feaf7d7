// SPDX-License-Identifier: Apache-2.0

// Package tap stands on the wire between the API server and the target: an HTTPS server that takes the API server's
// calls, sends each on to the instance of the target that the case wants, passes the answer back byte for byte, and
// keeps both as evidence.
//
// # How a case finds its call
//
// A client never learns a review's UID, and the pod has none yet. So the pod's name, or its generateName, begins with
// the case's key ([KeyLength] characters). The caller says [Tap.Expect] with the key and the [Upstream] before it
// creates the pod, and [Tap.Take] once it knows what became of the pod; in between the tap routes by key, so that any
// number of cases and instances run side by side. A call whose key nobody expects (a pod of the cluster's own, a retry
// after Take) is answered with allowed: true and kept among the [Tap.Strays].
//
// # What passes through
//
// Each webhook has a URL of its own ([Tap.URL]), so that calls can be counted by webhook; what follows the webhook in
// the path, and the query, are appended to the upstream's URL. Headers pass, but for those that belong to one
// connection only. When the API server hangs up (its timeout), the upstream request is cancelled; when the upstream
// fails, the tap hangs up on the API server, halfway through the answer if that is how far it came: to the API server
// a failure of the target looks like one. The record says which it was.
//
// The tap speaks HTTP/1.1 to the target, because the API server does so with webhooks.
//
// # What goes wrong on purpose
//
// A [Fault] of [Faults] is chosen for a case by name. One of the answer goes with the case's key ([Tap.ExpectFault]), so
// that broken and healthy calls run side by side; one of the connection has a listener of its own ([Tap.FaultURL]),
// since nobody knows whose call it is while TLS is made. Either way the record has what went to the API server, and the
// target, where it is called at all, is called as ever. All of it ends with the tap.
package tap
