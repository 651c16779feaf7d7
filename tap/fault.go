// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Fault is one way in which a call to a webhook goes wrong, chosen for a case. It has one of two joints: the answer
// ([Tap.ExpectFault] puts it into the calls of one key) or the connection (the calls of a webhook whose URL is
// [Tap.FaultURL]; whose call it is cannot be known while TLS is made).
type Fault struct {
	Declaration
	Parameters
}

// A Declaration says what a fault is.
type Declaration struct {
	Name  string
	Title string   // what happens, for people
	Takes []string // names of the parameters that it must be given; it takes no others

	answer     answerFault     // the joint in the answer
	review     json.RawMessage // an answer fault: laid over the target's own answer as a JSON merge patch (RFC 7386)
	connection connectionFault // the joint in the connection
}

// Parameters of a fault, as a table states them beside its name.
type Parameters struct {
	Status     int      `json:"status,omitempty"`     // HTTP status of the answer
	RetryAfter *int     `json:"retryAfter,omitempty"` // seconds, in the answer's header of this name
	Delay      Duration `json:"delay,omitempty"`      // before the target is called
}

// Duration is written as Go writes it: 700ms, 2.5s.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads, above zero and up to a minute.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return err
	}
	if parsed <= 0 || parsed > time.Minute {
		return fmt.Errorf("%s is not above zero and up to a minute", parsed)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// ParseFault reads a fault as a table states it: `fault`, its name, and its parameters beside it.
func ParseFault(doc map[string]any) (*Fault, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("reading a fault: %w", err)
	}
	var stated struct {
		Fault string `json:"fault"`
		Parameters
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&stated); err != nil {
		return nil, fmt.Errorf("reading the fault %s: %w", quoteShort(string(raw)), err)
	}
	i := slices.IndexFunc(Faults, func(d Declaration) bool { return d.Name == stated.Fault })
	if i < 0 {
		return nil, fmt.Errorf("reading the fault %s: there is none of this name; there are %s",
			quoteShort(stated.Fault), strings.Join(names(), ", "))
	}
	f := &Fault{Faults[i], stated.Parameters}
	return f, f.check(doc)
}

func (f *Fault) check(doc map[string]any) error {
	for _, name := range f.Takes {
		if _, given := doc[name]; !given {
			return fmt.Errorf("reading the fault %q: it needs the parameter %s", f.Name, name)
		}
	}
	for name := range doc {
		if name != "fault" && name != "retryAfter" && !slices.Contains(f.Takes, name) {
			return fmt.Errorf("reading the fault %q: it takes no parameter %s", f.Name, name)
		}
	}
	switch {
	case f.RetryAfter != nil && !slices.Contains(f.Takes, "status"):
		return fmt.Errorf("reading the fault %q: retryAfter goes with a status", f.Name)
	case f.RetryAfter != nil && (*f.RetryAfter < 0 || *f.RetryAfter > 60):
		return fmt.Errorf("reading the fault %q: retryAfter is %d seconds, not 0 to 60", f.Name, *f.RetryAfter)
	case slices.Contains(f.Takes, "status") && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("reading the fault %q: status %d is not 200 to 599", f.Name, f.Status)
	}
	return nil
}

// Listener is the name of the listener that a webhook with this fault is called at; webhooks whose faults have one
// name can share a URL. A fault of the answer needs HTTP/1.1, as the API server speaks with Services: over HTTP/2,
// which it speaks with loopback addresses, a connection that breaks would take other cases' calls with it.
func (f *Fault) Listener() string {
	if _, ok := f.connection.(rotating); ok {
		return "rotating"
	}
	if f.connection != nil {
		return f.Name
	}
	return plain.Name
}

// Forges tells whether the fault changes what the target answered, so that the answer is not the target's own.
func (f *Fault) Forges() bool { return f.review != nil }

func names() []string {
	list := make([]string, len(Faults))
	for i, d := range Faults {
		list[i] = d.Name
	}
	return list
}

// errFault marks what a call's record says went wrong as made so.
var errFault = errors.New("fault")
