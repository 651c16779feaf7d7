// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/tap"
)

const effectKey = "or-abcdefghij"

// sumOf is the digest of these calls, each a pod and a patch.
func sumOf(t *testing.T, calls ...tap.Call) string {
	t.Helper()
	var d digest
	for i := range calls {
		e, fault := effectOf(&calls[i])
		if fault != "" {
			t.Fatal(fault)
		}
		if e != nil {
			d.add(calls[i].Webhook, e)
		}
	}
	sum, _ := d.sum(effectKey)
	return sum
}

// A pod before and after the API server has defaulted it and put its own into it.
const (
	sent = `{"metadata":{"name":"or-abcdefghij","creationTimestamp":null},"spec":{"containers":[
		{"name":"app","image":"app:1","resources":{"limits":{"cpu":"1"}},"ports":[{"containerPort":80}]},
		{"name":"proxy","image":"old","resources":{},"env":[{"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}}]}]}}`
	defaulted = `{"metadata":{"name":"or-abcdefghij","creationTimestamp":null},"spec":{"restartPolicy":"Always","dnsPolicy":"ClusterFirst",
		"containers":[
		{"name":"app","image":"app:1","resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}},"ports":[{"containerPort":80,"protocol":"TCP"}],
		 "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent",
		 "volumeMounts":[{"name":"kube-api-access-x2x4z","mountPath":"/var/run/secrets"}]},
		{"name":"proxy","image":"old","resources":{},"imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log",
		 "terminationMessagePolicy":"File","env":[{"name":"IP","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"status.podIP"}}}]}],
		"volumes":[{"name":"kube-api-access-x2x4z","projected":{"defaultMode":420}}]}}`
)

// The lanes spell one and the same effect differently. It has one digest.
func TestOneEffectHasOneDigest(t *testing.T) {
	for _, row := range []struct {
		name string
		a, b tap.Call
	}{
		{"a list that is new, and an element that is appended",
			call(sent, `[{"op":"add","path":"/spec/volumes","value":[{"name":"v","emptyDir":{}}]}]`),
			call(defaulted, `[{"op":"add","path":"/spec/volumes/-","value":{"name":"v","emptyDir":{}}}]`)},
		{"before and after what the API server itself has added",
			call(defaulted, `[{"op":"add","path":"/spec/volumes/0","value":{"name":"v","emptyDir":{}}}]`),
			call(defaulted, `[{"op":"add","path":"/spec/volumes/-","value":{"name":"v","emptyDir":{}}}]`)},
		{"a container replaced, with and without its defaults",
			call(sent, `[{"op":"replace","path":"/spec/containers/1","value":{"name":"proxy","image":"new:1"}}]`),
			call(defaulted, `[{"op":"replace","path":"/spec/containers/1","value":{"name":"proxy","image":"new:1","imagePullPolicy":"IfNotPresent"}}]`)},
		{"one operation, and several",
			call(sent, `[{"op":"add","path":"/metadata/labels","value":{"a":"1","b":"2"}}]`),
			call(sent, `[{"op":"add","path":"/metadata/labels","value":{}},{"op":"add","path":"/metadata/labels/b","value":"2"},{"op":"add","path":"/metadata/labels/a","value":"1"}]`)},
		{"a default that is stated", call(sent, `[]`), call(sent, `[{"op":"add","path":"/spec/restartPolicy","value":"Always"}]`)},
		{"names of the run",
			call(sent, `[{"op":"add","path":"/metadata/labels","value":{"workload":"or-abcdefghij-5d4f-x2"}}]`),
			call(sent, `[{"op":"add","path":"/metadata/labels","value":{"workload":"or-abcdefghij"}}]`)},
		{"times, UIDs, ports",
			call(sent, `[{"op":"add","path":"/metadata/labels","value":{"x":"2026-01-01T00:00:00Z 01234567-89ab-cdef-0123-456789abcdef 127.0.0.1:80"}}]`),
			call(sent, `[{"op":"add","path":"/metadata/labels","value":{"x":"2027-10-11T12:13:14.15+02:00 81234567-89ab-cdef-0123-456789abcde0 127.0.0.1:81"}}]`)},
		{"no patch, and an empty one", call(sent, ""), call(sent, `[]`)},
	} {
		t.Run(row.name, func(t *testing.T) {
			if a, b := sumOf(t, row.a), sumOf(t, row.b); a != b {
				ea, _ := effectOf(&row.a)
				eb, _ := effectOf(&row.b)
				t.Errorf("%s and %s:\n%q\n%q", a, b, ea.changes(), eb.changes())
			}
		})
	}
}

// Every other effect has another digest.
func TestOtherEffectsHaveOtherDigests(t *testing.T) {
	seen := map[string]string{sumOf(t, call(sent, "")): "nothing"}
	if seen["none"] == "" {
		t.Errorf("nothing changed, and the digest is %v", seen)
	}
	for _, patch := range []string{
		`[{"op":"add","path":"/spec/containers/-","value":{"name":"x"}}]`,
		`[{"op":"add","path":"/spec/containers/0","value":{"name":"x"}}]`,
		`[{"op":"add","path":"/spec/containers/0","value":{"name":"x","tty":true}}]`,
		`[{"op":"add","path":"/spec/initContainers","value":[{"name":"x"}]}]`,
		`[{"op":"add","path":"/spec/initContainers","value":[{"name":"x"},{"name":"y"}]}]`,
		`[{"op":"add","path":"/spec/initContainers","value":[{"name":"y"},{"name":"x"}]}]`,
		`[{"op":"add","path":"/spec/volumes","value":[{"name":"v","emptyDir":{}}]}]`,
		`[{"op":"add","path":"/spec/volumes","value":[{"name":"v"}]}]`,
		`[{"op":"add","path":"/spec/volumes","value":[]}]`,
		`[{"op":"add","path":"/spec/nodeName","value":null}]`,
		`[{"op":"remove","path":"/spec/containers/1"}]`,
		`[{"op":"remove","path":"/spec/containers/1/env"}]`,
		`[{"op":"replace","path":"/spec/containers/1/env/0/name","value":"POD_IP"}]`,
		`[{"op":"replace","path":"/spec/containers/1/image","value":"new"}]`,
		`[{"op":"replace","path":"/spec/containers/0/image","value":"new"}]`,
		`[{"op":"add","path":"/spec/containers/1/imagePullPolicy","value":"Never"}]`,
		`[{"op":"add","path":"/spec/containers/1/args","value":["a","b"]}]`,
		`[{"op":"add","path":"/spec/containers/1/args","value":["b","a"]}]`,
		`[{"op":"replace","path":"/spec/containers/0/ports/0/containerPort","value":81}]`,
		`[{"op":"add","path":"/spec/containers/0/ports/0/protocol","value":"UDP"}]`,
		`[{"op":"add","path":"/metadata/labels","value":{"a":"1"}}]`,
		`[{"op":"add","path":"/metadata/labels","value":{"a":"2"}}]`,
		`[{"op":"add","path":"/metadata/annotations","value":{"a":"1"}}]`,
	} {
		sum := sumOf(t, call(sent, patch))
		if other, taken := seen[sum]; taken {
			t.Errorf("%s has the digest of %s", patch, other)
		}
		seen[sum] = patch
	}
	one, two := call(sent, `[{"op":"add","path":"/spec/tty","value":true}]`), call(sent, `[{"op":"add","path":"/spec/tty","value":true}]`)
	two.Webhook = "another"
	if sumOf(t, one) == sumOf(t, two) || sumOf(t, one) == sumOf(t, one, two) {
		t.Error("who changed the pod makes no difference")
	}
}

// A case's digest is of what the target did: not of what the harness answered, and of faults never.
func TestJudgementHasADigest(t *testing.T) {
	injection := call(plainPod, `[{"op":"add","path":"/spec/containers/-","value":{"name":"proxy"}}]`)
	o := &Observation{Pod: podOf(t, injectedPod), Attempts: tried(1, true)}
	p := plannedFor(t, "injected")
	want := Judge(p, o, []tap.Call{injection})
	if !want.Holds() || len(want.Digest) != 12 {
		t.Errorf("digest %q: %q", want.Digest, want.Why)
	}
	if j := Judge(p, o, received(1)); j.Digest != unchanged {
		t.Errorf("a call that changes nothing: %q", j.Digest)
	}
	p.Mutators = Mutators{injection.Webhook: nil}
	if j := Judge(p, o, []tap.Call{injection}); j.Digest != unchanged {
		t.Errorf("a mutator's own: %q", j.Digest)
	}
}

func TestChanges(t *testing.T) {
	c := call(sent, `[{"op":"add","path":"/spec/containers/0","value":{"name":"x"}},{"op":"remove","path":"/spec/containers/1/ports"},
		{"op":"add","path":"/metadata/labels","value":{"a/b":"1"}}]`)
	e, fault := effectOf(&c)
	if fault != "" {
		t.Fatal(fault)
	}
	want := []string{
		`/metadata/labels/a~1b = "1"`,
		`/spec/containers/app/ports goes`,
		`/spec/containers/x = {"name":"x"}`,
		`/spec/containers in order = ["x","app","proxy"]`,
	}
	if got := e.changes(); !slices.Equal(got, want) {
		t.Errorf("%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A pod as large as they come: what the digest costs beside what judging costs anyhow.
func BenchmarkEffect(b *testing.B) {
	pod := strings.Replace(sent, `"ports"`, fmt.Sprintf(`"command":[%q],"ports"`, strings.Repeat("x", 2000)), 1)
	c := call(pod, `[{"op":"add","path":"/spec/containers/-","value":{"name":"x","image":"x","command":["`+strings.Repeat("y", 2000)+`"]}}]`)
	b.Run("effect", func(b *testing.B) {
		for b.Loop() {
			if _, fault := effectOf(&c); fault != "" {
				b.Fatal(fault)
			}
		}
	})
	b.Run("digest", func(b *testing.B) {
		e, _ := effectOf(&c)
		for b.Loop() {
			var d digest
			d.add("w", e)
			d.sum(effectKey)
		}
	})
}

// A deletion has no object, and a target may answer it with a patch all the same.
func TestPatchOfNothing(t *testing.T) {
	for _, object := range []string{"null", " null ", "{}"} {
		c := call(object, `[{"op":"add","path":"/metadata","value":{}}]`)
		e, fault := effectOf(&c)
		if fault != "" || (e == nil) != (object != "{}") {
			t.Errorf("object %s: effect %v, fault %q", object, e, fault)
		}
	}
}
