// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/outrigger-k8s/outrigger/pki"
	"github.com/outrigger-k8s/outrigger/proc"
	"github.com/outrigger-k8s/outrigger/tap/control"
)

// The tap in the cluster.
const (
	TapNamespace = "outrigger-tap"
	tapName      = "tap"
	tapHost      = tapName + "." + TapNamespace + ".svc" // by which the API server calls its Service

	tapPort     = 15443 // of webhooks' calls, on the node
	controlPort = 15444 // of the harness's, on the node: who calls shows the run's own certificate, or is not heard
)

// startup bounds the start of a Deployment of ours: its images are in the nodes.
const startup = 5 * time.Minute

// A Tap is the tap in the cluster, and the way to it.
type Tap struct {
	*control.Client
	CABundle []byte // by which the certificates that it shows the API server are verified
	straight straight
	forward  *forward
}

// FindTap finds the tap's program: beside the running executable, else on PATH.
func FindTap() (string, error) {
	program, err := proc.FindProgram("outrigger-tap")
	if err != nil {
		return "", fmt.Errorf("looking for the tap's program: %w: build it with `make bin`", err)
	}
	return program, nil
}

// StartTap puts the tap into the cluster and returns once it answers. program is outrigger-tap. Close the tap before the
// cluster.
func StartTap(ctx context.Context, c *Cluster, program string) (*Tap, error) {
	t, err := startTap(ctx, c, program)
	if err != nil {
		return nil, fmt.Errorf("start the tap in cluster %s: %w", c.Name(), err)
	}
	return t, nil
}

func startTap(ctx context.Context, c *Cluster, program string) (*Tap, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startup, fmt.Errorf("it was not ready within %s", startup))
	defer cancel()
	built, err := tapImage(program)
	if err != nil {
		return nil, err
	}
	if err := c.Load(ctx, built); err != nil {
		return nil, err
	}
	// Both sides of the control's TLS, good for this run alone.
	authority, err := pki.NewAuthority()
	if err != nil {
		return nil, err
	}
	server, err := authority.Issue(tapHost)
	if err != nil {
		return nil, err
	}
	client, err := authority.IssueClient("outrigger")
	if err != nil {
		return nil, err
	}
	certificate, err := client.TLS()
	if err != nil {
		return nil, err
	}
	if err := deployTap(ctx, c, built.Reference.String(), server, authority.CABundle()); err != nil {
		return nil, err
	}
	return connectTap(ctx, c, certificate, authority)
}

func connectTap(ctx context.Context, c *Cluster, certificate tls.Certificate, authority *pki.Authority) (*Tap, error) {
	t := &Tap{forward: &forward{
		config: c.RESTConfig(), client: c.client, namespace: TapNamespace, port: controlPort,
		pod: func(ctx context.Context) (string, error) {
			pod, err := readyPod(ctx, c, TapNamespace, "app="+tapName)
			return pod.Name, err
		},
	}}
	t.Client = control.NewClient(control.ClientOptions{
		Dial: func(ctx context.Context) (net.Conn, error) {
			if conn, ok := t.straight.dial(ctx); ok {
				return conn, nil
			}
			return t.forward.Dial(ctx)
		},
		Certificate: certificate, Servers: authority.Pool(), ServerName: tapHost, Webhooks: base(tapHost),
	})
	var last error
	err := await(ctx, "the tap answers", func(ctx context.Context) (bool, error) {
		state, err := t.State(ctx)
		t.CABundle, last = state.CABundle, err
		return err == nil, nil
	})
	if err != nil {
		t.Close()
		return nil, errors.Join(err, last)
	}
	pod, err := readyPod(ctx, c, TapNamespace, "app="+tapName)
	if err != nil {
		return t, nil // the way by the forward is good enough
	}
	node := net.JoinHostPort(pod.Status.HostIP, strconv.Itoa(controlPort))
	if t.straight.try(ctx, node, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, RootCAs: authority.Pool(), ServerName: tapHost,
	}) {
		t.Client.Close() // the connections so far
	}
	return t, nil
}

// Close hangs up. The tap goes with the cluster.
func (t *Tap) Close() {
	t.Client.Close()
	t.forward.Close()
}

// deployTap applies the tap's objects and waits until it is available. It runs on the API server's node, in the node's
// network: connections that are to fail are made to the node's loopback, which is the API server's too.
func deployTap(ctx context.Context, c *Cluster, reference string, identity *pki.Pair, clients []byte) error {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	labels := map[string]string{"app": tapName}
	meta := metav1.ObjectMeta{Name: tapName, Namespace: TapNamespace, Labels: labels}
	one := int32(1)
	truth, falsehood, user := true, false, int64(65532)
	objects := []func() error{
		func() error {
			return put(ctx, c.client.CoreV1().Namespaces(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
				Name: TapNamespace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "privileged"}, // for hostNetwork
			}})
		},
		func() error {
			return put(ctx, c.client.CoreV1().Secrets(TapNamespace), &corev1.Secret{
				ObjectMeta: meta, Type: corev1.SecretTypeTLS,
				Data: map[string][]byte{"tls.crt": identity.Certificate, "tls.key": identity.Key, "ca.crt": clients},
			})
		},
		func() error {
			return put(ctx, c.client.CoreV1().Services(TapNamespace), &corev1.Service{
				ObjectMeta: meta,
				Spec: corev1.ServiceSpec{
					Selector: labels,
					Ports:    []corev1.ServicePort{{Name: "webhooks", Port: 443, TargetPort: intstr.FromInt32(tapPort)}},
				},
			})
		},
		func() error {
			return put(ctx, c.client.AppsV1().Deployments(TapNamespace), &appsv1.Deployment{
				ObjectMeta: meta,
				Spec: appsv1.DeploymentSpec{
					Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels},
					Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, // two would want the same ports
					Template: corev1.PodTemplateSpec{
						ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{
							"outrigger.dev/identity": hex.EncodeToString(random[:]), // each run has another: a tap that is there already starts anew
						}},
						Spec: corev1.PodSpec{
							HostNetwork: true, DNSPolicy: corev1.DNSClusterFirstWithHostNet,
							NodeSelector:                 map[string]string{"node-role.kubernetes.io/control-plane": ""},
							Tolerations:                  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
							AutomountServiceAccountToken: &falsehood,
							Containers: []corev1.Container{{
								Name: tapName, Image: reference, ImagePullPolicy: corev1.PullNever,
								Args: []string{
									"--listen=:" + strconv.Itoa(tapPort), "--names=" + tapHost,
									"--control=:" + strconv.Itoa(controlPort), "--identity=/identity",
								},
								// Next to nothing of it is alive for longer than a call: its garbage may grow before it is collected.
								Env: []corev1.EnvVar{{Name: "GOGC", Value: "800"}},
								Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
									corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
								}},
								ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
									TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(tapPort)},
								}, PeriodSeconds: 1},
								SecurityContext: &corev1.SecurityContext{
									RunAsNonRoot: &truth, RunAsUser: &user, ReadOnlyRootFilesystem: &truth, AllowPrivilegeEscalation: &falsehood,
									Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
								},
								VolumeMounts: []corev1.VolumeMount{{Name: "identity", MountPath: "/identity", ReadOnly: true}},
							}},
							SecurityContext: &corev1.PodSecurityContext{FSGroup: &user},
							Volumes: []corev1.Volume{{Name: "identity", VolumeSource: corev1.VolumeSource{
								Secret: &corev1.SecretVolumeSource{SecretName: tapName},
							}}},
						},
					},
				},
			})
		},
	}
	for _, apply := range objects {
		if err := apply(); err != nil {
			return err
		}
	}
	err := await(ctx, "the tap's Deployment is available", func(ctx context.Context) (bool, error) {
		d, err := c.client.AppsV1().Deployments(TapNamespace).Get(ctx, tapName, metav1.GetOptions{})
		return err == nil && available(d), nil
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, troubles(context.WithoutCancel(ctx), c, TapNamespace))
	}
	return nil
}

// A writer is a typed client of one resource.
type writer[T any] interface {
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
	Get(context.Context, string, metav1.GetOptions) (T, error)
}

// put creates an object, or writes it over the one that is there.
func put[T metav1.Object](ctx context.Context, w writer[T], object T) error {
	for {
		_, err := w.Create(ctx, object, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			var live T
			if live, err = w.Get(ctx, object.GetName(), metav1.GetOptions{}); err == nil {
				object.SetResourceVersion(live.GetResourceVersion())
				_, err = w.Update(ctx, object, metav1.UpdateOptions{})
				object.SetResourceVersion("")
			}
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
				continue // somebody wrote in between
			}
		}
		if err != nil {
			return fmt.Errorf("put %T %s: %w", object, object.GetName(), err)
		}
		return nil
	}
}

// readyPod is a pod that is ready.
func readyPod(ctx context.Context, c *Cluster, namespace, selector string) (corev1.Pod, error) {
	list, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return corev1.Pod{}, fmt.Errorf("list the pods %s in %s: %w", selector, namespace, err)
	}
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil && isReady(&pod) {
			return pod, nil
		}
	}
	return corev1.Pod{}, fmt.Errorf("of %d pods %s in %s none is ready", len(list.Items), selector, namespace)
}

func isReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// troubles says what holds the pods of a namespace up, as far as their statuses tell.
func troubles(ctx context.Context, c *Cluster, namespace string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	list, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return ""
	}
	text := ""
	for _, pod := range list.Items {
		for _, s := range pod.Status.ContainerStatuses {
			if w := s.State.Waiting; w != nil {
				text += fmt.Sprintf("; pod %s waits: %s %s", pod.Name, w.Reason, w.Message)
			}
			if t := s.LastTerminationState.Terminated; t != nil {
				text += fmt.Sprintf("; pod %s ended before with code %d: %s", pod.Name, t.ExitCode, t.Message)
			}
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status != corev1.ConditionTrue {
				text += fmt.Sprintf("; pod %s is not scheduled: %s", pod.Name, condition.Message)
			}
		}
	}
	return text
}
