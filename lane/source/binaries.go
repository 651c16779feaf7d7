// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Names of the binaries of a control plane.
const (
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Etcd              = "etcd"
)

// DefaultVersion of Kubernetes, without the v.
const DefaultVersion = "1.37.2"

// EtcdVersion is the etcd that goes with every version of Kubernetes here: the API servers of 1.34 to 1.37 work with
// it.
const EtcdVersion = "3.7.3"

// KnownVersions are the versions of Kubernetes that the Go module proxy is known to serve, newest first. There may be
// others.
var KnownVersions = []string{"1.37.2", "1.36.3", "1.36.1", "1.35.4", "1.34.4", "1.34.3", "1.34.2", "1.34.0"}

// Where binaries can come from.
const (
	FromSource = "source"             // built from the source that the Go module proxy serves
	FromAssets = "kubebuilder-assets" // taken from the folder that KUBEBUILDER_ASSETS names
)

// Binaries are programs of Kubernetes, all of one version, and etcd.
type Binaries struct {
	Dir      string // the folder that holds all of them
	Version  string // of Kubernetes, without the v: "1.37.2"
	Provider string // FromSource or FromAssets
}

// Path of one binary.
func (b Binaries) Path(name string) string { return filepath.Join(b.Dir, name) }

// A Command is a program of a Go module, how to build it, and how to see that it was built.
type Command struct {
	Name    string
	Module  string // "github.com/containerd/containerd/v2"; "": Main is all there is
	Version string // of the module, with the v
	Package string // within the module: "cmd/ctr"; "" is its top
	// The main package itself, one file, where the module has none, or where there is no module: then it needs the
	// standard library only, and Version must change whenever it does.
	Main string
	Tags []string
	// Variables to set, "import/path.Name=value", beside those that strip the program.
	Set []string
	// Arguments that make it print its version, and a word that it must print then; nil: it is not tried.
	VersionArgs []string
	Prints      string
	// Measured cold on 2 cores, in the order of building: what one command leaves in Go's build cache the next need not
	// compile. For progress only.
	Estimate time.Duration
	Packages int // that it is made of, standard library included

	staging string // version of the modules that its module replaces by folders
}

// programs are those of Kubernetes, and etcd, in the order in which they are built. Packages are those of 1.37.2.
var programs = []Command{
	{Name: Etcd, VersionArgs: []string{"--version"}, Estimate: 40 * time.Second, Packages: 566},
	{Name: APIServer, VersionArgs: []string{"--version"}, Estimate: 7 * time.Minute, Packages: 2080},
	{Name: ControllerManager, VersionArgs: []string{"--version"}, Estimate: 2 * time.Minute, Packages: 2441},
	{Name: "kube-scheduler", VersionArgs: []string{"--version"}, Estimate: 21 * time.Second, Packages: 1453},
	{Name: "kube-proxy", VersionArgs: []string{"--version"}, Estimate: 27 * time.Second, Packages: 1439},
	{Name: "kubelet", VersionArgs: []string{"--version"}, Estimate: 52 * time.Second, Packages: 1798},
	{Name: "kubeadm", VersionArgs: []string{"version", "-o", "short"}, Estimate: 22 * time.Second, Packages: 925},
	{Name: "kubectl", VersionArgs: []string{"version", "--client"}, Estimate: 48 * time.Second, Packages: 822},
}

// pick returns the programs of these names in building order.
func pick(names []string) ([]Command, error) {
	var picked []Command
	for _, p := range programs {
		if slices.Contains(names, p.Name) {
			picked = append(picked, p)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(picked, func(p Command) bool { return p.Name == name }) {
			return nil, fmt.Errorf("get Kubernetes binaries: %q is none that can be built; those are %s", name, programNames())
		}
	}
	return picked, nil
}

func programNames() string {
	var names []string
	for _, p := range programs {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// of completes a program with what depends on the version of Kubernetes.
func (c Command) of(r release) Command {
	if c.Name == Etcd { // its module has a package to run it, and a command only at its top
		c.Module, c.Version, c.Main, c.Prints = etcdModule, "v"+EtcdVersion, etcdMain, "etcd Version: "+EtcdVersion
		return c
	}
	c.Module, c.Version, c.Package, c.staging, c.Prints = kubernetesModule, "v"+r.String(), "cmd/"+c.Name, r.staging(), "v"+r.String()
	// kubeadm and kubectl refuse to work as v0.0.0.
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		c.Set = append(c.Set, pkg+".gitVersion=v"+r.String(), pkg+".gitMajor=1", pkg+".gitMinor="+r.minor, pkg+".gitTreeState=clean")
	}
	return c
}

// The modules that programs come from.
const (
	kubernetesModule = "k8s.io/kubernetes"
	etcdModule       = "go.etcd.io/etcd/server/v3"
)

const etcdMain = `package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
`

var versionPattern = regexp.MustCompile(`^v?(1)\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})$`)

// A release is a version of Kubernetes.
type release struct{ minor, patch string }

// CheckVersion says what is wrong with how a version is written; nothing is with "", the default.
func CheckVersion(version string) error {
	if version == "" {
		return nil
	}
	_, err := parseVersion(version)
	return err
}

// parseVersion reads "1.37.2" or "v1.37.2".
func parseVersion(version string) (release, error) {
	match := versionPattern.FindStringSubmatch(version)
	if match == nil {
		return release{}, fmt.Errorf("get Kubernetes binaries: %q is no version of Kubernetes 1: write it as in %q. %s", version, DefaultVersion, known())
	}
	return release{minor: match[2], patch: match[3]}, nil
}

func (r release) String() string { return "1." + r.minor + "." + r.patch }

// staging is the version of the modules that are developed within Kubernetes: k8s.io/api v0.37.2 for 1.37.2.
func (r release) staging() string { return "v0." + r.minor + "." + r.patch }

func known() string {
	return "Versions known to be served are " + strings.Join(KnownVersions, ", ") + "."
}
