// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"
)

// lookInterval lies between two looks at a condition of which nobody sends word.
const lookInterval = 20 * time.Millisecond

// await looks, at once and then again and again, until look says that what holds. An error of look ends the wait: a
// look that may fail for a while says false. The wait ends as well when ctx does, or when one of the processes has
// ended.
func (cp *ControlPlane) await(ctx context.Context, what string, look func(context.Context) (bool, error)) error {
	return cp.cluster().awaitEvery(ctx, lookInterval, what, look)
}

func (c *Cluster) awaitEvery(
	ctx context.Context, interval time.Duration, what string, look func(context.Context) (bool, error),
) error {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		ok, err := look(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		}
		if err != nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
		if ok {
			return nil
		}
		timer.Reset(interval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		case <-c.Ended:
			return fmt.Errorf("wait until %s: the cluster has ended: %w", what, c.Why())
		}
	}
}

// ready asks the API server whether it is.
func (cp *ControlPlane) ready(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a connection that hangs must not be the last look
	defer cancel()
	_, err := cp.client.RESTClient().Get().AbsPath("/readyz").MaxRetries(0).DoRaw(ctx)
	return err == nil, nil
}

// awaitServiceAccount waits for the ServiceAccount "default", without which no pod can be created in the namespace.
func (c *Cluster) awaitServiceAccount(ctx context.Context, namespace string) error {
	return c.awaitEvery(ctx, lookInterval, "the ServiceAccount "+namespace+"/default exists", func(ctx context.Context) (bool, error) {
		_, err := c.Client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
}

// NodeName is the name of the one Node object.
const NodeName = "outrigger"

// addNode makes a Node that looks ready and untainted to the DaemonSet controller.
func (cp *ControlPlane) addNode(ctx context.Context) error {
	nodes := cp.client.CoreV1().Nodes()
	node, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:   NodeName,
		Labels: map[string]string{corev1.LabelHostname: NodeName, corev1.LabelOSStable: "linux"},
	}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create the Node: %w", err)
	}
	// Admission taints every new node as not ready; only a kubelet's report would lift it.
	node.Spec.Taints = nil
	if _, err := nodes.Update(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("take the taint off the Node: %w", err)
	}
	return nil
}
