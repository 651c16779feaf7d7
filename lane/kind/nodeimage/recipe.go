// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"time"

	"github.com/outrigger-k8s/outrigger/image"
	"github.com/outrigger-k8s/outrigger/lane/source"
)

// This file is the recipe: what a node image is made of. The rest of the package follows it.

// repository of the images that are built. localhost is a registry that no engine pulls from.
const repository = "localhost/outrigger/node"

// kind's base image has the files that make a container a node: entrypoint, units, settings. The version is the one that
// this module requires, so that they go with the library.
const (
	kindModule  = "sigs.k8s.io/kind"
	kindVersion = "v0.33.0"
	kindFiles   = "images/base/files"
)

// The node's base is this release of Debian.
const (
	suite         = "bookworm"
	architecture  = "amd64"
	DefaultMirror = "http://deb.debian.org/debian"
)

// packages of Debian on the node: those of kind's own base image but for network file systems, and runc, which takes a C
// compiler to build.
var packages = []string{
	"systemd", "systemd-sysv", "dbus", // services
	"conntrack", "ethtool", "iproute2", "iptables", "kmod", "mount", "nftables", "util-linux", // what Kubernetes calls
	"libseccomp2", "pigz", "runc", // what containerd calls
	"bash", "ca-certificates", "curl", "e2fsprogs", "jq", "procps", // what kind's scripts call, and people
}

// leftOut are files of the base that no node needs, or must not have: services that would fail in a container, what
// belongs to the machine that it was made on.
var leftOut = []string{
	"./dev/*", "./proc/*", "./run/*", "./sys/*", "./tmp/*",
	"./etc/hostname", "./etc/resolv.conf",
	"./usr/share/doc/*", "./usr/share/locale/*", "./usr/share/man/*", "./var/cache/*", "./var/lib/apt/lists/*", "./var/log/*",
	// As kind's Dockerfile has it.
	"./etc/systemd/system/*.wants/*",
	"./lib/systemd/system/multi-user.target.wants/*", "./usr/lib/systemd/system/multi-user.target.wants/*",
	"./usr/lib/systemd/system/basic.target.wants/*", "./usr/lib/systemd/system/local-fs.target.wants/*",
	"./usr/lib/systemd/system/sockets.target.wants/*initctl*", "./usr/lib/systemd/system/sockets.target.wants/*udev*",
	"./usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
}

// placed are programs of Kubernetes on the node, and where they are. The rest of them run in images.
var placed = map[string]string{
	"kubeadm": "/usr/bin/kubeadm", "kubectl": "/usr/bin/kubectl", "kubelet": "/usr/bin/kubelet", // units look for them there
	"containerd": "/usr/local/bin/containerd", "containerd-shim-runc-v2": "/usr/local/bin/containerd-shim-runc-v2",
	"ctr":        "/usr/local/bin/ctr",
	"host-local": "/opt/cni/bin/host-local", "loopback": "/opt/cni/bin/loopback", "portmap": "/opt/cni/bin/portmap",
	"ptp": "/opt/cni/bin/ptp",
}

// kubernetes are the programs that are of Kubernetes' version, and etcd.
var kubernetes = []string{
	"kubeadm", "kubectl", "kubelet", "kube-proxy", "kube-scheduler", source.APIServer, source.ControllerManager, source.Etcd,
}

// commands are programs of other modules, module by module. Any of these versions goes with every version of Kubernetes
// that can be built.
var commands = [][]source.Command{
	{
		containerd("containerd", "--version", 2*time.Minute, 1000), containerd("ctr", "--version", 15*time.Second, 800),
		containerd("containerd-shim-runc-v2", "-v", 10*time.Second, 500),
	},
	{cni("host-local", "ipam"), cni("loopback", "main"), cni("portmap", "meta"), cni("ptp", "main")},
	{{
		Name: "coredns", Module: "github.com/coredns/coredns", Version: "v1.14.2", Main: corednsMain,
		VersionArgs: []string{"-version"}, Prints: "CoreDNS-1.14.2", Estimate: 147 * time.Second, Packages: 1700,
	}},
	{pause()},
}

// corednsMain is CoreDNS with the plugins that kubeadm's Corefile names, and what people add to it to see more or to bend names.
// All of them would be twice as many packages: the clients of three clouds are among them.
const corednsMain = `package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/debug"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/rewrite"
)

func main() { coremain.Run() }
`

func containerd(name, versionFlag string, estimate time.Duration, packages int) source.Command {
	const module, version = "github.com/containerd/containerd/v2", "v2.4.2"
	return source.Command{
		Name: name, Module: module, Version: version, Package: "cmd/" + name,
		Tags:        []string{"no_aufs", "no_btrfs", "no_devmapper", "no_zfs"}, // storage that no node uses
		Set:         []string{module + "/version.Version=" + version},
		VersionArgs: []string{versionFlag}, Prints: version, Estimate: estimate, Packages: packages,
	}
}

func cni(name, kind string) source.Command {
	return source.Command{
		Name: name, Module: "github.com/containernetworking/plugins", Version: "v1.9.1", Package: "plugins/" + kind + "/" + name,
		Estimate: 10 * time.Second, Packages: 300,
	}
}

//go:embed pause/main.go
var pauseMain string

func pause() source.Command {
	sum := sha256.Sum256([]byte(pauseMain))
	return source.Command{Name: "pause", Version: hex.EncodeToString(sum[:6]), Main: pauseMain, Estimate: 2 * time.Second, Packages: 60}
}

// An archive is an image that the node holds, so that it has nothing to pull. Its name and tag are those that kubeadm, or
// containerd's configuration, asks for.
type archive struct {
	name    string // last part of the repository
	program string // its only program of ours
	path    string // where: manifests give no folder, so it must be one on the PATH below
	entry   bool   // the manifests give no command
	// Programs of Debian's that it calls. They are taken from the base, with the libraries that they load.
	calls []string
	// Folders of the base whose libraries those programs load by name.
	plugins []string
	links   map[string]string
}

// archivePath is the environment of a program in an archive.
const archivePath = "PATH=/usr/local/bin:/usr/sbin"

var archives = []archive{
	{name: "kube-apiserver", program: source.APIServer, path: "/usr/local/bin/kube-apiserver"},
	{name: "kube-controller-manager", program: source.ControllerManager, path: "/usr/local/bin/kube-controller-manager"},
	{name: "kube-scheduler", program: "kube-scheduler", path: "/usr/local/bin/kube-scheduler"},
	{
		name: "kube-proxy", program: "kube-proxy", path: "/usr/local/bin/kube-proxy",
		calls:   []string{"/usr/sbin/nft", "/usr/sbin/xtables-nft-multi"}, // either mode works
		plugins: []string{"/usr/lib/x86_64-linux-gnu/xtables"},
		links: map[string]string{
			"/usr/sbin/iptables": "xtables-nft-multi", "/usr/sbin/iptables-save": "xtables-nft-multi", "/usr/sbin/iptables-restore": "xtables-nft-multi",
			"/usr/sbin/ip6tables": "xtables-nft-multi", "/usr/sbin/ip6tables-save": "xtables-nft-multi", "/usr/sbin/ip6tables-restore": "xtables-nft-multi",
		},
	},
	{name: "etcd", program: source.Etcd, path: "/usr/local/bin/etcd"},
	{name: "coredns", program: "coredns", path: "/coredns", entry: true},
	{name: "pause", program: "pause", path: "/pause", entry: true},
}

// nodeConfig is how a container of the image runs.
var nodeConfig = image.Config{
	Entrypoint: []string{"/usr/local/bin/entrypoint", "/sbin/init"},
	Env:        []string{"container=docker", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, // systemd asks
	StopSignal: "SIGRTMIN+3",                                                                                      // SIGTERM makes systemd start itself anew
}

// scripts are the folders whose texts are executable.
var scripts = []string{"/kind/bin", "/usr/local/bin"}

// An edit changes a line of one of kind's files. It must find its line: a new version of kind may have another.
type edit struct {
	file, line string // a regular expression for the whole line
	becomes    string // "": the line goes
}

// edits are for machines whose capability bounding set lacks CAP_SYS_RESOURCE: there nobody may raise a limit, or make
// the kernel's out-of-memory killer spare a process more than it does already. Elsewhere nothing is lost but that.
var edits = []edit{
	{"/etc/systemd/system/containerd.service", `LimitNPROC=infinity`, ""},
	{"/etc/systemd/system/containerd.service", `LimitCORE=infinity`, ""},
	{"/etc/systemd/system/containerd.service", `LimitNOFILE=infinity`, ""},
	{"/etc/systemd/system/containerd.service", `TasksMax=infinity`, ""},
	{"/etc/systemd/system/containerd.service", `OOMScoreAdjust=-999`, ""},
	{"/etc/containerd/config.toml", `\s*restrict_oom_score_adj = false`, "  restrict_oom_score_adj = true"},
}

// links on the node: services that start, and one that must not.
var links = map[string]string{
	"/etc/systemd/system/multi-user.target.wants/containerd.service":        "/etc/systemd/system/containerd.service",
	"/etc/systemd/system/multi-user.target.wants/kubelet.service":           "/etc/systemd/system/kubelet.service",
	"/etc/systemd/system/multi-user.target.wants/outrigger-network.service": "/etc/systemd/system/outrigger-network.service",
	"/etc/systemd/system/multi-user.target.wants/undo-mount-hacks.service":  "/etc/systemd/system/undo-mount-hacks.service",
	"/etc/systemd/system/systemd-binfmt.service":                            "/dev/null", // it would register with the host's kernel
	"/usr/local/sbin/runc": "/usr/sbin/runc", // where kind's own image has it
}

// texts are files of our own on the node. In place of kindnet and of kind's storage, whose images only a registry has,
// there are a network that needs no program, and no storage class.
var texts = map[string]string{
	"/etc/systemd/journald.conf.d/kind.conf": "[Journal]\nReadKMsg=no\n", // the kernel's messages are the host's
	"/etc/systemd/system/outrigger-network.service": `[Unit]
Description=The pods' network
Before=containerd.service kubelet.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/bin/outrigger-network
`,
	"/usr/local/bin/outrigger-network": `#!/bin/bash
# The pods' network: each node has the /24 of 10.244.0.0/16 that is numbered as the node is on the engine's network, so
# that nodes find each other's pods without asking anybody. (What Kubernetes writes into spec.podCIDR plays no part.)
set -euo pipefail
address=$(ip -4 -o address show dev eth0 | awk '{sub("/.*", "", $4); print $4; exit}')
near=${address%.*} own=${address##*.}
mkdir -p /etc/cni/net.d
sed "s/@OWN@/$own/" /etc/outrigger/cni.conflist >/etc/cni/net.d/10-outrigger.conflist.new
mv /etc/cni/net.d/10-outrigger.conflist.new /etc/cni/net.d/10-outrigger.conflist
for ((n = 2; n < 255; n++)); do
  [ "$n" -eq "$own" ] || echo "route replace 10.244.$n.0/24 via $near.$n dev eth0"
done | ip -batch -
nft -f /etc/outrigger/network.nft
`,
	"/etc/outrigger/cni.conflist": `{
  "cniVersion": "1.0.0",
  "name": "outrigger",
  "plugins": [
    {
      "type": "ptp",
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.@OWN@.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/cni-ipam-state"}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`,
	"/etc/outrigger/network.nft": `table inet outrigger
delete table inet outrigger
table inet outrigger {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 oifname "eth0" masquerade
  }
  # An address of a Service that kube-proxy does not serve, or not yet, must not be looked for outside this node: somebody
  # there might have it. kube-proxy's translation comes first; what it has translated is not seen here.
  chain forward {
    type filter hook forward priority filter; policy accept;
    ip daddr 10.96.0.0/16 oifname "eth0" reject
  }
  chain output {
    type filter hook output priority filter; policy accept;
    ip daddr 10.96.0.0/16 oifname "eth0" reject
  }
}
`,
	"/kind/manifests/default-cni.yaml":     nothing("network", "the nodes' outrigger-network.service is the network"),
	"/kind/manifests/default-storage.yaml": nothing("storage", "this node image has no storage class"),
}

// nothing is a manifest that does nothing: kind applies one in any case.
func nothing(name, why string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: outrigger-node-image-" + name + "\n  namespace: kube-system\ndata:\n  why: " + why + "\n"
}

// folders that must be there though nothing is in them.
var folders = []string{"/etc/kubernetes/manifests"}
