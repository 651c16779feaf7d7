// SPDX-License-Identifier: Apache-2.0

// Package table is the oracle: it loads the tables that state what must happen, proves each complete, enumerates
// their cases and looks up the outcome that each must have.
//
// A table is the full product of its dimensions. Each value of a dimension is an overlay (an RFC 7386 merge patch) on
// the documents a case is made of: the namespace, the pod, the workload, the webhook configuration, the injector's
// settings. Rules are tried in order and the first whose `when` holds decides. A table is refused unless every
// combination meets a rule and every rule decides at least one combination.
//
// The package knows nothing of clusters, and it never calls an injector's code: an oracle that shared code with what
// it judges would share its mistakes.
package table

// The schema lines that the first field of each file must hold.
const (
	TableSchema   = "outrigger.dev/table/v1alpha1"
	ProfileSchema = "outrigger.dev/profile/v1alpha1"
)

// A Profile is one dialect of injection: what all its tables start from.
type Profile struct {
	Schema string `yaml:"schema" json:"schema" jsonschema:"enum=outrigger.dev/profile/v1alpha1"`
	// Name is the first part of every case's ID.
	Name  Word   `yaml:"profile" json:"profile"`
	Title string `yaml:"title" json:"title"`
	// Source says where the dialect is described.
	Source string `yaml:"source" json:"source"`
	// Sidecar says how an injection is recognised, and what it may add to a pod.
	Sidecar Sidecar `yaml:"sidecar" json:"sidecar"`
	// Webhooks are the webhook configurations as the injector's users install them, without clientConfig, which the
	// harness fills in.
	Webhooks []WebhookConfiguration `yaml:"webhooks" json:"webhooks"`
	// Base is what every case of the profile starts from, under the overlays of its table and its values.
	Base Documents `yaml:"base" json:"base"`

	File string `yaml:"-" json:"-"`
	raw  []byte // the file, which the digest of each of its tables covers
}

// Sidecar says what the injector of a profile adds to a pod. Everything else of a pod must stay as it was submitted.
type Sidecar struct {
	// Containers are the names of which one, in containers or initContainers, must be there that was not submitted, or
	// was changed, for a pod to count as injected.
	Containers []string `yaml:"containers" json:"containers"`
	// Adds names all that the injector may add or replace.
	Adds Added `yaml:"adds" json:"adds"`
}

// Added names what an injection may add to a pod, or replace in it.
type Added struct {
	Containers       []string `yaml:"containers" json:"containers,omitempty"`
	InitContainers   []string `yaml:"initContainers" json:"initContainers,omitempty"`
	Volumes          []string `yaml:"volumes" json:"volumes,omitempty"`
	Annotations      []string `yaml:"annotations" json:"annotations,omitempty"`
	Labels           []string `yaml:"labels" json:"labels,omitempty"`
	ImagePullSecrets []string `yaml:"imagePullSecrets" json:"imagePullSecrets,omitempty"`
}

// WebhookConfiguration is a MutatingWebhookConfiguration, or a validating one: its name, and its webhooks without
// clientConfig.
type WebhookConfiguration struct {
	Name string `yaml:"name" json:"name"`
	// Validating makes it a ValidatingWebhookConfiguration.
	Validating bool      `yaml:"validating" json:"validating,omitempty"`
	Webhooks   []Overlay `yaml:"webhooks" json:"webhooks"`
}

// Documents are the parts a case is made of. As a base they are the documents themselves, as a value's they are merge
// patches (RFC 7386: null deletes, lists are replaced whole) on what was there before.
type Documents struct {
	// Namespace is the namespace of the pod. Without metadata.name the harness names it.
	Namespace Overlay `yaml:"namespace" json:"namespace,omitempty"`
	// Pod is the pod, or the pod template of a workload.
	Pod Overlay `yaml:"pod" json:"pod,omitempty"`
	// Workload is what makes the pod: apiVersion and kind, and what of its metadata and spec is the case's. Without it
	// the pod is created itself.
	Workload Overlay `yaml:"workload" json:"workload,omitempty"`
	// Webhook is laid over every webhook of the case's configurations. `rule` in it is rules with this one alone: values of
	// several dimensions may each lay a field over it, as they cannot over a list.
	Webhook Overlay `yaml:"webhook" json:"webhook,omitempty"`
	// Webhooks says which webhook configurations there are: by name of the configuration, then by name of the webhook,
	// what is laid over the webhook. It lies over the profile's own; null takes a configuration or a webhook away. One
	// that the profile does not have is the profile's first webhook with the overlay laid over it. Configurations are
	// called in the order of their names; within one, webhooks stand in the profile's order, then by name, unless
	// `order: [NAME, …]` beside them says otherwise. `validating: true` beside them makes the configuration a validating
	// one; of calls to its webhooks the API server's audit annotations say nothing but that one failed open.
	Webhooks Overlay `yaml:"webhooks" json:"webhooks,omitempty"`
	// Services are Services that there are while the case runs: by name, the Service (metadata.namespace, spec). A webhook
	// with `clientConfig: {service: …}` in its overlay is called by it, and not at the tap. Nothing stands behind it, unless
	// `behind: tap` beside its spec says so: then it works, with one port, for the one webhook that is called by it. (A
	// webhook with `clientConfig: {url: "https://injector…"}` is called by that url, its port and path as they are written,
	// or left out; in the place of the host injector stands an address of the tap's.)
	Services Overlay `yaml:"services" json:"services,omitempty"`
	// Objects are what there is besides while the case runs, made before any webhook is: by name, an [Object]. What they
	// govern should be a namespace of their own: only of those with a witness (`until`) is waited for, until the API server
	// has forgotten them.
	Objects Overlay `yaml:"objects" json:"objects,omitempty"`
	// Mutators are webhooks that the harness itself answers, always with yes and the same JSON patch (RFC 6902): by name
	// of the webhook, the list of its operations; an empty list is no patch. All others are the target's.
	Mutators Overlay `yaml:"mutators" json:"mutators,omitempty"`
	// Apply makes the case about a webhook configuration of its own: what is tried is to apply it, by dry run, and not to
	// create the pod. It is the MutatingWebhookConfiguration (or, where its kind says so, the validating one), but for its name, and that `webhooks` is a mapping whose
	// values, in the order of their keys, are the list. Nothing checks it before the API server does.
	Apply Overlay `yaml:"apply" json:"apply,omitempty"`
	// Settings are the injector's, in the profile's own words; a Target says how they reach the injector.
	Settings Overlay `yaml:"settings" json:"settings,omitempty"`
	// Wire is what goes wrong between the API server and the target: `fault`, the name of one of the tap's faults, and
	// its parameters beside it. Without it the API server calls over HTTP/2, as it does over loopback. `webhooks: [NAME, …]`
	// beside it has it go wrong for these alone; left out, for all but the mutators. `caBundle` says what the webhooks'
	// caBundle is where it is not the right one: none, other (another authority's), both (the
	// other's, then the right one), heir (the right one, then its successor), cluster (the cluster's own).
	Wire Overlay `yaml:"wire" json:"wire,omitempty"`
	// Request is what is asked of the API server, where it is not the creation of the pod or of the workload: a [Request].
	Request Overlay `yaml:"request" json:"request,omitempty"`
}

// Sections of Documents, in the order in which they are shown.
func (d *Documents) sections() []section {
	return []section{
		{"namespace", d.Namespace}, {"pod", d.Pod}, {"workload", d.Workload},
		{"webhook", d.Webhook}, {"webhooks", d.Webhooks}, {"services", d.Services}, {"objects", d.Objects},
		{"mutators", d.Mutators}, {"apply", d.Apply}, {"settings", d.Settings}, {"wire", d.Wire}, {"request", d.Request},
	}
}

type section struct {
	name    string
	overlay Overlay
}

// A Table is a set of dimensions and the rules that say, for each combination of their values, what must happen.
type Table struct {
	Schema  string `yaml:"schema" json:"schema" jsonschema:"enum=outrigger.dev/table/v1alpha1"`
	Profile Word   `yaml:"profile" json:"profile"`
	Name    Word   `yaml:"table" json:"table"`
	Title   string `yaml:"title" json:"title"`
	// Source says where what the table states is described; a rule may name its own.
	Source string `yaml:"source" json:"source"`
	// Needs names the features a lane must have to run any case of the table; kubernetes-1.36 is that version or a newer one.
	Needs []Word `yaml:"needs" json:"needs,omitempty"`
	// Base lies over the profile's base.
	Base       Documents   `yaml:"base" json:"base,omitempty"`
	Dimensions []Dimension `yaml:"dimensions" json:"dimensions"`
	// Course makes each case a scenario: its steps, one after the other. Left out, a case is one request. Each step of a
	// case is decided by the first rule whose `when` holds and whose `then` speaks of the step.
	Course []Step `yaml:"course" json:"course,omitempty"`
	// Alone has each case take the course by itself: not with others that need the same changes, and for which it would
	// have to wait at each step. For cases that are about time.
	Alone bool `yaml:"alone" json:"alone,omitempty"`
	// Waits says that the cases wait for timeouts more than they keep anybody busy: many more than otherwise run side by side.
	Waits bool `yaml:"waits" json:"waits,omitempty"`
	// Isolate has arrangements of the table stand in the cluster side by side, which takes less time where a lane has a real
	// API server: the webhooks of each then are limited to its own namespaces, by one more label that their namespaceSelector
	// wants. Where they wait, for timeouts or for controllers, they stand there aside, while arrangements of other tables come
	// and go. With Alone, or with controllers, each stands by itself, if perhaps aside. It is not for namespaces whose names
	// are given, nor for requests about objects outside namespaces.
	Isolate bool `yaml:"isolate" json:"isolate,omitempty"`
	// Excluded are combinations that cannot be, each with its reason.
	Excluded []Exclusion `yaml:"excluded" json:"excluded,omitempty"`
	// Rules are tried in order; the first that holds decides.
	Rules []*Rule `yaml:"rules" json:"rules"`
	// View says which dimensions a picture of the table shows first, the others folded; left out, the report chooses.
	View View `yaml:"view" json:"view,omitempty"`

	File    string   `yaml:"-" json:"-"`
	profile *Profile // whose base the table's lies on
	digest  string
	total   int   // of the full product
	strides []int // strides[i]: how many combinations one step of dimension i spans
	decides []int // per rule: how many combinations it decides where every `given` holds
	barred  []int // per exclusion: how many combinations it excludes

	ruleMasks, excludedMasks []mask
}

// A View names the dimensions of a picture's rows and columns.
type View struct {
	Rows    []Word `yaml:"rows" json:"rows,omitempty"`
	Columns []Word `yaml:"columns" json:"columns,omitempty"`
	// Step is the step of the course whose outcome is shown. Default: the last that makes a request.
	Step Word `yaml:"step" json:"step,omitempty"`
}

// A Dimension is one axis of a table.
type Dimension struct {
	Name   Word    `yaml:"dimension" json:"dimension"`
	Title  string  `yaml:"title" json:"title,omitempty"`
	Values []Value `yaml:"values" json:"values"`
}

// A Value is one place on an axis: its slug, and what it lays over the case's documents.
type Value struct {
	Slug      Word   `yaml:"value" json:"value"`
	Title     string `yaml:"title" json:"title,omitempty"`
	Documents `yaml:",inline"`
	// At is what the value does at steps of the course, by their names.
	At At `yaml:"at" json:"at,omitempty"`
	// Needs names features that only the cases with this value need.
	Needs []Word `yaml:"needs" json:"needs,omitempty"`

	Line int `yaml:"-" json:"-"`
}

// When names values of dimensions: it holds where, for each dimension it names, the case has one of the values. A star in
// a name stands for any letters: `update.*` names every value that begins so.
type When map[Word]Words

// A Rule is one row: when these values, then this outcome, because of this sentence.
type Rule struct {
	Name Word `yaml:"rule" json:"rule"`
	// When may be left out: the rule then holds for every combination that reaches it.
	When When `yaml:"when" json:"when,omitempty"`
	// Given names facts of the run that must hold too: a rule whose given does not hold is passed over.
	Given Given `yaml:"given" json:"given,omitempty"`
	Then  Then  `yaml:"then" json:"then"`
	// Because is the reason in one sentence, in words that a user of the injector understands.
	Because string `yaml:"because" json:"because"`
	Source  string `yaml:"source" json:"source,omitempty"`
	// Catalogue names rows of the failure catalogue (what users of real injectors ran into) that the rule answers.
	Catalogue []int `yaml:"catalogue" json:"catalogue,omitempty"`

	Line int `yaml:"-" json:"-"`
}

// Given are facts of the run. Each that is named must hold.
type Given struct {
	// Kubernetes is a range of versions: ">= 1.34", "< 1.36".
	Kubernetes string `yaml:"kubernetes" json:"kubernetes,omitempty"`
	// Routing is how the API server reaches Services.
	Routing string `yaml:"routing" json:"routing,omitempty" jsonschema:"enum=clusterip,enum=endpoints"`
	// Feature is one that the lane must have.
	Feature Word `yaml:"feature" json:"feature,omitempty"`
	// Lacks is one that the lane must not have.
	Lacks Word `yaml:"lacks" json:"lacks,omitempty"`
}

// An Exclusion says which combinations cannot be, and why.
type Exclusion struct {
	When    When   `yaml:"when" json:"when"`
	Because string `yaml:"because" json:"because"`

	Line int `yaml:"-" json:"-"`
}

// Outcome is what must be observed.
type Outcome string

// The outcomes. Altered is never expected: it is what is said of a pod that the webhook changed without giving it the
// sidecar.
const (
	Injected  Outcome = "injected"
	Untouched Outcome = "untouched"
	Denied    Outcome = "denied"
	Failed    Outcome = "failed"
	Rejected  Outcome = "rejected"
	Altered   Outcome = "altered"
	Accepted  Outcome = "accepted" // of a change of the cluster, at a step of a course
	// Unchanged is of a step that is to change the cluster and, in this case, changes nothing: nobody was asked.
	Unchanged Outcome = "unchanged"
)

// Outcomes that a rule may expect, in the order in which they are shown.
var Outcomes = []Outcome{Injected, Untouched, Denied, Failed, Rejected}

// Then is what must be observed. In a file it is a mapping, or, where the outcome is all there is to say, its word; in a
// table with a course a mapping of steps to one or the other.
type Then struct {
	// Course is what must be observed at steps, by their names; of steps that it does not name, another rule speaks.
	Course map[Word]*Then `yaml:"-" json:"-"`

	Outcome Outcome `yaml:"outcome" json:"outcome" jsonschema:"enum=injected,enum=untouched,enum=denied,enum=failed,enum=rejected,enum=accepted,enum=unchanged"`
	// Calls says how many calls to webhooks the API server must attempt and the tap must receive: a number is of all
	// webhooks together, a mapping of each webhook by its name, and never of those it does not name. Left out, any.
	Calls *Calls `yaml:"calls" json:"calls,omitempty"`
	// Attempted and Received say the same of either side, where they differ: a call may never arrive, or be made again by
	// the API server's client.
	Attempted *int `yaml:"attempted" json:"attempted,omitempty"`
	Received  *int `yaml:"received" json:"received,omitempty"`
	// Called is the webhooks' names, call by call, in the order in which they must be called, both rounds.
	Called []string `yaml:"called" json:"called,omitempty"`
	// Review is the apiVersion that every review must have, and every answer of the target.
	Review string `yaml:"review" json:"review,omitempty"`
	// Path is what every call that the tap received must have asked for: the path of the webhook's Service, or of its url.
	Path string `yaml:"path" json:"path,omitempty"`
	// Asked is what must be found in the request of every review that the tap received, as in `operation: UPDATE`.
	Asked Overlay `yaml:"asked" json:"asked,omitempty"`
	// Code, Reason and Message are of the refusal; Message need only occur in it, of a list each part.
	Code    int    `yaml:"code" json:"code,omitempty"`
	Reason  string `yaml:"reason" json:"reason,omitempty"`
	Message Parts  `yaml:"message" json:"message,omitempty"`
	// Details is what must be found in the refusal's details, as in `causes`.
	Details Overlay `yaml:"details" json:"details,omitempty"`
	// FailedOpen says that a call failed and was passed over.
	FailedOpen bool `yaml:"failedOpen" json:"failedOpen,omitempty"`
	// Warning must occur in a warning that the client gets.
	Warning string `yaml:"warning" json:"warning,omitempty"`
	// Events must occur in a Warning event about the workload whose pods were refused; of a list all parts in the same one.
	Events Parts `yaml:"events" json:"events,omitempty"`
	// Condition is the type of a condition that must be True in the status of that workload: ReplicaFailure.
	Condition string `yaml:"condition" json:"condition,omitempty"`
	// Within bounds how long after the last change of the course the pod is there: 30s. It is time as the user has it, the
	// controllers' back-off included.
	Within string `yaml:"within" json:"within,omitempty"`
	// Sooner names another step whose pod must have come later after the change.
	Sooner Word `yaml:"sooner" json:"sooner,omitempty"`
	// Pod is what must be found in the pod as the webhook left it; lists of things with names are matched by name.
	Pod Overlay `yaml:"pod" json:"pod,omitempty"`
	// Object is what must be found in the object of the API server's answer: what Apply asked for, or Request, as it would
	// be stored.
	Object Overlay `yaml:"object" json:"object,omitempty"`
	// Order is the exact order of the names in lists of the pod's spec.
	Order map[string][]string `yaml:"order" json:"order,omitempty"`
	// Absent names what must not be in the pod, as JSON pointers; a name stands for an index.
	Absent []string `yaml:"absent" json:"absent,omitempty"`
}
