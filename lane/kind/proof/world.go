// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"sigs.k8s.io/yaml"

	"github.com/outrigger-k8s/outrigger/lane/kind"
)

// A world is where proofs are shown.
type world struct {
	cluster  *kind.Cluster
	injector *kind.Injector
	client   kubernetes.Interface
	run      context.Context // ends when the proofs do: from then on nothing is collected, nor kept
	options  Options
	evidence *evidence // of the proof that is shown; nil where nothing is collected
	trial    string    // the namespace in which settle tries; "" before it has
	waits    func()    // says of a proof that is Ahead that it waits
}

// The sidecar of the injector's own configuration, and the ports of its stand-ins.
const (
	sidecar     = "istio-proxy"
	initializer = "istio-init"
	appPort     = 8080
	inboundPort = 15006
	statusPort  = 15021
)

var enabled = map[string]string{"istio-injection": "enabled"}

// restore installs what a proof may have changed of the injector.
func (w *world) restore(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, perProof, fmt.Errorf("not installed within %s", perProof))
	defer cancel()
	if err := w.injector.Restore(ctx); err != nil {
		return err
	}
	return w.settle(ctx)
}

// settle waits until a pod is injected: that the injector is available does not mean yet that every kube-proxy leads to
// it, and that its webhook configuration is there not that the API server has it.
func (w *world) settle(ctx context.Context) error {
	if w.trial == "" {
		var err error
		if w.trial, err = w.namespace(ctx, enabled); err != nil {
			return err
		}
	}
	return w.awaitInjecting(ctx, w.trial)
}

// namespace makes one in which pods can be created.
func (w *world) namespace(ctx context.Context, labels map[string]string) (name string, err error) {
	ns, err := w.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "proof-", Labels: labels,
	}}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("create a namespace: %w", err)
	}
	return ns.Name, await(ctx, "ServiceAccount "+ns.Name+"/default exists", func(ctx context.Context) (string, error) {
		_, err := w.client.CoreV1().ServiceAccounts(ns.Name).Get(ctx, "default", metav1.GetOptions{})
		return "", err
	})
}

// with gives do a namespace of its own, and clears it afterwards.
func (w *world) with(ctx context.Context, labels map[string]string, do func(namespace string) error) error {
	ns, err := w.namespace(ctx, labels)
	if ns == "" {
		return err
	}
	if err == nil {
		err = do(ns)
	}
	if err != nil {
		err = fmt.Errorf("%w%s", err, w.said(ns))
		if w.run.Err() == nil {
			if w.evidence != nil {
				w.evidence.namespace(w.client, ns)
			}
			if w.options.Keep {
				return fmt.Errorf("%w\n  namespace %s is kept", err, ns)
			}
		}
	}
	return errors.Join(err, w.clear(ctx, ns))
}

// clear takes a namespace away where somebody goes on with the cluster, whatever has ended ctx. That everything in it is gone
// nobody needs to wait for. Elsewhere only what runs in it goes, lest it keep the node busy: to delete a namespace is a hundred
// requests, one or two for each resource that there is, while other proofs want the API server.
func (w *world) clear(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if w.options.Restore {
		if err := w.client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete namespace %s: %w", namespace, err)
		}
		return nil
	}
	if w.run.Err() != nil {
		return nil // the cluster goes now
	}
	apps, batch := w.client.AppsV1(), w.client.BatchV1()
	for _, remove := range []func(context.Context, metav1.DeleteOptions, metav1.ListOptions) error{
		// Owners first, which would make anew what is theirs.
		apps.Deployments(namespace).DeleteCollection, apps.ReplicaSets(namespace).DeleteCollection,
		apps.DaemonSets(namespace).DeleteCollection, apps.StatefulSets(namespace).DeleteCollection,
		batch.CronJobs(namespace).DeleteCollection, batch.Jobs(namespace).DeleteCollection,
		w.client.CoreV1().Pods(namespace).DeleteCollection,
	} {
		background := metav1.DeletePropagationBackground // a Job's pods are made orphans first by default
		// What stays goes with the cluster, and says nothing about the proof.
		_ = remove(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{})
	}
	return nil
}

// configured has the injector's configuration changed while do runs. What comes after, Run restores.
func (w *world) configured(ctx context.Context, change func(map[string]any), do func() error) error {
	own, err := w.injector.Configuration(ctx)
	if err != nil {
		return err
	}
	settings := map[string]any{}
	if err := yaml.Unmarshal(own, &settings); err != nil {
		return fmt.Errorf("read the injector's configuration: %w", err)
	}
	change(settings)
	changed, err := json.Marshal(settings)
	if err != nil {
		return fmt.Errorf("write the injector's configuration: %w", err)
	}
	if err := w.injector.Configure(ctx, changed); err != nil {
		return err
	}
	return do()
}

// said are the Warning events of a namespace: why something that was waited for did not come.
func (w *world) said(namespace string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	list, err := w.client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning"})
	if err != nil || len(list.Items) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n  Warning events:")
	for _, e := range list.Items[max(0, len(list.Items)-5):] {
		fmt.Fprintf(&b, "\n    %s %s: %s: %s", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
	}
	return b.String()
}

// Between two looks at a condition lies a time that grows: what is quick shall not wait for the next look, and what takes
// seconds not be asked after all the time by all the proofs that are under way.
const (
	firstInterval = 20 * time.Millisecond
	lastInterval  = 200 * time.Millisecond
)

// await looks until look finds nothing missing. Errors are waited for too, but for refusals that will not change.
func await(ctx context.Context, what string, look func(context.Context) (missing string, err error)) error {
	interval := firstInterval
	next := time.NewTimer(interval)
	defer next.Stop()
	last := errors.New("it has not been looked at once")
	for {
		missing, err := look(ctx)
		switch {
		case err == nil && missing == "":
			return nil
		case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
			return fmt.Errorf("wait until %s: %w", what, err)
		case err != nil && ctx.Err() == nil:
			last = err
		case err == nil:
			last = errors.New(missing)
		}
		select {
		case <-next.C:
			interval = min(interval*3/2, lastInterval)
			next.Reset(interval)
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w (last: %w)", what, context.Cause(ctx), last)
		}
	}
}

// app is a pod of the application's own, as a user writes it: fit for Pod Security restricted.
func (w *world) app(name string) *corev1.Pod {
	truth, falsehood, user := true, false, int64(65532)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: "app", Image: w.injector.Image, ImagePullPolicy: corev1.PullNever,
				Args:           []string{"app", fmt.Sprintf("--listen=:%d", appPort)},
				Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: appPort, Protocol: corev1.ProtocolTCP}},
				Env:            []corev1.EnvVar{{Name: "OWN", Value: "as written"}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(appPort)}}, PeriodSeconds: 1},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("16Mi")},
					Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
				},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &falsehood, ReadOnlyRootFilesystem: &truth, RunAsNonRoot: &truth, RunAsUser: &user,
					Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				},
			}},
			TerminationGracePeriodSeconds: new(int64), // at once: nobody uses it any more when it goes
		},
	}
}

// task is such a pod whose application ends by itself.
func (w *world) task() *corev1.Pod {
	pod := w.app("task")
	c := &pod.Spec.Containers[0]
	c.Args, c.Ports, c.ReadinessProbe = []string{"init", "--out=/work/seen.json"}, nil, nil
	c.VolumeMounts = []corev1.VolumeMount{{Name: "work", MountPath: "/work"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	return pod
}

func (w *world) create(ctx context.Context, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	made, err := w.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create pod %s/%s: %w", namespace, pod.Name, err)
	}
	return made, nil
}

// ready creates a pod and waits until it is Ready.
func (w *world) ready(ctx context.Context, namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
	made, err := w.create(ctx, namespace, pod)
	if err != nil {
		return nil, err
	}
	return w.awaitPod(ctx, namespace, made.Name, "is Ready", func(p *corev1.Pod) string { return notReady(p) })
}

// awaitPod waits until a pod lacks nothing.
func (w *world) awaitPod(ctx context.Context, namespace, name, what string, lacks func(*corev1.Pod) string) (*corev1.Pod, error) {
	var pod *corev1.Pod
	err := await(ctx, "pod "+namespace+"/"+name+" "+what, func(ctx context.Context) (string, error) {
		var err error
		if pod, err = w.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil {
			return "", err
		}
		return lacks(pod), nil
	})
	return pod, err
}

// notReady says what a pod lacks to be Ready.
func notReady(pod *corev1.Pod) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return ""
		}
	}
	lacks := "its phase is " + string(pod.Status.Phase)
	for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		switch {
		case s.State.Waiting != nil:
			lacks += fmt.Sprintf("; %s waits: %s %s", s.Name, s.State.Waiting.Reason, s.State.Waiting.Message)
		case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
			lacks += fmt.Sprintf("; %s ended with code %d", s.Name, s.State.Terminated.ExitCode)
		case s.State.Running != nil && !s.Ready:
			lacks += fmt.Sprintf("; %s is not ready", s.Name)
		}
	}
	return lacks
}

// injected tells whether a pod has the sidecar, as a container or as a native one.
func injected(spec *corev1.PodSpec) bool {
	for _, c := range append(append([]corev1.Container(nil), spec.Containers...), spec.InitContainers...) {
		if c.Name == sidecar {
			return true
		}
	}
	return false
}

// must is nil if what is so.
func must(so bool, format string, args ...any) error {
	if so {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// get asks a port of a pod over HTTP, by way of the API server, as kubectl does.
func (w *world) get(ctx context.Context, namespace, pod string, port int, path string, into any) error {
	raw, err := w.client.CoreV1().RESTClient().Get().Namespace(namespace).Resource("pods").
		Name(fmt.Sprintf("%s:%d", pod, port)).SubResource("proxy").Suffix(path).SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("ask port %d of pod %s/%s for %s: %w", port, namespace, pod, path, err)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("ask port %d of pod %s/%s for %s: it answers %.100q: %w", port, namespace, pod, path, raw, err)
	}
	return nil
}

// quit tells the sidecar of a pod to end.
func (w *world) quit(ctx context.Context, namespace, pod string) error {
	_, err := w.client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").
		Name(fmt.Sprintf("%s:%d", pod, statusPort)).SubResource("proxy").Suffix("/quitquitquit").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("tell the sidecar of pod %s/%s to end: %w", namespace, pod, err)
	}
	return nil
}

// exec runs a command in a container and returns what it prints.
func (w *world) exec(ctx context.Context, namespace, pod, container string, command ...string) (string, error) {
	at := w.client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	executor, err := remotecommand.NewSPDYExecutor(w.cluster.RESTConfig(), http.MethodPost, at)
	if err != nil {
		return "", err
	}
	var out, errs bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errs}); err != nil {
		return "", fmt.Errorf("run %q in container %s of pod %s/%s: %w: %s", command, container, namespace, pod, err, errs.String())
	}
	return out.String(), nil
}

// refused is nil if err is a refusal with the code and, somewhere in it, the message.
func refused(what string, err error, code int32, message string) error {
	if err == nil {
		return fmt.Errorf("%s: expected to be refused with %q, and it was created", what, message)
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return fmt.Errorf("%s: expected to be refused with %q, observed %w", what, message, err)
	}
	if s := status.Status(); s.Code != code || !strings.Contains(s.Message, message) {
		return fmt.Errorf("%s: expected to be refused with code %d and %q, observed %d %q", what, code, message, s.Code, s.Message)
	}
	return nil
}
