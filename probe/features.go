// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"strings"

	"github.com/outrigger-k8s/outrigger/table"
)

// What a lane can have, and a table, a dimension's value or a scenario can need. Means says what each is.
const (
	FeatureDefaulting       = "defaulting"
	FeatureValidation       = "validation"
	FeatureEquivalence      = "equivalence"
	FeatureAdmission        = "plugins"
	FeatureControllers      = "controllers"
	FeatureServices         = "services"
	FeatureNodes            = "nodes"
	FeatureDryRun           = "dry-run"
	FeatureBackends         = "backends"
	FeatureAddresses        = "addresses"
	FeaturePort443          = "port-443"
	FeatureClusterAuthority = "cluster-authority"
	FeatureUnchecked        = "unchecked-configurations"
	FeatureLong             = "long"
	FeatureRotation         = "rotation"
)

var features = map[string]string{
	FeatureDefaulting:       "the API server fills in defaults",
	FeatureValidation:       "the API server validates objects (422)",
	FeatureEquivalence:      "matchPolicy Equivalent has other versions to convert to",
	FeatureAdmission:        "the API server's other admission plugins are there: ServiceAccount, quota, Pod Security",
	FeatureControllers:      "workload controllers create pods",
	FeatureServices:         "a webhook can be called by a Service",
	FeatureNodes:            "pods start",
	FeatureDryRun:           "dryRun=All is honoured",
	FeatureBackends:         "the tap can stand behind a Service",
	FeatureAddresses:        "the tap can listen at other addresses than its own",
	FeaturePort443:          "the tap can listen at port 443 of other addresses than its own",
	FeatureClusterAuthority: "the cluster's own authority can issue the tap's certificate",
	FeatureUnchecked:        "a webhook configuration can be in force that the API server would refuse today",
	FeatureLong:             "there is time to wait for the back-off of controllers; in kind with LONG=1 (--long) or FULL=1 (--full)",
	FeatureRotation:         "the tap's certificate can be rotated, its authority's successor being known",
	table.FeatureFollow:     "a step can come back to what an earlier one has made",
}

// Means says in words what a lane has that has the feature; "" where there is no such feature.
func Means(feature string) string {
	if version, ok := strings.CutPrefix(feature, "kubernetes-"); ok {
		return "Kubernetes is " + version + " or newer"
	}
	return features[feature]
}
