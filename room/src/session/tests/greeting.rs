//! Connect and Bind in one go.

use wire::frame::{BindCode, CloseCode, Ping, ServerBody};

use super::{
    super::{Limits, Sessions},
    harness::{World, bind, done, hello},
};
use crate::exchange::{BindAnswer, BindAsk, BindRefusal};

/// A connection on which all of these have come at once.
fn greet(world: &mut World, binds: u32) -> (u32, Vec<BindAsk>) {
    let slot = world.sessions.open(world.now).unwrap().slot;
    world.sessions.expect(true);
    world.send(slot, hello());
    for number in 1..=binds {
        world.sessions.expect(number < binds);
        world.send(slot, bind(number, &format!("u{number}"), &[]));
    }
    world.sessions.heard_all(slot, &mut world.out);
    (slot, world.sessions.asks.binds.take(9))
}

fn names(frames: &[ServerBody]) -> Vec<&'static str> {
    let name = |frame: &ServerBody| match frame {
        ServerBody::Connected(_) => "connected",
        ServerBody::Bound(_) => "bound",
        ServerBody::BindFailed(_) => "failed",
        ServerBody::Pong(_) => "pong",
        ServerBody::Close(_) => "close",
        other => panic!("{other:?}"),
    };
    frames.iter().map(name).collect()
}

fn waiting(sessions: &Sessions) -> usize {
    sessions.greetings.held.len()
}

#[test]
fn connected_and_bound_leave_together() {
    let mut world = World::new(Limits::default());
    let (slot, asks) = greet(&mut world, 2);
    assert!(world.frames(slot).is_empty(), "both are under way");
    world.answer_bind(&asks[0], done(1, 0));
    assert_eq!(names(&world.frames(slot)), ["connected", "bound"]);
    world.answer_bind(&asks[1], done(2, 0));
    assert_eq!(names(&world.frames(slot)), ["bound"]);
    assert_eq!(waiting(&world.sessions), 0);
}

#[test]
fn a_refusal_comes_after_connected_too() {
    let mut world = World::new(Limits::default());
    let (slot, asks) = greet(&mut world, 1);
    let refusal = BindRefusal { code: BindCode::BadToken, message: "no".to_owned(), retry_after_ms: 0 };
    let BindAsk { binding, device, .. } = asks[0];
    let answer = BindAnswer { binding, tags: Vec::new(), device, result: Err(refusal) };
    world.sessions.on_bound(answer, world.now, &mut world.out);
    assert_eq!(names(&world.frames(slot)), ["connected", "failed"]);
}

/// Whoever waits for the answer, or is kept waiting by the cluster, has it soon.
#[test]
fn connected_does_not_wait_for_nothing() {
    let mut world = World::new(Limits::default());
    // Something follows that is no bind, or has not come whole.
    let (slot, _) = greet(&mut world, 0);
    assert_eq!(names(&world.frames(slot)), ["connected"]);
    // The device speaks again.
    let (slot, _) = greet(&mut world, 1);
    world.send(slot, Ping {});
    assert_eq!(names(&world.frames(slot)), ["connected", "pong"]);
    // The cluster takes its time.
    let (slot, asks) = greet(&mut world, 1);
    world.pass(250);
    assert_eq!(names(&world.frames(slot)), ["connected"]);
    world.answer_bind(&asks[0], done(1, 0));
    assert_eq!(names(&world.frames(slot)), ["bound"]);
}

#[test]
fn nothing_is_kept_of_who_leaves_meanwhile() {
    let mut world = World::new(Limits::default());
    let (slot, _) = greet(&mut world, 1);
    world.sessions.on_lost(slot, world.now);
    assert_eq!(waiting(&world.sessions), 0);
    let (slot, _) = greet(&mut world, 1);
    world.sessions.close(slot, CloseCode::GoingAway, "bye", world.now, &mut world.out);
    assert_eq!((names(&world.frames(slot)), waiting(&world.sessions)), (vec!["close"], 0));
}

/// A room that had stood still found binds and the ends of their connections together, asked for them, and so replaced the
/// sessions that the devices had elsewhere by then.
#[test]
fn nothing_is_asked_for_devices_that_have_gone() {
    let mut world = World::new(Limits::default());
    let [gone, here] = ["gone", "here"].map(|uid| {
        let slot = world.connect();
        world.send(slot, bind(1, uid, &[]));
        slot
    });
    world.sessions.on_lost(gone, world.now);
    let asks = world.sessions.take_binds(9);
    assert_eq!(asks.iter().map(|ask| ask.uid.as_str()).collect::<Vec<_>>(), ["here"]);
    assert_eq!(world.sessions.bindings.len(), 1, "its slot is free");
    world.answer_bind(&asks[0], done(1, 0));
    assert_eq!(names(&world.frames(here)).last(), Some(&"bound"));
}
