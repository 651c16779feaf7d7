// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// mergeKeys are the lists of a container whose items Kubernetes merges by a key, with that key (patchMergeKey in
// k8s.io/api/core/v1). All other lists are taken whole.
var mergeKeys = map[string]string{
	"env":           "name",
	"ports":         "containerPort",
	"volumeDevices": "devicePath",
	"volumeMounts":  "mountPath",
}

// deep are the objects of a container that are merged field by field. Others are taken whole: two halves of a probe
// make no probe. The API server adds an empty resources to every container, so taking that whole would lose the
// template's.
var deep = map[string]bool{"resources": true, "securityContext": true, "limits": true, "requests": true}

// placement are the fields of a container that say in which list it stands, which is the template's to say.
var placement = []string{"restartPolicy", "restartPolicyRules"}

// overlay returns the template's container with the fields of the pod's own over it.
//
// Laying a container over the same template again changes nothing: what overlay returns has all of the template's
// fields, so each of them is the pod's own the next time.
func overlay(own, want json.RawMessage) (json.RawMessage, error) {
	result, err := object(want)
	if err != nil {
		return nil, fmt.Errorf("decode the template's container: %w", err)
	}
	over, err := object(own)
	if err != nil {
		return nil, fmt.Errorf("decode the pod's own container: %w", err)
	}
	for _, field := range placement {
		delete(over, field)
	}
	return json.Marshal(overlayObject(over, result))
}

// keepWhole leaves an item of the pod's own as it is: a volume of two sources is none.
func keepWhole(own, _ json.RawMessage) (json.RawMessage, error) { return own, nil }

func object(text json.RawMessage) (map[string]any, error) {
	value, err := generic(text)
	if err != nil {
		return nil, err
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("want an object, got %.20s", text)
	}
	return fields, nil
}

// overlayObject changes result: own's fields come over it.
func overlayObject(own, result map[string]any) map[string]any {
	for field, value := range own {
		switch value := value.(type) {
		case nil: // null is what an absent field looks like to the API server
			continue
		case map[string]any:
			if under, ok := result[field].(map[string]any); ok && deep[field] {
				result[field] = overlayObject(value, under)
				continue
			}
		case []any:
			if under, ok := result[field].([]any); ok && mergeKeys[field] != "" {
				result[field] = overlayList(value, under, mergeKeys[field])
				continue
			}
		}
		result[field] = value
	}
	return result
}

// overlayList returns the items of under that own has no item of the same key for, then all of own's: environment
// variables may refer to earlier ones, and the pod's own know the template's.
func overlayList(own, under []any, key string) []any {
	seen := map[any]bool{}
	for _, item := range own {
		seen[keyOf(item, key)] = true
	}
	merged := make([]any, 0, len(own)+len(under))
	for _, item := range under {
		if !seen[keyOf(item, key)] {
			merged = append(merged, item)
		}
	}
	return append(merged, own...)
}

// keyOf returns an item's key as something comparable; nil for an item without one.
func keyOf(item any, key string) any {
	fields, _ := item.(map[string]any)
	switch value := fields[key].(type) {
	case string, json.Number:
		return value
	}
	return nil
}

// tokenPath is where the API server mounts the service account's token into each container that has nothing there.
const tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// keepToken returns the template's container with the mount of the service account's token that the one it replaces
// has. The API server adds it to a sidecar after the injection; with the reinvocation policy IfNeeded the injector then
// sees the pod again, and nobody would add it a second time.
func keepToken(current, want json.RawMessage) (json.RawMessage, error) {
	if !bytes.Contains(current, []byte(tokenPath)) || bytes.Contains(want, []byte(tokenPath)) {
		return want, nil
	}
	old, err := object(current)
	if err != nil {
		return nil, fmt.Errorf("decode the pod's container: %w", err)
	}
	result, err := object(want)
	if err != nil {
		return nil, fmt.Errorf("decode the template's container: %w", err)
	}
	mounts, _ := old["volumeMounts"].([]any)
	under, _ := result["volumeMounts"].([]any)
	for _, mount := range mounts {
		if keyOf(mount, "mountPath") == tokenPath {
			result["volumeMounts"] = append(under, mount)
			break
		}
	}
	return json.Marshal(result)
}

// asIs lets the template's item take the place of any other.
func asIs(_, want json.RawMessage) (json.RawMessage, error) { return want, nil }
