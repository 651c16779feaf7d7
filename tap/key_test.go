// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestKey(t *testing.T) {
	const k = "or-abcdefgh23456"
	for _, tc := range []struct{ name, body, want string }{
		{"request's name", `{"kind":"AdmissionReview","request":{"name":"` + k + `-1","object":{"metadata":{"name":"x"}}}}`, k},
		{"exactly the key", `{"kind":"AdmissionReview","request":{"name":"` + k + `"}}`, k},
		{"object's name", `{"kind":"AdmissionReview","request":{"object":{"metadata":{"name":"` + k +
			`","generateName":"other-name-of-some-length"}}}}`, k},
		{"generateName", `{"kind":"AdmissionReview","request":{"name":"","object":{"metadata":{"name":"","generateName":"` + k +
			`-5d8f7-"}}}}`, k},
		{"in any order", `{"request":{"object":{"spec":{"metadata":{"name":"a-name-that-is-not-it"}},"metadata":{"labels":` +
			`{"name":"nor-is-this-one-here"},"generateName":"` + k + `-"}}},"kind":"AdmissionReview"}`, k},
		{"oldObject does not count", `{"kind":"AdmissionReview","request":{"oldObject":{"metadata":{"name":"` + k + `"}}}}`, ""},
		{"too short", `{"kind":"AdmissionReview","request":{"name":"or-abcdefgh2345"}}`, ""},
		{"short name before long generateName",
			`{"kind":"AdmissionReview","request":{"object":{"metadata":{"name":"web","generateName":"` + k + `"}}}}`, ""},
		{"none", `{"kind":"AdmissionReview","request":{}}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := readReview([]byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := r.key(); got != tc.want {
				t.Errorf("key %q, want %q", got, tc.want)
			}
		})
	}
}

// FuzzKey: whatever comes over the wire, reading it does not panic, and a key is found only where a name stands.
func FuzzKey(f *testing.F) {
	f.Add([]byte(`{"kind":"AdmissionReview","request":{"uid":"u","name":"or-abcdefgh23456-x"}}`))
	f.Add([]byte(`{"kind":"AdmissionReview","request":{"object":{"metadata":{"generateName":"or-abcdefgh23456-"}}}}`))
	f.Add([]byte(`{"KIND":"AdmissionReview","Request":{"NAME":"or-\u0061bcdefgh23456"},"request":null}`))
	f.Add([]byte(`{"kind":"AdmissionReview","request":{"name":"or-abcdefgh23\ud800456é"}}`))
	f.Add([]byte(`{"kind":"AdmissionReview","request":{"oldObject":{"metadata":{"name":"or-abcdefgh23456"}}}}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := readReview(body)
		if err != nil {
			return
		}
		if answer := r.allowed(); !json.Valid(answer) {
			t.Fatalf("the answer is no JSON: %s", answer)
		}
		key := r.key()
		if key == "" {
			return
		}
		if len(key) != KeyLength {
			t.Fatalf("key %q has %d characters", key, len(key))
		}
		var document any
		if err := json.Unmarshal(body, &document); err != nil {
			t.Fatalf("key %q out of a body that is no JSON: %v", key, err)
		}
		// A member that is there twice is seen once in a map; the decoder's last word is then the same.
		if !named(document, key, "request") && !repeats(body) {
			t.Fatalf("key %q is the head of no name in %s", key, body)
		}
	})
}

// named says whether document has, under request, a name or generateName that begins with key.
func named(document any, key string, path ...string) bool {
	members, ok := document.(map[string]any)
	if !ok {
		return false
	}
	for name, value := range members {
		lower := strings.ToLower(name)
		switch text, isText := value.(string); {
		case len(path) == 0 && isText && (lower == "name" || lower == "generatename") && strings.HasPrefix(text, key):
			return true
		case len(path) == 1 && lower == path[0] && (named(value, key) || named(value, key, "object", "metadata")):
			return true
		case len(path) == 2 && lower == path[0] && named(value, key, path[1]):
			return true
		}
	}
	return false
}

// repeats says whether some object of body has members that encoding/json takes for one.
func repeats(body []byte) bool {
	d := json.NewDecoder(strings.NewReader(string(body)))
	var walk func() bool
	walk = func() bool {
		token, err := d.Token()
		if err != nil {
			return false
		}
		found := false
		if open, ok := token.(json.Delim); ok {
			seen := map[string]bool{}
			for d.More() {
				if open == '{' {
					name, err := d.Token()
					if err != nil {
						return found
					}
					// Folding maps the long s and the Kelvin sign onto s and k, as encoding/json does.
					folded := strings.ToLower(strings.ToUpper(name.(string)))
					found = found || seen[folded]
					seen[folded] = true
				}
				found = walk() || found
			}
			_, _ = d.Token()
		}
		return found
	}
	return walk()
}

func BenchmarkReadReview(b *testing.B) {
	body := []byte(benchmarkReview("or-abcdefgh23456"))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if r, err := readReview(body); err != nil || r.key() == "" {
			b.Fatal(err)
		}
	}
}

// benchmarkReview is a review of about 4 KB, laid out as the API server writes them.
func benchmarkReview(name string) string {
	return `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"705ab4f5-6393-11e8-b7cc",` +
		`"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},` +
		`"requestKind":{"group":"","version":"v1","kind":"Pod"},"requestResource":{"group":"","version":"v1",` +
		`"resource":"pods"},"name":"` + name + `","namespace":"shop","operation":"CREATE","userInfo":{"username":"admin",` +
		`"groups":["system:masters","system:authenticated"]},"object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"` +
		name + `","namespace":"shop","creationTimestamp":null},"spec":{"containers":[{"name":"app","image":"app","env":[` +
		strings.Repeat(`{"name":"SOME_VARIABLE","value":"some value of it"},`, 60) + `{"name":"LAST"}]}]}},` +
		`"oldObject":null,"dryRun":true,"options":{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}}}`
}
