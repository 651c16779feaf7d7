// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const key = "or-abcdefghijklm"

func event(user, id, name, more string) string {
	return fmt.Sprintf(`{"kind":"Event","auditID":%q,"user":{"username":%q},`+
		`"objectRef":{"resource":"pods","name":%q},"annotations":{"a":"b"}%s}`+"\n", id, user, name, more)
}

func TestAuditJoin(t *testing.T) {
	const controller = "system:serviceaccount:kube-system:replicaset-controller"
	for _, test := range []struct {
		name, line     string
		byID, byKey    bool
		trouble        string
		otherResource  bool
		generatedShort bool
	}{
		{name: "the harness's own", line: event(User, "id-1", key, ""), byID: true},
		{name: "somebody else's ID", line: event(User, "id-2", key, "")},
		{name: "a controller's pod", line: event(controller, "x", key+"-5d4-abc", ""), byKey: true},
		{name: "another case's pod", line: event(controller, "x", "or-zzzzzzzzzzzzz-5d4", "")},
		{name: "refused before it had a name", line: event(controller, "x", "",
			`,"requestObject":{"metadata":{"generateName":"`+key+`-5d4-"}}`), byKey: true},
		{name: "a name too short", line: event(controller, "x", "or-a", "")},
		{name: "another resource", line: strings.Replace(event(controller, "x", key, ""), "pods", "secrets", 1)},
		{name: "no JSON", line: "panic: oh dear\n", trouble: "oh dear"},
		{name: "no event", line: `{"kind":"Other"}` + "\n", trouble: "Other"},
		{name: "an empty line", line: "\n"},
	} {
		for _, cut := range []int{1, 7, 1 << 20} {
			t.Run(fmt.Sprintf("%s in pieces of %d", test.name, cut), func(t *testing.T) {
				l := NewAuditLog(User)
				id, forgetID := l.expectID("id-1")
				byKey, forgetKey := l.expectKey(key)
				for rest := test.line; rest != ""; {
					n := min(cut, len(rest))
					if m, err := l.Write([]byte(rest[:n])); m != n || err != nil {
						t.Fatalf("wrote %d, %v", m, err)
					}
					rest = rest[n:]
				}
				if (len(id) == 1) != test.byID || (len(byKey) == 1) != test.byKey {
					t.Errorf("by ID: %d, by key: %d", len(id), len(byKey))
				}
				if err := l.err(); (err != nil) != (test.trouble != "") || err != nil && !strings.Contains(err.Error(), test.trouble) {
					t.Errorf("trouble %v, want %q", err, test.trouble)
				}
				forgetID()
				forgetKey()
				if len(l.byID)+len(l.byKey) != 0 {
					t.Error("forgotten, and still there")
				}
			})
		}
	}
}

func TestAuditFirstEventCounts(t *testing.T) {
	l := NewAuditLog(User)
	c, forget := l.expectKey(key)
	defer forget()
	for _, name := range []string{"-first", "-second"} {
		if _, err := l.Write([]byte(event("controller", "x", key+name, ""))); err != nil {
			t.Fatal(err)
		}
	}
	if e := <-c; e.ObjectRef.Name != key+"-first" {
		t.Errorf("got %s", e.ObjectRef.Name)
	}
}

func TestAuditLineIsBounded(t *testing.T) {
	l := NewAuditLog(User)
	c, forget := l.expectID("id-1")
	defer forget()
	piece := []byte(strings.Repeat("x", 1<<20))
	for range 20 {
		if _, err := l.Write(piece); err != nil {
			t.Fatal(err)
		}
		if cap(l.line) > 4*maxAuditLine {
			t.Fatalf("%d bytes held", cap(l.line))
		}
	}
	if _, err := l.Write([]byte("\n" + event(User, "id-1", key, ""))); err != nil {
		t.Fatal(err)
	}
	if len(c) != 1 {
		t.Error("the line after one too long was lost")
	}
	if l.err() == nil {
		t.Error("no word of the dropped line")
	}
}

func TestAuditEnd(t *testing.T) {
	l := NewAuditLog(User)
	why := errors.New("stopped")
	l.Close(why)
	l.Close(errors.New("again"))
	<-l.done
	if !errors.Is(l.err(), why) {
		t.Errorf("%v", l.err())
	}
}

func TestOutcome(t *testing.T) {
	for _, test := range []struct {
		name, more, pod string
		code            int32
		reason, err     string
	}{
		{name: "admitted", more: `,"responseStatus":{"code":201},"responseObject":{"kind":"Pod","metadata":{"name":"p"}}`, pod: "p"},
		{name: "refused, with the whole status", more: `,"responseStatus":{"code":418},` +
			`"responseObject":{"kind":"Status","code":418,"reason":"Teapot","message":"no"}`, code: 418, reason: "Teapot"},
		{name: "refused, without", more: `,"responseStatus":{"code":500,"reason":"InternalError"}`, code: 500, reason: "InternalError"},
		{name: "given up", err: "no response"},
		{name: "no pod", more: `,"responseStatus":{"code":201},"responseObject":{}`, err: "no pod"},
		{name: "nothing", more: `,"responseStatus":{"code":201}`, err: "read the pod"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, err := parseAuditEvent([]byte(event("c", "x", key, test.more)))
			if err != nil {
				t.Fatal(err)
			}
			pod, refused, err := e.outcome()
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil || (pod != nil) != (test.pod != "") || (refused != nil) != (test.code != 0) {
				t.Fatalf("pod %v, refused %v, error %v", pod, refused, err)
			}
			if refused != nil && (refused.Code != test.code || string(refused.Reason) != test.reason) {
				t.Errorf("refused %+v", refused)
			}
		})
	}
}

func FuzzAuditLog(f *testing.F) {
	f.Add([]byte(event("c", "x", key, "")), 3)
	f.Add([]byte("{}\n\n{\"kind\":\"Event\"}\n"), 1)
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		l := NewAuditLog(User)
		c, forget := l.expectKey(key)
		defer forget()
		n := min(max(cut, 1), max(len(stream), 1))
		for len(stream) > 0 {
			n = min(n, len(stream))
			if _, err := l.Write(stream[:n]); err != nil {
				t.Fatal(err)
			}
			stream = stream[n:]
		}
		if len(c) == 1 {
			e := <-c
			if e.key() != key {
				t.Errorf("joined %q to %q", e.key(), key)
			}
			_, _, _ = e.outcome()
		}
	})
}
