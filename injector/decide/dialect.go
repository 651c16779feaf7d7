// SPDX-License-Identifier: Apache-2.0

package decide

import "slices"

// Dialect is how one family of injectors reads a pod. A dialect is a value: a further one is a further declaration
// below, never a branch in the procedure.
type Dialect struct {
	// Name is what a configuration calls the dialect.
	Name string
	// AnnotationKey is the pod annotation that says yes or no.
	AnnotationKey string
	// LabelKey is a pod label that takes the annotation's place when it is present, even with an empty value. Empty:
	// labels say nothing.
	LabelKey string
	// Yes and No are the words that say so.
	Yes, No []string
	// FoldCase makes upper and lower case of these words equal.
	FoldCase bool
	// OtherWord is what a value means that is neither in Yes nor in No, nor empty.
	OtherWord OtherWord
	// IgnoredNamespaces is where nothing is ever injected, unless the settings name other namespaces.
	IgnoredNamespaces []string
	// Policy is the default policy where the settings name none.
	Policy string
	// StatusKey is the annotation that marks what was injected.
	StatusKey string
	// Own is what becomes of a pod's own container, or volume, of the sidecar's name.
	Own Own
}

// OtherWord is what a dialect takes an unknown word for.
type OtherWord int

// What an unknown word can mean.
const (
	MeansNo OtherWord = iota // as if it were a no
	GoesOn                   // as if there were none, with a warning
)

// Own is what becomes of a pod's own container of the sidecar's name: one that no status annotation claims.
type Own int

// What can become of the pod's own.
const (
	Replace    Own = iota // the template's takes its place
	KeepFields            // the fields that it has stay, the template gives the others
)

const (
	istioInject = "sidecar.istio.io/inject"
	istioStatus = "sidecar.istio.io/status"
)

// Dialects are the dialects that exist, in the order in which they are shown.
//
// Sources: pkg/kube/inject (injectRequired) of istio/istio, release-1.1 to release-1.8 for istio-classic, release-1.27
// for istio; the sidecar-injector.istio.io configuration of a KubeSphere installation for kubesphere.
var Dialects = []Dialect{
	{
		Name:              "istio-classic",
		AnnotationKey:     istioInject,
		Yes:               []string{"y", "yes", "true", "on"},
		FoldCase:          true,
		OtherWord:         MeansNo,
		IgnoredNamespaces: []string{"kube-system", "kube-public"},
		Policy:            Enabled,
		StatusKey:         istioStatus,
		Own:               Replace,
	},
	{
		Name:              "kubesphere",
		AnnotationKey:     istioInject,
		Yes:               []string{"y", "yes", "true", "on"},
		FoldCase:          true,
		OtherWord:         MeansNo,
		IgnoredNamespaces: []string{"kube-system", "kube-public"},
		Policy:            Disabled, // the console writes the annotation on the pods that want a sidecar
		StatusKey:         istioStatus,
		Own:               Replace,
	},
	{
		Name:              "istio",
		AnnotationKey:     istioInject,
		LabelKey:          istioInject,
		Yes:               []string{"true"},
		No:                []string{"false"},
		OtherWord:         GoesOn,
		IgnoredNamespaces: []string{"kube-system", "kube-public", "kube-node-lease", "local-path-storage"},
		Policy:            Enabled,
		StatusKey:         istioStatus,
		Own:               KeepFields,
	},
}

// DialectNamed returns the dialect of a name.
func DialectNamed(name string) (Dialect, bool) {
	i := slices.IndexFunc(Dialects, func(d Dialect) bool { return d.Name == name })
	if i < 0 {
		return Dialect{}, false
	}
	return Dialects[i], true
}

// DialectNames returns the names of all dialects, in the order of Dialects.
func DialectNames() []string {
	var names []string
	for _, d := range Dialects {
		names = append(names, d.Name)
	}
	return names
}
