// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/outrigger-k8s/outrigger/table"
)

// addServices adds the case's Services, and the namespaces that they lie in.
func (a *PlannedArrangement) addServices(c table.Case) error {
	doc := c.Document(table.ServicesSection)
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		one, ok := doc[name].(map[string]any)
		if !ok {
			return fmt.Errorf("service %s: it is no mapping", name)
		}
		stands, err := backed(one)
		if err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		one = maps.Clone(one)
		delete(one, table.BehindKey)
		service := &corev1.Service{}
		if _, err := into(one, service); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		if service.Namespace == "" || service.Name != "" {
			return fmt.Errorf("service %s: it needs metadata.namespace, and its name stands before it", name)
		}
		if stands && len(service.Spec.Ports) != 1 {
			return fmt.Errorf("service %s: it has %d ports, and the tap stands behind one", name, len(service.Spec.Ports))
		}
		if stands {
			if a.Backed == nil {
				a.Backed = map[string]bool{}
			}
			a.Backed[service.Namespace+"/"+name] = true
		}
		service.TypeMeta, service.Name = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, name
		a.Services = append(a.Services, service)
		if !slices.ContainsFunc(a.Namespaces, func(ns *corev1.Namespace) bool { return ns.Name == service.Namespace }) {
			a.Namespaces = append(a.Namespaces, &corev1.Namespace{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
				ObjectMeta: metav1.ObjectMeta{Name: service.Namespace},
			})
		}
	}
	slices.SortFunc(a.Services, func(x, y *corev1.Service) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	return nil
}
