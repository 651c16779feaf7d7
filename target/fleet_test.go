// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/outrigger-k8s/outrigger/pki/pkitest"
	"github.com/outrigger-k8s/outrigger/tap"
	"github.com/outrigger-k8s/outrigger/target"
)

// pid asks an instance for its process ID.
func pid(t testing.TB, w *wire, up *tap.Upstream) int {
	t.Helper()
	call := w.ask(t, up, "")
	n, err := strconv.Atoi(strings.Fields(string(call.Response) + " x")[0])
	if call.Err != nil || err != nil {
		t.Fatalf("asking the instance who it is: %v %v, answer %q", call.Err, err, call.Response)
	}
	return n
}

func lives(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestOneInstanceForEachSettings(t *testing.T) {
	f, run := newFleet(t, fake(t, ""), target.Options{})
	w := newWire(t)
	// Equal settings, however they came to be, share one instance; callers at the same time too.
	same := []map[string]any{
		{"behave": "well", "list": []any{"a"}, "n": 1}, {"n": int64(1), "list": []string{"a"}, "behave": "well"},
		{"n": 1.0, "behave": "well", "list": []any{"a"}},
	}
	ups := make([]*tap.Upstream, 12)
	var wg sync.WaitGroup
	for i := range ups {
		wg.Go(func() {
			up, release, err := f.Instance(within(t), same[i%len(same)])
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			ups[i] = up
		})
	}
	wg.Wait()
	for _, up := range ups {
		if up == nil || up != ups[0] {
			t.Fatalf("equal settings have different upstreams")
		}
	}
	other, release, err := f.Instance(within(t), map[string]any{"behave": "well", "list": []any{"b"}, "n": 1})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	one, two := pid(t, w, ups[0]), pid(t, w, other)
	if one == two {
		t.Error("different settings have the same process")
	}
	call := w.ask(t, ups[0], "")
	want := fmt.Sprintf("%d env-of-file {\n  \"behave\": \"well\",\n  \"list\": [\n    \"a\"\n  ],\n  \"n\": 1\n}\n", one)
	if diff := cmp.Diff(want, string(call.Response)); diff != "" {
		t.Errorf("the instance has another configuration (-want +got):\n%s", diff)
	}
	f.Stop()
	if lives(one) || lives(two) {
		t.Error("an instance outlives Stop")
	}
	if err := f.Err(); err != nil {
		t.Errorf("instances that were stopped count as dead: %v", err)
	}
	if _, _, err := f.Instance(within(t), same[0]); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("Instance after Stop: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(run.Dir(), "target", "*", "config.yaml"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
}

func TestSettingsTemplate(t *testing.T) {
	f, _ := newFleet(t, fake(t, `settings:
  file: values.json
  template: |
    {"behave": "well", "mode": {{json .policy}}{{range .list}}, "{{.}}": 1{{end}}}
`), target.Options{})
	w := newWire(t)
	up, release, err := f.Instance(within(t), map[string]any{"policy": `<"on">`, "list": []any{"x", "y"}})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	got := string(w.ask(t, up, "").Response)
	if want := `{"behave": "well", "mode": "<\"on\">", "x": 1, "y": 1}`; !strings.Contains(got, want) {
		t.Errorf("the instance read %q, want %q", got, want)
	}
	// A setting that the case does not have must not turn into the text "<no value>".
	if _, _, err := f.Instance(within(t), map[string]any{"list": []any{}}); err == nil ||
		!strings.Contains(err.Error(), `"policy"`) {
		t.Errorf("a setting that is not there: %v, want an error that names it", err)
	}
}

func TestStartsThatFail(t *testing.T) {
	for _, tc := range []struct {
		behave string
		more   []string // texts of the error
	}{
		{"exit", []string{"fake", "it was not ready when it ended", "exit status 1", "fake injector: cannot read", ".log",
			`{"behave":"exit"}`}},
		{"exit at peace", []string{"it was not ready when it ended", "exit status 0"}},
		{"never ready", []string{"not ready within 300ms (process.startup)", "503", "still waiting for the moon"}},
		{"foreign certificate", []string{"not ready within 300ms", "unknown authority"}},
		{"port always taken", []string{"was taken", "address already in use"}},
	} {
		t.Run(tc.behave, func(t *testing.T) {
			subject := fake(t, "")
			if tc.behave == "never ready" || tc.behave == "foreign certificate" {
				subject.Process.Startup = target.Duration(300 * time.Millisecond)
			}
			f, run := newFleet(t, subject, target.Options{})
			var first error
			for range 2 {
				_, release, err := f.Instance(within(t), settings(tc.behave))
				if err == nil {
					release()
					t.Fatal("it started")
				}
				for _, text := range tc.more {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("the error lacks %q:\n%v", text, err)
					}
				}
				if first == nil {
					first = err
				} else if first.Error() != err.Error() {
					t.Errorf("it was started again; the second error is\n%v", err)
				}
			}
			logs, err := filepath.Glob(filepath.Join(run.Dir(), "logs", "fake-*.log"))
			want := 1
			if tc.behave == "port always taken" {
				want = 3
			}
			if err != nil || len(logs) != want {
				t.Errorf("%d starts (%v), want %d", len(logs), err, want)
			}
			pids, err := filepath.Glob(filepath.Join(run.Dir(), "target", "*", "pid"))
			if err != nil || len(pids) == 0 {
				t.Fatalf("no process ID was left (%v)", err)
			}
			for _, file := range pids {
				raw, err := os.ReadFile(file)
				if id, bad := strconv.Atoi(string(raw)); err != nil || bad != nil || lives(id) {
					t.Errorf("process %s of a start that failed lives on (%v, %v)", raw, err, bad)
				}
			}
			if err := f.Err(); err != nil {
				t.Errorf("an instance that never was counts as one that died: %v", err)
			}
		})
	}
}

func TestPortTakenOnce(t *testing.T) {
	f, _ := newFleet(t, fake(t, ""), target.Options{})
	up, release, err := f.Instance(within(t), settings("port taken once"))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if call := newWire(t).ask(t, up, ""); call.Err != nil {
		t.Error(call.Err)
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	subject := fake(t, "")
	subject.Process.Command[0] = "no-such-injector"
	f, _ := newFleet(t, subject, target.Options{})
	if _, _, err := f.Instance(within(t), nil); err == nil || !strings.Contains(err.Error(), `"no-such-injector"`) {
		t.Errorf("error %v, want one that names the program", err)
	}
}

func TestInstanceThatDies(t *testing.T) {
	f, _ := newFleet(t, fake(t, ""), target.Options{})
	w := newWire(t)
	up, release, err := f.Instance(within(t), settings("well"))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := f.Err(); err != nil {
		t.Fatalf("before anything died: %v", err)
	}
	if call := w.ask(t, up, "/die"); call.Err == nil {
		t.Error("the call that killed it was answered")
	}
	// The wire learns of the death a moment before the process is buried.
	for ctx := within(t); f.Err() == nil; {
		if ctx.Err() != nil {
			t.Fatal("nobody noticed that the instance died")
		}
	}
	_, _, err = f.Instance(within(t), settings("well"))
	for name, err := range map[string]error{"Instance": err, "Err": f.Err()} {
		for _, text := range []string{"exit status 7", "I was asked to die", ".log"} {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: the error lacks %q: %v", name, text, err)
			}
		}
	}
	if _, release, err := f.Instance(within(t), map[string]any{"behave": "well", "other": 1}); err != nil {
		t.Errorf("other settings: %v", err)
	} else {
		release()
	}
}

func TestLimitRetiresTheLeastRecentlyUsedOfTheUnused(t *testing.T) {
	f, _ := newFleet(t, fake(t, ""), target.Options{Limit: 2})
	w := newWire(t)
	pids := map[string]int{}
	releases := map[string]func(){}
	lease := func(name string) {
		t.Helper()
		up, release, err := f.Instance(within(t), map[string]any{"behave": "well", "name": name})
		if err != nil {
			t.Fatal(err)
		}
		pids[name], releases[name] = pid(t, w, up), release
	}
	alive := func(want ...string) {
		t.Helper()
		for name, id := range pids {
			wanted := false
			for _, n := range want {
				wanted = wanted || n == name
			}
			if lives(id) != wanted {
				t.Errorf("instance %s lives: %v, want %v", name, !wanted, wanted)
			}
		}
	}
	lease("a")
	lease("b")
	lease("c")
	alive("a", "b", "c") // over the limit, but all are in use
	releases["a"]()
	releases["a"]() // a second release is none of another user's
	releases["b"]()
	releases["c"]()
	lease("a") // so that b is the least recently used
	alive("a", "b", "c")
	first := pids["a"]
	lease("d")
	alive("a", "d") // b and c had to go
	releases["a"]()
	releases["d"]()
	lease("b")
	alive("b", "d")
	if pids["a"] != first {
		t.Error("a was started anew while it lived")
	}
}

func TestWaitingCanBeGivenUp(t *testing.T) {
	subject := fake(t, "")
	subject.Process.Startup = target.Duration(time.Hour)
	f, _ := newFleet(t, subject, target.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the user had enough")
	cancel(reason)
	if _, _, err := f.Instance(ctx, settings("never ready")); !errors.Is(err, reason) {
		t.Errorf("error %v, want the context's cause", err)
	}
	// The start goes on, for others; Stop cuts it short.
	done := make(chan error)
	go func() { _, _, err := f.Instance(within(t), settings("never ready")); done <- err }()
	f.Stop()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "the fleet has been stopped") {
		t.Errorf("error %v, want one that says that the fleet was stopped", err)
	}
}

func TestWarm(t *testing.T) {
	var progress []string
	f, run := newFleet(t, fake(t, ""), target.Options{Starting: 2, Warmed: func(ready, wanted int) {
		progress = append(progress, fmt.Sprintf("%d/%d", ready, wanted))
	}})
	var list []map[string]any
	for i := range 5 {
		list = append(list, map[string]any{"behave": "well", "n": i})
	}
	if err := f.Warm(within(t), list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1/5", "2/5", "3/5", "4/5", "5/5"}, progress); diff != "" {
		t.Error(diff)
	}
	_, release, err := f.Instance(within(t), list[3])
	if err != nil {
		t.Fatal(err)
	}
	release()
	if logs, _ := filepath.Glob(filepath.Join(run.Dir(), "logs", "fake-*.log")); len(logs) != 5 {
		t.Errorf("%d starts, want 5", len(logs))
	}
	if err := f.Warm(within(t), []map[string]any{settings("well"), settings("exit")}); err == nil ||
		!strings.Contains(err.Error(), "cannot read") {
		t.Errorf("with one that fails: %v", err)
	}
}

func TestVersion(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asInjector, "1")
	for _, tc := range []struct{ name, more, want, err string }{
		{"declared", fmt.Sprintf("version: [%q, version]\n", self), "fake 1.2.3", ""},
		{"not declared", "", "", ""},
		{"fails", fmt.Sprintf("version: [%q, /missing]\n", self), "", "no such file"},
		{"not there", "version: [no-such-program]\n", "", `"no-such-program"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, _ := newFleet(t, fake(t, tc.more), target.Options{})
			got, err := f.Version(within(t))
			if got != tc.want || (tc.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q, %v; want %q, error with %q", got, err, tc.want, tc.err)
			}
		})
	}
}

func TestReadyWithoutPath(t *testing.T) {
	subject := fake(t, "")
	subject.Process.Ready = ""
	f, _ := newFleet(t, subject, target.Options{})
	up, release, err := f.Instance(within(t), settings("never ready")) // it takes connections, though
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if call := newWire(t).ask(t, up, ""); call.Err != nil {
		t.Error(call.Err)
	}
}

func TestTargetThatRunsAlready(t *testing.T) {
	authority := pkitest.Authority(t)
	server := pkitest.Serve(t, authority, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "running at ", r.URL.Path)
	}))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), authority.CABundle(), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("schema: outrigger.dev/target/v1alpha1\nname: running\nprofiles: [p]\nurl:\n"+
		"  address: %s/mutate\n  caFile: ca.pem\n  settings: {policy: on, list: [1, {a: b}]}\n", server.URL)
	subject, err := target.Parse(filepath.Join(dir, "t.yaml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f := target.NewFleet(nil, subject, target.Options{})
	defer f.Stop()
	up, release, err := f.Instance(within(t), map[string]any{"list": []any{1, map[string]any{"a": "b"}}, "policy": "on"})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if call := newWire(t).ask(t, up, ""); string(call.Response) != "running at /mutate" {
		t.Errorf("answered %q, %v", call.Response, call.Err)
	}
	for _, other := range []map[string]any{nil, {"policy": "on"}, {"policy": true, "list": []any{1, map[string]any{"a": "b"}}}} {
		_, _, err := f.Instance(within(t), other)
		if !errors.Is(err, target.ErrFixedSettings) || !strings.Contains(err.Error(), `{"list":[1,{"a":"b"}],"policy":"on"}`) {
			t.Errorf("settings %v: %v, want ErrFixedSettings with the settings it has", other, err)
		}
	}
	if err := f.Warm(within(t), []map[string]any{nil, {"policy": "on"}}); err != nil {
		t.Errorf("Warm with settings that it cannot have: %v", err)
	}
	if v, err := f.Version(within(t)); v != "" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
	if _, err := target.Parse(filepath.Join(dir, "t.yaml"), bytes.Replace([]byte(text), []byte("ca.pem"), []byte("x.pem"), 1)); err != nil {
		t.Errorf("a CA file that is not there is found out when it is needed: %v", err)
	}
}

// Somebody takes the port between choice and start, for real, and the target does not say what is wrong.
func TestPortTakenFromATargetThatIsMute(t *testing.T) {
	told, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var thieves sync.WaitGroup
	thieves.Go(func() {
		for {
			conn, err := told.Accept()
			if err != nil {
				return
			}
			port, _ := bufio.NewReader(conn).ReadString('\n')
			thief, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strings.TrimSpace(port)))
			if err != nil {
				t.Error(err)
			} else {
				defer thief.Close()
			}
			conn.Close()
		}
	})
	defer thieves.Wait()
	defer told.Close()
	f, run := newFleet(t, fake(t, ""), target.Options{})
	_, _, err = f.Instance(within(t), map[string]any{"behave": "mute", "tell": told.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "was taken") {
		t.Errorf("error %v, want one that blames the port", err)
	}
	if logs, _ := filepath.Glob(filepath.Join(run.Dir(), "logs", "fake-*.log")); len(logs) != 3 {
		t.Errorf("%d starts, want 3", len(logs))
	}
}
