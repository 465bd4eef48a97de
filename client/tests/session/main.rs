//! The session's rules one by one, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod bindings;
mod broadcasts;
#[path = "../room/mod.rs"]
mod room;
mod world;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use client::{
    AckPolicy, Config, Event, Moment, Session,
    session::{Cause, MAX_UP_PAYLOAD, UpError, UpOutcome},
};
use wire::{
    frame::*,
    id::{BindingId, MessageId},
};
use world::{World, spec};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_session_is_small() {
    // Tens of thousands of them run in one load generator.
    assert!(size_of::<Session>() <= 640, "{}", size_of::<Session>());
}

/// A device far away waited for two round trips where one does.
#[test]
fn binds_go_right_behind_connect() {
    let mut world = World::new(Config::default());
    let alice = world.session.bind(spec("alice", Some("token")));
    let bob = world.session.bind(spec("bob", None));
    world.session.opened(world.now, &mut world.out);
    world.session.advance(world.now, &mut world.out);
    assert_eq!(world.events(), [Event::TokenNeeded { binding: bob }]);
    world.session.set_token(bob, "token".into());
    world.session.advance(world.now, &mut world.out);
    // All of it lies in the output, and nothing has been heard yet.
    world.room.accept();
    world.exchange();
    assert_eq!(world.sent(), ["connect", "bind", "bind"]);
    assert!(world.session.is_bound(alice) && world.session.is_bound(bob));
    assert_eq!(world.cause(), None);
}

/// The room has been asked already: it has to hear that the binding is not wanted any more.
#[test]
fn what_was_asked_early_can_be_taken_back_early() {
    let mut world = World::new(Config::default());
    let binding = world.session.bind(spec("alice", Some("token")));
    world.session.opened(world.now, &mut world.out);
    world.session.advance(world.now, &mut world.out);
    world.session.unbind(binding);
    world.session.advance(world.now, &mut world.out);
    world.room.accept();
    world.exchange();
    assert_eq!(world.sent(), ["connect", "bind", "unbind"]);
    let reason = UnboundReason::Requested;
    assert!(world.events().contains(&Event::Unbound { binding, reason }));
    assert_eq!(world.cause(), None);
}

#[test]
fn pings_only_when_idle_and_in_time() {
    let (mut world, _) = World::bound();
    world.sent();
    world.pass(44 * SECOND);
    assert!(world.sent().is_empty());
    world.pass(2 * SECOND);
    assert_eq!(world.sent(), ["ping"], "a quarter of the heartbeat before its end");
    world.pass(Duration::from_secs(3600));
    assert_eq!(world.sent().len(), 80, "every 45 s for an hour");
    assert_eq!(world.cause(), None);
}

#[test]
fn a_room_that_does_not_answer_a_ping_is_left() {
    let (mut world, _) = World::bound();
    world.room.answers_ping = false;
    world.pass(54 * SECOND);
    assert_eq!(world.cause(), None);
    world.pass(2 * SECOND);
    assert_eq!(world.cause(), Some(Cause::Silent));
    assert!(!world.session.is_live());
}

#[test]
fn sending_alone_does_not_show_that_the_room_is_there() {
    let (mut world, binding) = World::bound();
    world.room.answers_ping = false;
    for _ in 0..8 {
        world.session.up(binding, "k".into(), Bytes::new()).unwrap();
        world.exchange();
        world.pass(10 * SECOND);
    }
    assert_eq!(world.cause(), Some(Cause::Silent));
}

#[test]
fn a_room_that_does_not_greet_is_left() {
    let mut world = World::new(Config::default());
    world.session.opened(world.now, &mut world.out);
    world.session.advance(Moment(9_999), &mut world.out);
    assert_eq!(world.out.ended, None);
    world.session.advance(Moment(10_000), &mut world.out);
    assert_eq!(world.cause(), Some(Cause::NoAnswer("Connect")));
}

#[test]
fn acks_are_gathered() {
    let (mut world, _) = World::bound();
    for id in 1..=10 {
        world.room.inbox.append(id);
    }
    world.room.deliver();
    world.exchange();
    assert_eq!((world.events().len(), world.room.acks), (10, 0));
    world.pass(SECOND);
    assert_eq!((world.room.acks, world.room.inbox.entries.len()), (1, 0));
    for id in 11..=42 {
        world.room.inbox.append(id);
    }
    world.room.deliver();
    world.exchange();
    assert_eq!(world.room.acks, 2, "32 messages do not wait");
}

#[test]
fn transient_messages_are_neither_acked_nor_counted() {
    let (mut world, binding) = World::bound();
    for _ in 0..2 {
        world.send(Push { binding: binding.0, id: 5, ..Push::default() });
    }
    let events = world.events();
    assert!(matches!(&events[..], [Event::Message(m), _] if m.position.is_none() && m.id == MessageId(5)));
    assert_eq!(events.len(), 2);
    world.pass(SECOND);
    assert_eq!(world.room.acks, 0);
}

#[test]
fn a_hole_ends_the_connection() {
    let (mut world, binding) = World::bound();
    world.send(Push { binding: binding.0, seq: 2, ..Push::default() });
    assert_eq!(world.cause(), Some(Cause::Violation("a hole in an inbox")));
    assert!(world.events().is_empty());
}

#[test]
fn upstream_frames_are_sent_until_taken() {
    let (mut world, binding) = World::bound();
    world.sent();
    let reference = world.session.up(binding, "k".into(), Bytes::from_static(b"x")).unwrap();
    world.exchange();
    assert_eq!(world.sent(), ["up"]);
    let answer = |code: UpCode| UpAck { r#ref: reference, code: code.into(), retry_after_ms: 3000 };
    world.send(answer(UpCode::Retry));
    world.pass(2 * SECOND);
    assert!(world.sent().is_empty());
    world.pass(SECOND);
    assert_eq!(world.sent(), ["up"], "when told");
    world.pass(31 * SECOND);
    assert_eq!(world.sent(), ["up"], "when unanswered");
    world.session.lost(Cause::Silent, &mut world.out);
    world.connect();
    assert_eq!(world.sent(), ["connect", "bind", "up"], "on the next connection");
    world.events();
    world.send(answer(UpCode::Ok));
    world.send(answer(UpCode::Ok));
    assert_eq!(world.events(), [Event::UpDone { reference, outcome: UpOutcome::Accepted }]);
}

#[test]
fn upstream_frames_are_bounded() {
    let (mut world, binding) = World::bound();
    let mut up = |kind: &str, length| world.session.up(binding, kind.into(), Bytes::from(vec![0; length]));
    assert_eq!(up("k", MAX_UP_PAYLOAD + 1), Err(UpError::TooLarge(MAX_UP_PAYLOAD + 1)));
    assert_eq!(up("", 1), Err(UpError::BadKind(0)));
    for _ in 0..64 {
        // The room's decoder, with its default bound, takes the longest.
        up(&"k".repeat(64), MAX_UP_PAYLOAD).unwrap();
    }
    assert_eq!(up("k", 1), Err(UpError::Full(64)));
    world.exchange();
}

#[test]
fn close_codes_and_moves_end_with_advice() {
    let (mut world, _) = World::bound();
    let code = CloseCode::Busy.into();
    world.send(Close { code, retry_after_ms: 1500, message: "full".into() });
    let ending = world.out.ended.take().unwrap();
    assert_eq!(ending.retry_after, Duration::from_millis(1500));
    assert_eq!(ending.whither, CloseCode::Busy.advice().whither);

    let (mut world, _) = World::bound();
    world.room.inbox.append(1);
    world.room.deliver();
    world.exchange();
    world.sent();
    world.send(Reconnect { addresses: vec!["b:1".into()], after_ms: 50, reason: "drain".into() });
    assert_eq!(world.out.ended, None, "the connection serves until then");
    world.pass(SECOND);
    assert_eq!(world.out.ended.take().unwrap().addresses, ["b:1"]);
    assert_eq!(world.sent(), ["ack", "leave"], "nothing is left to be sent again");
}

#[test]
fn frames_out_of_place_end_the_connection() {
    let push = Push { binding: 1, seq: 1, ..Push::default() };
    let mut world = World::new(Config::default());
    world.session.opened(world.now, &mut world.out);
    world.session.on_frame(push.into(), world.now, &mut world.out);
    assert_eq!(world.cause(), Some(Cause::Violation("a frame before Connected")));
    let (mut world, _) = World::bound();
    world.send(Connected::default());
    assert_eq!(world.cause(), Some(Cause::Violation("Connected twice")));
    let (mut world, _) = World::bound();
    world.send(ServerFrame { body: None });
    world.send(Recall { binding: 0, id: 9, app: 1 });
    assert_eq!(world.cause(), None, "an unknown frame is ignored");
    assert!(matches!(&world.events()[..], [Event::Recalled { binding: None, id: MessageId(9), .. }]));
}

#[test]
fn a_silence_that_is_the_apps_own_doing_is_excused() {
    let (mut world, _) = World::bound();
    world.room.answers_ping = false;
    for _ in 0..60 {
        world.session.excuse(world.now);
        world.pass(5 * SECOND);
    }
    assert_eq!(world.cause(), None);
    assert!(world.sent().contains(&"ping"), "the room still hears of the device");
}

#[test]
fn close_acks_and_takes_leave() {
    let ack = AckPolicy { max_delay: Duration::from_secs(60), ..AckPolicy::default() };
    let mut world = World::new(Config { ack, ..Config::default() });
    world.session.bind(spec("alice", Some("token")));
    world.room.inbox.append(1);
    world.connect();
    world.sent();
    world.session.close(world.now, &mut world.out);
    world.room.receive(&std::mem::take(&mut world.out.bytes));
    assert_eq!(world.sent(), ["ack", "leave"]);
    assert_eq!(world.cause(), Some(Cause::Requested));
    assert_eq!(world.session.snapshot().bindings[0].inbox.unwrap().seq.0, 1);
}
