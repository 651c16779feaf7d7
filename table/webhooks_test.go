// SPDX-License-Identifier: Apache-2.0

package table_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/outrigger-k8s/outrigger/table"
)

const severalProfile = `schema: outrigger.dev/profile/v1alpha1
profile: p
title: t
source: s
sidecar: {containers: [proxy]}
webhooks:
  - name: main
    webhooks: [{name: z.example.com, timeoutSeconds: 7}, {name: a.example.com, timeoutSeconds: 8}]
base: {pod: {spec: {containers: [{name: app, image: i}]}}}
`

// configurationsOf loads a table of one case, whose one value is value, and says which webhook configurations that has.
func configurationsOf(t *testing.T, value string) (string, error) {
	t.Helper()
	text := fmt.Sprintf(`schema: outrigger.dev/table/v1alpha1
profile: p
table: t
title: t
source: s
dimensions:
  - dimension: d
    values:
      - {value: v%s}
rules:
  - rule: r
    then: {outcome: untouched, calls: {a.example.com: 1, z.example.com: 2}, called: [a.example.com]}
    because: b
`, value)
	set, err := table.Load(fstest.MapFS{"p/profile.yaml": {Data: []byte(severalProfile)}, "p/t.yaml": {Data: []byte(text)}}, "")
	if err != nil {
		return "", err
	}
	for c := range set.Tables[0].Cases() {
		list, err := c.Configurations()
		if err != nil {
			t.Fatal(err)
		}
		if calls := c.Rule(table.Facts{}).Then.Calls; calls.Sum != 3 || calls.String() != "a.example.com 1, z.example.com 2" {
			t.Errorf("calls are %+v (%s)", calls, calls)
		}
		raw, err := json.Marshal(list)
		return string(raw), err
	}
	panic("no case")
}

func TestConfigurations(t *testing.T) {
	const z, a = `{"name":"z.example.com","timeoutSeconds":7}`, `{"name":"a.example.com","timeoutSeconds":8}`
	for _, row := range []struct{ name, value, want string }{
		{"the profile's", "", `[{"name":"main","webhooks":[` + z + `,` + a + `]}]`},
		{"over every one", ", webhook: {timeoutSeconds: 1}", `[{"name":"main","webhooks":[{"name":"z.example.com","timeoutSeconds":1},{"name":"a.example.com","timeoutSeconds":1}]}]`},
		{"over one", ", webhooks: {main: {a.example.com: {timeoutSeconds: 1}}}", `[{"name":"main","webhooks":[` + z + `,{"name":"a.example.com","timeoutSeconds":1}]}]`},
		{"one taken away", ", webhooks: {main: {z.example.com: null}}", `[{"name":"main","webhooks":[` + a + `]}]`},
		{"all taken away", ", webhooks: {main: null}", `null`},
		{"none in it", ", webhooks: {main: {z.example.com: null, a.example.com: null}}", `[{"name":"main","webhooks":null}]`},
		{"another behind the profile's", ", webhooks: {main: {b.example.com: {}}}", `[{"name":"main","webhooks":[` + z + `,` + a + `,{"name":"b.example.com","timeoutSeconds":7}]}]`},
		{"another configuration, sorted by name", ", webhooks: {early: {b.example.com: {}}}", `[{"name":"early","webhooks":[{"name":"b.example.com","timeoutSeconds":7}]},{"name":"main","webhooks":[` + z + `,` + a + `]}]`},
		{"a validating one", ", webhooks: {main: null, check: {validating: true, z.example.com: {reinvocationPolicy: Never}}}", `[{"name":"check","validating":true,"webhooks":[` + z + `]}]`},
		{"a validating one no more", ", webhooks: {main: {validating: false}}", `[{"name":"main","webhooks":[` + z + `,` + a + `]}]`},
		{"a rule whose fields are laid one by one", ", webhook: {rule: {operations: [CREATE], resources: [pods]}}, webhooks: {main: {a.example.com: null, z.example.com: {rule: {scope: Cluster}, rules: [{operations: [UPDATE]}]}}}", `[{"name":"main","webhooks":[{"name":"z.example.com","rules":[{"operations":["CREATE"],"resources":["pods"],"scope":"Cluster"}],"timeoutSeconds":7}]}]`},
		{"an order of its own", ", webhooks: {main: {order: [a.example.com, z.example.com]}}", `[{"name":"main","webhooks":[` + a + `,` + z + `]}]`},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got, err := configurationsOf(t, row.value); err != nil || got != row.want {
				t.Errorf("%s (%v)\nexpected %s", got, err, row.want)
			}
		})
	}
}

func TestConfigurationsRefused(t *testing.T) {
	for _, row := range []struct{ name, value, want string }{
		{"an unknown field of a webhook", ", webhooks: {main: {a.example.com: {timeout: 1}}}", `p/t.yaml:9: value "v" of dimension "d": webhooks: configuration main: webhook a.example.com: unknown field "timeout"`},
		{"an unknown field of a rule", ", webhook: {rule: {resource: [pods]}}", `p/t.yaml:9: value "v" of dimension "d": webhook: unknown field "rules[0].resource"`},
		{"a configuration that is a list", ", webhooks: {main: [a.example.com]}", "configuration main: expected a mapping"},
		{"a webhook that is none", ", webhooks: {main: {a.example.com: 1}}", "webhook a.example.com: expected a mapping"},
		{"an order of strangers", ", webhooks: {main: {order: [b.example.com]}}", `order names "b.example.com", which is no webhook of it`},
		{"an order of half of them", ", webhooks: {main: {order: [a.example.com]}}", "order names 1 of 2 webhooks"},
		{"an order that is none", ", webhooks: {main: {order: a.example.com}}", "order is not a list"},
		{"a url of somebody else", `, webhook: {clientConfig: {url: "https://example.com/inject"}}`, `clientConfig: url "https://example.com/inject" does not begin with https://injector`},
		{"a url without TLS", `, webhook: {clientConfig: {url: "http://injector/inject"}}`, `does not begin with https://injector`},
		{"a url that is none", `, webhook: {clientConfig: {url: "https://injector:port"}}`, "invalid port"},
		{"a mutator without a list", ", mutators: {a.example.com: {op: add}}", "mutator a.example.com: expected a list of JSON patch operations"},
		{"a mutator of no operation", ", mutators: {a.example.com: [{op: set, path: /a}]}", "mutator a.example.com: operation 0 is none of a JSON patch"},
		{"a mutator without a path", ", mutators: {a.example.com: [{op: add, path: a}]}", "operation 0 is none of a JSON patch"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := configurationsOf(t, row.value); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v\nexpected one with %s", err, row.want)
			}
		})
	}
}
