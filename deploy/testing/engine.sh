# A Docker engine and Compose: the ones at hand, else Debian's, with a data folder of our own. Sourced by deploy/test.
# shellcheck shell=bash

engine=
engine_rules=

engine_find() {
    if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
        say "the Docker engine at hand: $(docker version -f '{{.Server.Version}}')"
    else
        engine_packages
        engine_start
    fi
    if docker compose version >/dev/null 2>&1; then
        compose_program="docker compose"
    elif command -v docker-compose >/dev/null; then
        compose_program="docker-compose"
    else
        packages docker-compose
        compose_program="docker-compose"
    fi
    say "$compose_program: $($compose_program version --short)"
}

# Installs Debian packages, without starting what they would start.
packages() { # package…
    if [ "$(id -u)" != 0 ] || ! [ -e /etc/debian_version ]; then
        die "there is no Docker engine that this user can reach. Start one, or (Debian, as root): apt-get install $*"
    fi
    say "installing $*"
    local policy=/usr/sbin/policy-rc.d ours=
    if ! [ -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && ours=1
    fi
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"; } \
        >"$work/apt.log" 2>&1 || { tail -n 20 "$work/apt.log" >&2; failed=1; }
    [ -z "$ours" ] || rm $policy
    [ -z "${failed:-}" ] || die "could not install $*"
}

engine_packages() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || missing+=(docker-compose)
    command -v iptables >/dev/null || missing+=(iptables)
    [ ${#missing[@]} = 0 ] || packages "${missing[@]}"
    [ "$(id -u)" = 0 ] || die "no Docker engine answers, and only root can start one"
}

# Everything that it keeps is in our folder; what it changes of the machine's network is noted, to be put back.
engine_start() {
    engine=$work/engine
    mkdir -p "$engine"
    engine_forward=$(cat /proc/sys/net/ipv4/ip_forward)
    # An engine that finds forwarding off turns it on and then drops what others forward.
    echo 1 >/proc/sys/net/ipv4/ip_forward
    ip link show docker0 >/dev/null 2>&1 || engine_bridge=1
    iptables-save 2>/dev/null | grep -q DOCKER || engine_rules=1
    say "starting a Docker engine on $engine"
    # A new session: an interrupt of the test must not end it before its containers are gone.
    setsid dockerd --data-root "$engine/data" --exec-root "$engine/exec" --pidfile "$engine/pid" \
        --host "unix://$engine/socket" >"$engine/log" 2>&1 &
    engine_pid=$!
    export DOCKER_HOST="unix://$engine/socket"
    unset DOCKER_CONTEXT
    until docker info >/dev/null 2>&1; do
        kill -0 "$engine_pid" 2>/dev/null || { tail -n 20 "$engine/log" >&2; die "the Docker engine ended"; }
        sleep 0.3
    done
    say "storage driver $(docker info -f '{{.Driver}}'), cgroups v$(docker info -f '{{.CgroupVersion}}')"
}

engine_stop() {
    [ -n "$engine" ] || return 0
    kill "$engine_pid" 2>/dev/null || return 0
    wait "$engine_pid" 2>/dev/null || true
    [ -z "${engine_bridge:-}" ] || ip link delete docker0 2>/dev/null || true
    if [ -n "$engine_rules" ]; then
        local table
        for table in filter nat raw; do
            # Rules and chains of Docker go, those of others stay.
            iptables-save -t $table | grep -v -e DOCKER -e docker0 | iptables-restore -T $table || true
        done
    fi
    echo "$engine_forward" >/proc/sys/net/ipv4/ip_forward
    # Layers and namespaces that are still mounted would be deleted through.
    local mount
    for mount in $(sed -n "s|^[^ ]* \(${engine}[^ ]*\) .*|\1|p" /proc/mounts | sort -r); do
        umount "$mount" || true
    done
}
