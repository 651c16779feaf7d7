// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"strconv"
	"strings"
)

// AuditPolicy is the audit policy under which the log of an API server, to which the harness is user, can be joined. It
// asks for no more than is: of the harness's own requests what the API server did (its client has the object already), of
// the pods that controllers make the object and the refusal too. The marker is asked for over and over, and nobody waits
// for its events.
func AuditPolicy(user string) []byte {
	return []byte(strings.ReplaceAll(`apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
omitManagedFields: true
rules:
- level: None
  users: [$USER]
  namespaces: [`+markerNamespace+`, `+markerNamespaceAside+`]
- level: Metadata
  users: [$USER]
  verbs: [create, patch, delete]
- level: None
  users: [$USER]
- level: RequestResponse
  verbs: [create]
  resources:
  - {group: "", resources: [pods]}
- level: None
`, "$USER", strconv.Quote(user)))
}
