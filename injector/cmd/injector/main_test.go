// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// files writes a configuration, a certificate for 127.0.0.1 and its key, and returns their directory and the pool that
// trusts the certificate.
func files(t testing.TB) (dir string, roots *x509.CertPool) {
	t.Helper()
	dir = t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"tls.key":     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		"tls.crt":     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"config.yaml": []byte("dialect: istio-classic\n"),
		"broken.yaml": []byte("dialect: istio-classic\npolicies: enabled\n"),
		"odd.yaml":    []byte("dialect: istio-classic\npolicy: on\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	return dir, roots
}

func TestExitCodes(t *testing.T) {
	dir, _ := files(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	// In the arguments, @x is the file x in the directory.
	const serve = "serve --config @config.yaml --tls-cert @tls.crt --tls-key @tls.key --listen 127.0.0.1:0"
	tests := []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"", 2, "", "Commands:"},
		{"help", 0, "Commands:", ""},
		{"--help", 0, "Commands:", ""},
		{"inject", 2, "", `there is no command "inject"`},
		{"version", 0, "injector ", ""},
		{"version x", 2, "", `there is no argument "x"`},
		{"check --help", 0, "", "-config FILE"},
		{"check", 2, "", "--config is required"},
		{"check --config @none.yaml", 2, "", "no such file"},
		{"check --config @config.yaml", 0, "ok: dialect istio-classic, policy enabled, sha256 ", ""},
		{"check --config @odd.yaml", 0, `odd.yaml: warning: line 2: policy: "on"`, ""},
		{"check --config @broken.yaml", 2, "", `broken.yaml: line 2: unknown field "policies"`},
		{"check --verbose", 2, "", "flag provided but not defined: -verbose"},
		{"serve --config @config.yaml", 2, "", "--tls-cert is required"},
		{"serve --tls-cert @tls.crt --tls-key @tls.key", 2, "", "--config is required"},
		{serve + " --namespace x", 2, "", "--config and --namespace exclude each other"},
		{serve + " --secret x", 2, "", "--secret needs --namespace"},
		{"serve --namespace x", 2, "", "--replica is required"},
		{"serve --namespace x --replica r --service=", 2, "", "--service is required"},
		{"serve --namespace x --replica r --leaf-validity 2h --authority-validity 1h", 2, "", "--leaf-validity"},
		{"serve --namespace x --replica r", 3, "", "find out how to reach the API server"},
		{"serve --namespace x --replica r --kubeconfig @none", 3, "", "find out how to reach the API server"},
		{"init", 2, "", "--out is required"},
		{"init --out @seen.json", 0, "seen.json", ""},
		{"init --out @none/seen.json", 3, "", "write down what is seen"},
		{"proxy --listen 127.0.0.1:0 --status-listen 127.0.0.1:0", 0, "", `"msg":"stopped"`},
		{"proxy --listen 127.0.0.1:0 --status-listen " + taken.Addr().String(), 3, "", "address already in use"},
		{"proxy --status-listen 127.0.0.1:0 --listen " + taken.Addr().String(), 3, "", "address already in use"},
		{"proxy --forward=", 2, "", "--forward is required"},
		{"app --listen 127.0.0.1:0", 0, "", `"msg":"stopped"`},
		{"app --listen " + taken.Addr().String(), 3, "", "address already in use"},
		{serve + " --drain x", 2, "", "-drain"},
		{serve + " --drain -1s", 2, "", "--drain must not be negative"},
		{serve + " --log-level loud", 2, "", "-log-level"},
		{serve + " --config @broken.yaml", 2, "", `unknown field "policies"`},
		{serve + " --config @none.yaml", 2, "", "no such file"},
		{serve + " --tls-cert @none.crt", 3, "", "read certificate"},
		{serve + " --tls-cert @tls.key", 3, "", "read certificate"},
		{serve + " --listen " + taken.Addr().String(), 3, "", "address already in use"},
		{serve + " --listen nowhere", 3, "", "listen on nowhere"},
		{serve + " --metrics-listen " + taken.Addr().String(), 3, "", "address already in use"},
		{serve, 0, "", `"msg":"stopped"`}, // the context is done from the start
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			var stdout, stderr bytes.Buffer
			args := strings.Fields(strings.ReplaceAll(test.args, "@", dir+"/"))
			if code := run(ctx, args, &stdout, &stderr); code != test.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, test.code, &stdout, &stderr)
			}
			if !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) {
				t.Errorf("stdout %q, want %q\nstderr %q, want %q", &stdout, test.stdout, &stderr, test.stderr)
			}
		})
	}
}

// process is a serve command that runs in this process.
type process struct {
	stop    context.CancelFunc
	log     chan map[string]any // one entry each
	exit    chan int
	client  *http.Client
	url     string
	metrics string
}

// start starts a serve command and waits until it serves.
func start(t *testing.T, dir string, roots *x509.CertPool, flags ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	read, write := io.Pipe()
	p := &process{
		stop: cancel, log: make(chan map[string]any, 1000), exit: make(chan int, 1),
		client: &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true,
		}},
	}
	go func() {
		args := append([]string{"serve", "--config", filepath.Join(dir, "config.yaml"), "--tls-cert", filepath.Join(dir, "tls.crt"),
			"--tls-key", filepath.Join(dir, "tls.key"), "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"}, flags...)
		p.exit <- run(ctx, args, io.Discard, write)
		write.Close()
	}()
	go func() {
		defer close(p.log)
		for d := json.NewDecoder(read); ; {
			var entry map[string]any
			if err := d.Decode(&entry); err != nil {
				return
			}
			if !strings.HasPrefix(entry["msg"].(string), "http: TLS handshake error") { // tests that only knock
				p.log <- entry
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		p.client.CloseIdleConnections()
		for range p.log {
		}
	})
	entry := p.await(t, "serving")
	p.url = "https://" + entry["listen"].(string)
	p.metrics = "http://" + entry["metricsListen"].(string)
	return p
}

// await returns the next log entry with a message.
func (p *process) await(t *testing.T, message string) map[string]any {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		select {
		case entry, open := <-p.log:
			if !open {
				t.Fatalf("the process has ended before it logged %q", message)
			}
			if entry["msg"] == message {
				return entry
			}
		case <-deadline:
			t.Fatalf("%q was not logged", message)
		}
	}
}

func (p *process) get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := p.client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

func (p *process) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case code := <-p.exit:
		return code
	case <-time.After(20 * time.Second):
		t.Fatal("the process does not end")
		return -1
	}
}

const review = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u",
	"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},
	"namespace":"shop","operation":"CREATE","object":{"metadata":{},"spec":{"containers":[]}}}}`

func TestServe(t *testing.T) {
	dir, roots := files(t)
	p := start(t, dir, roots)
	r, err := p.client.Post(p.url+"/inject", "application/json", strings.NewReader(review))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 || !strings.Contains(string(text), `"patchType":"JSONPatch"`) || r.ProtoMajor != 2 {
		t.Errorf("got %s %d, %v: %s", r.Proto, r.StatusCode, err, text)
	}
	if code, text := p.get(t, p.metrics+"/metrics"); code != 200 ||
		!strings.Contains(text, `injector_decisions_total{decision="injected",rule="policy-enabled"} 1`) {
		t.Errorf("metrics: %d %s", code, text)
	}

	// A new configuration arrives while it runs; a broken one does not.
	config := filepath.Join(dir, "config.yaml")
	if err := os.Rename(filepath.Join(dir, "odd.yaml"), config); err != nil {
		t.Fatal(err)
	}
	arrived := p.await(t, "new configuration in force")["configuration"].(string)
	if _, text := p.get(t, p.url+"/readyz"); !strings.Contains(text, arrived) {
		t.Errorf("%s does not name %s", text, arrived)
	}
	if err := os.Rename(filepath.Join(dir, "broken.yaml"), config); err != nil {
		t.Fatal(err)
	}
	p.await(t, "new configuration refused, the old one stays in force")
	if _, text := p.get(t, p.metrics+"/readyz"); !strings.Contains(text, arrived) {
		t.Errorf("%s does not name %s", text, arrived)
	}
	_, text2 := p.get(t, p.metrics+"/metrics")
	for _, want := range []string{`injector_reloads_total{file="configuration",result="ok"} 1`,
		`injector_reloads_total{file="configuration",result="refused"} 1`, `hash="` + arrived + `"`, "process_resident_memory_bytes"} {
		if !strings.Contains(text2, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	p.stop()
	if code := p.exitCode(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestGracefulStop stops a process while a review is on its way: it is unready at once, answers the review, and then
// takes no more connections.
func TestGracefulStop(t *testing.T) {
	dir, roots := files(t)
	p := start(t, dir, roots, "--drain", "1s")
	body, rest := io.Pipe()
	type result struct {
		code int
		text []byte
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		r, err := p.client.Post(p.url+"/inject", "application/json", body)
		if err != nil {
			answered <- result{err: err}
			return
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		answered <- result{r.StatusCode, text, err}
	}()
	if _, err := io.WriteString(rest, review[:10]); err != nil { // returns once the client has begun to send
		t.Fatal(err)
	}
	p.get(t, p.url+"/healthz") // on the same HTTP/2 connection, after the review's header
	p.stop()
	p.await(t, "stopping")
	if code, text := p.get(t, p.url+"/readyz"); code != 503 || !strings.Contains(text, `"ready":false`) {
		t.Errorf("while it drains: %d %s", code, text)
	}
	if code, _ := p.get(t, p.url+"/healthz"); code != 200 {
		t.Errorf("while it drains, health is %d", code)
	}
	for { // until the drain is over, and new connections are refused
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "https://"))
		if err != nil {
			break
		}
		conn.Close()
	}
	select {
	case r := <-answered:
		t.Fatalf("answered before it was sent: %+v", r)
	case code := <-p.exit:
		t.Fatalf("ended with %d while a review was on its way", code)
	default:
	}
	_, err := io.WriteString(rest, review[10:])
	if err := errors.Join(err, rest.Close()); err != nil {
		t.Fatal(err)
	}
	if r := <-answered; r.err != nil || r.code != 200 || !strings.Contains(string(r.text), `"uid":"u"`) {
		t.Errorf("the review on its way: %+v", r)
	}
	if code := p.exitCode(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := p.client.Get(p.url + "/healthz"); err == nil {
		t.Error("it still answers")
	}
	p.client.CloseIdleConnections()
}

// TestStopsWithoutDrain checks that nothing is waited for by default.
func TestStopsWithoutDrain(t *testing.T) {
	dir, roots := files(t)
	p := start(t, dir, roots)
	begin := time.Now()
	p.stop()
	if code := p.exitCode(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestExitCodeOfWrappedErrors(t *testing.T) {
	if code := exitCode(fmt.Errorf("wrapped: %w", usageError{errors.New("x")})); code != exitUsage {
		t.Errorf("got %d", code)
	}
	if code := exitCode(errors.New("x")); code != exitInfrastructure {
		t.Errorf("got %d", code)
	}
}
