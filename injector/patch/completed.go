// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"encoding/json"
	"reflect"
)

// completions are the fields that the API server writes into a container or a volume where they are left out: its
// defaults (pkg/apis/core/v1/defaults.go), and what its own admission plugins add. Their values are not here on purpose:
// they differ between versions, and an administrator chooses some (LimitRanger, AlwaysPullImages). A field is called by
// its path, without the indices of lists; * is any key.
//
// A field that a later Kubernetes fills in, and that is not here, costs nothing but a replacement on a second call; the
// table webhook/reinvocation-defaults notices it.
var completions = fields(
	"imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy", "resizePolicy",
	"ports.protocol",
	"env.valueFrom.fieldRef.apiVersion", "env.valueFrom.fileKeyRef.optional",
	"resources.limits", "resources.limits.*", "resources.requests", "resources.requests.*",
	"lifecycle.postStart.httpGet.path", "lifecycle.postStart.httpGet.scheme", "lifecycle.postStart.httpGet.protocol",
	"lifecycle.preStop.httpGet.path", "lifecycle.preStop.httpGet.scheme", "lifecycle.preStop.httpGet.protocol",
	// volumes
	"emptyDir", "hostPath.type",
	"secret.defaultMode", "configMap.defaultMode", "downwardAPI.defaultMode", "projected.defaultMode",
	"downwardAPI.items.fieldRef.apiVersion", "projected.sources.downwardAPI.items.fieldRef.apiVersion",
	"projected.sources.serviceAccountToken.expirationSeconds",
	"ephemeral.volumeClaimTemplate.spec.volumeMode", "image.pullPolicy",
	"iscsi.iscsiInterface", "rbd.pool", "rbd.user", "rbd.keyring",
	"azureDisk.cachingMode", "azureDisk.fsType", "azureDisk.readOnly", "azureDisk.kind",
	"scaleIO.storageMode", "scaleIO.fsType",
)

// fields makes a set of fields, and adds those of the three probes.
func fields(paths ...string) map[string]bool {
	set := map[string]bool{}
	for _, path := range paths {
		set[path] = true
	}
	for _, probe := range []string{"livenessProbe", "readinessProbe", "startupProbe"} {
		for _, field := range []string{"timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold",
			"httpGet.path", "httpGet.scheme", "httpGet.protocol", "grpc.service"} {
			set[probe+"."+field] = true
		}
	}
	return set
}

// completed reports whether an item of the pod's is the wanted one as the API server completes it: the same in all that
// the wanted one states, and with nothing beyond that but completions.
//
// With the reinvocation policy IfNeeded an injector sees the pod again, and by then the API server has completed what it
// injected. Were that taken off again, the second patch would not be empty: every other webhook with IfNeeded would be
// called once more for nothing, and what an admission plugin wrote would be lost, since it has no third turn.
func completed(current, want json.RawMessage) bool {
	x, errX := generic(current)
	y, errY := generic(want)
	return errX == nil && errY == nil && completes(x, y, "")
}

// completes is completed for the value of one field.
func completes(current, want any, path string) bool {
	switch want := want.(type) {
	case map[string]any:
		current, ok := current.(map[string]any)
		return ok && completesObject(current, want, path)
	case []any:
		current, ok := current.([]any)
		return ok && completesList(current, want, path)
	}
	return reflect.DeepEqual(current, want)
}

func completesObject(current, want map[string]any, path string) bool {
	at := func(field string) string {
		if path == "" {
			return field
		}
		return path + "." + field
	}
	// null is what an absent field looks like to the API server, on either side.
	for field, value := range want {
		if value != nil && !completes(current[field], value, at(field)) {
			return false
		}
	}
	for field, value := range current {
		switch {
		case value == nil, want[field] != nil:
		case completions[at(field)], completions[at("*")]:
		case at(field) == "volumeMounts": // a list of nothing but what was appended to it
			if mounts, ok := value.([]any); !ok || !completesList(mounts, nil, "volumeMounts") {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// completesList compares lists item by item: the API server only appends to them, and only the token to volumeMounts.
func completesList(current, want []any, path string) bool {
	if len(current) < len(want) {
		return false
	}
	for i := range want {
		if !completes(current[i], want[i], path) {
			return false
		}
	}
	for _, item := range current[len(want):] {
		if path != "volumeMounts" || keyOf(item, "mountPath") != tokenPath {
			return false
		}
	}
	return true
}
