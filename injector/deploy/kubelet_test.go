// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/outrigger-k8s/outrigger/proc"
)

// A node does for the injector's pods what a kubelet and kube-proxy do, on a control plane that has neither: it runs
// their one container as a process, with the pod's own arguments, environment and ServiceAccount; it probes readiness
// and reports it; on deletion it sends SIGTERM and, when the process has ended, removes the pod. Connections to the
// Service's ClusterIP, which lies on loopback, go to one of the endpoints that the control plane says are ready.
type node struct {
	t         testing.TB
	name      string
	namespace string
	program   string
	client    *kubernetes.Clientset
	config    *rest.Config
	run       *proc.Run

	mu        sync.Mutex
	pods      map[types.UID]*podProcess
	byIP      map[string]string // the pod's address, made up, to where its process listens
	ready     []string          // addresses of the endpoints, as the EndpointSlices say
	listeners map[string]net.Listener
	all       sync.WaitGroup
}

type podProcess struct {
	stop    context.CancelFunc
	stopped chan struct{}
}

func newNode(t testing.TB, namespace, program string, config *rest.Config, run *proc.Run) *node {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		t.Fatalf("want one node: %v", err)
	}
	return &node{
		t: t, name: nodes.Items[0].Name, namespace: namespace, program: program, client: client, config: config, run: run,
		pods: map[types.UID]*podProcess{}, byIP: map[string]string{}, listeners: map[string]net.Listener{},
	}
}

// start follows the cluster until the context is done, and returns at once; stopped is closed when all has ended.
func (n *node) start(ctx context.Context) (stopped <-chan struct{}) {
	n.follow(ctx, n.client.CoreV1().RESTClient(), "pods", &corev1.Pod{}, func(o any) { n.pod(ctx, o.(*corev1.Pod)) })
	n.follow(ctx, n.client.CoreV1().RESTClient(), "services", &corev1.Service{}, func(o any) { n.service(ctx, o.(*corev1.Service)) })
	slices := map[string][]string{}
	n.follow(ctx, n.client.DiscoveryV1().RESTClient(), "endpointslices", &discoveryv1.EndpointSlice{}, func(o any) {
		slice := o.(*discoveryv1.EndpointSlice)
		var ready []string
		for _, e := range slice.Endpoints {
			if slice.DeletionTimestamp == nil && e.Conditions.Ready != nil && *e.Conditions.Ready {
				ready = append(ready, e.Addresses...)
			}
		}
		slices[slice.Name] = ready
		n.mu.Lock()
		defer n.mu.Unlock()
		n.ready = nil
		for _, addresses := range slices {
			n.ready = append(n.ready, addresses...)
		}
	})
	done := make(chan struct{})
	go func() {
		<-ctx.Done()
		n.mu.Lock()
		for _, l := range n.listeners {
			l.Close()
		}
		n.mu.Unlock()
		n.all.Wait()
		close(done)
	}()
	return done
}

// follow calls seen, one call at a time, with each object of the namespace, whenever it changes.
func (n *node) follow(ctx context.Context, c cache.Getter, resource string, kind runtime.Object, seen func(any)) {
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewFilteredListWatchFromClient(c, resource, n.namespace, func(*metav1.ListOptions) {}),
		ObjectType:    kind,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: seen, UpdateFunc: func(_, after any) { seen(after) },
		},
	})
	n.all.Go(func() { controller.RunWithContext(ctx) })
}

// pod starts the process of a new pod, and stops that of one that is to be deleted.
func (n *node) pod(ctx context.Context, pod *corev1.Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pods[pod.UID]
	switch {
	case pod.DeletionTimestamp == nil && p == nil && pod.Spec.ServiceAccountName == "injector":
		ctx, cancel := context.WithCancel(ctx)
		p := &podProcess{stop: cancel, stopped: make(chan struct{})}
		n.pods[pod.UID] = p
		address := fmt.Sprintf("10.244.0.%d", len(n.pods)+1)
		n.all.Go(func() {
			defer close(p.stopped)
			if err := n.runPod(ctx, pod, address); err != nil && ctx.Err() == nil {
				n.t.Errorf("run pod %s: %v", pod.Name, err)
			}
		})
	case pod.DeletionTimestamp != nil && p != nil:
		p.stop()
		n.all.Go(func() {
			<-p.stopped
			now := int64(0)
			err := n.client.CoreV1().Pods(n.namespace).Delete(context.WithoutCancel(ctx), pod.Name,
				metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID}})
			if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
				n.t.Errorf("remove pod %s: %v", pod.Name, err)
			}
		})
	}
}

// runPod runs a pod until the context is done.
func (n *node) runPod(ctx context.Context, pod *corev1.Pod, address string) error {
	pods := n.client.CoreV1().Pods(n.namespace)
	err := pods.Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, UID: pod.UID}, Target: corev1.ObjectReference{Kind: "Node", Name: n.name},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	kubeconfig, err := n.kubeconfig(ctx, pod)
	if err != nil {
		return err
	}
	c := pod.Spec.Containers[0]
	environment := map[string]string{"POD_NAME": pod.Name, "POD_NAMESPACE": pod.Namespace, "POD_UID": string(pod.UID)}
	var env, args []string
	for _, e := range c.Env {
		if value, known := environment[e.Name]; known {
			env = append(env, e.Name+"="+value)
		}
	}
	for _, arg := range c.Args {
		args = append(args, strings.ReplaceAll(arg, "$(POD_NAMESPACE)", pod.Namespace))
	}
	args = append(args, "--kubeconfig="+kubeconfig, "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0")
	serving := &servingLog{found: make(chan servingEntry, 1)}
	process, err := n.run.Start(proc.Spec{Name: pod.Name, Path: n.program, Args: args, Env: env, Stderr: serving})
	if err != nil {
		return err
	}
	defer process.Stop(time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second)
	var at servingEntry
	select {
	case at = <-serving.found:
	case <-process.Done():
		return process.Err()
	case <-ctx.Done():
		return nil
	}
	n.mu.Lock()
	n.byIP[address] = at.Listen
	n.mu.Unlock()
	ready := false
	for ctx.Err() == nil {
		if now := probe(ctx, "http://"+at.MetricsListen+"/readyz"); now != ready && ctx.Err() == nil {
			if err := n.reportReady(ctx, pod, address, now); err != nil {
				return err
			}
			ready = now
		}
		select {
		case <-time.After(50 * time.Millisecond): // the period of the probe
		case <-process.Done():
			return process.Err()
		case <-ctx.Done():
		}
	}
	return nil
}

func probe(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// reportReady writes the pod's status.
func (n *node) reportReady(ctx context.Context, pod *corev1.Pod, address string, ready bool) error {
	status, now := corev1.ConditionFalse, metav1.Now()
	if ready {
		status = corev1.ConditionTrue
	}
	text, err := json.Marshal(map[string]any{"status": corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: status, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: status, LastTransitionTime: now},
		},
	}})
	if err != nil {
		return err
	}
	_, err = n.client.CoreV1().Pods(n.namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, text, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// kubeconfig gives a pod the rights of its ServiceAccount, and no more.
func (n *node) kubeconfig(ctx context.Context, pod *corev1.Pod) (string, error) {
	token, err := n.client.CoreV1().ServiceAccounts(n.namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{
			Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: n.config.Host, CertificateAuthorityData: n.config.CAData}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	path := filepath.Join(n.run.Dir(), pod.Name+".kubeconfig")
	text, err := clientcmd.Write(*config)
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, text, 0o600)
}

// service listens at a Service's ClusterIP.
func (n *node) service(_ context.Context, service *corev1.Service) {
	n.mu.Lock()
	defer n.mu.Unlock()
	address := net.JoinHostPort(service.Spec.ClusterIP, "443")
	if n.listeners[address] != nil || service.DeletionTimestamp != nil {
		return
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		n.t.Errorf("listen for service %s: %v", service.Name, err)
		return
	}
	n.listeners[address] = listener
	n.all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go n.relay(conn)
		}
	})
}

// relay hands a connection to a ready endpoint. It stays there until it ends, as an established connection does.
func (n *node) relay(conn net.Conn) {
	defer conn.Close()
	n.mu.Lock()
	var to string
	if len(n.ready) > 0 {
		to = n.byIP[n.ready[rand.IntN(len(n.ready))]]
	}
	n.mu.Unlock()
	upstream, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer upstream.Close()
	go func() {
		_, _ = io.Copy(upstream, conn)
		upstream.Close()
	}()
	_, _ = io.Copy(conn, upstream)
}

// servingEntry is the log entry that names the addresses.
type servingEntry struct {
	Message       string `json:"msg"`
	Listen        string `json:"listen"`
	MetricsListen string `json:"metricsListen"`
}

// servingLog finds the entry in what is written to it.
type servingLog struct {
	rest  []byte
	found chan servingEntry
}

func (l *servingLog) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		l.rest = rest
		var entry servingEntry
		if json.Unmarshal(line, &entry) == nil && entry.Message == "serving" {
			select {
			case l.found <- entry:
			default:
			}
		}
	}
}
