// SPDX-License-Identifier: Apache-2.0

// Package deploy is the reference injector as it is installed in a cluster: manifests for people with kubectl and
// kustomize, and the same manifests for programs, with the order in which they are applied and deleted.
//
// The order matters. A webhook configuration with failurePolicy Fail makes the API server refuse pods while nothing
// answers, so it comes last ([Install]) and goes first ([Uninstall]).
package deploy

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// What the manifests say, and Options change.
const (
	// DefaultNamespace is the injector's namespace, and the name of what belongs to no namespace: its webhook
	// configurations, its ClusterRole and the binding.
	DefaultNamespace = "outrigger-injector"
	// DefaultImage is the injector's image; no registry has it: see make image.
	DefaultImage = "outrigger.dev/injector:devel"
	// DefaultReplicas is how many replicas there are.
	DefaultReplicas = 2
)

// The names in the namespace.
const (
	Name              = "injector" // Deployment, Service, ConfigMap, ServiceAccount, …
	CertificateSecret = "injector-certificates"
	ConfigurationKey  = "config" // in the ConfigMap's data
)

// Label is on everything that is installed, with the value LabelValue, and selects the injector's pods.
const (
	Label      = "app.kubernetes.io/name"
	LabelValue = "outrigger-injector"
)

// Options are what can be installed otherwise. The zero value changes nothing.
type Options struct {
	// Namespace is where the injector is; what has no namespace has its name. So there can be several injectors in a
	// cluster. Default: DefaultNamespace.
	Namespace string
	// Image is the injector's, and that of the stand-ins in the default configuration. Default: DefaultImage.
	Image string
	// Replicas of the Deployment. Default: DefaultReplicas.
	Replicas int
	// Configuration is the injector's (injector/README.md). Default: the one in configuration.yaml.
	Configuration []byte
	// Args are further arguments of "injector serve"; of a flag that is given twice the last counts.
	Args []string
}

// Set is what is installed, in two parts: the webhook configurations come last, and go first.
type Set struct {
	// Injector is everything but the webhook configurations, in an order in which it can be applied.
	Injector []*unstructured.Unstructured
	// Webhooks are the MutatingWebhookConfiguration and the ValidatingWebhookConfiguration, without a caBundle: the
	// injector writes it.
	Webhooks []*unstructured.Unstructured
}

//go:embed *.yaml webhooks/*.yaml
var files embed.FS

// The files of the two kustomizations, in their order.
const (
	injectorKustomization = "kustomization.yaml"
	webhooksKustomization = "webhooks/kustomization.yaml"
)

// Manifests returns what Install installs. An error is about the options.
func Manifests(o Options) (Set, error) {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	if o.Image == "" {
		o.Image = DefaultImage
	}
	if o.Replicas == 0 {
		o.Replicas = DefaultReplicas
	}
	if errs := validation.IsDNS1123Label(o.Namespace); len(errs) > 0 {
		return Set{}, fmt.Errorf("make the injector's manifests: namespace %q: %s", o.Namespace, strings.Join(errs, ", "))
	}
	if o.Replicas < 0 {
		return Set{}, fmt.Errorf("make the injector's manifests: %d replicas: want one at least", o.Replicas)
	}
	injector, err1 := read(injectorKustomization)
	webhooks, err2 := read(webhooksKustomization)
	if err := errors.Join(err1, err2); err != nil {
		return Set{}, fmt.Errorf("read the injector's manifests: %w", err)
	}
	for _, object := range slices.Concat(injector, webhooks) {
		o.apply(object)
	}
	return Set{Injector: injector, Webhooks: webhooks}, nil
}

// read reads the objects of a kustomization.
func read(kustomization string) ([]*unstructured.Unstructured, error) {
	top, err := decode(kustomization)
	if err != nil {
		return nil, err
	}
	paths, found, err := unstructured.NestedStringSlice(top[0].Object, "resources")
	if err != nil {
		return nil, fmt.Errorf("%s: read its resources: %w", kustomization, err)
	}
	if !found {
		return nil, fmt.Errorf("%s: it names no resources", kustomization)
	}
	dir := kustomization[:strings.LastIndex(kustomization, "/")+1]
	var out []*unstructured.Unstructured
	for _, path := range paths {
		objects, err := decode(dir + path)
		if err != nil {
			return nil, err
		}
		out = append(out, objects...)
	}
	return out, nil
}

// decode reads the objects in an embedded file.
func decode(path string) ([]*unstructured.Unstructured, error) {
	text, err := files.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		object := new(unstructured.Unstructured)
		switch err := d.Decode(&object.Object); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(object.Object) > 0 {
			out = append(out, object)
		}
	}
}

// apply changes what the options change.
func (o Options) apply(object *unstructured.Unstructured) {
	replace(object.Object, map[string]string{DefaultNamespace: o.Namespace, DefaultImage: o.Image})
	switch object.GetKind() {
	case "ConfigMap":
		text, _, _ := unstructured.NestedString(object.Object, "data", ConfigurationKey)
		text = strings.ReplaceAll(text, DefaultImage, o.Image)
		if o.Configuration != nil {
			text = string(o.Configuration)
		}
		_ = unstructured.SetNestedField(object.Object, text, "data", ConfigurationKey)
	case "Deployment":
		_ = unstructured.SetNestedField(object.Object, int64(o.Replicas), "spec", "replicas")
		containers, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
		container := containers[0].(map[string]any)
		args, _, _ := unstructured.NestedStringSlice(container, "args")
		_ = unstructured.SetNestedStringSlice(container, slices.Concat(args, o.Args), "args")
		_ = unstructured.SetNestedSlice(object.Object, containers, "spec", "template", "spec", "containers")
	}
}

// replace replaces, anywhere in a value, the strings that are exactly one of those named; but not the value of Label,
// which happens to be the namespace's default name.
func replace(value any, with map[string]string) any {
	switch v := value.(type) {
	case map[string]any:
		for key, element := range v {
			if key != Label {
				v[key] = replace(element, with)
			}
		}
	case []any:
		for i := range v {
			v[i] = replace(v[i], with)
		}
	case string:
		if other, named := with[v]; named {
			return other
		}
	}
	return value
}
