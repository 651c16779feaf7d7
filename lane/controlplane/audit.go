// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/table"
)

// maxAuditLine bounds one audit event in bytes: a request may have 3 MiB, and an event holds request and response.
const maxAuditLine = 8 << 20

// An auditEvent is what of an audit.k8s.io/v1 Event is joined.
type auditEvent struct {
	Kind      string `json:"kind"`
	AuditID   string `json:"auditID"`
	ObjectRef *struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	RequestObject  json.RawMessage   `json:"requestObject"`
	ResponseObject json.RawMessage   `json:"responseObject"`
	ResponseStatus *metav1.Status    `json:"responseStatus"`
	Annotations    map[string]string `json:"annotations"`
}

// An AuditLog takes the API server's standard output, one JSON event a line, and hands each event that is waited for
// to who waits. Events that nobody waits for are dropped: memory does not grow with the number of cases.
type AuditLog struct {
	user     string // who the harness is
	line     []byte // a line not ended yet
	skipping bool   // the line was too long: on to the next

	mu      sync.Mutex
	byID    map[string]chan *auditEvent // creations by the harness
	byKey   map[string]chan *auditEvent // pods created by controllers
	trails  map[string]*trail           // pods created by controllers, of keys that are followed
	trouble error                       // the first line that could not be read
	ended   error                       // no event will come any more
	done    chan struct{}               // closed when ended is set
}

// NewAuditLog makes one of an API server to which the harness is user.
func NewAuditLog(user string) *AuditLog {
	return &AuditLog{
		user: user,
		byID: map[string]chan *auditEvent{}, byKey: map[string]chan *auditEvent{}, trails: map[string]*trail{}, done: make(chan struct{}),
	}
}

// Write takes a piece of the stream, as the pipe happens to cut it. It never fails: the API server must not be held
// up, nor ended by a broken pipe.
func (l *AuditLog) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		line := p[:i]
		if len(l.line) > 0 {
			l.line = append(l.line, line...)
			line = l.line
		}
		if !l.skipping && len(line) <= maxAuditLine {
			l.take(line)
		} else if !l.skipping {
			l.note(fmt.Errorf("an audit event of more than %d bytes was dropped", maxAuditLine))
		}
		l.line, l.skipping = l.line[:0], false
		p = p[i+1:]
	}
	switch {
	case l.skipping:
	case len(l.line)+len(p) > maxAuditLine:
		l.note(fmt.Errorf("an audit event of more than %d bytes was dropped", maxAuditLine))
		l.line, l.skipping = nil, true
	default:
		l.line = append(l.line, p...)
	}
	if cap(l.line) > 1<<20 && len(l.line) == 0 { // one large event must not occupy memory for good
		l.line = nil
	}
	return n, nil
}

func (l *AuditLog) take(line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	e, err := parseAuditEvent(line)
	if err != nil {
		l.note(err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting, ok := l.byID[e.AuditID]
	if !ok {
		if e.User.Username == l.user || e.ObjectRef.Resource != "pods" || e.ObjectRef.Subresource != "" {
			return
		}
		key := e.key()
		if trail := l.trails[key]; trail != nil {
			trail.add(e)
		}
		if waiting, ok = l.byKey[key]; !ok {
			return
		}
	}
	select {
	case waiting <- e:
	default: // it has the first already
	}
}

func (l *AuditLog) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trouble == nil {
		l.trouble = err
	}
}

// expectID returns where the event of the harness's own request with this Audit-ID will arrive. Call it before the
// request is made, and forget after.
func (l *AuditLog) expectID(id string) (event <-chan *auditEvent, forget func()) {
	return l.expect(l.byID, id)
}

// expectKey does the same for the first pod that a controller creates, or fails to, for the case.
func (l *AuditLog) expectKey(key string) (event <-chan *auditEvent, forget func()) {
	return l.expect(l.byKey, key)
}

func (l *AuditLog) expect(by map[string]chan *auditEvent, name string) (<-chan *auditEvent, func()) {
	c := make(chan *auditEvent, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	by[name] = c
	return c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if by[name] == c {
			delete(by, name)
		}
	}
}

// Close says that no event will come any more, and why.
func (l *AuditLog) Close(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.ended = why
		close(l.done)
	}
}

// err is what is known of why an event has not come; nil when nothing is.
func (l *AuditLog) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.trouble, l.ended)
}

func parseAuditEvent(line []byte) (*auditEvent, error) {
	e := &auditEvent{}
	if err := json.Unmarshal(line, e); err != nil {
		return nil, fmt.Errorf("read an audit event (%.80q): %w", line, err)
	}
	if e.Kind != "Event" || e.AuditID == "" || e.ObjectRef == nil {
		return nil, fmt.Errorf("read an audit event (%.80q): kind %q, audit ID %q: not one about an object", line, e.Kind, e.AuditID)
	}
	return e, nil
}

// key is the case's key at the head of the pod's name, or of what its name is to be generated from; "" if neither is
// long enough.
func (e *auditEvent) key() string {
	name := e.ObjectRef.Name
	if name == "" { // the API server did not get as far as making one
		var object struct {
			Metadata struct {
				Name         string `json:"name"`
				GenerateName string `json:"generateName"`
			} `json:"metadata"`
		}
		if json.Unmarshal(e.RequestObject, &object) == nil {
			name = object.Metadata.Name
			if name == "" {
				name = object.Metadata.GenerateName
			}
		}
	}
	if len(name) < table.KeyLength {
		return ""
	}
	return name[:table.KeyLength]
}

// outcome is the pod that the API server created, or its refusal.
func (e *auditEvent) outcome() (*corev1.Pod, *metav1.Status, error) {
	if e.ResponseStatus == nil {
		return nil, nil, fmt.Errorf("audit event %s has no response: the API server gave the request up", e.AuditID)
	}
	if e.ResponseStatus.Code < 400 {
		pod := &corev1.Pod{}
		if err := json.Unmarshal(e.ResponseObject, pod); err != nil {
			return nil, nil, fmt.Errorf("read the pod in audit event %s: %w", e.AuditID, err)
		}
		if pod.Name == "" {
			return nil, nil, fmt.Errorf("audit event %s holds no pod", e.AuditID)
		}
		return pod, nil, nil
	}
	// The response is the whole Status; responseStatus may lack its details.
	status := &metav1.Status{}
	if json.Unmarshal(e.ResponseObject, status) == nil && status.Kind == "Status" {
		return nil, status, nil
	}
	return nil, e.ResponseStatus, nil
}
