# Every container is killed and started again while `storm verify` pushes, listens and judges. Sourced by deploy/test.
# shellcheck shell=bash

storm_pid=

storm_run() {
    local seconds=${COMPOSE_STORM:-300} service state round=0 killed
    say "storm verify for $seconds s, while containers are killed"
    "$programs/storm" verify --users 100 --rate 200 --churn 1 --seconds "${seconds}s" --drain 90s --quiet \
        --ramp 200 --uid-prefix "storm-$$" --dispatcher "http://127.0.0.1:$DISPATCHER_PORT" \
        --center "http://127.0.0.1:$CENTER_1_PORT" --center "http://127.0.0.1:$CENTER_2_PORT" >"$work/verdict" 2>&1 &
    storm_pid=$!
    # A container that is killed in the last moments would be away while the last messages have to arrive.
    storm_until=$((SECONDS + seconds - 15))
    sleep 5
    while storm_goes_on; do
        for service in $(services | shuf); do
            storm_goes_on || break 2
            docker kill "$(container "$service")" >/dev/null
            # From at once, as a crash that is restarted, to long after its lease has ended.
            sleep "$((RANDOM % 8))"
            docker start "$(container "$service")" >/dev/null
            cluster_ready "$service"
            killed="${killed:-} $service"
            echo "$(date +%T) killed and back: $service"
        done
        round=$((round + 1))
    done
    state=0
    wait "$storm_pid" || state=$?
    storm_pid=
    cat "$work/verdict"
    [ $state = 0 ] || die "the storm's verdict is $state"
    [ $round -gt 0 ] || die "the storm ended before each container was killed once: only$killed"
}

# Killing goes on while there is load; nobody is killed when it is time to drain.
storm_goes_on() {
    kill -0 "$storm_pid" 2>/dev/null && [ $SECONDS -lt "${storm_until:-0}" ]
}

storm_end() {
    [ -z "$storm_pid" ] || kill "$storm_pid" 2>/dev/null
}
