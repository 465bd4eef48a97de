//! The rule for stored messages, case by case.

use wire::frame::{Rebased, ServerBody};

use super::{
    super::Limits,
    harness::{World, ack, item, nudge, page, place, position},
};
use crate::exchange::{AckAsk, Delivery, LoadDone};

fn bound() -> (World, u32) {
    let mut world = World::new(Limits::default());
    let slot = world.connect();
    world.bind(slot, 1, "alice", 1);
    (world, slot)
}

fn acked(asks: Vec<AckAsk>) -> Vec<(u64, u64)> {
    asks.into_iter().map(|ask| (ask.inbox.epoch.0, ask.inbox.seq.0)).collect()
}

#[test]
fn next_is_written_and_old_is_dropped() {
    let (mut world, slot) = bound();
    for seq in [1, 2, 2, 1, 3] {
        assert_eq!(world.deliver(&item("alice", 1, seq)), Delivery::Sent);
    }
    assert_eq!(world.pushed(slot), [(1, 0), (2, 0), (3, 0)]);
    assert!(world.load_ask().is_none());
}

#[test]
fn a_hole_is_loaded_once_and_what_came_meanwhile_is_not_sent_twice() {
    let (mut world, slot) = bound();
    world.deliver(&item("alice", 1, 3));
    assert!(world.frames(slot).is_empty());
    let ask = world.load_ask().unwrap();
    assert_eq!(ask.after, position(1, 0));
    // 1 was only late: it is next, load or no load.
    world.deliver(&item("alice", 1, 1));
    assert_eq!(world.pushed(slot), [(1, 0)]);
    world.deliver(&item("alice", 1, 4));
    assert!(world.load_ask().is_none(), "one at a time");
    world.answer_load(&ask, Some(page((1, 0), &[1, 3], 3)));
    assert_eq!(world.pushed(slot), [(3, 1)]);
    let again = world.load_ask().expect("4 came after the load was asked for");
    assert_eq!(again.after, position(1, 3));
    world.answer_load(&again, Some(page((1, 3), &[4], 4)));
    assert_eq!(world.pushed(slot), [(4, 0)]);
    assert!(world.load_ask().is_none());
}

#[test]
fn a_nudge_loads_only_what_was_not_sent() {
    let (mut world, slot) = bound();
    world.deliver(&item("alice", 1, 1));
    assert_eq!(world.deliver(&nudge("alice", 1, 1)), Delivery::Sent);
    assert!(world.load_ask().is_none());
    world.deliver(&nudge("alice", 1, 2));
    let ask = world.load_ask().unwrap();
    world.answer_load(&ask, Some(page((1, 1), &[2], 2)));
    assert_eq!(world.pushed(slot), [(1, 0), (2, 0)]);
}

#[test]
fn a_new_numbering_is_told_before_its_messages() {
    let (mut world, slot) = bound();
    world.deliver(&item("alice", 1, 1));
    world.deliver(&item("alice", 1, 2));
    world.deliver(&item("alice", 5, 1));
    world.frames(slot);
    let ask = world.load_ask().unwrap();
    world.answer_load(&ask, Some(page((5, 0), &[1, 2], 2)));
    let frames = world.frames(slot);
    let [ServerBody::Rebased(Rebased { binding: 1, inbox }), ServerBody::Push(first), ServerBody::Push(_)] =
        &frames[..]
    else {
        panic!("{frames:?}")
    };
    assert_eq!(*inbox, place(5, 0));
    assert_eq!((first.seq, first.skip), (1, 0));
}

#[test]
fn acks_are_cumulative_bounded_and_merged() {
    let (mut world, slot) = bound();
    for seq in 1..=3 {
        world.deliver(&item("alice", 1, seq));
    }
    world.send(slot, ack(1, 1, 0));
    world.send(slot, ack(1, 2, 0));
    assert_eq!(acked(world.sessions.take_acks(9)), [(1, 2)]);
    world.send(slot, ack(1, 1, 0));
    assert!(world.sessions.take_acks(9).is_empty(), "never backwards");
    world.send(slot, ack(1, 999, 0));
    assert_eq!(acked(world.sessions.take_acks(9)), [(1, 3)], "never more than was sent");
}

/// An ack of the old numbering that crosses a Rebased on the wire would delete messages that the device has not seen.
#[test]
fn an_ack_is_understood_in_its_own_numbering() {
    let (mut world, slot) = bound();
    world.deliver(&item("alice", 1, 1));
    world.deliver(&nudge("alice", 5, 1));
    let ask = world.load_ask().unwrap();
    world.answer_load(&ask, Some(page((5, 0), &[1, 2], 2)));
    world.send(slot, ack(1, 1, 0));
    assert!(world.sessions.take_acks(9).is_empty(), "it does not say in which numbering");
    world.send(slot, wire::frame::Ack { epoch: 1, ..ack(1, 1, 0) });
    assert_eq!(acked(world.sessions.take_acks(9)), [(1, 1)], "the saver knows what was born then");
    world.send(slot, wire::frame::Ack { epoch: 5, ..ack(1, 2, 0) });
    assert_eq!(acked(world.sessions.take_acks(9)), [(5, 2)]);
}

#[test]
fn a_full_socket_leaves_the_rest_to_the_inbox() {
    let (mut world, slot) = bound();
    world.out.room.insert(slot, 30);
    world.out.busy.insert(slot, true);
    for seq in 1..=4 {
        assert_eq!(world.deliver(&item("alice", 1, seq)), Delivery::Sent);
    }
    assert_eq!(world.pushed(slot), [(1, 0)]);
    assert_eq!(world.deliver(&item("alice", 1, 0)), Delivery::Shed, "transient messages have no inbox");
    assert!(world.load_ask().is_none(), "nothing is loaded for a socket that takes nothing");
    world.out.room.clear();
    world.out.busy.clear();
    world.sessions.on_drained(slot, &mut world.out);
    let ask = world.load_ask().unwrap();
    assert_eq!(ask.after, position(1, 1));
    world.answer_load(&ask, Some(page((1, 1), &[2, 3, 4], 4)));
    assert_eq!(world.pushed(slot), [(2, 0), (3, 0), (4, 0)]);
}

#[test]
fn a_load_that_fails_or_finds_no_place_is_tried_again() {
    let mut world = World::new(Limits { asks: 1, ..Limits::default() });
    let slot = world.connect();
    world.bind(slot, 1, "alice", 1);
    world.bind(slot, 2, "bob", 2);
    world.deliver(&nudge("alice", 1, 1));
    world.deliver(&nudge("bob", 1, 1));
    let ask = world.load_ask().unwrap();
    assert_eq!(ask.uid.as_str(), "alice");
    world.answer_load(&ask, None);
    world.pass(250);
    let first = world.load_ask().expect("one of the two");
    world.pass(250);
    let second = world.load_ask().expect("the other");
    assert_ne!(first.uid, second.uid);
    for ask in [first, second] {
        world.answer_load(&ask, Some(page((1, 0), &[1], 1)));
    }
    assert_eq!(world.frames(slot).len(), 2);
}

#[test]
fn transient_messages_are_not_numbered() {
    let (mut world, slot) = bound();
    assert_eq!(world.deliver(&item("alice", 0, 0)), Delivery::Sent);
    assert_eq!(world.pushed(slot), [(0, 0)]);
    world.deliver(&item("alice", 1, 1));
    assert_eq!(world.pushed(slot), [(1, 0)]);
}

#[test]
fn a_delivery_for_another_session_is_not_here() {
    let (mut world, slot) = bound();
    let meant =
        |fence: u64| crate::exchange::DeliveryItem { fence: Some(fence.into()), ..item("alice", 1, 1) };
    assert_eq!(world.deliver(&meant(2)), Delivery::NotHere);
    assert_eq!(world.deliver(&meant(1)), Delivery::Sent);
    assert_eq!(world.pushed(slot), [(1, 0)]);
}

#[test]
fn numbers_that_hold_nothing_at_the_end_are_told_with_the_next() {
    let (mut world, slot) = bound();
    world.deliver(&nudge("alice", 1, 9));
    let ask = world.load_ask().unwrap();
    world.answer_load(&ask, Some(LoadDone { more: false, ..page((1, 0), &[2], 9) }));
    assert_eq!(world.pushed(slot), [(2, 1)]);
    world.deliver(&item("alice", 1, 10));
    assert_eq!(world.pushed(slot), [(10, 7)]);
}

#[test]
fn an_answer_for_a_binding_that_is_gone_is_ignored() {
    let (mut world, slot) = bound();
    world.deliver(&nudge("alice", 1, 1));
    let ask = world.load_ask().unwrap();
    world.send(slot, wire::frame::Unbind { binding: 1 });
    world.frames(slot);
    world.sessions.take_ends(9);
    world.bind_with(slot, 1, "bob", &[], super::harness::done(4, 0));
    world.frames(slot);
    world.answer_load(&ask, Some(page((1, 0), &[1], 1)));
    assert!(world.frames(slot).is_empty());
}
