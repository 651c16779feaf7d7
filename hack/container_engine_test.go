// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package hack_test holds the tests of the scripts in this folder.
package hack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// life starts, kills and stops an engine in namespaces of its own: an own network, own processes, and own folders in the
// place of those that the daemon uses. Each line of its output that begins with "check" is looked at below.
const life = `set -eu
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mount --bind "$DATA" /var/lib/docker
mount -t tmpfs tmpfs /usr/local/sbin
ip link set lo up
iptables -A INPUT -s 192.0.2.1 -j DROP # somebody else's
state() {
  echo "links=$(ip -o link | awk -F': ' '{print $2}' | xargs) rules=$(iptables-save | grep '^-A' | xargs -0)" \
    "policy=$(iptables -S FORWARD | head -n 1) forward=$(cat /proc/sys/net/ipv4/ip_forward)" \
    "daemons=$(ps -eo comm | grep -cE '^(dockerd|containerd)' || true)" | tr '\n' ';'
  echo
}
command=$PWD/container-engine.sh
echo "check before: $(state)"
$command start
echo "check again: $($command start)"
echo "check status: $($command status)"
tar -C "$PROGRAM" -c program | docker import - own:1
docker network create own
docker run -d --name sleeper --privileged --network own -p 127.0.0.1:7777:80 own:1 /program sleep
docker exec --privileged sleeper /program
kill -9 "$(cat /run/outrigger-engine/dockerd.pid)"
tail --pid="$(cat /run/outrigger-engine/dockerd.pid)" -f /dev/null
$command start
docker start sleeper
docker run --rm --privileged own:1 /program
kill -9 "$(cat /run/outrigger-engine/dockerd.pid)"
tail --pid="$(cat /run/outrigger-engine/dockerd.pid)" -f /dev/null
$command stop
echo "check after: $(state)"
echo "check nothing: $($command stop)"

# A start that fails halfway, and one that is cut off, leave nothing.
mkdir /run/broken
printf '#!/bin/sh\ncase $1 in version) exit 1;; esac\nexec '"$(command -v docker)"' "$@"\n' >/run/broken/docker # never answers
chmod +x /run/broken/docker
PATH=/run/broken:$PATH setsid $command start &
until [ -s /run/outrigger-engine/dockerd.pid ]; do sleep 0.1; done
kill -TERM $!
code=0; wait $! || code=$?
echo "check cut: exit $code"
rm -r /run/broken
echo "check aftercut: $(state)"
printf '#!/bin/sh\nexit 7\n' >/usr/local/sbin/dockerd
chmod +x /usr/local/sbin/dockerd
code=0; PATH=/usr/local/sbin:$PATH $command start || code=$?
echo "check failed: exit $code"
echo "check afterfailed: $(state)"

# Where there is systemd it starts Docker, and stop has it stop just what did not run before.
mkdir -p /run/systemd/system
cat >/usr/local/sbin/systemctl <<'.'
#!/bin/sh
case $1 in
is-active) [ "$3" = containerd.service ] ;;
start) touch /run/answers ;;
stop) shift; rm -f /run/answers; echo "$*" >/run/stopped ;;
esac
.
printf '#!/bin/sh\ntest -e /run/answers && echo 1\n' >/usr/local/sbin/docker
chmod +x /usr/local/sbin/*
PATH=/usr/local/sbin:$PATH
echo "check systemd: $($command start)"
echo "check stopping: $($command stop | xargs)"
echo "check stopped: $(cat /run/stopped)"
`

const program = `package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	fmt.Println("check runs")
	if len(os.Args) > 1 {
		time.Sleep(time.Hour) // until it is killed
	}
}
`

func TestContainerEngine(t *testing.T) {
	if os.Getenv("OUTRIGGER_ENGINE") == "" {
		t.Skip("starts a container engine, in namespaces of its own: OUTRIGGER_ENGINE=1 asks for it; needs root, and docker.io installed")
	}
	data, built := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(built, "main.go"), []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(built, "program"), filepath.Join(built, "main.go"))
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	command := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
		"bash", "-c", life)
	command.Env = append(os.Environ(), "DATA="+data, "PROGRAM="+built, "DOCKER_HOST=")
	out, err := command.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	checks := map[string]string{}
	runs := 0
	for line := range strings.Lines(string(out)) {
		if strings.TrimSpace(line) == "check runs" {
			runs++
		} else if what, found := strings.CutPrefix(line, "check "); found {
			name, seen, _ := strings.Cut(strings.TrimSpace(what), ": ")
			checks[name] = seen
		}
	}
	if checks["before"] == "" || checks["after"] != checks["before"] {
		t.Errorf("stop left something:\n%s\nbefore start it was\n%s", checks["after"], checks["before"])
	}
	for _, after := range []string{"aftercut", "afterfailed"} {
		if checks[after] != checks["before"] {
			t.Errorf("%s: a start that did not end well left something:\n%s\nbefore it was\n%s", after, checks[after], checks["before"])
		}
	}
	if checks["cut"] != "exit 143" || checks["failed"] != "exit 3" {
		t.Errorf("starts that did not end well: cut off: %s, failed: %s", checks["cut"], checks["failed"])
	}
	if !strings.HasSuffix(checks["before"], "daemons=0;") {
		t.Errorf("daemons before the start: %s", checks["before"])
	}
	for name, want := range map[string]string{"again": "docker answers: nothing to do", "status": "docker", "nothing": "nothing to stop"} {
		if !strings.Contains(checks[name], want) {
			t.Errorf("%s: %q, want %q", name, checks[name], want)
		}
	}
	if checks["systemd"] != "container engine: docker answers, started by systemd; stop has systemd stop it" || checks["stopped"] != "docker.service docker.socket" {
		t.Errorf("with systemd: start says %q, stop stops %q", checks["systemd"], checks["stopped"])
	}
	if runs < 2 {
		t.Errorf("%d privileged processes ran, want an exec's and a container's", runs)
	}
}
