// SPDX-License-Identifier: Apache-2.0

package standin

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func get(t *testing.T, url string, into any) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode
}

func TestLook(t *testing.T) {
	t.Setenv("STANDIN_TEST", "a=b")
	path := filepath.Join(t.TempDir(), "seen.json")
	if err := Look().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	var s Seen
	if text, err := os.ReadFile(path); err != nil || json.Unmarshal(text, &s) != nil {
		t.Fatal(err)
	}
	if s.Env["STANDIN_TEST"] != "a=b" || s.Hostname == "" || s.UID != os.Getuid() || s.Time.IsZero() {
		t.Errorf("seen: %+v", s)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".seen*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := s.WriteFile(filepath.Join(path, "none")); err == nil {
		t.Error("it can be written below a file")
	}
}

func TestMountPoints(t *testing.T) {
	got := mountPoints([]byte("29 1 0:26 / / rw - overlay overlay rw\n30 29 0:5 / /with\\040blank rw - proc proc rw\n31 29 0:5 / / rw - x x x\nodd\n"))
	if !slices.Equal(got, []string{"/", "/with blank"}) {
		t.Errorf("got %q", got)
	}
}

// TestProxy passes a request through the proxy, and ends it while another is on its way.
func TestProxy(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	app := http.NewServeMux()
	app.Handle("/", App())
	app.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		_, _ = io.WriteString(w, `"finished"`)
	})
	application := httptest.NewServer(app)
	defer application.Close()
	seen := filepath.Join(t.TempDir(), "seen.json")
	p := &Proxy{Forward: application.Listener.Addr().String(), SeenFile: seen}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, listener, time.Minute) }()
	face := httptest.NewServer(p.Status())
	defer face.Close()

	var s status
	if code := get(t, face.URL+"/healthz/ready", &s); code != 503 || !strings.Contains(s.Waiting, "init container") {
		t.Errorf("before the init container: %d %+v", code, s)
	}
	if err := Look().WriteFile(seen); err != nil {
		t.Fatal(err)
	}
	s = status{}
	if code := get(t, face.URL+"/healthz/ready", &s); code != 200 || !s.Ready {
		t.Errorf("after the init container: %d %+v", code, s)
	}
	url := "http://" + listener.Addr().String()
	var answered Seen
	if code := get(t, url, &answered); code != 200 || answered.Hostname == "" {
		t.Errorf("through the proxy: %d %+v", code, answered)
	}
	s = status{}
	if get(t, face.URL+"/stats", &s); s.Passed != 1 || s.Init == nil {
		t.Errorf("stats: %+v", s)
	}

	slow := make(chan string, 1)
	go func() {
		var text string
		get(t, url+"/slow", &text)
		slow <- text
	}()
	<-begun
	stop()
	for { // until it takes no more
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			break
		}
		conn.Close()
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended with %v while a request was on its way", err)
	default:
	}
	close(finish)
	if text := <-slow; text != "finished" {
		t.Errorf("the request on its way: %q", text)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestProxyCutsOff ends a proxy whose connection stays open for longer than the grace.
func TestProxyCutsOff(t *testing.T) {
	application, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer application.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Forward: application.Addr().String()}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, listener, time.Millisecond) }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := application.Accept(); err != nil { // it has come through
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestProxyWithoutApplication(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Forward: dead.Addr().String()}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, listener, time.Minute) }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("something answers")
	}
	conn.Close()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if s := p.status(); s.Refused != 1 || s.Passed != 0 || !s.Ready {
		t.Errorf("%+v", s)
	}
}

func TestQuit(t *testing.T) {
	p := new(Proxy)
	face := httptest.NewServer(p.Status())
	defer face.Close()
	for range 2 {
		r, err := http.Post(face.URL+"/quitquitquit", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
	}
	<-p.Quitting()
	r, err := http.Get(face.URL + "/quitquitquit")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", r.StatusCode)
	}
}
