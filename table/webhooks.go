// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// Calls is how often webhooks are called.
type Calls struct {
	Sum  int            // of all of them
	Each map[string]int // by webhook, those that are not named never; nil where only the sum is of interest
}

// String is the number, or the number of each webhook in the order of their names.
func (c *Calls) String() string {
	if c.Each == nil {
		return fmt.Sprint(c.Sum)
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c.Each)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, c.Each[name]))
	}
	return strings.Join(parts, ", ")
}

// What may stand among the webhooks of a configuration in the section `webhooks`. Neither can be a webhook: the name of
// one has at least three segments.
const (
	orderKey      = "order"
	validatingKey = "validating"
)

// base is what the tables' section s lies on.
func (p *Profile) base(s Section) map[string]any {
	own := map[string]any(p.Base.section(s))
	if s != WebhooksSection {
		return own
	}
	doc := map[string]any{}
	for _, c := range p.Webhooks {
		webhooks := map[string]any{}
		if c.Validating {
			webhooks[validatingKey] = true
		}
		for _, w := range c.Webhooks {
			if name, ok := w["name"].(string); ok {
				webhooks[name] = map[string]any{}
			}
		}
		doc[c.Name] = webhooks
	}
	return merge(doc, own)
}

// Configurations are the case's webhook configurations, sorted by name, each webhook with all that lies over it; without
// clientConfig.
func (c Case) Configurations() ([]WebhookConfiguration, error) {
	return c.Table.profile.configurations(c.Document(WebhooksSection), c.Document(WebhookSection))
}

func (p *Profile) configurations(webhooks, over map[string]any) ([]WebhookConfiguration, error) {
	var list []WebhookConfiguration
	for _, name := range sortedKeys(webhooks) {
		members, ok := webhooks[name].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("configuration %s: expected a mapping of webhooks' names", name)
		}
		order, err := p.order(name, members)
		if err != nil {
			return nil, fmt.Errorf("configuration %s: %w", name, err)
		}
		configuration := WebhookConfiguration{Name: name}
		if validating, stated := members[validatingKey]; stated {
			if configuration.Validating, ok = validating.(bool); !ok {
				return nil, fmt.Errorf("configuration %s: validating is true or false", name)
			}
		}
		for _, webhook := range order {
			overlay, ok := members[webhook].(map[string]any)
			if !ok {
				return nil, fmt.Errorf("configuration %s: webhook %s: expected a mapping", name, webhook)
			}
			doc := withRule(merge(merge(merge(p.template(name, webhook), overlay), over), map[string]any{"name": webhook}))
			var into any = &admissionregistrationv1.MutatingWebhook{}
			if configuration.Validating { // what it would have of a mutating one that lies under it
				doc = merge(doc, map[string]any{"reinvocationPolicy": nil})
				into = &admissionregistrationv1.ValidatingWebhook{}
			}
			if err := strictly(doc, into); err != nil {
				return nil, fmt.Errorf("configuration %s: webhook %s: %w", name, webhook, err)
			}
			if err := checkURL(doc); err != nil {
				return nil, fmt.Errorf("configuration %s: webhook %s: %w", name, webhook, err)
			}
			configuration.Webhooks = append(configuration.Webhooks, doc)
		}
		list = append(list, configuration)
	}
	return list, nil
}

// How a table says that a webhook is called elsewhere than at the tap's own address.
const (
	BehindKey = "behind" // beside the spec of a Service
	BehindTap = "tap"    // its value

	injectorHost = "injector" // of a webhook's url: stands for an address of the tap's
)

// checkURL makes sure that a url which a webhook states leads to the tap.
func checkURL(webhook map[string]any) error {
	config, _ := webhook["clientConfig"].(map[string]any)
	stated, ok := config["url"].(string)
	if !ok {
		return nil
	}
	at, err := url.Parse(stated)
	if err != nil {
		return fmt.Errorf("clientConfig: %w", err)
	}
	if at.Scheme != "https" || at.Hostname() != injectorHost {
		return fmt.Errorf("clientConfig: url %q does not begin with https://%s: the host stands for an address of the tap's", stated, injectorHost)
	}
	return nil
}

// ruleKey may stand in what lies over a webhook, beside what a webhook has of its own.
const ruleKey = "rule"

// withRule is a webhook's document with its rule, where it has one, as the only one of its rules.
func withRule(doc map[string]any) map[string]any {
	rule, stated := doc[ruleKey]
	if !stated {
		return doc
	}
	return merge(doc, map[string]any{ruleKey: nil, "rules": []any{rule}})
}

// order is the names of a configuration's webhooks, as they stand in it.
func (p *Profile) order(configuration string, members map[string]any) ([]string, error) {
	names := sortedKeys(members)
	names = slices.DeleteFunc(names, func(n string) bool { return n == orderKey || n == validatingKey })
	given, ok := members[orderKey].([]any)
	if !ok {
		if members[orderKey] != nil {
			return nil, fmt.Errorf("order is not a list of webhooks' names")
		}
		own := p.position(configuration)
		slices.SortStableFunc(names, func(a, b string) int { return own(a) - own(b) })
		return names, nil
	}
	var order []string
	for _, x := range given {
		name, _ := x.(string)
		if !slices.Contains(names, name) || slices.Contains(order, name) {
			return nil, fmt.Errorf("order names %q, which is no webhook of it, or named twice", name)
		}
		order = append(order, name)
	}
	if len(order) != len(names) {
		return nil, fmt.Errorf("order names %d of %d webhooks: name all of %s", len(order), len(names), strings.Join(names, ", "))
	}
	return order, nil
}

// position is where a webhook stands in the profile's own configuration; others stand behind all of those.
func (p *Profile) position(configuration string) func(webhook string) int {
	i := slices.IndexFunc(p.Webhooks, func(c WebhookConfiguration) bool { return c.Name == configuration })
	return func(webhook string) int {
		if i < 0 {
			return 0
		}
		own := p.Webhooks[i].Webhooks
		if at := slices.IndexFunc(own, func(w Overlay) bool { return w["name"] == webhook }); at >= 0 {
			return at
		}
		return len(own)
	}
}

// template is the profile's webhook of this name, or its first.
func (p *Profile) template(configuration, webhook string) map[string]any {
	for _, c := range p.Webhooks {
		for _, w := range c.Webhooks {
			if c.Name == configuration && w["name"] == webhook {
				return w
			}
		}
	}
	for _, c := range p.Webhooks {
		for _, w := range c.Webhooks {
			return w
		}
	}
	return nil
}

// checkMutators makes sure that each is a list of operations of a JSON patch.
func checkMutators(mutators map[string]any) error {
	for _, name := range sortedKeys(mutators) {
		if mutators[name] == nil {
			continue // taken away
		}
		operations, ok := mutators[name].([]any)
		if !ok {
			return fmt.Errorf("mutator %s: expected a list of JSON patch operations", name)
		}
		for i, x := range operations {
			operation, _ := x.(map[string]any)
			op, _ := operation["op"].(string)
			path, isText := operation["path"].(string)
			if !slices.Contains(patchOperations, op) || !isText || path != "" && path[0] != '/' {
				return fmt.Errorf("mutator %s: operation %d is none of a JSON patch (RFC 6902): op, path and what goes with them", name, i)
			}
		}
	}
	return nil
}

var patchOperations = []string{"add", "remove", "replace", "move", "copy", "test"}
