// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/outrigger-k8s/outrigger/pki"
)

// files are the paths of what the processes read at their start; all mode 0600, in a folder of mode 0700.
type files struct {
	authority               string
	servingCert, servingKey string
	tokensCert, tokensKey   string // of ServiceAccount tokens: checked with the one, signed with the other
	auditPolicy             string
	kubeconfig              string // the harness's
	managerKubeconfig       string
	config                  *rest.Config // the harness's
}

func writeFiles(dir, address string, authority *pki.Authority) (*files, error) {
	f := &files{
		authority:         dirFile(dir, "ca.crt"),
		servingCert:       dirFile(dir, "apiserver.crt"),
		servingKey:        dirFile(dir, "apiserver.key"),
		tokensCert:        dirFile(dir, "service-account.crt"),
		tokensKey:         dirFile(dir, "service-account.key"),
		auditPolicy:       dirFile(dir, "audit-policy.yaml"),
		kubeconfig:        dirFile(dir, "kubeconfig"),
		managerKubeconfig: dirFile(dir, "controller-manager.kubeconfig"),
	}
	serving, err := authority.Issue("127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", "127.96.0.1")
	if err != nil {
		return nil, err
	}
	if err := serving.Write(f.servingCert, f.servingKey); err != nil {
		return nil, err
	}
	// Any pair will do: only its keys are used.
	tokens, err := authority.IssueClient("service-account-tokens")
	if err != nil {
		return nil, err
	}
	if err := tokens.Write(f.tokensCert, f.tokensKey); err != nil {
		return nil, err
	}
	harness, err := authority.IssueClient(User, "system:masters")
	if err != nil {
		return nil, err
	}
	manager, err := authority.IssueClient("system:kube-controller-manager")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(f.authority, authority.CABundle(), 0o600); err != nil {
		return nil, fmt.Errorf("write the control plane's authority: %w", err)
	}
	if err := os.WriteFile(f.auditPolicy, AuditPolicy(User), 0o600); err != nil {
		return nil, fmt.Errorf("write the audit policy: %w", err)
	}
	if err := writeKubeconfig(f.kubeconfig, User, address, authority, harness); err != nil {
		return nil, err
	}
	if err := writeKubeconfig(f.managerKubeconfig, "controller-manager", address, authority, manager); err != nil {
		return nil, err
	}
	f.config = &rest.Config{
		Host: "https://" + address,
		TLSClientConfig: rest.TLSClientConfig{
			CAData: authority.CABundle(), CertData: harness.Certificate, KeyData: harness.Key,
		},
		QPS:            -1,                // no limit on the client's side
		WarningHandler: rest.NoWarnings{}, // warnings are part of an observation, not of our log
		ContentConfig: rest.ContentConfig{
			AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json",
			ContentType:        "application/vnd.kubernetes.protobuf",
		},
	}
	return f, nil
}

func writeKubeconfig(path, user, address string, authority *pki.Authority, pair *pki.Pair) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["outrigger"] = &clientcmdapi.Cluster{
		Server: "https://" + address, CertificateAuthorityData: authority.CABundle(),
	}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{
		ClientCertificateData: pair.Certificate, ClientKeyData: pair.Key,
	}
	config.Contexts[contextName] = &clientcmdapi.Context{Cluster: "outrigger", AuthInfo: user}
	config.CurrentContext = contextName
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
