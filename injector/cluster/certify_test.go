// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"os"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/outrigger-k8s/outrigger/injector/certs"
	"github.com/outrigger-k8s/outrigger/lane/controlplane"
	"github.com/outrigger-k8s/outrigger/proc"
)

// A replica sees the Secret and the webhook configurations through watches of their own, and may be behind in either. It
// must not write an older caBundle over a newer one, whose authority others serve already: the whole life of an injector
// (injector/deploy, life_test.go) shows that only by chance.
func TestNoOlderBundleTakesTheNewersPlace(t *testing.T) {
	if os.Getenv("OUTRIGGER_CONTROLPLANE") == "" {
		t.Skip("set OUTRIGGER_CONTROLPLANE=1 to run tests against a real control plane")
	}
	processes, err := proc.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = processes.Close() })
	cp, err := controlplane.Start(t.Context(), processes, controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cp.Stop)
	client, err := kubernetes.NewForConfig(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const mesh = "mesh"
	terms := certs.Terms{Hosts: []string{"injector.mesh.svc"}, Leaf: time.Hour, Authority: 24 * time.Hour}
	older, err := certs.New(terms, time.Now())
	must(err)
	newer, err := older.Replace(terms, time.Now())
	must(err)
	data, err := newer.Data()
	must(err)
	_, err = client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: mesh}}, metav1.CreateOptions{})
	must(err)
	_, err = client.CoreV1().Secrets(mesh).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "certificates"}, Type: corev1.SecretTypeTLS, Data: data,
	}, metav1.CreateOptions{})
	must(err)

	configurations := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	none, path := admissionregistrationv1.SideEffectClassNone, "/inject"
	for _, row := range []struct {
		name        string
		set         *certs.Set // what the replica has seen of the Secret
		trusted     []byte     // what the configuration trusts
		overwritten bool       // somebody writes the configuration after the replica has seen it
		want        []byte
	}{
		{"a replica that is behind leaves a newer one alone", older, newer.Bundle(), false, newer.Bundle()},
		{"a replica that is behind writes nothing at all", older, nil, false, nil},
		{"a replica that is not writes it", newer, older.Bundle(), false, newer.Bundle()},
		{"it writes into what it has seen, or not at all", newer, nil, true, older.Bundle()},
		{"it leaves its own alone", newer, newer.Bundle(), false, newer.Bundle()},
	} {
		t.Run(row.name, func(t *testing.T) {
			seen, err := configurations.Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
				ObjectMeta: metav1.ObjectMeta{Name: mesh},
				Webhooks: []admissionregistrationv1.MutatingWebhook{{
					Name: "inject.example.com", SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
					ClientConfig: admissionregistrationv1.WebhookClientConfig{
						Service:  &admissionregistrationv1.ServiceReference{Namespace: mesh, Name: "injector", Path: &path},
						CABundle: row.trusted,
					},
				}},
			}, metav1.CreateOptions{})
			must(err)
			defer func() { must(configurations.Delete(t.Context(), mesh, metav1.DeleteOptions{})) }()
			if row.overwritten {
				other := seen.DeepCopy()
				other.Webhooks[0].ClientConfig.CABundle = older.Bundle()
				_, err := configurations.Update(t.Context(), other, metav1.UpdateOptions{})
				must(err)
			}
			r, err := New(Options{
				Config: cp.RESTConfig(), Namespace: mesh, ConfigMap: "configuration", Key: "injector.yaml", Secret: "certificates",
				Service: "injector", Webhooks: mesh, Leaf: time.Hour, Authority: 24 * time.Hour, Replica: "one",
			})
			must(err)
			r.set = row.set
			must(r.caches[mutating].Add(seen))
			must(r.entrust(t.Context(), mutating))
			now, err := configurations.Get(t.Context(), mesh, metav1.GetOptions{})
			must(err)
			if got := now.Webhooks[0].ClientConfig.CABundle; !bytes.Equal(got, row.want) {
				t.Errorf("the configuration trusts\n%s\nwant\n%s", got, row.want)
			}
		})
	}
}
