// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/table"
)

// A Plan is every case that will be tried, in the order in which it will be, and every case that will not, with the
// reason. It is made before anything runs, and two plans of the same tables, facts and selection are the same.
type Plan struct {
	Facts        Facts
	Tables       []*table.Table
	Arrangements []*PlannedArrangement
	NotRun       []NotRun
}

// A PlannedArrangement is an arrangement with the cases that run under it.
type PlannedArrangement struct {
	Arrangement
	// Course is the arrangement step by step, where the table has a course: each with its cases at that step. The
	// arrangement itself then holds nothing.
	Course []*PlannedArrangement
	Wire   Wire            // whose listener the webhooks are called at
	Backed map[string]bool // Services, by namespace/name, that the tap is to stand behind
	Cases  []*Planned
	// Parts are the arrangements that stand in the cluster side by side as this one, whose cases are theirs. See Together.
	Parts []*PlannedArrangement
	// Aside says that it can be made aside, while other arrangements go on. See Runner.Aside.
	Aside bool

	id       partID // of a part, also where others of the whole are left out
	settings string // that all of its cases want, as JSON; "" where that does not matter. See BySettings.
}

// With is the same arrangement for other cases, which must be among its own.
func (a *PlannedArrangement) With(cases []*Planned) *PlannedArrangement {
	other := *a
	other.Cases, other.Course, other.Parts = cases, nil, nil
	for k, stage := range a.Course {
		var steps []*Planned
		for _, p := range cases {
			steps = append(steps, p.Course[k])
		}
		other.Course = append(other.Course, stage.With(steps))
	}
	for _, part := range a.Parts {
		var own []*Planned
		for _, p := range cases {
			if slices.Contains(part.Cases, p) {
				own = append(own, p)
			}
		}
		if len(own) > 0 {
			other.Parts = append(other.Parts, part.With(own))
		}
	}
	return &other
}

// changesSettings tells whether its course changes the injector's settings.
func (a *PlannedArrangement) changesSettings() bool {
	return slices.ContainsFunc(a.Cases, func(p *Planned) bool {
		return slices.ContainsFunc(p.Course, func(step *Planned) bool { return step.Settings != p.Settings })
	})
}

// expectsEvents tells whether a rule of its cases wants events of their workloads.
func (a *PlannedArrangement) expectsEvents() bool {
	return slices.ContainsFunc(a.Cases, func(p *Planned) bool {
		return slices.ContainsFunc(append(slices.Clone(p.Course), p), func(step *Planned) bool {
			then := step.Then()
			return then != nil && len(then.Events) > 0
		})
	})
}

// Planned is one case with all that is known of it before it runs, or one step of a case.
type Planned struct {
	Case      table.Case
	Key       string
	Rule      *table.Rule
	Namespace string
	Settings  *Settings
	Mutators  Mutators
	Wire      Wire
	// Course is the case at each step of its table's course.
	Course []*Planned
}

// Then is what must be observed of the case; of one with a course, at the step that is shown.
func (p *Planned) Then() *table.Then {
	if c := p.Course; c != nil {
		return c[p.Case.Table.Shown()-1].Then()
	}
	return p.Rule.Then.At(p.Case.Step())
}

// Mutators are the webhooks of a case that the harness answers itself: by name, the JSON patch of their answers.
type Mutators map[string]json.RawMessage

// Settings are one state of the injector's configuration. Cases with the same settings share one.
type Settings struct {
	Document map[string]any
	Cases    int
}

// NotRun is a case that the lane cannot run, and the feature that it lacks.
type NotRun struct {
	Case    table.Case
	Rule    *table.Rule
	Missing string
}

// Selects tells whether a case is to be run.
type Selects func(table.Case) bool

// NewPlan plans the cases of tables that selects wants (nil: all) for a lane of which facts hold. Webhooks are planned
// without clientConfig; Runner fills it in.
func NewPlan(tables []*table.Table, facts Facts, selects Selects) (*Plan, error) {
	p := &Plan{Facts: facts, Tables: tables}
	keys := map[string]string{}
	for _, t := range tables {
		b := &tablePlan{table: t, facts: facts, namespaces: map[int]*corev1.Namespace{}, settings: map[string]*Settings{}, settingsOf: map[int]*Settings{}, mutators: map[int]Mutators{}, wires: map[int]Wire{}, groups: map[group]*PlannedArrangement{}, states: map[string][]int{}}
		for c := range t.Cases() {
			if selects != nil && !selects(c) {
				continue
			}
			rule := c.Rule(facts)
			if rule == nil {
				return nil, fmt.Errorf("plan %s: no rule decides it", c.ID())
			}
			if missing := c.Missing(facts); missing != "" {
				p.NotRun = append(p.NotRun, NotRun{c, rule, missing})
				continue
			}
			key := c.Key()
			if other, taken := keys[key]; taken {
				return nil, fmt.Errorf("plan %s: its key %s is also that of %s: rename a value", c.ID(), key, other)
			}
			keys[key] = c.ID()
			if err := b.add(&Planned{Case: c, Key: key, Rule: rule}); err != nil {
				return nil, fmt.Errorf("plan %s: %w", c.ID(), err)
			}
		}
		p.Arrangements = append(p.Arrangements, b.finish()...)
	}
	return p, nil
}

// Len is the number of cases that will be tried.
func (p *Plan) Len() int {
	n := 0
	for _, a := range p.Arrangements {
		n += len(a.Cases)
	}
	return n
}

// tablePlan groups one table's cases so that as little as possible is rearranged.
type tablePlan struct {
	table      *table.Table
	facts      Facts
	namespaces map[int]*corev1.Namespace // by variant of the document
	states     map[string][]int          // of a namespace whose name is given: the variants seen, in order
	settings   map[string]*Settings      // by contents
	settingsOf map[int]*Settings         // by variant of the document
	mutators   map[int]Mutators          // by variant of the document
	wires      map[int]Wire              // by variant of the document
	groups     map[group]*PlannedArrangement
}

// group is what one arrangement can hold: one state of the webhook configurations, the tap's listener among it, and one
// state of each namespace whose name is given. An ordinary namespace has its state to itself and fits into any.
type group struct {
	webhooks, round int
	listener        string
	alone           int // a case with an arrangement to itself
}

// fill gives a case its settings, its mutators, its wire.
func (b *tablePlan) fill(p *Planned) (err error) {
	c := p.Case
	settings := c.Variant(table.SettingsSection)
	if p.Settings = b.settingsOf[settings]; p.Settings == nil {
		if p.Settings, err = b.sharedSettings(c.Document(table.SettingsSection)); err != nil {
			return err
		}
		b.settingsOf[settings] = p.Settings
	}
	p.Settings.Cases++
	if p.Mutators, err = b.mutatorsOf(c); err != nil {
		return err
	}
	p.Wire, err = b.wireOf(c)
	return err
}

func (b *tablePlan) add(p *Planned) error {
	if len(b.table.Course) > 0 {
		return b.addScenario(p)
	}
	if err := b.fill(p); err != nil {
		return err
	}
	c := p.Case
	var err error
	variant := c.Variant(table.NamespaceSection)
	ns := b.namespaces[variant]
	if ns == nil {
		if ns, err = namespaceOf(c); err != nil {
			return err
		}
		if named(c) {
			b.states[ns.Name] = append(b.states[ns.Name], variant)
		}
		b.namespaces[variant] = ns
	}
	p.Namespace = ns.Name

	g := group{webhooks: c.Variant(table.WebhookSection, table.WebhooksSection, table.ServicesSection, table.ObjectsSection)}
	if states := b.states[ns.Name]; states != nil {
		g.round = slices.Index(states, variant)
	}
	g.listener = p.Wire.listener()
	a := b.groups[g]
	if a == nil {
		a = &PlannedArrangement{Wire: p.Wire}
		a.Name = fmt.Sprintf("%s/%d.%d", b.table.ID(), g.webhooks, g.round)
		if g.listener != "" {
			a.Name += "." + g.listener
		}
		if err := a.addWebhooks(c); err != nil {
			return err
		}
		if err := a.addServices(c); err != nil {
			return err
		}
		b.groups[g] = a
	}
	if err := p.Mutators.among(&a.Arrangement); err != nil {
		return err
	}
	a.addNamespace(ns)
	a.Cases = append(a.Cases, p)
	return nil
}

func (b *tablePlan) finish() []*PlannedArrangement {
	groups := make([]group, 0, len(b.groups))
	for g := range b.groups {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(x, y group) int {
		return cmp.Or(x.webhooks-y.webhooks, x.round-y.round, cmp.Compare(x.listener, y.listener), x.alone-y.alone)
	})
	arrangements := make([]*PlannedArrangement, len(groups))
	for i, g := range groups {
		arrangements[i] = b.groups[g]
		for _, a := range append(arrangements[i].Course, arrangements[i]) {
			slices.SortFunc(a.Namespaces, func(x, y *corev1.Namespace) int { return cmp.Compare(x.Name, y.Name) })
		}
	}
	return arrangements
}

func (b *tablePlan) sharedSettings(doc map[string]any) (*Settings, error) {
	raw, err := json.Marshal(doc) // sorts its keys
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	s := b.settings[string(raw)]
	if s == nil {
		s = &Settings{Document: doc}
		b.settings[string(raw)] = s
	}
	return s, nil
}

// mutatorsOf are the case's mutators, nil if it has none.
func (b *tablePlan) mutatorsOf(c table.Case) (Mutators, error) {
	variant := c.Variant(table.MutatorsSection)
	if m, known := b.mutators[variant]; known {
		return m, nil
	}
	doc := c.Document(table.MutatorsSection)
	var m Mutators
	for name, operations := range doc {
		raw, err := json.Marshal(operations)
		if err != nil {
			return nil, fmt.Errorf("mutator %s: %w", name, err)
		}
		if m == nil {
			m = Mutators{}
		}
		m[name] = raw
	}
	b.mutators[variant] = m
	return m, nil
}

// among makes sure that every mutator is a webhook of the arrangement.
func (m Mutators) among(a *Arrangement) error {
	there := map[string]bool{}
	for _, c := range a.Webhooks {
		for i := range c.Webhooks {
			there[c.Webhooks[i].Name] = true
		}
	}
	for _, c := range a.Validating {
		for i := range c.Webhooks {
			there[c.Webhooks[i].Name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !there[name] {
			return fmt.Errorf("mutator %s is no webhook of the case: name it under webhooks", name)
		}
	}
	return nil
}

// named tells whether the case itself says what its namespace is called.
func named(c table.Case) bool {
	metadata, _ := c.Document(table.NamespaceSection)["metadata"].(map[string]any)
	return metadata["name"] != nil
}

// namespaceOf is the case's namespace. One without a name is called after its contents, so that runs and tables that
// need the same namespace agree on its name.
func namespaceOf(c table.Case) (*corev1.Namespace, error) {
	ns, raw, err := readNamespace(c)
	if err != nil {
		return nil, err
	}
	if ns.Name == "" {
		sum := sha256.Sum256(raw)
		ns.Name = "outrigger-" + hex.EncodeToString(sum[:4])
	}
	return ns, nil
}

// readNamespace is the case's namespace as it is written, and its JSON.
func readNamespace(c table.Case) (*corev1.Namespace, []byte, error) {
	ns := &corev1.Namespace{}
	raw, err := into(c.Document(table.NamespaceSection), ns)
	if err != nil {
		return nil, nil, fmt.Errorf("namespace: %w", err)
	}
	ns.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}
	return ns, raw, nil
}

// addWebhooks adds the case's webhook configurations, without clientConfig.
func (a *Arrangement) addWebhooks(c table.Case) error {
	configurations, err := c.Configurations()
	if err != nil {
		return err
	}
	for _, w := range configurations {
		meta := metav1.ObjectMeta{Name: w.Name}
		if w.Validating {
			configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{
				TypeMeta: registration("ValidatingWebhookConfiguration"), ObjectMeta: meta,
			}
			if configuration.Webhooks, err = webhooksOf[admissionregistrationv1.ValidatingWebhook](w); err != nil {
				return err
			}
			a.Validating = append(a.Validating, configuration)
			continue
		}
		configuration := &admissionregistrationv1.MutatingWebhookConfiguration{
			TypeMeta: registration("MutatingWebhookConfiguration"), ObjectMeta: meta,
		}
		if configuration.Webhooks, err = webhooksOf[admissionregistrationv1.MutatingWebhook](w); err != nil {
			return err
		}
		a.Webhooks = append(a.Webhooks, configuration)
	}
	return nil
}

func registration(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: kind}
}

// webhooksOf are the webhooks of a configuration of either kind.
func webhooksOf[W any](c table.WebhookConfiguration) ([]W, error) {
	var list []W
	for _, doc := range c.Webhooks {
		var webhook W
		if _, err := into(doc, &webhook); err != nil {
			return nil, fmt.Errorf("webhook %s of configuration %s: %w", doc["name"], c.Name, err)
		}
		list = append(list, webhook)
	}
	return list, nil
}

// into decodes a document that the tables have proved well-formed, and returns its JSON.
func into(doc map[string]any, object any) ([]byte, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return raw, json.Unmarshal(raw, object)
}

// Arranged is what cases of a table have alike that can be run in one arrangement, where there is one injector.
func Arranged(c table.Case) string {
	if c.Table.Isolate { // its arrangements stand side by side
		return fmt.Sprint(c.Variant(table.SettingsSection))
	}
	alike := fmt.Sprint(c.Variant(table.WebhookSection, table.WebhooksSection, table.ServicesSection, table.ObjectsSection, table.SettingsSection))
	if named(c) {
		alike += fmt.Sprint("/", c.Variant(table.NamespaceSection))
	}
	return alike
}

// BySettings is the same plan for a target of which there is one: cases that want the same settings come together,
// arrangement by arrangement, so that the settings are changed as rarely as can be.
func (p *Plan) BySettings() *Plan {
	out := &Plan{Facts: p.Facts, Tables: p.Tables, NotRun: p.NotRun}
	byForm := map[string][]*PlannedArrangement{}
	var forms []string // in the order in which they are first wanted
	form := map[*Settings]string{}
	for _, a := range p.Arrangements {
		here := map[string][]*Planned{}
		var wanted []string // of this arrangement's cases
		for _, c := range a.Cases {
			f, known := form[c.Settings]
			if !known {
				raw, err := json.Marshal(c.Settings.Document) // sorts its keys
				if err != nil {
					panic(fmt.Sprintf("settings that were planned by their JSON have none: %v", err))
				}
				f = string(raw)
				form[c.Settings] = f
			}
			if here[f] == nil {
				wanted = append(wanted, f)
			}
			here[f] = append(here[f], c)
		}
		for _, f := range wanted {
			if byForm[f] == nil {
				forms = append(forms, f)
			}
			only := a.With(here[f])
			only.settings = f
			byForm[f] = append(byForm[f], only)
		}
	}
	for _, f := range forms {
		out.Arrangements = append(out.Arrangements, byForm[f]...)
	}
	return out
}

// Only is the plan with the cases that keep wants, in the same order.
func (p *Plan) Only(keep func(*Planned) bool) *Plan {
	out := &Plan{Facts: p.Facts, Tables: p.Tables}
	for _, a := range p.Arrangements {
		var kept []*Planned
		for _, c := range a.Cases {
			if keep(c) {
				kept = append(kept, c)
			}
		}
		if len(kept) > 0 {
			out.Arrangements = append(out.Arrangements, a.With(kept))
		}
	}
	return out
}
