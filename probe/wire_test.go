// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"

	"github.com/outrigger-k8s/outrigger/table"
	"github.com/outrigger-k8s/outrigger/tap"
)

// An injection may add what its profile names, and replace it; it may not touch anything else of the pod.
func TestBeyond(t *testing.T) {
	adds := &table.Added{
		Containers: []string{"proxy"}, InitContainers: []string{"init"}, Volumes: []string{"shared"},
		Annotations: []string{"status/key"}, Labels: []string{"mesh"}, ImagePullSecrets: []string{"registry"},
	}
	const bare = `{"metadata":{"name":"x"},"spec":{"containers":[{"name":"app","image":"i"}]}}`
	const full = `{"metadata":{"name":"x","labels":{"a":"1"},"annotations":{"own":"1","status/key":"old"}},"spec":{
		"initContainers":[{"name":"first"},{"name":"init"}],"containers":[{"name":"app","image":"i"},{"name":"proxy","image":"old"},{"name":"web"}],
		"volumes":[{"name":"data"},{"name":"shared"}],"imagePullSecrets":[{"name":"own"}],"dnsPolicy":"Default"}}`
	for _, row := range []struct{ name, pod, patch, want string }{
		{"no patch", bare, "", ""},
		{"an empty patch", bare, `[]`, ""},
		{"a container", bare, `[{"op":"add","path":"/spec/containers/-","value":{"name":"proxy"}}]`, ""},
		{"a container in front", bare, `[{"op":"add","path":"/spec/containers/0","value":{"name":"proxy"}}]`, ""},
		{"everything that may be", bare, `[{"op":"add","path":"/spec/containers/-","value":{"name":"proxy"}},
			{"op":"add","path":"/spec/initContainers","value":[{"name":"init"}]},{"op":"add","path":"/spec/volumes","value":[{"name":"shared"}]},
			{"op":"add","path":"/spec/imagePullSecrets","value":[{"name":"registry"}]},
			{"op":"add","path":"/metadata/annotations","value":{"status/key":"new"}},{"op":"add","path":"/metadata/labels","value":{"mesh":"on"}}]`, ""},
		{"replaced in place", full, `[{"op":"replace","path":"/spec/containers/1","value":{"name":"proxy","image":"new"}},
			{"op":"replace","path":"/metadata/annotations/status~1key","value":"new"}]`, ""},
		{"taken away", full, `[{"op":"remove","path":"/spec/containers/1"},{"op":"remove","path":"/spec/initContainers/1"},
			{"op":"remove","path":"/metadata/annotations/status~1key"}]`, ""},

		{"a container of another name", bare, `[{"op":"add","path":"/spec/containers/-","value":{"name":"agent"}}]`, "/spec/containers"},
		{"the sidecar's container among the init containers", bare, `[{"op":"add","path":"/spec/initContainers","value":[{"name":"proxy"}]}]`, "/spec/initContainers"},
		{"a volume of another name", full, `[{"op":"add","path":"/spec/volumes/-","value":{"name":"more"}}]`, "/spec/volumes"},
		{"a pull secret of another name", full, `[{"op":"add","path":"/spec/imagePullSecrets/-","value":{"name":"more"}}]`, "/spec/imagePullSecrets"},
		{"another annotation", full, `[{"op":"add","path":"/metadata/annotations/more~1x","value":"1"}]`, "/metadata/annotations/more~1x"},
		{"another label", full, `[{"op":"add","path":"/metadata/labels/more","value":"1"}]`, "/metadata/labels/more"},
		{"the user's image", full, `[{"op":"replace","path":"/spec/containers/0/image","value":"mine"}]`, "/spec/containers/0/image"},
		{"the user's container goes", full, `[{"op":"remove","path":"/spec/containers/2"}]`, "/spec/containers"},
		{"the user's order", full, `[{"op":"move","from":"/spec/containers/2","path":"/spec/containers/0"}]`, "/spec/containers/0/"},
		{"the user's annotations go", full, `[{"op":"replace","path":"/metadata/annotations","value":{"status/key":"new"}}]`, "/metadata/annotations"},
		{"the user's label changes", full, `[{"op":"replace","path":"/metadata/labels/a","value":"2"}]`, "/metadata/labels/a"},
		{"the user's volume goes", full, `[{"op":"remove","path":"/spec/volumes/0"}]`, "/spec/volumes"},
		{"another field of the spec", full, `[{"op":"replace","path":"/spec/dnsPolicy","value":"None"}]`, "/spec/dnsPolicy"},
		{"a new field of the spec", bare, `[{"op":"add","path":"/spec/hostNetwork","value":true}]`, "/spec/hostNetwork"},
		{"a field of the spec goes", full, `[{"op":"remove","path":"/spec/dnsPolicy"}]`, "/spec/dnsPolicy"},
		{"a field of null goes", `{"metadata":{"name":"x"},"spec":{"containers":[{"name":"app"}],"nodeName":null}}`, `[{"op":"remove","path":"/spec/nodeName"}]`, "/spec/nodeName"},
		{"null is not absent", bare, `[{"op":"add","path":"/spec/nodeName","value":null}]`, "/spec/nodeName"},
		{"the name", bare, `[{"op":"replace","path":"/metadata/name","value":"y"}]`, "/metadata/name"},

		{"a patch that does not apply is the API server's to refuse", bare, `[{"op":"remove","path":"/spec/volumes/0"}]`, ""},
		{"no patch at all", bare, `{"op":"add"}`, "the patch cannot be decoded"},
		{"no pod afterwards", bare, `[{"op":"replace","path":"","value":[]}]`, "the patched pod cannot be read"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := call(row.pod, row.patch)
			got := beyond(&c, adds)
			if (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
				t.Errorf("%q, expected %q in it", got, row.want)
			}
		})
	}
	unreadable := call(bare, `[]`)
	unreadable.Request = []byte("{")
	if got := beyond(&unreadable, adds); !strings.Contains(got, "cannot be read") {
		t.Errorf("a review that cannot be read: %q", got)
	}
}

// beyond is what a call's patch does beyond what may be added, or why that cannot be told.
func beyond(c *tap.Call, adds *table.Added) string {
	e, fault := effectOf(c)
	if e == nil {
		return fault
	}
	return e.beyond(adds)
}

// The API server asks for compressed answers, and reads them; so must whoever judges what was in them.
func TestPatchOfACompressedAnswer(t *testing.T) {
	plain := call(plainPod, `[{"op":"add","path":"/spec/dnsPolicy","value":"None"}]`)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(plain.Response); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	compressed := plain
	compressed.Response, compressed.Header = packed.Bytes(), http.Header{"Content-Encoding": {"gzip"}}
	if got, want := Patch(&compressed), Patch(&plain); want == nil || !bytes.Equal(got, want) {
		t.Errorf("the patch is %s, want %s", got, want)
	}
	compressed.Response = compressed.Response[:len(compressed.Response)/2]
	if got := Patch(&compressed); got != nil {
		t.Errorf("the patch of half an answer is %s", got)
	}
}

func TestPatch(t *testing.T) {
	for _, row := range []struct{ response, want string }{
		{`{"response":{"patch":"W10="}}`, "[]"}, {`{"response":{}}`, ""}, {`{}`, ""}, {``, ""}, {`{"response":{"patch":"&"}}`, ""}, {`nonsense`, ""},
	} {
		if got := Patch(&tap.Call{Response: []byte(row.response)}); string(got) != row.want {
			t.Errorf("%s: %q, expected %q", row.response, got, row.want)
		}
	}
}

// Whatever a target answers, the judge says something and does not panic.
func FuzzBeyond(f *testing.F) {
	f.Add(plainPod, `[{"op":"add","path":"/spec/containers/-","value":{"name":"proxy"}}]`)
	f.Add(`null`, `[{"op":"add","path":"","value":null}]`)
	f.Add(`{"metadata":null,"spec":{"containers":{}}}`, `[]`)
	f.Add(`{"spec":[]}`, `[{"op":"test","path":"/spec","value":[]}]`)
	adds := &table.Added{Containers: []string{"proxy"}, Annotations: []string{"a"}, Volumes: []string{"v"}}
	f.Fuzz(func(t *testing.T, object, patch string) {
		c := call(object, patch)
		beyond(&c, adds)
		c.Response = []byte(patch)
		beyond(&c, adds)
	})
}
