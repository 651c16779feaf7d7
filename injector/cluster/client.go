// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net/http"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
)

// client speaks to the API server. It is made of client-go's parts for the five kinds that an injector knows: the
// whole client set, with the types of every group there is, would double the process.
type client struct {
	configMaps rest.Interface
	secrets    *gentype.Client[*corev1.Secret]
	leases     *gentype.ClientWithList[*coordinationv1.Lease, *coordinationv1.LeaseList]
	mutating   *gentype.Client[*admissionregistrationv1.MutatingWebhookConfiguration]
	validating *gentype.Client[*admissionregistrationv1.ValidatingWebhookConfiguration]
}

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
	params = runtime.NewParameterCodec(scheme)
)

func init() {
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, coordinationv1.AddToScheme, admissionregistrationv1.AddToScheme} {
		utilruntime.Must(add(scheme))
	}
}

// newClient makes a client for a namespace, without a limit on its requests: it makes one for each change that it is told of,
// and client-go's five a second would keep a replica's Lease behind what it has in force.
func newClient(config *rest.Config, namespace string) (*client, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API server: %w", err)
	}
	core, err1 := restClient(config, transport, "/api", corev1.SchemeGroupVersion)
	coordination, err2 := restClient(config, transport, "/apis", coordinationv1.SchemeGroupVersion)
	admission, err3 := restClient(config, transport, "/apis", admissionregistrationv1.SchemeGroupVersion)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return nil, fmt.Errorf("make a client of the API server: %w", err)
		}
	}
	return &client{
		configMaps: core,
		secrets:    gentype.NewClient("secrets", core, params, namespace, func() *corev1.Secret { return new(corev1.Secret) }),
		leases: gentype.NewClientWithList("leases", coordination, params, namespace,
			func() *coordinationv1.Lease { return new(coordinationv1.Lease) },
			func() *coordinationv1.LeaseList { return new(coordinationv1.LeaseList) }),
		mutating: gentype.NewClient("mutatingwebhookconfigurations", admission, params, "",
			func() *admissionregistrationv1.MutatingWebhookConfiguration {
				return new(admissionregistrationv1.MutatingWebhookConfiguration)
			}),
		validating: gentype.NewClient("validatingwebhookconfigurations", admission, params, "",
			func() *admissionregistrationv1.ValidatingWebhookConfiguration {
				return new(admissionregistrationv1.ValidatingWebhookConfiguration)
			}),
	}, nil
}

func restClient(config *rest.Config, transport *http.Client, path string, version schema.GroupVersion) (rest.Interface, error) {
	c := rest.CopyConfig(config)
	c.APIPath, c.GroupVersion, c.NegotiatedSerializer = path, &version, codecs.WithoutConversion()
	return rest.RESTClientForConfigAndClient(c, transport)
}
