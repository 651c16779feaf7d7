// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/outrigger-k8s/outrigger/injector/deploy"
	"github.com/outrigger-k8s/outrigger/lane/kind"
)

// collectTimeout bounds what is collected of one namespace.
const collectTimeout = 30 * time.Second

// evidence is what is collected of a proof that does not hold, in a folder of its own, before anything is deleted.
type evidence struct {
	folder string // of all proofs
	name   string // of the folder, which is the proof's
	mu     sync.Mutex
}

// newEvidence removes what an earlier run has left of the proof: it must not pass for this one's.
func newEvidence(folder, name string) *evidence {
	if folder == "" {
		return nil
	}
	_ = os.RemoveAll(filepath.Join(folder, name))
	return &evidence{folder: folder, name: name}
}

func (e *evidence) dir() string { return filepath.Join(e.folder, e.name) }

// namespace collects the pods of a namespace, its events, and what its containers have written. What cannot be had is
// missing, and NAMESPACE-missing.txt says why.
func (e *evidence) namespace(client kubernetes.Interface, namespace string) {
	e.objects(client, namespace, func(ctx context.Context) error {
		return kind.PodLogs(ctx, client, e.dir(), namespace+"-", namespace, "")
	})
}

// system collects pods and events of kube-system. What its containers have written is much, and among the nodes' logs.
func (e *evidence) system(client kubernetes.Interface) {
	e.objects(client, metav1.NamespaceSystem, func(context.Context) error { return nil })
}

func (e *evidence) objects(client kubernetes.Interface, namespace string, logs func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	e.write(namespace, func(put func(string, any, error) error) error {
		pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		one := put("pods.json", pods, err)
		events, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		return errors.Join(one, put("events.json", events, err), logs(ctx))
	})
}

// injector collects what the injector's containers have written, its pods, and the webhook configurations.
func (e *evidence) injector(client kubernetes.Interface) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	e.write("injector", func(put func(string, any, error) error) error {
		pods, err := client.CoreV1().Pods(deploy.DefaultNamespace).List(ctx, metav1.ListOptions{})
		one := put("pods.json", pods, err)
		events, err := client.CoreV1().Events(deploy.DefaultNamespace).List(ctx, metav1.ListOptions{})
		two := put("events.json", events, err)
		mutating, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
		three := put("mutating.json", mutating, err)
		validating, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
		return errors.Join(one, two, three, put("validating.json", validating, err),
			kind.PodLogs(ctx, client, e.dir(), "injector-", deploy.DefaultNamespace, ""))
	})
}

func (e *evidence) write(prefix string, collect func(put func(string, any, error) error) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if os.MkdirAll(e.dir(), 0o755) != nil {
		return // the folder of artefacts was writable when the run began; its report's own error will tell
	}
	err := collect(func(name string, what any, err error) error {
		if err != nil {
			return fmt.Errorf("collect %s: %w", name, err)
		}
		raw, err := json.MarshalIndent(what, "", "  ")
		if err != nil {
			return fmt.Errorf("collect %s: %w", name, err)
		}
		return os.WriteFile(filepath.Join(e.dir(), prefix+"-"+name), raw, 0o644)
	})
	if err != nil {
		_ = os.WriteFile(filepath.Join(e.dir(), prefix+"-missing.txt"), []byte(err.Error()+"\n"), 0o644)
	}
}

// close gives the paths of what was collected, in the folder of all proofs.
func (e *evidence) close() []string {
	if e == nil {
		return nil
	}
	entries, _ := os.ReadDir(e.dir())
	var files []string
	for _, x := range entries {
		files = append(files, path.Join(e.name, x.Name()))
	}
	slices.Sort(files)
	return files
}

// collect collects of a proof that does not hold what lies in no namespace of its own.
func (w *world) collect() {
	if w.evidence != nil {
		w.evidence.injector(w.client)
		w.evidence.system(w.client)
	}
}
