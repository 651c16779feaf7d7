// SPDX-License-Identifier: Apache-2.0

package report

import (
	"path"
	"path/filepath"
	"strings"
	"time"
)

// SchemaVersion is what this package writes into [Report.Schema]. The part before the dot changes when old readers
// would misunderstand; the part after it when something is added. Every v1.x up to this one can be read.
const SchemaVersion = schemaPrefix + "1.5"

const (
	schemaPrefix = "outrigger.dev/report/v"
	schemaMajor  = 1
	schemaMinor  = 5
)

// An Outcome is what became of a pod, as a table expects it or as it was observed.
type Outcome string

const (
	Injected  Outcome = "injected"  // the pod was admitted with the sidecar in it
	Untouched Outcome = "untouched" // the pod was admitted as it was sent
	Denied    Outcome = "denied"    // the webhook said no
	Failed    Outcome = "failed"    // the call to the webhook failed, so the API server refused
	Rejected  Outcome = "rejected"  // the API server or another admission plugin refused for a reason of its own
	Accepted  Outcome = "accepted"  // steps of scenarios only: the API server took a change of the cluster
	Unchanged Outcome = "unchanged" // steps of scenarios only: there was nothing to change, and nobody was asked
	Altered   Outcome = "altered"   // observed only: the webhook changed the pod, yet the sidecar is not in it
	Unknown   Outcome = ""          // observed only: nothing was observed
)

// Outcomes are those of cases, in the order in which renderings show them; steps that change the cluster have others too.
var Outcomes = []Outcome{Injected, Untouched, Denied, Failed, Rejected, Altered, Unknown}

// A Status is the judgement on one case in one run.
type Status string

const (
	Pass   Status = "pass"    // observed as expected, at every try
	Fail   Status = "fail"    // observed otherwise than expected, at every try
	Flaky  Status = "flaky"   // both, at different tries; never conformant
	NotRun Status = "not-run" // planned, but the lane lacks a feature that the case needs; Why names it
	Error  Status = "error"   // nothing can be said about the case: infrastructure
)

// Statuses are all statuses, the worst first.
var Statuses = []Status{Fail, Flaky, Error, NotRun, Pass}

// Ran says whether a result says something about the target.
func (r *Result) Ran() bool { return r.Status != NotRun && r.Status != Error }

// Bad says whether a status counts against the target or the run.
func (s Status) Bad() bool { return s == Fail || s == Flaky || s == Error }

// mayBeForgiven says whether a quarantine can cover a result of that status: what was seen to be wrong, and never that
// nothing could be seen.
func (s Status) mayBeForgiven() bool { return s == Fail || s == Flaky }

// A Report is everything that one run, or several merged ones, found out.
type Report struct {
	Schema     string            `json:"schema" jsonschema:"pattern=^outrigger\\.dev/report/v1\\.[0-9]+$" jsonschema_description:"Name and version of this format."`
	Verdict    Verdict           `json:"verdict" jsonschema_description:"The judgement on the whole."`
	Baseline   bool              `json:"baseline,omitempty" jsonschema_description:"True for a report kept to compare with; it holds no times and no artefacts."`
	Merged     bool              `json:"merged,omitempty" jsonschema_description:"True for a report made by merging; a sharded run in it must have all its shards."`
	Runs       []Run             `json:"runs" jsonschema_description:"The columns, sorted by id. A fresh report has one; merging adds."`
	Tables     []Table           `json:"tables" jsonschema_description:"The tables that were run, sorted by id."`
	Quarantine []QuarantineEntry `json:"quarantine,omitempty" jsonschema_description:"The cases whose failures do not count, as of this run."`
	Effects    []Effect          `json:"effects,omitempty" jsonschema_description:"What the digests of the observations stand for, sorted by digest; of very many only the first (since 1.3)."`
	Cases      []Case            `json:"cases" jsonschema_description:"The rows, sorted by id, one a line."`
}

// A Run is one column: one lane on one Kubernetes version with one target.
type Run struct {
	ID         string        `json:"id" jsonschema_description:"Stable name of the column, equal for all shards of it, for example admission/1.37.2/reference@0.1.0."`
	Lane       string        `json:"lane" jsonschema_description:"admission, controlplane or kind."`
	Provider   string        `json:"provider,omitempty" jsonschema_description:"How the cluster came to be: in-process, source, kubebuilder-assets, kind."`
	Kubernetes string        `json:"kubernetes" jsonschema_description:"Version without the v, for example 1.37.2."`
	Routing    string        `json:"routing,omitempty" jsonschema_description:"How Services are reached: clusterip, endpoints; empty where Services cannot be used."`
	Features   []string      `json:"features,omitempty" jsonschema_description:"What the lane has, sorted."`
	Target     TargetInfo    `json:"target" jsonschema_description:"The injector under test."`
	Outrigger  string        `json:"outrigger,omitempty" jsonschema_description:"Version of the harness."`
	Started    time.Time     `json:"started,omitzero" jsonschema_description:"When the run began; absent in a baseline."`
	Duration   time.Duration `json:"durationNanos,omitempty" jsonschema_description:"How long the run took, in nanoseconds; for merged shards the longest of them."`
	Phases     []Phase       `json:"phases,omitempty" jsonschema_description:"Parts of the run, one after the other and in that order, but for those that say beside."`
	Times      []TableTime   `json:"tableTimes,omitempty" jsonschema_description:"How long the run was busy with each table, sorted by table (since 1.2)."`
	Seed       int64         `json:"seed,omitempty" jsonschema_description:"Seed of whatever was drawn by chance."`
	Host       Host          `json:"host,omitzero" jsonschema_description:"Where it ran."`
	Selection  string        `json:"selection,omitempty" jsonschema_description:"Which cases of the tables were planned: full (the default), or for example covering t=3."`
	Shards     []Shard       `json:"shards,omitempty" jsonschema_description:"The shards that this column holds, sorted; absent when the run was not sharded."`
	Planned    int           `json:"planned,omitempty" jsonschema:"minimum=0" jsonschema_description:"How many cases were planned. Fewer results than that make the report incomplete."`
	Ended      Ended         `json:"ended" jsonschema:"enum=complete,enum=interrupted,enum=infrastructure" jsonschema_description:"How the run came to its end."`
	Problem    string        `json:"problem,omitempty" jsonschema_description:"Why it ended so, where it was not complete."`
	Rerun      string        `json:"rerun,omitempty" jsonschema_description:"The command that reruns one case; {case} stands for the quoted case ID."`
	LeftOut    int           `json:"detailsLeftOut,omitempty" jsonschema:"minimum=0" jsonschema_description:"Results whose patch and review were not kept, because there were too many."`
	NoEvidence int           `json:"artefactsLeftOut,omitempty" jsonschema:"minimum=0" jsonschema_description:"Tries that did not hold and of which no artefacts were kept, because there were enough of their rule or of the run."`
	Artefacts  []string      `json:"artefacts,omitempty" jsonschema_description:"Files and folders of what was collected of the whole run because it was not well, relative to the report, sorted (since 1.3)."`
	Budgets    []Budget      `json:"budgets,omitempty" jsonschema_description:"Latency budgets, judged within this run."`
}

// Ended says how a run came to its end.
type Ended string

const (
	Complete       Ended = "complete"       // every planned case has its result
	Interrupted    Ended = "interrupted"    // somebody stopped it
	Infrastructure Ended = "infrastructure" // something that is not the target broke
)

// TargetInfo names the injector under test.
type TargetInfo struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty" jsonschema_description:"Digest of the image or the binary, where it is known."`
}

// A Phase is a part of a run that took time worth knowing. The phases of a run do not overlap, so they may be added up, except
// those that went on beside others.
type Phase struct {
	Name     string        `json:"name"`
	Duration time.Duration `json:"durationNanos" jsonschema_description:"In nanoseconds; for merged shards the longest of them."`
	At       time.Duration `json:"atNanos,omitempty" jsonschema:"minimum=0" jsonschema_description:"When it began, since the run did (since 1.2); for merged shards the earliest of them."`
	Beside   bool          `json:"beside,omitempty" jsonschema_description:"It went on while the phases after it did, and is not to be added to them: a cluster's DNS, which the first cases do without (since 1.5)."`
}

// A TableTime is how long a run was busy with one table: with making its arrangements and with its cases at every try,
// as the clock on the wall says. Where tables share an arrangement, every moment counts for one of them, the one whose
// case ended next; so the times of the tables add up to the time of all of them.
type TableTime struct {
	Table    string        `json:"table"`
	Duration time.Duration `json:"durationNanos" jsonschema:"minimum=0" jsonschema_description:"In nanoseconds; for merged shards, which run side by side, the longest of them."`
}

// Host is where the harness ran.
type Host struct {
	OS     string `json:"os,omitempty"`
	Arch   string `json:"arch,omitempty"`
	CPUs   int    `json:"cpus,omitempty"`
	Memory int64  `json:"memoryBytes,omitempty"`
	Go     string `json:"go,omitempty"`
}

// A Shard is the index'th of Of parts of a run, counted from 1.
type Shard struct {
	Index int `json:"index" jsonschema:"minimum=1"`
	Of    int `json:"of" jsonschema:"minimum=1"`
}

// A Budget is a bound on latency that is part of the verdict. It is judged within one run and never against another
// one, because machines differ.
type Budget struct {
	Table    string        `json:"table,omitempty" jsonschema_description:"The table whose cases count; empty for all."`
	Quantile float64       `json:"quantile" jsonschema:"exclusiveMinimum=0,maximum=1" jsonschema_description:"For example 0.99."`
	Limit    time.Duration `json:"limitNanos" jsonschema:"minimum=1"`
	Observed time.Duration `json:"observedNanos,omitempty" jsonschema_description:"Filled in when the run ends."`
}

// Broken says whether the observed quantile is over the limit.
func (b Budget) Broken() bool { return b.Observed > b.Limit }

// A Table is what a report needs to know of a table: its axes and rules in words.
type Table struct {
	ID         string      `json:"id" jsonschema_description:"Profile and name, for example istio-classic/decision."`
	Profile    string      `json:"profile"`
	Name       string      `json:"name"`
	Title      string      `json:"title,omitempty"`
	Digest     string      `json:"digest,omitempty" jsonschema_description:"Digest of the table's contents; tells whether two reports are of the same table."`
	Dimensions []Dimension `json:"dimensions"`
	Course     []Step      `json:"course,omitempty" jsonschema_description:"The steps of each case, where the table is one of scenarios (since 1.1)."`
	Rules      []Rule      `json:"rules"`
	Total      int         `json:"total" jsonschema:"minimum=0" jsonschema_description:"Cases in the full product less the excluded ones."`
	Excluded   []Exclusion `json:"excluded,omitempty"`
	View       *View       `json:"view,omitempty" jsonschema_description:"Which dimensions to show first; chosen by how much they decide where absent."`
}

// A Dimension is one axis with its values in the table's order.
type Dimension struct {
	Name   string   `json:"name"`
	Title  string   `json:"title,omitempty"`
	Values []string `json:"values"`
}

// A Step is one step of a scenario.
type Step struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	Does  string `json:"does" jsonschema:"enum=request,enum=change,enum=look,enum=await,enum=nudge,enum=endure,enum=recreate" jsonschema_description:"What is done at the step, once what it changes holds."`
	Of    string `json:"of,omitempty" jsonschema_description:"The step that made what is looked at, awaited, nudged or recreated."`
}

// A StepOutcome is what a rule says of one step.
type StepOutcome struct {
	Step    string  `json:"step"`
	Outcome Outcome `json:"outcome"`
}

// A Rule is one row of a table in words.
type Rule struct {
	Name    string  `json:"name"`
	When    string  `json:"when,omitempty" jsonschema_description:"The condition in words, for example policy=disabled, annotation=true."`
	Given   string  `json:"given,omitempty" jsonschema_description:"Facts of the run that the rule asks for, for example kubernetes >=1.36."`
	Outcome Outcome `json:"outcome" jsonschema_description:"Of scenarios: at the step that stands for the case; empty where the rule says nothing of that one."`
	Because string  `json:"because,omitempty"`
	Source  string  `json:"source,omitempty"`

	Course []StepOutcome `json:"course,omitempty" jsonschema_description:"Of scenarios: the outcome at each step that the rule decides (since 1.1)."`
}

// An Exclusion is a part of the product that makes no sense and is not planned.
type Exclusion struct {
	When    []Term `json:"when" jsonschema_description:"All of these hold in an excluded case."`
	Because string `json:"because"`
	Count   int    `json:"count" jsonschema:"minimum=0"`
}

// A Term says that a dimension has one of these values.
type Term struct {
	Dimension string   `json:"dimension"`
	Values    []string `json:"values"`
}

// String is the term as people write it: policy=disabled, or policy=(disabled|absent).
func (t Term) String() string {
	if len(t.Values) == 1 {
		return t.Dimension + "=" + t.Values[0]
	}
	return t.Dimension + "=(" + strings.Join(t.Values, "|") + ")"
}

// A View says which dimensions a picture of a table shows at first; the others are folded.
type View struct {
	Rows    []string `json:"rows,omitempty"`
	Columns []string `json:"columns,omitempty"`
	Facets  []string `json:"facets,omitempty"`
}

// A Case is one row of the matrix.
type Case struct {
	ID       string   `json:"id" jsonschema_description:"Table ID, then dimension=value for every dimension, for example istio-classic/decision/policy=disabled,annotation=true."`
	Table    string   `json:"table" jsonschema_description:"ID of the table."`
	Values   []uint16 `json:"values" jsonschema_description:"For each dimension of the table, in order, the index of this case's value."`
	Rule     string   `json:"rule" jsonschema_description:"Name of the rule that decides the case."`
	Expected Expected `json:"expected"`
	Results  []Result `json:"results" jsonschema_description:"One for each run that planned the case, sorted by run."`
}

// Expected is what a table says must be observed.
type Expected struct {
	Outcome    Outcome `json:"outcome" jsonschema:"enum=injected,enum=untouched,enum=denied,enum=failed,enum=rejected"`
	Code       int     `json:"code,omitempty" jsonschema_description:"HTTP status of the refusal, where the table says one."`
	Reason     string  `json:"reason,omitempty"`
	Message    string  `json:"message,omitempty" jsonschema_description:"What the message must contain."`
	FailedOpen bool    `json:"failedOpen,omitempty" jsonschema_description:"The call to the webhook fails and is passed over."`
	Attempted  string  `json:"attempted,omitempty" jsonschema_description:"How often the API server must try to call the webhook, for example 0, 1, or >=1."`
	Received   string  `json:"received,omitempty" jsonschema_description:"How often the tap must see a call."`
}

// Observed is what a run saw.
type Observed struct {
	Outcome    Outcome `json:"outcome,omitempty" jsonschema:"enum=injected,enum=untouched,enum=denied,enum=failed,enum=rejected,enum=altered,enum=" jsonschema_description:"Absent when nothing was observed."`
	Code       int     `json:"code,omitempty"`
	Reason     string  `json:"reason,omitempty"`
	Message    string  `json:"message,omitempty"`
	FailedOpen bool    `json:"failedOpen,omitempty"`
	Digest     string  `json:"digest,omitempty" jsonschema_description:"Short digest of what the target's patches did to the object, equal for equal changes; none if they changed nothing; varying if the tries differ; absent where the run computes no digests."`
}

// An Effect is what the patches of a case did to its object. Many cases have the same.
type Effect struct {
	Digest  string   `json:"digest"`
	Changes []string `json:"changes" jsonschema_description:"The name of a webhook, then what it did, a line for each place: its JSON pointer (with an element's name for its index), then \" = \" and the new value, or \" goes\"."`
}

// Varying is the digest of a case whose tries differ in what the target did to the object.
const Varying = "varying"

// A Result is where a case and a run meet. Strings that many results share should be the same string in memory; a
// [Builder] and [Read] see to that.
type Result struct {
	Run         int           `json:"run" jsonschema:"minimum=0" jsonschema_description:"Index into runs."`
	Status      Status        `json:"status" jsonschema:"enum=pass,enum=fail,enum=flaky,enum=not-run,enum=error"`
	Rule        string        `json:"rule,omitempty" jsonschema_description:"The rule that decides in this run, where it is not the case's."`
	Expected    *Expected     `json:"expected,omitempty" jsonschema_description:"What is expected in this run, where it is not the case's; outcomes may differ by Kubernetes version."`
	Observed    Observed      `json:"observed,omitzero"`
	Attempted   int           `json:"attempted,omitempty" jsonschema:"minimum=-1" jsonschema_description:"How often the API server tried to call the webhook, from audit annotations; -1 when the lane cannot tell."`
	Received    int           `json:"received,omitempty" jsonschema:"minimum=-1" jsonschema_description:"How often the tap saw the call; -1 when there is no tap."`
	Latency     time.Duration `json:"latencyNanos,omitempty" jsonschema:"minimum=0" jsonschema_description:"Of the creation as the client saw it, in nanoseconds, rounded to microseconds; with several tries the longest."`
	Recovery    time.Duration `json:"recoveryNanos,omitempty" jsonschema:"minimum=0" jsonschema_description:"Scenarios: from the cure to the first creation that went well."`
	Nudged      time.Duration `json:"nudgedNanos,omitempty" jsonschema:"minimum=0" jsonschema_description:"Scenarios: from the cure to the pod of a controller that was nudged, where one was; with several tries the longest (since 1.4)."`
	Held        time.Duration `json:"heldNanos,omitempty" jsonschema:"minimum=0" jsonschema_description:"Scenarios: from asking for a change until it held for every client that created pods meanwhile; with several tries the longest."`
	Tries       int           `json:"tries,omitempty" jsonschema:"minimum=0" jsonschema_description:"How often the case was tried; absent means once."`
	Quarantined bool          `json:"quarantined,omitempty" jsonschema_description:"The result does not count: an entry of the quarantine matches the case."`
	Why         string        `json:"why,omitempty" jsonschema_description:"One sentence: what was wrong, or for not-run which feature is missing."`
	Patch       string        `json:"patch,omitempty" jsonschema_description:"The webhook's JSON patch; failing cases, or on demand."`
	Review      string        `json:"review,omitempty" jsonschema_description:"The AdmissionReview that was sent; failing cases, or on demand."`
	Timeline    []Moment      `json:"timeline,omitempty" jsonschema_description:"Scenarios: what was seen when."`
	Artefacts   []string      `json:"artefacts,omitempty" jsonschema_description:"Files collected for this case, relative to the report."`
	Rerun       string        `json:"rerun,omitempty" jsonschema_description:"The command that reruns just this case, where the run's pattern does not do."`
}

// A Moment is one observation within a scenario.
type Moment struct {
	At      time.Duration `json:"atNanos" jsonschema:"minimum=0" jsonschema_description:"Since the scenario's start."`
	What    string        `json:"what"`
	Outcome Outcome       `json:"outcome,omitempty"`
	// The following are of a step's end (since 1.1).
	Step     string        `json:"step,omitempty" jsonschema_description:"Name of the step in the table's course."`
	Rule     string        `json:"rule,omitempty" jsonschema_description:"Name of the rule that decides the step."`
	Expected Outcome       `json:"expected,omitempty"`
	Message  string        `json:"message,omitempty" jsonschema_description:"Of the refusal that was observed."`
	Recovery time.Duration `json:"recoveryNanos,omitempty" jsonschema:"minimum=0" jsonschema_description:"How long after the last change there was a pod."`
	Held     time.Duration `json:"heldNanos,omitempty" jsonschema:"minimum=0" jsonschema_description:"From asking for the change until it held for every client that created pods meanwhile."`
	Why      string        `json:"why,omitempty" jsonschema_description:"In what the step differs from its rule."`
}

// Expectation is what was expected of a case in one of its results, and by which rule.
func (c *Case) Expectation(r *Result) (rule string, e Expected) {
	rule, e = c.Rule, c.Expected
	if r.Rule != "" {
		rule = r.Rule
	}
	if r.Expected != nil {
		e = *r.Expected
	}
	return rule, e
}

// Result gives the case's result in the run of that index, or nil when that run did not plan the case.
func (c *Case) Result(run int) *Result {
	for i := range c.Results {
		if c.Results[i].Run == run {
			return &c.Results[i]
		}
	}
	return nil
}

// evidence is the folder of the result's artefacts, or the one file; empty for none.
func (r *Result) evidence() string {
	switch len(r.Artefacts) {
	case 0:
		return ""
	case 1:
		return r.Artefacts[0]
	}
	return path.Dir(r.Artefacts[0]) + "/"
}

// Rebase makes artefacts that are named relative to one folder relative to another, for a report that moves there. Both
// folders are relative to the same, or absolute. What has no way from there stays as it is.
func (r *Report) Rebase(from, to string) {
	rebase := func(names []string) {
		for k, name := range names {
			if rel, err := filepath.Rel(to, filepath.Join(from, filepath.FromSlash(name))); err == nil {
				names[k] = filepath.ToSlash(rel)
			}
		}
	}
	for i := range r.Runs {
		rebase(r.Runs[i].Artefacts)
	}
	for i := range r.Cases {
		for j := range r.Cases[i].Results {
			rebase(r.Cases[i].Results[j].Artefacts)
		}
	}
}

// Combination is the case's ID without its table: policy=disabled,annotation=true.
func (c *Case) Combination() string {
	return strings.TrimPrefix(strings.TrimPrefix(c.ID, c.Table), "/")
}

// timeOf is how long the run was busy with a table, as text; a dash where it does not say.
func (r *Run) timeOf(table string) string {
	for _, t := range r.Times {
		if t.Table == table {
			return short(t.Duration)
		}
	}
	return "-"
}

// phaseText is the run's phases in one line, without those that took no time, and then those that went on beside others;
// empty for none.
func (r *Run) phaseText() string {
	var parts, beside []string
	for _, p := range r.Phases {
		if p.Duration < time.Millisecond {
			continue
		}
		said := p.Name + " " + short(p.Duration)
		if p.Beside {
			beside = append(beside, said)
		} else {
			parts = append(parts, said)
		}
	}
	if len(beside) == 0 {
		return strings.Join(parts, ", ")
	}
	return strings.Join(parts, ", ") + "; beside them " + strings.Join(beside, ", ")
}

// Table gives the table of that ID, or nil.
func (r *Report) Table(id string) *Table {
	for i := range r.Tables {
		if r.Tables[i].ID == id {
			return &r.Tables[i]
		}
	}
	return nil
}

// Rule gives the table's rule of that name, or nil.
func (t *Table) Rule(name string) *Rule {
	for i := range t.Rules {
		if t.Rules[i].Name == name {
			return &t.Rules[i]
		}
	}
	return nil
}

// Forgiven says whether the result does not count because of the quarantine. Older reports mark errors too; those count.
func (r *Result) Forgiven() bool { return r.Quarantined && r.Status.mayBeForgiven() }

// RerunCommand is the command that reruns just this case in that run; empty when the run names none.
func (r *Report) RerunCommand(c *Case, res *Result) string {
	if res.Rerun != "" {
		return res.Rerun
	}
	return strings.ReplaceAll(r.Runs[res.Run].Rerun, "{case}", shellQuote(c.ID))
}

// shellQuote makes s one word for a POSIX shell.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
