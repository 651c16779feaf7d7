// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// A QuarantineEntry names cases whose failures do not count until a date. Somebody owns it and an issue follows it.
// Quarantined cases still run and are still shown. A case that could not be judged at all is never forgiven.
type QuarantineEntry struct {
	Case    string `json:"case" yaml:"case" jsonschema_description:"Pattern of case IDs; * stands for any characters."`
	Run     string `json:"run,omitempty" yaml:"run,omitempty" jsonschema_description:"Pattern of run IDs; all runs where absent."`
	Owner   string `json:"owner" yaml:"owner" jsonschema_description:"Who mends it."`
	Issue   string `json:"issue" yaml:"issue" jsonschema_description:"Where it is followed."`
	Expires string `json:"expires" yaml:"expires" jsonschema:"format=date" jsonschema_description:"The last day on which the entry counts, UTC."`
	Because string `json:"because,omitempty" yaml:"because,omitempty"`
	Expired bool   `json:"expired,omitempty" yaml:"-" jsonschema_description:"The entry was past its date when the report was made; that fails."`
}

// A Quarantine is a checked list of entries.
type Quarantine struct {
	Entries []QuarantineEntry

	cases, runs []*regexp.Regexp
	expires     []time.Time // the first moment at which the entry does not count any more
}

const maxQuarantineBytes = 1 << 20

// ReadQuarantine loads a quarantine file:
//
//	quarantine:
//	- case: istio-classic/decision/*annotation=empty*
//	  owner: "@anna"
//	  issue: https://example.com/issues/7
//	  expires: 2026-12-31
//
// An unknown field, or an entry without a case, an owner, an issue or a date, is an error.
func ReadQuarantine(path string) (*Quarantine, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the quarantine: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxQuarantineBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the quarantine %s: %w", path, err)
	}
	q, err := ParseQuarantine(data)
	if err != nil {
		return nil, fmt.Errorf("read the quarantine %s: %w", path, err)
	}
	return q, nil
}

// ParseQuarantine reads the text of a quarantine file.
func ParseQuarantine(data []byte) (*Quarantine, error) {
	if len(data) > maxQuarantineBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", maxQuarantineBytes)
	}
	var file struct {
		Quarantine []QuarantineEntry `yaml:"quarantine"`
	}
	if len(bytes.TrimSpace(data)) > 0 {
		if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&file); err != nil {
			return nil, fmt.Errorf("%s", strings.TrimSpace(yaml.FormatError(err, false, true)))
		}
	}
	return NewQuarantine(file.Quarantine)
}

// NewQuarantine checks entries. No entries are a good quarantine.
func NewQuarantine(entries []QuarantineEntry) (*Quarantine, error) {
	q := &Quarantine{Entries: entries}
	for i, e := range entries {
		for _, f := range []struct{ name, value string }{
			{"case", e.Case}, {"owner", e.Owner}, {"issue", e.Issue}, {"expires", e.Expires},
		} {
			if strings.TrimSpace(f.value) == "" {
				return nil, fmt.Errorf("entry %d (%s): it has no %s; every entry needs case, owner, issue and expires",
					i+1, e.Case, f.name)
			}
		}
		day, err := time.Parse(time.DateOnly, e.Expires)
		if err != nil {
			return nil, fmt.Errorf("entry %d (%s): expires is %q, not a date like 2026-12-31", i+1, e.Case, e.Expires)
		}
		q.expires = append(q.expires, day.AddDate(0, 0, 1))
		q.cases = append(q.cases, wildcard(e.Case))
		run := e.Run
		if run == "" {
			run = "*"
		}
		q.runs = append(q.runs, wildcard(run))
	}
	return q, nil
}

// wildcard makes a matcher of a pattern in which * stands for any characters, slashes too.
func wildcard(pattern string) *regexp.Regexp {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$")
}

// covers says whether an entry that has not expired names that case in that run. A nil quarantine covers nothing.
func (q *Quarantine) covers(id, run string, now time.Time) bool {
	if q == nil {
		return false
	}
	for i := range q.Entries {
		if now.Before(q.expires[i]) && q.cases[i].MatchString(id) && q.runs[i].MatchString(run) {
			return true
		}
	}
	return false
}

// asOf gives the entries with their expiry judged.
func (q *Quarantine) asOf(now time.Time) []QuarantineEntry {
	var entries []QuarantineEntry
	for i, e := range q.Entries {
		e.Expired = !now.Before(q.expires[i])
		entries = append(entries, e)
	}
	return entries
}

// Apply marks, as of now, the results of a report that q covers, in place of those that were marked before, and judges
// the report anew.
func (q *Quarantine) Apply(r *Report, now time.Time) {
	r.Quarantine = q.asOf(now)
	for i := range r.Cases {
		for j := range r.Cases[i].Results {
			res := &r.Cases[i].Results[j]
			res.Quarantined = res.Status.mayBeForgiven() && q.covers(r.Cases[i].ID, r.Runs[res.Run].ID, now)
		}
	}
	r.Judge()
}
