// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"strconv"
	"strings"

	"github.com/outrigger-k8s/outrigger/proc"
)

// The sockets of etcd, relative to the folder that etcd and the API server run in.
const (
	etcdSocket = "unix://etcd.sock"
	peerSocket = "unix://etcd-peer.sock"
)

func etcdArgs() []string {
	return []string{
		"--name=outrigger",
		"--data-dir=etcd",
		"--unsafe-no-fsync", // the data is thrown away
		"--listen-client-urls=" + etcdSocket,
		"--advertise-client-urls=" + etcdSocket,
		"--listen-peer-urls=" + peerSocket,
		"--initial-advertise-peer-urls=" + peerSocket,
		"--initial-cluster=outrigger=" + peerSocket,
		"--log-outputs=stderr",
		"--log-level=warn",
	}
}

func apiserverArgs(f *files, port *proc.Port, routing string) []string {
	return []string{
		"--etcd-servers=" + etcdSocket,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1", // else it looks for an interface with a default route
		"--external-hostname=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port.Number()),
		"--permit-port-sharing", // the port is reserved, see proc.Run.ReservePort
		"--tls-cert-file=" + f.servingCert,
		"--tls-private-key-file=" + f.servingKey,
		"--client-ca-file=" + f.authority,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + f.tokensCert,
		"--service-account-signing-key-file=" + f.tokensKey,
		"--service-cluster-ip-range=" + ServiceCIDR,
		"--endpoint-reconciler-type=none", // an endpoint may not be a loopback address
		"--authorization-mode=RBAC",
		"--allow-privileged=true", // as kubeadm sets it, and with it kind
		"--enable-aggregator-routing=" + strconv.FormatBool(routing == RoutingEndpoints),
		"--enable-priority-and-fairness=false",
		"--max-requests-inflight=0",
		"--max-mutating-requests-inflight=0",
		"--audit-policy-file=" + f.auditPolicy,
		"--audit-log-path=-",
		"--audit-log-format=json",
		"--audit-log-mode=blocking", // an event is out before the client has its answer
		"--profiling=false",
		"--shutdown-delay-duration=0s",
	}
}

// controllers that run: those that make pods, and those without which namespaces, ServiceAccounts, quotas, Services
// or the clean-up after a workload would not work as in any cluster. The node lifecycle controller would taint the
// node that has no kubelet, and the pod garbage collector delete what is bound to it.
var controllers = []string{
	"deployment-controller", "replicaset-controller", "statefulset-controller", "daemonset-controller",
	"job-controller", "cronjob-controller", "replicationcontroller-controller",
	"serviceaccount-controller", "namespace-controller", "garbage-collector-controller", "resourcequota-controller",
	"endpoints-controller", "endpointslice-controller", "root-ca-certificate-publisher-controller",
}

func managerArgs(f *files) []string {
	args := []string{
		"--kubeconfig=" + f.managerKubeconfig,
		"--secure-port=0", // it serves nothing that anybody here asks for
		"--leader-elect=false",
		"--controllers=" + strings.Join(controllers, ","),
		"--use-service-account-credentials=true", // as kubeadm sets it: who creates a pod can be told from the review
		"--service-account-private-key-file=" + f.tokensKey,
		"--root-ca-file=" + f.authority,
		// The defaults are 20 requests a second and 5 objects at a time.
		"--kube-api-qps=10000",
		"--kube-api-burst=10000",
		"--concurrent-gc-syncs=20",
	}
	for _, kind := range []string{
		"deployment", "replicaset", "statefulset", "daemonset", "job", "cron-job", "rc", "namespace", "resource-quota",
	} {
		args = append(args, "--concurrent-"+kind+"-syncs=20")
	}
	return args
}
