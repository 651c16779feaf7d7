// SPDX-License-Identifier: Apache-2.0

package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"sync"
	"syscall"

	"sigs.k8s.io/yaml"

	"github.com/outrigger-k8s/outrigger/probe"
	"github.com/outrigger-k8s/outrigger/tap"
)

// What is kept of cases that do not hold. An injector that fails every case of a large table says the same again and
// again: a few cases of each rule are enough to see why, and the disk stays small.
const (
	evidenceFolder = "cases"   // in the artefacts' folder
	evidenceOfRule = 3         // cases of one rule
	evidenceCases  = 60        // cases of a run
	evidenceBytes  = 64 << 20  // of a run
	evidenceFile   = 256 << 10 // bytes of a file
	evidenceLog    = 64 << 10  // bytes of the target's log
	evidenceCalls  = 10        // calls of a case
)

// evidence keeps what is known of cases that do not hold, a folder for each, in the artefacts' folder.
type evidence struct {
	artifacts string
	log       func(settings map[string]any, n int64) []byte // the end of the target's log

	mu    sync.Mutex
	cases int
	rules map[string]int // cases, by table and rule
	keys  map[string]int // folders, by case key
	bytes int
	left  int // cases of which nothing was kept
	errs  []error
}

var _ probe.Keeper = (*evidence)(nil)

func newEvidence(artifacts string, log func(map[string]any, int64) []byte) *evidence {
	return &evidence{artifacts: artifacts, log: log, rules: map[string]int{}, keys: map[string]int{}}
}

// Wants is true of the first cases of each rule.
func (e *evidence) Wants(j *probe.Judgement) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	rule := j.Planned.Case.Table.ID() + "/" + string(j.Planned.Rule.Name)
	if j.Err != nil {
		rule += " error" // what broke the run must not take the place of what fails in it
	}
	if e.cases == evidenceCases || e.rules[rule] == evidenceOfRule || e.bytes > evidenceBytes {
		e.left++
		return false
	}
	e.cases++
	e.rules[rule]++
	return true
}

// Keep writes the files. That it could not is an error of the run, which close returns.
func (e *evidence) Keep(ev *probe.Evidence) []string {
	e.mu.Lock()
	key := ev.Judgement.Planned.Key
	e.keys[key]++
	folder := key
	if n := e.keys[key]; n > 1 { // another try
		folder = fmt.Sprintf("%s-%d", key, n)
	}
	e.mu.Unlock()

	files := append(caseFiles(ev), ev.Found...)
	if e.log != nil {
		if log := e.log(ev.Judgement.Planned.Settings.Document, evidenceLog); len(log) > 0 {
			files = append(files, probe.Finding{Name: "target.log", Data: log})
		}
	}
	var names []string
	for _, f := range files {
		if len(f.Data) == 0 {
			continue
		}
		name := path.Join(evidenceFolder, folder, path.Base(f.Name))
		if err := writeEvidence(filepath.Join(e.artifacts, filepath.FromSlash(name)), cut(f.Data)); err != nil {
			e.mu.Lock()
			e.errs = append(e.errs, fmt.Errorf("keep evidence of %s: %w", ev.Judgement.Planned.Case.ID(), err))
			e.mu.Unlock()
			break
		}
		names = append(names, name)
		e.mu.Lock()
		e.bytes += len(f.Data)
		e.mu.Unlock()
	}
	return names
}

// close gives what could not be written; one error says it for all. e may be nil.
func (e *evidence) close() error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.errs) > 1 {
		return fmt.Errorf("%w (and of %d more)", e.errs[0], len(e.errs)-1)
	}
	return errors.Join(e.errs...)
}

func cut(data []byte) []byte {
	if len(data) <= evidenceFile {
		return data
	}
	return fmt.Appendf(bytes.Clone(data[:evidenceFile]), "\n# cut off: %d of %d bytes\n", evidenceFile, len(data))
}

func writeEvidence(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	err := os.WriteFile(file, data, 0o644)
	if err != nil {
		_ = os.Remove(file) // half a file says half the truth
	}
	return err
}

// caseFiles are the files about what the harness itself knows.
func caseFiles(ev *probe.Evidence) []probe.Finding {
	j := ev.Judgement
	p := j.Planned
	rule := p.Rule
	about := map[string]any{
		"case": p.Case.ID(), "key": p.Key, "namespace": p.Namespace,
		"rule":     map[string]any{"name": rule.Name, "because": rule.Because, "at": fmt.Sprintf("%s:%d", p.Case.Table.File, rule.Line)},
		"expected": p.Then().Outcome, "why": j.Why,
	}
	if j.Err != nil {
		about["error"] = j.Err.Error()
	}
	files := []probe.Finding{}
	if step := p.Case.Step(); step != nil {
		about["step"] = step.Name
	}
	if o := ev.Observation; o != nil {
		about["observed"] = said(map[string]any{"outcome": j.Observed, "latency": o.Latency.String(), "attempted": o.Attempts,
			"failedOpen": o.FailedOpen, "refused": o.Refused, "warnings": o.Warnings, "events": o.Events, "conditions": o.Conditions, "auditAnnotations": o.Audit})
		if o.Pod != nil {
			files = append(files, document("admitted.yaml", o.Pod))
		} else if o.Object != nil {
			files = append(files, document("admitted.yaml", o.Object))
		}
	}
	var calls []map[string]any
	for i := range ev.Calls[:min(len(ev.Calls), evidenceCalls)] {
		c := &ev.Calls[i]
		calls = append(calls, callOf(c))
		files = append(files,
			probe.Finding{Name: fmt.Sprintf("call-%d-review.json", i+1), Data: indented(c.Request)},
			probe.Finding{Name: fmt.Sprintf("call-%d-answer.json", i+1), Data: indented(probe.Answer(c))},
			probe.Finding{Name: fmt.Sprintf("call-%d-patch.json", i+1), Data: indented(probe.Patch(c))})
	}
	if n := len(ev.Calls); n > evidenceCalls {
		about["callsLeftOut"] = n - evidenceCalls
	}
	about["calls"] = calls
	if ev.Attempt.Object != nil {
		files = append(files, document("sent.yaml", ev.Attempt.Object))
	}
	files = append(files, document("settings.yaml", p.Settings.Document))
	if a := ev.Arrangement; a != nil {
		var docs []any
		for _, w := range a.Webhooks {
			docs = append(docs, w)
		}
		for _, w := range a.Validating {
			docs = append(docs, w)
		}
		for _, s := range a.Services {
			docs = append(docs, s)
		}
		for _, ns := range a.Namespaces {
			if ns.Name == p.Namespace {
				docs = append(docs, ns)
			}
		}
		files = append(files, document("arranged.yaml", docs...))
	}
	return append([]probe.Finding{document("case.yaml", said(about))}, files...)
}

// callOf is the tap's record of a call, without the bodies.
func callOf(c *tap.Call) map[string]any {
	m := said(map[string]any{"webhook": c.Webhook, "asked": c.Asked, "path": c.Path, "query": c.Query, "protocol": c.Proto, "status": c.Status,
		"received": c.Received, "latency": c.Latency.String(), "requestBytes": len(c.Request), "responseBytes": len(c.Response), "header": c.Header})
	if c.Err != nil {
		m["error"] = c.Err.Error()
	}
	return m
}

// said is m without what is empty: it says nothing, and would hide what does.
func said(m map[string]any) map[string]any {
	maps.DeleteFunc(m, func(_ string, v any) bool {
		x := reflect.ValueOf(v)
		switch x.Kind() {
		case reflect.Slice, reflect.Map:
			return x.Len() == 0
		case reflect.Pointer:
			return x.IsNil()
		}
		return v == nil
	})
	return m
}

// document is a file of YAML documents.
func document(name string, objects ...any) probe.Finding {
	var out bytes.Buffer
	for i, o := range objects {
		if i > 0 {
			out.WriteString("---\n")
		}
		text, err := yaml.Marshal(o)
		if err != nil {
			text = fmt.Appendf(nil, "# cannot be written as YAML: %v\n", err)
		}
		out.Write(text)
	}
	return probe.Finding{Name: name, Data: out.Bytes()}
}

// indented is JSON for people; what is none stays as it is.
func indented(data []byte) []byte {
	var out bytes.Buffer
	if json.Indent(&out, data, "", "  ") != nil {
		return data
	}
	return append(out.Bytes(), '\n')
}

var evidenceName = regexp.MustCompile(`^or-[a-z2-7]+(-[0-9]+)?$`)

// sweepEvidence removes what an earlier run with this folder kept: it must not pass for this one's. What else is there
// stays.
func sweepEvidence(artifacts string) error {
	dir := filepath.Join(artifacts, evidenceFolder)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, x := range entries {
		if x.IsDir() && evidenceName.MatchString(x.Name()) {
			if err := os.RemoveAll(filepath.Join(dir, x.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}
