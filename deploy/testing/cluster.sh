# The cluster of compose.yaml under a name, ports and secrets of its own. Sourced by deploy/test.
# shellcheck shell=bash

stand_ins=
our_images=

compose() {
    (cd "$here" && $compose_program "$@")
}

# A setting of .env.
setting() { # name
    sed -n "s/^$1=//p" "$here/.env"
}

free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

cluster_images() {
    say "images"
    stand_ins=$("$here/local-images" "debian=$(setting DEBIAN_IMAGE)" "etcd=$(setting ETCD_IMAGE)" \
        "redis=$(setting REDIS_IMAGE)" "mysql=$(setting MYSQL_IMAGE)")
    export LONGWIRE_VERSION=test-$$
    our_images=$("$here/images" "$programs")
    local image bytes
    for image in $our_images; do
        bytes=$(docker image inspect -f '{{.Size}}' "$image")
        echo "$image: $((bytes / 1000000)) MB"
        # Programs of a debug build are larger than those that anybody deploys.
        [ "$profile" = debug ] || [ "$bytes" -le $IMAGE_BYTES_MAX ] || die "$image has $bytes bytes, more than $IMAGE_BYTES_MAX"
    done
}

cluster_up() {
    say "the cluster"
    export COMPOSE_PROJECT_NAME=longwiretest$$
    export SECRETS=$work/secrets
    export LONGWIRE_HOST=127.0.0.1 LONGWIRE_BIND=127.0.0.1
    local name
    for name in ROOM_1_PORT ROOM_2_PORT DISPATCHER_PORT CENTER_1_PORT CENTER_2_PORT; do
        export "$name=$(free_port)"
    done
    "$here/init" "$SECRETS"
    LONGWIRE_KEY=$(sed -n 's/^LONGWIRE_KEY=//p' "$SECRETS/tools.env")
    export LONGWIRE_KEY
    compose up -d --no-build
    cluster_ready
}

# The running services, without those that only run once.
services() {
    compose ps --services | grep -v -e '^certs$' -e '^longwire$' -e '^operator$'
}

# Health of a service's container: healthy, starting, unhealthy; or why it has none.
health() { # service
    docker inspect -f '{{if .State.Running}}{{.State.Health.Status}}{{else}}{{.State.Status}} ({{.State.ExitCode}}){{end}}' \
        "$(container "$1")" 2>/dev/null || echo missing
}

# Also of one that does not run.
container() { # service
    docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
        --filter "label=com.docker.compose.service=$1" --filter "label=com.docker.compose.oneoff=False"
}

# Tries once and again until it is so.
within() { # seconds, command…
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.2
    done
}

# Waits until all of these, or all services, are healthy.
cluster_ready() { # [service…]
    local deadline=$((SECONDS + READY_WITHIN)) service state
    for service in ${*:-$(services)}; do
        until state=$(health "$service"); [ "$state" = healthy ]; do
            [ $SECONDS -lt $deadline ] || die "$service is $state after $READY_WITHIN s"
            sleep 0.5
        done
    done
}

# What README.md says works: a second `up` changes nothing, a device listens, a backend pushes, an operator looks.
cluster_as_documented() {
    say "as README.md says"
    local before after
    before=$(docker ps -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" | sort)
    compose up -d --no-build >/dev/null 2>&1
    after=$(docker ps -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" | sort)
    [ "$before" = "$after" ] || die "a second up has replaced containers"
    compose run --rm -T longwire listen --uid alice --count 1 </dev/null >"$work/heard" 2>"$work/heard.log" &
    listens() { grep -q 'listening as' "$work/heard.log"; }
    hears() { grep 'hello from the containers' "$work/heard"; }
    within 30 listens || { cat "$work/heard.log" >&2; die "the device does not get bound"; }
    compose run --rm -T longwire push --uid alice 'hello from the containers' </dev/null
    within 30 hears || { cat "$work/heard.log" >&2; die "the device got nothing"; }
    wait $!
    compose run --rm -T operator node list </dev/null | tee "$work/nodes"
    [ "$(grep -c ready "$work/nodes")" = 10 ] || die "the operator does not see ten nodes that are ready"
}

# After all that: everything runs, nothing has panicked, and no service restarted by itself.
cluster_settled() {
    say "what the containers say"
    cluster_ready
    local service id restarts
    for service in $(services); do
        id=$(container "$service")
        if docker logs "$id" 2>&1 | grep -n -m 3 'panicked at'; then
            die "$service has panicked"
        fi
        restarts=$(docker inspect -f '{{.RestartCount}}' "$id")
        [ "$restarts" = 0 ] || die "$service ended by itself $restarts times"
    done
}

# For whoever has to find out why.
cluster_tell() {
    [ -n "${COMPOSE_PROJECT_NAME:-}" ] || return 0
    say "how the containers are"
    docker ps -a --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
        --format '{{.Names}} {{.Status}}' || true
    local service
    for service in $(services); do
        docker logs --tail 2000 "$(container "$service")" 2>&1 |
            { grep -e '"level":"\(WARN\|ERROR\)"' -e panicked -e '^[a-z]*: ' || true; } | tail -n 8 | sed "s/^/$service: /"
    done
}

cluster_down() {
    [ -z "${COMPOSE_PROJECT_NAME:-}" ] || compose down -v --remove-orphans -t 5 >/dev/null 2>&1
    local image
    # An engine of our own goes with all its images.
    if [ -z "$engine" ]; then
        for image in $our_images $stand_ins; do
            docker rmi "$image" >/dev/null 2>&1
        done
    fi
}
