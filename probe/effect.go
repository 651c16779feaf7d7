// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4" // what the API server applies patches with

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// An effect is what the patch of a call does to the object that the call is about.
type effect struct{ before, after map[string]any }

// effectOf a call; nil where its answer holds no patch, or one that cannot be applied: the API server says so too, and
// the case's outcome shows it. fault says why it cannot be told, "" if it can.
func effectOf(call *tap.Call) (e *effect, fault string) {
	patch := Patch(call)
	if patch == nil {
		return nil, ""
	}
	var asked review
	if err := json.Unmarshal(call.Request, &asked); err != nil {
		return nil, fmt.Sprintf("the review that the API server sent cannot be read: %v", err)
	}
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, fmt.Sprintf("the patch cannot be decoded: %v", err)
	}
	if object := bytes.TrimSpace(asked.Request.Object); len(object) == 0 || bytes.Equal(object, []byte("null")) {
		return nil, "" // a deletion has no object, and the library would fall over it
	}
	patched, err := decoded.Apply(asked.Request.Object)
	if err != nil {
		return nil, ""
	}
	e = &effect{}
	if err := json.Unmarshal(asked.Request.Object, &e.before); err != nil {
		return nil, fmt.Sprintf("the pod that the API server sent cannot be read: %v", err)
	}
	if err := json.Unmarshal(patched, &e.after); err != nil {
		return nil, fmt.Sprintf("the patched pod cannot be read: %v", err)
	}
	return e, ""
}

// beyond says what the patch does to the pod beyond what an injection may add, "" if nothing. It holds for any injector,
// whatever the case: what is not the sidecar's is the user's, down to the order of their containers. It takes the effect
// apart.
func (e *effect) beyond(adds *table.Added) string {
	strip(e.before, adds)
	strip(e.after, adds)
	if at := difference(e.before, e.after, ""); at != "" {
		return fmt.Sprintf("the patch changes %s, which is not the sidecar's", at)
	}
	return ""
}

// changes are what the patch does, a line each, in sorted order: the same lines for the same effect, however the patch
// spells it (a list that is new, or an element that is appended), and whatever else the API server put into the pod
// before.
func (e *effect) changes() []string {
	var c changes
	c.object(plain(e.before).(map[string]any), plain(e.after).(map[string]any), "")
	return c
}

// defaults are what the API server gives fields of a pod that say nothing (k8s.io/kubernetes/pkg/apis/core/v1
// defaults.go). A lane without defaulting shows a target other pods than one with it; said or not, they mean the same.
var defaults = map[string]any{
	"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "protocol": "TCP", "scheme": "HTTP",
	"timeoutSeconds": 1.0, "periodSeconds": 10.0, "successThreshold": 1.0, "failureThreshold": 3.0, "defaultMode": 420.0,
	"expirationSeconds": 3600.0, "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
	"terminationGracePeriodSeconds": 30.0, "enableServiceLinks": true, "procMount": "Default",
	"resources": map[string]any{}, "securityContext": map[string]any{},
}

// plain is v without the fields that say what the API server would make of them anyhow.
func plain(v any) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = plain(v[i])
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			x = plain(x)
			if d, ok := defaults[k]; ok && reflect.DeepEqual(x, d) {
				continue
			}
			m[k] = x
		}
		unstate(m)
		return m
	}
	return v
}

// unstate takes out of one object the fields whose defaults depend on others of it.
func unstate(m map[string]any) {
	if _, ok := m["fieldPath"]; ok && m["apiVersion"] == "v1" {
		delete(m, "apiVersion")
	}
	if image, ok := m["image"].(string); ok {
		always := strings.HasSuffix(image, ":latest") || !strings.Contains(image[strings.LastIndexByte(image, '/')+1:], ":") && !strings.Contains(image, "@")
		if p := m["imagePullPolicy"]; always && p == "Always" || !always && p == "IfNotPresent" {
			delete(m, "imagePullPolicy")
		}
	}
	limits, _ := m["limits"].(map[string]any)
	if requests, ok := m["requests"].(map[string]any); ok {
		for name, limit := range limits {
			if requests[name] == limit {
				delete(requests, name)
			}
		}
		if len(requests) == 0 {
			delete(m, "requests")
		}
	}
}

type changes []string

func (c *changes) add(at string, value any) {
	raw, _ := json.Marshal(value) // of what was JSON; sorts its keys
	*c = append(*c, at+" = "+string(raw))
}

func (c *changes) remove(at string) { *c = append(*c, at+" goes") }

func (c *changes) object(a, b map[string]any, at string) {
	for _, k := range keysOf(a, b) {
		x, inA := a[k]
		y, inB := b[k]
		c.value(x, y, inA, inB, at+"/"+pointerToken(k))
	}
}

func (c *changes) value(a, b any, inA, inB bool, at string) {
	switch {
	case !inB:
		c.remove(at)
		return
	case reflect.DeepEqual(a, b) && inA:
		return
	}
	// What is not there is an empty one, where the other is not empty.
	switch b := b.(type) {
	case map[string]any:
		if a, ok := a.(map[string]any); ok || !inA && len(b) > 0 {
			c.object(a, b, at)
			return
		}
	case []any:
		if a, ok := a.([]any); ok || !inA && len(b) > 0 {
			if key := keyOf(a, b); key != "" {
				c.list(a, b, key, at)
				return
			}
		}
	}
	c.add(at, b)
}

// list compares lists whose elements have a key.
func (c *changes) list(a, b []any, key, at string) {
	byKey := func(list []any) (map[string]any, []string) {
		m, order := make(map[string]any, len(list)), make([]string, len(list))
		for i, x := range list {
			order[i], _ = x.(map[string]any)[key].(string)
			m[order[i]] = x
		}
		return m, order
	}
	x, was := byKey(a)
	y, is := byKey(b)
	for _, k := range keysOf(x, y) {
		_, inA := x[k]
		_, inB := y[k]
		switch {
		case !inA:
			c.add(at+"/"+pointerToken(k), y[k])
		default:
			c.value(x[k], y[k], inA, inB, at+"/"+pointerToken(k))
		}
	}
	if ordered[at[strings.LastIndexByte(at, '/')+1:]] && !slices.Equal(was, is) {
		c.add(at+" in order", is)
	}
}

// ordered are the lists of a pod whose order means something, and to which the API server itself adds nothing.
var ordered = map[string]bool{"containers": true, "initContainers": true, "env": true}

// keyOf is the field that tells the elements of both lists apart, "" if there is none.
func keyOf(a, b []any) string {
	for _, key := range []string{"name", "mountPath"} {
		if keyed(a, key) && keyed(b, key) {
			return key
		}
	}
	return ""
}

func keyed(list []any, key string) bool {
	seen := make(map[string]bool, len(list))
	for _, x := range list {
		m, _ := x.(map[string]any)
		k, ok := m[key].(string)
		if !ok || seen[k] {
			return false
		}
		seen[k] = true
	}
	return true
}

// fleeting is what differs between two runs of the same thing, though nobody changed anything.
var fleeting = []struct {
	what    *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "<time>"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uid>"},
	{regexp.MustCompile(`(127\.0\.0\.1|\[::1\]|localhost):\d+`), "$1:<port>"},
	{regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`), "kube-api-access-<suffix>"},
}

// unchanged is the digest where no call changed anything.
const unchanged = "none"

// A digest stands for what a target made of the object of a case. Equal digests mean equal effects, in every run and
// every lane: names that a run gives, times, UIDs and ports are left out.
type digest struct{ lines strings.Builder }

// add what one call of a webhook did.
func (d *digest) add(webhook string, e *effect) {
	if c := e.changes(); len(c) > 0 {
		fmt.Fprintf(&d.lines, "%s\n%s\n", webhook, strings.Join(c, "\n"))
	}
}

// sum for the case of that key, and the text it is the sum of: of each call that changed something the webhook, and below it
// its changes.
func (d *digest) sum(key string) (sum, text string) {
	if d.lines.Len() == 0 {
		return unchanged, ""
	}
	text = nameless(d.lines.String(), key)
	for _, f := range fleeting {
		text = f.what.ReplaceAllString(text, f.instead)
	}
	hash := sha256.Sum256([]byte(text))
	return hex.EncodeToString(hash[:6]), text
}

// nameless is text without the names that begin with key: the case's objects, and the pods that controllers make of them.
func nameless(text, key string) string {
	var b strings.Builder
	for {
		i := strings.Index(text, key)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:i])
		b.WriteString("<case>")
		text = strings.TrimLeft(text[i+len(key):], "abcdefghijklmnopqrstuvwxyz0123456789-")
	}
}
