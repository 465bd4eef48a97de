# Journeys of the end-to-end tests against the containers. Sourced by deploy/test.
# shellcheck shell=bash

# All that need nothing of a cluster but its public ports: those that configure or restart services, look into their
# files and admin ports, or sign tokens and call gRPC for an app of a fixed name, have clusters of their own.
JOURNEYS="
bindings::cluster::one_connection_serves_users_of_several_apps
bindings::cluster::a_second_bind_replaces_the_first
bindings::cluster::a_late_unbind_does_not_remove_a_newer_binding
broadcasts::cluster::a_broadcast_reaches_everyone
broadcasts::cluster::a_broadcast_reaches_those_whose_tags_match
broadcasts::cluster::who_was_away_gets_broadcasts_and_who_is_new_does_not
http::cluster::keys_open_only_their_own_doors
http::cluster::an_app_over_its_rate_is_told_when_to_come_back
http::cluster::the_api_describes_itself
inboxes::cluster::an_offline_user_gets_all_in_order_without_holes
inboxes::cluster::an_ack_forgets_all_before_it
inboxes::cluster::a_message_expires
inboxes::cluster::a_full_inbox_drops_its_oldest
inboxes::cluster::who_does_not_read_harms_nobody_and_misses_nothing
pushes::cluster::a_stored_message_is_delivered_acked_and_forgotten
pushes::cluster::a_transient_message_goes_only_to_who_is_online
pushes::cluster::a_list_of_users_gets_one_message
pushes::cluster::a_repeat_with_the_same_key_does_no_harm
recalls::cluster::a_stored_message_is_taken_back
recalls::cluster::a_delivered_message_is_taken_back
recalls::cluster::a_broadcast_is_taken_back
tcp::cluster::bytes_that_are_no_frames_end_the_connection
tcp::cluster::what_a_room_does_not_know_does_no_harm
tcp::cluster::random_bytes_harm_nobody
users::cluster::the_api_tells_where_a_user_is
users::cluster::a_kick_ends_the_binding
webhooks::cluster::upstream_reaches_the_webhook_signed
webhooks::cluster::a_failing_webhook_gets_it_again_in_order
webhooks::cluster::comings_and_goings_reach_the_state_webhook
"

journeys_run() {
    say "journeys"
    local program journey failed='' begun=$SECONDS
    program=$(cargo test -p e2e --test journeys --no-run --locked 2>&1 | tee "$work/cargo.log" |
        sed -n 's/^ *Executable .*(\(.*\))$/\1/p') || true
    [ -n "$program" ] || { cat "$work/cargo.log" >&2; die "the journeys do not compile"; }
    E2E_API=http://127.0.0.1:$CENTER_1_PORT,http://127.0.0.1:$CENTER_2_PORT
    E2E_ROUTE=http://127.0.0.1:$DISPATCHER_PORT
    E2E_KEY=$LONGWIRE_KEY
    # Where the containers find a backend of this machine.
    E2E_CALLBACK=$(docker network inspect -f '{{(index .IPAM.Config 0).Gateway}}' "${COMPOSE_PROJECT_NAME}_default")
    export E2E_API E2E_ROUTE E2E_KEY E2E_CALLBACK
    for journey in $JOURNEYS; do
        # Each in a process of its own: its apps there have names of their own.
        if RUST_BACKTRACE=0 "$root/$program" --exact "$journey" >"$work/journey" 2>&1 && grep -q '^test .* ok$' "$work/journey"; then
            echo "ok      $journey"
        else
            echo "FAILED  $journey"
            sed 's/^/    /' "$work/journey"
            failed=1
        fi
    done
    [ -z "$failed" ] || die "journeys failed"
    echo "$(wc -w <<<"$JOURNEYS") journeys in $((SECONDS - begun)) s"
}
