// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/outrigger-k8s/outrigger/injector/cluster"
	"github.com/outrigger-k8s/outrigger/injector/settings"
	"github.com/outrigger-k8s/outrigger/injector/webhook"
)

// clusterFlags are what serve is told about the cluster that it lives in.
type clusterFlags struct {
	namespace, configMap, secret, service, webhooks string
	leaf, authority                                 time.Duration
	kubeconfig                                      string
	replica, podUID                                 string
}

func (f *clusterFlags) add(flags *flag.FlagSet) {
	flags.StringVar(&f.namespace, "namespace", "",
		"the `NAMESPACE` to take the configuration and the certificate from, in place of --config, --tls-cert and --tls-key")
	flags.StringVar(&f.configMap, "configmap", "injector", "the `NAME` of the ConfigMap with the configuration (see --configmap-key)")
	flags.StringVar(&f.secret, "secret", "injector-certificates", "the `NAME` of the Secret with the certificates; made and renewed by the injector")
	flags.StringVar(&f.service, "service", "injector", "the `NAME` of the Service that the certificate is for")
	flags.StringVar(&f.webhooks, "webhooks", "",
		"the `NAME` of the webhook configurations whose caBundle is written; default: that of the namespace")
	flags.DurationVar(&f.leaf, "leaf-validity", 30*24*time.Hour, "how `long` a certificate is valid; renewed when a third is left")
	flags.DurationVar(&f.authority, "authority-validity", 365*24*time.Hour, "how `long` its authority is; likewise")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "the `FILE` that says how to reach the API server; default: as a pod does")
	flags.StringVar(&f.replica, "replica", os.Getenv("POD_NAME"), "the `NAME` of this replica; default: $POD_NAME")
	flags.StringVar(&f.podUID, "pod-uid", os.Getenv("POD_UID"), "the `UID` of this replica's Pod; default: $POD_UID")
}

// check refuses flags that do not go together: either files are named, or a namespace.
func (f *clusterFlags) check(flags *flag.FlagSet) error {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, name := range []string{"config", "tls-cert", "tls-key"} {
		switch value := flags.Lookup(name).Value.String(); {
		case f.namespace == "" && value == "":
			return usageError{fmt.Errorf("--%s is required: see injector %s --help", name, flags.Name())}
		case f.namespace != "" && value != "":
			return usageError{fmt.Errorf("--%s and --namespace exclude each other", name)}
		}
	}
	if f.namespace == "" {
		for _, name := range []string{"configmap", "secret", "service", "webhooks", "leaf-validity", "authority-validity", "kubeconfig", "replica", "pod-uid"} {
			if given[name] {
				return usageError{fmt.Errorf("--%s needs --namespace", name)}
			}
		}
		return nil
	}
	for _, name := range []string{"configmap", "secret", "service", "replica"} {
		if flags.Lookup(name).Value.String() == "" {
			return usageError{fmt.Errorf("--%s is required with --namespace", name)}
		}
	}
	if f.leaf <= 0 || f.authority < f.leaf {
		return usageError{errors.New("--leaf-validity must be positive, and --authority-validity at least as long")}
	}
	if f.webhooks == "" {
		f.webhooks = f.namespace
	}
	return nil
}

// supplyFromCluster takes the settings and the certificate from the cluster that the flags name.
func supplyFromCluster(f serveFlags, log *slog.Logger) (*supply, error) {
	klog.SetSlogLogger(log) // what client-go logs
	config, err := restConfig(f.cluster.kubeconfig)
	if err != nil {
		return nil, err
	}
	s := &supply{settings: new(settings.Source), certificate: new(webhook.Certificate)}
	var counted *webhook.Metrics // set before Run
	replica, err := cluster.New(cluster.Options{
		Config: config, Namespace: f.cluster.namespace, ConfigMap: f.cluster.configMap, Key: f.configMapKey,
		Secret: f.cluster.secret, Service: f.cluster.service, Webhooks: f.cluster.webhooks,
		Leaf: f.cluster.leaf, Authority: f.cluster.authority,
		Replica: f.cluster.replica, PodUID: types.UID(f.cluster.podUID),
		Settings: s.settings, Certificate: s.certificate, Log: log,
		ConfigurationSeen: func(s *settings.Settings, err error) { reportSettings(log, counted)(s, err) },
		CertificateSeen:   func(err error) { reportCertificate(log, counted)(err) },
	})
	if err != nil {
		return nil, err
	}
	s.ready, s.leave = replica.Ready, replica.Leave
	s.follow = func(ctx context.Context, metrics *webhook.Metrics) error {
		counted = metrics
		return replica.Run(ctx)
	}
	return s, nil
}

// restConfig reads how to reach the API server: from a file, or from what every pod is given.
func restConfig(kubeconfig string) (*rest.Config, error) {
	config, err := rest.InClusterConfig()
	if kubeconfig != "" {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("find out how to reach the API server: %w", err)
	}
	config.UserAgent = "outrigger-injector/" + version()
	return config, nil
}
