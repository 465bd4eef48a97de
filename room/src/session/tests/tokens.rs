//! Resume tokens, and the bounds of what they are for.

use bytes::Bytes;
use wire::frame::{Connect, Ping, Push, ResumeBinding, ServerBody};

use super::{
    super::{Limits, Outcome},
    ghosts::{again, alice, bound, has},
    harness::{bind, cursor, done, hello, item, page, run},
};
use crate::exchange::{BindDone, DrainOrder};

#[test]
fn a_token_is_good_once_for_its_device() {
    let (mut world, slot, token) = alice();
    world.cut(slot);
    let other = Connect { device: "other".into(), ..again(&token, &[has(0, 0)]) };
    let (stranger, _) = world.greet(other);
    assert_ne!(stranger, slot);
    let mut changed = token.to_vec();
    changed[9] ^= 1;
    world.greet(again(&changed.into(), &[has(0, 0)]));
    world.greet(again(&Bytes::from_static(b"guess"), &[]));
    assert_eq!(world.outcome(Outcome::Forged), 3);
    assert_eq!(world.sessions.ghosts(), 1, "nobody has harmed it");

    let (slot, second, _) = world.goes_on(again(&token, &[has(0, 0)]));
    world.greet(again(&token, &[has(0, 0)]));
    assert_eq!(world.outcome(Outcome::Spent), 1);
    assert!(world.send(slot, Ping {}), "who is there is not disturbed");
    world.cut(slot);
    world.greet(again(&token, &[has(0, 0)]));
    assert_eq!(world.outcome(Outcome::Spent), 2);
    world.pass(31_000);
    world.greet(again(&second, &[has(0, 0)]));
    assert_eq!((world.outcome(Outcome::Gone), world.outcome(Outcome::Resumed)), (1, 1));
}

/// The device has changed its network, and the room still believes in the old connection.
#[test]
fn the_newer_socket_takes_over() {
    let (mut world, slot, token) = alice();
    world.deliver(&item("alice", 1, 1));
    let (same, _, frames) = world.goes_on(again(&token, &[has(0, 0)]));
    assert_eq!((same, frames), (slot, vec![]));
    let tally = world.sessions.tally();
    assert_eq!((tally.opened - tally.closed, world.sessions.connections()), (1, 1));
    assert_eq!((world.outcome(Outcome::TakenOver), world.sessions.ghosts()), (1, 0));
    let ask = world.load_ask().expect("1 went into the old socket");
    world.answer_load(&ask, Some(page((1, 0), &[1], 1)));
    assert!(matches!(world.one(slot), ServerBody::Push(Push { seq: 1, .. })));
}

#[test]
fn ghosts_are_bounded() {
    let (mut world, slot, _) = bound(Limits { ghosts: 1, ..Limits::default() });
    let (second, _) = world.greet(hello());
    world.bind(second, 1, "bob", 2);
    world.cut(slot);
    world.cut(second);
    assert_eq!((world.sessions.ghosts(), world.sessions.tally().ghosts_refused), (1, 1));
    let ends = world.sessions.take_ends(9);
    assert_eq!((ends.len(), ends[0].uid.as_str()), (1, "bob"), "the newest");
}

#[test]
fn a_ghost_takes_no_connections_place() {
    let (mut world, slot, token) = bound(Limits { connections: 1, ..Limits::default() });
    world.cut(slot);
    world.goes_on(again(&token, &[has(0, 0)]));
    assert!(world.sessions.open(world.now).is_none());
}

#[test]
fn a_drain_ends_ghosts_at_once() {
    let (mut world, slot, token) = alice();
    let (stays, second) = world.greet(hello());
    world.bind(stays, 1, "bob", 2);
    world.cut(slot);
    let late = world.sessions.open(world.now).unwrap().slot;
    world.sessions.start_drain(DrainOrder { per_second: 10, spread_ms: 0, linger_ms: 1_000 }, world.now);
    assert_eq!((world.sessions.ghosts(), world.sessions.take_ends(9).len()), (0, 1));
    assert!(world.send(late, again(&token, &[has(0, 0)])));
    let ServerBody::Connected(connected) = world.one(late) else { panic!() };
    assert!(!connected.resumed && connected.resume_token.is_empty());
    world.cut(stays);
    assert_eq!((world.sessions.ghosts(), world.sessions.take_ends(9).len()), (0, 1));
    assert!(world.send(late, bind(1, "carol", &[])) && !second.is_empty());
}

#[test]
fn it_can_be_switched_off() {
    let (mut world, slot, token) = alice();
    world.cut(slot);
    world.sessions.set_limits(&Limits { resume_ms: None, ..Limits::default() });
    let (slot, none) = world.greet(again(&token, &[has(0, 0)]));
    assert_eq!((world.outcome(Outcome::Off), none), (1, Bytes::new()));
    world.bind(slot, 1, "bob", 2);
    world.cut(slot);
    assert_eq!(world.sessions.take_ends(9).len(), 1);
    world.pass(31_000);
    assert_eq!(world.sessions.ghosts(), 0);
}

/// Each break would put an entry into the timer wheel that comes up for ever.
#[test]
fn a_device_that_flaps_costs_the_wheel_nothing() {
    let (mut world, mut slot, mut token) = alice();
    for turn in 0..2_000 {
        world.cut(slot);
        (slot, token, _) = {
            let next = world.goes_on(again(&token, &[has(0, 0)]));
            if next.1.is_empty() {
                // As often as a count of one byte can tell.
                assert_eq!(turn % 255, 254, "{turn}");
                world.cut(slot);
                world.sessions.end_ghosts();
                world.sessions.take_ends(9);
                let (slot, token) = world.greet(hello());
                world.bind(slot, 1, "alice", turn);
                (slot, token, vec![])
            } else {
                next
            }
        };
        world.pass(700);
        // Those of the sockets that came and moved on, in ten seconds, and some of its own.
        assert!(world.sessions.wheel.len() < 40, "{turn}: {}", world.sessions.wheel.len());
    }
    world.cut(slot);
    world.pass(31_000);
    assert_eq!(world.sessions.ghosts(), 0);
}

#[test]
fn a_binding_that_lags_far_behind_goes_on_by_pages() {
    let (mut world, slot, token) = bound(Limits { tail_bytes: 1, ..Limits::default() });
    world.bind_with(slot, 2, "bob", &[], BindDone { cursor: cursor(1, 0), ..done(2, 0) });
    world.cut(slot);
    for bseq in 1..=3 {
        world.sessions.on_log(&run(bseq - 1, bseq, &[(bseq, "")]), false);
        world.work();
    }
    world.asks_nobody();
    let both = [has(0, 0), ResumeBinding { binding: 2, ..has(0, 0) }];
    let (slot, _, _) = world.goes_on(again(&token, &both));
    world.work();
    let ask = world.sessions.asks.pages.take(9).pop().expect("the tail does not reach so far back");
    assert_eq!(ask.after, 0);
    world.sessions.on_log(&run(0, 3, &[(1, ""), (2, ""), (3, "")]), true);
    world.work();
    let mut all = world.broadcasts(slot);
    all.sort_unstable();
    assert_eq!(all, [1, 1, 2, 2, 3, 3]);
}
