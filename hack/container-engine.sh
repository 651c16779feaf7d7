#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A container engine for the kind lane on a bare Debian machine: a CI runner or a virtual machine that has none, and often
# no init system to start one.
#
#   hack/container-engine.sh start    installs and starts Docker, unless an engine answers already
#   hack/container-engine.sh status   says which engine answers; exit code 1 if none does
#   hack/container-engine.sh stop     ends what start has started, and takes back what it did to the network
#
# start does nothing where docker, podman or nerdctl answers; where it fails, or is interrupted, it takes back what it has
# begun. stop leaves packages, and images in /var/lib/docker, where they are. Both can be repeated, and interrupted, at any
# time.
set -euo pipefail

state=/run/outrigger-engine # gone after a reboot, as what it describes
log=/var/log/outrigger-dockerd.log
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
unset OUTRIGGER_RUN # the daemon is nobody's child: no run's end may take it along

say() { printf 'container engine: %s\n' "$*"; }
die() { printf 'container engine: %s\n' "$*" >&2; exit 3; }

# engine prints the name of the first engine that answers: the one that lane/kind/nodeimage/engine.go takes.
engine() {
  local name
  for name in docker podman nerdctl; do
    if command -v "$name" >/dev/null && timeout 30 "$name" version --format '{{.Server.Version}}' >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  return 1
}

# runs PIDFILE PROGRAM prints the ID in the file if a process with that ID runs that program: after a kill -9 the kernel
# may have given the ID to another.
runs() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] || return 1
  [ "$(basename "$(readlink "/proc/$pid/exe" | sed 's/ (deleted)$//')" 2>/dev/null)" = "$2" ] || return 1
  echo "$pid"
}

# missing_capabilities tells whether the kernel knows a capability that no process here can have.
missing_capabilities() {
  local bounding full
  bounding=$((16#$(awk '$1 == "CapBnd:" {print $2}' /proc/self/status)))
  full=$(((1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1))
  (((bounding & full) != full))
}

install_packages() {
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v docker >/dev/null || missing+=(docker.io)
  command -v iptables >/dev/null || missing+=(iptables)
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "no engine answers, and this is no Debian to install one on (no apt-get): install and start Docker, or podman"
  say "installing ${missing[*]}, since no engine answers"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$state/apt.log" 2>&1 || {
    tail -n 20 "$state/apt.log" >&2
    die "apt-get could not install ${missing[*]}"
  }
}

# configure writes the daemon's configuration: ours, not /etc/docker's.
configure() {
  if missing_capabilities; then
    command -v go >/dev/null || die "the capability bounding set of this machine is not complete, so containers need hack/runc-in-bounds: install Go to build it"
    (cd "$here/.." && CGO_ENABLED=0 go build -trimpath -o "$state/runc-in-bounds.new" ./hack/runc-in-bounds)
    mv "$state/runc-in-bounds.new" "$state/runc-in-bounds"
    say "containers start through hack/runc-in-bounds: the capability bounding set of this machine is not complete ($(awk '$1 == "CapBnd:" {print $2}' /proc/self/status))"
    printf '{"runtimes": {"in-bounds": {"path": "%s"}}, "default-runtime": "in-bounds"}\n' "$state/runc-in-bounds" >"$state/daemon.json"
  else
    echo '{}' >"$state/daemon.json"
  fi
}

# remember keeps what dockerd changes beside its own chains: forwarding, and what becomes of what nothing forwards.
remember() {
  [ ! -e "$state/before" ] || return 0
  {
    echo "forward_policy=$(iptables -S FORWARD | awk '$1 == "-P" {print $3}')"
    echo "ip_forward=$(cat /proc/sys/net/ipv4/ip_forward)"
  } >"$state/before.new"
  mv "$state/before.new" "$state/before"
}

# remember_units keeps which of Docker's units systemd does not run yet: installing and starting Docker starts them all.
remember_units() {
  local unit
  [ ! -e "$state/units" ] || return 0
  for unit in docker.service docker.socket containerd.service; do
    systemctl is-active --quiet "$unit" || echo "$unit"
  done >"$state/units.new"
  mv "$state/units.new" "$state/units"
}

# launch starts dockerd, in a session of its own, and waits until it answers.
launch() {
  local pid began=$SECONDS
  runs "$state/dockerd.pid" dockerd >/dev/null || rm -f "$state/dockerd.pid"
  setsid dockerd --config-file "$state/daemon.json" --pidfile "$state/dockerd.pid" </dev/null >>"$log" 2>&1 9>&- &
  pid=$!
  launched=$pid
  until timeout 30 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; do
    if ! kill -0 "$pid" 2>/dev/null; then
      tail -n 15 "$log" >&2
      die "dockerd ended while it started; its log is $log"
    fi
    ((SECONDS - began < 180)) || die "dockerd has not answered for 180 s; its log is $log"
    sleep 0.2
  done
  say "dockerd ($pid) answers after $((SECONDS - began)) s; its log is $log"
}

start() {
  local name
  if name=$(engine); then
    say "$name answers: nothing to do"
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then
    command -v docker >/dev/null && docker version 2>&1 >/dev/null | tail -n 1 >&2
    die 'no engine answers, and only root can install and start one: start yours, see that you may talk to it (group docker), or run this as root'
  fi
  mkdir -p "$state"
  exec 9>"$state/lock"
  flock 9 # two that start at the same time start one
  if name=$(engine); then
    say "$name answers, started by somebody else just now: nothing to do"
    return
  fi
  trap give_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  if [ -d /run/systemd/system ]; then
    remember_units
  fi
  install_packages
  if [ -d /run/systemd/system ] && systemctl start docker && name=$(engine); then
    trap - EXIT
    say "$name answers, started by systemd; stop has systemd stop it"
    return
  fi
  configure
  remember
  launch
  trap - EXIT
}

# give_up takes back what a start has begun that failed or was interrupted. A daemon that has not written its ID yet is
# known by launched.
launched=
give_up() {
  local code=$?
  set +e
  say 'it could not be started: taking back what was begun'
  if [ -n "$launched" ] && kill -TERM "$launched" 2>/dev/null; then
    timeout 60 tail --pid="$launched" -f /dev/null || kill -KILL "$launched"
  fi
  take_back
  exit "$code"
}

# take_back ends what start has started, and sets back what it has changed.
take_back() {
  if [ -e "$state/before" ]; then
    end "$state/dockerd.pid" dockerd
    end /run/docker/containerd/containerd.pid containerd
    clean_mounts
    clean_network
    rm -rf --one-file-system /run/docker
  fi
  if [ -s "$state/units" ]; then
    # shellcheck disable=SC2046 # one word a unit
    systemctl stop $(cat "$state/units") || say "systemd could not stop $(xargs <"$state/units")"
  fi
  rm -rf --one-file-system "$state"
}

# end PIDFILE PROGRAM ends a process of ours, by force after a while.
end() {
  local pid
  pid=$(runs "$1" "$2") || return 0
  kill -TERM "$pid" 2>/dev/null || return 0
  timeout 60 tail --pid="$pid" -f /dev/null || kill -KILL "$pid"
}

# clean_mounts takes away what a daemon that did not end well has left mounted.
clean_mounts() {
  local at
  awk '$2 ~ "^(/var)?/run/docker/|^/var/lib/docker/" {print $2}' /proc/self/mounts | sort -ru | while read -r at; do
    ! mountpoint -q "$at" || umount "$at" || say "$at stays mounted"
  done
}

# clean_network takes away bridges, chains and rules of Docker's, and sets back what remember kept.
clean_network() {
  local link ours='DOCKER|docker0|br-[0-9a-f]{12}' forward_policy ip_forward
  for link in $(ip -o link show type bridge | awk -F': ' '{print $2}'); do
    [[ ! $link =~ ^(docker0|br-[0-9a-f]{12})$ ]] || ip link delete "$link"
  done
  iptables-save | grep -vE -- "$ours" | iptables-restore
  if [ -e "$state/before" ]; then
    # shellcheck source=/dev/null
    . "$state/before"
    iptables -P FORWARD "$forward_policy"
    echo "$ip_forward" >/proc/sys/net/ipv4/ip_forward
  fi
}

stop() {
  if [ ! -e "$state/before" ] && [ ! -s "$state/units" ]; then
    say 'nothing to stop: start has started nothing here'
    return
  fi
  [ "$(id -u)" -eq 0 ] || die 'only root can stop what root has started'
  exec 9>"$state/lock"
  flock 9
  if [ -e "$state/before" ] && ! runs "$state/dockerd.pid" dockerd >/dev/null; then
    say 'dockerd was killed: starting it once more, since it alone knows what it has left running'
    configure
    launch
  fi
  say 'stopping the engine, and the containers that run'
  take_back
  say 'stopped; images stay in /var/lib/docker'
}

case ${1:-start} in
start) start ;;
stop) stop ;;
status) engine || { echo 'no container engine answers' >&2; exit 1; } ;;
*) echo "usage: $0 start|stop|status" >&2; exit 2 ;;
esac
