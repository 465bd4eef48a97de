//! What the command line takes and what it refuses.

use clap::{CommandFactory as _, Parser as _};

use super::*;

fn parse(line: &str) -> Result<Command, String> {
    let words = std::iter::once("longwire").chain(line.split_whitespace());
    Arguments::try_parse_from(words).map(|arguments| arguments.command).map_err(|e| e.to_string())
}

fn broadcast(line: &str) -> Broadcast {
    match parse(line) {
        Ok(Command::Broadcast(broadcast)) => *broadcast,
        other => panic!("{line}: {other:?}"),
    }
}

/// What is wrong must be named by its option or in words that say what to do.
fn refused(line: &str, because: &str) {
    let error = parse(line).expect_err(line);
    assert!(error.contains(because), "{line}: {error}");
}

#[test]
fn the_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn a_broadcast_takes_all_that_narrows_paces_and_times_it() {
    let b = broadcast(
        "broadcast hello --audience ios --zone a --zone b --network wifi --network 5g --version-from 3.1 \
         --version-below 4 --percent 2.5% --rate 5000 --min-acks 0.9 --max-latency 500ms --at +90m --urgent --ttl 2h \
         --watch --json",
    );
    assert_eq!(b.payload.text.as_deref(), Some("hello"));
    let a = &b.audience;
    assert_eq!((a.audience.as_deref(), a.percent), (Some("ios"), Some(2.5)));
    assert_eq!((a.zones.join(","), a.networks.join(",")), ("a,b".to_owned(), "wifi,5g".to_owned()));
    assert_eq!((a.version_from.as_deref(), a.version_below.as_deref()), (Some("3.1"), Some("4")));
    assert_eq!((b.rate, b.min_acks), (Some(5000), Some(0.9)));
    assert_eq!(b.max_latency, Some(std::time::Duration::from_millis(500)));
    assert_eq!((b.timing.at.as_deref(), b.timing.urgent, b.watch, b.json), (Some("+90m"), true, true, true));
    let b = broadcast("broadcast --file - --local 09:00 --time-zone device --preview");
    assert_eq!(b.timing.time_zone.as_deref(), Some("device"));
    assert!(b.preview && b.payload.text.is_none());
}

#[test]
fn a_broadcast_refuses_what_makes_no_sense() {
    refused("broadcast", "TEXT");
    refused("broadcast x --file y", "--file");
    refused("broadcast x --percent 0", "over 0");
    refused("broadcast x --percent 101", "at most 100");
    refused("broadcast x --network 6g", "5g");
    refused("broadcast x --rate 0", "--rate");
    refused("broadcast x --min-acks 0.9", "--rate");
    refused("broadcast x --rate 5 --min-acks 90", "at most 1");
    refused("broadcast x --at +1h --local 09:00", "--local");
    refused("broadcast x --time-zone device", "--local");
    refused("broadcast x --preview --watch", "--watch");
}

#[test]
fn broadcasts_are_named_by_their_id() {
    let Ok(Command::Broadcasts(Broadcasts::Rate(r))) = parse("broadcasts rate 7 max") else { panic!("rate") };
    assert_eq!((r.message.id, r.rate), (7, 0));
    let Ok(Command::Broadcasts(Broadcasts::Rate(r))) = parse("broadcasts rate 7 200") else { panic!("rate") };
    assert_eq!(r.rate, 200);
    for word in ["show", "pause", "resume", "cancel", "recall"] {
        assert!(parse(&format!("broadcasts {word} 7")).is_ok(), "{word}");
        refused(&format!("broadcasts {word}"), "<ID>");
    }
    assert!(parse("broadcasts show 7 --watch --json").is_ok());
    assert!(parse("broadcasts list --limit 5 --before 7 --json").is_ok());
    refused("broadcasts rate 7 0", "users a second, or max");
    refused("broadcasts list --limit 1001", "--limit");
}

#[test]
fn a_multicast_takes_users_and_a_message() {
    let Ok(Command::Multicast(m)) = parse("multicast - hello --collapse-key score --urgent") else {
        panic!("multicast")
    };
    assert_eq!((m.users.as_path(), m.payload.text.as_deref()), (std::path::Path::new("-"), Some("hello")));
    assert_eq!(m.collapse_key.as_deref(), Some("score"));
    assert!(parse("multicast users.txt --file payload.bin").is_ok());
    refused("multicast", "USERS");
    refused("multicast users.txt", "TEXT");
    refused("multicast users.txt x --transient --collapse-key k", "--collapse-key");
}

#[test]
fn a_push_may_wait_replace_and_overtake() {
    let line = "push --uid a x --urgent --collapse-key k --local 2026-11-21T09:00 --time-zone Europe/Berlin";
    let Ok(Command::Push(p)) = parse(line) else { panic!("push") };
    assert_eq!((p.collapse_key.as_deref(), p.timing.urgent), (Some("k"), true));
    assert_eq!(p.timing.time_zone.as_deref(), Some("Europe/Berlin"));
    refused("push x", "--uid");
    refused("push --all x --collapse-key k", "--collapse-key");
    refused("push --uid a x --transient --collapse-key k", "--collapse-key");
}

#[test]
fn what_waits_is_listed_and_cancelled() {
    assert!(parse("scheduled list --limit 5 --json").is_ok());
    assert!(parse("scheduled cancel 7").is_ok());
    assert!(parse("targets 7 --json").is_ok());
    refused("scheduled", "Usage");
    refused("scheduled cancel x", "<ID>");
}

#[test]
fn a_listener_tells_what_broadcasts_select_by() {
    let line = "listen --uid a --app-version 3.1 --network 4g --utc-offset -03:30";
    let Ok(Command::Listen(l)) = parse(line) else { panic!("listen") };
    assert_eq!((l.app_version.as_str(), l.network), ("3.1", Some(wire::frame::Network::Network4g)));
    assert_eq!(l.utc_offset, Some(client::UtcOffset::Minutes(-210)));
    refused("listen --uid a --network 6g", "5g");
    refused("listen --uid a --utc-offset 15:00", "-12:00 to +14:00");
}
