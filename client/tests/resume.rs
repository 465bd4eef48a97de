//! Going on after a broken connection, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod room;

use std::sync::Arc;

use client::{
    AckPolicy, Config, Confirm, Event, Moment, Output, Session,
    session::{BindSpec, Cause},
};
use room::{Room, exchange};
use wire::{
    frame::*,
    id::{AppKey, BindingId, Position, Uid},
};

struct World {
    session: Session,
    room: Room,
    out: Output,
    now: Moment,
    binding: BindingId,
}

impl World {
    fn bound(confirm: Confirm) -> Self {
        let ack = AckPolicy { confirm, ..AckPolicy::default() };
        let mut session = Session::new(Arc::new(Config { ack, ..Config::default() }), "test".into(), 1);
        let binding = session.bind(BindSpec {
            app: AppKey::new("demo").unwrap(),
            uid: Uid::new("alice").unwrap(),
            token: Some("token".into()),
            traits: Arc::default(),
            inbox: None,
            broadcasts: None,
        });
        let mut world =
            Self { session, room: Room::default(), out: Output::default(), now: Moment(0), binding };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.room.accept();
        self.out.ended = None;
        self.session.opened(self.now, &mut self.out);
        self.exchange();
    }

    fn exchange(&mut self) {
        self.room.deliver();
        exchange(&mut self.session, &mut self.room, self.now, &mut self.out, usize::MAX);
    }

    fn cut(&mut self, keeps: bool) {
        self.room.keep(keeps);
        self.session.lost(Cause::Lost("cut".into()), &mut self.out);
    }

    fn sent(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.room.up).iter().map(ClientFrame::name).collect()
    }

    fn events(&mut self) -> Vec<&'static str> {
        let name = |event: Event| match event {
            Event::Connected { resumed: true, .. } => "resumed",
            Event::Connected { .. } => "connected",
            Event::Bound { .. } => "bound",
            Event::Unbound { .. } => "unbound",
            Event::Message(_) => "message",
            _ => "other",
        };
        self.out.events.drain(..).map(name).collect()
    }
}

#[test]
fn goes_on_without_binding_again() {
    let mut world = World::bound(Confirm::Auto);
    world.room.inbox.append(1);
    world.exchange();
    world.sent();
    assert_eq!(world.events(), ["connected", "bound", "message"]);
    world.cut(true);
    assert!(!world.session.is_bound(world.binding));
    world.room.inbox.append(2);
    world.connect();
    assert_eq!(world.sent(), ["connect"], "no bind");
    assert_eq!(world.events(), ["resumed", "bound", "message"]);
    assert!(world.session.is_bound(world.binding));
    // Each connection gives a new token.
    world.cut(true);
    world.connect();
    assert_eq!(world.sent(), ["connect"]);
}

#[test]
fn binds_again_where_nothing_was_kept() {
    let mut world = World::bound(Confirm::Auto);
    world.cut(false);
    world.sent();
    world.events();
    world.connect();
    assert_eq!(world.sent(), ["connect", "bind"]);
    assert_eq!(world.events(), ["connected", "bound"]);
}

#[test]
fn presents_nothing_to_another_room() {
    let mut world = World::bound(Confirm::Auto);
    world.cut(true);
    world.session.forget_resume();
    world.room.up.clear();
    world.connect();
    let Some(ClientBody::Connect(connect)) = world.room.up[0].body.clone() else { panic!() };
    assert!(connect.resume_token.is_empty() && connect.resume.is_empty());
    assert_eq!(world.sent(), ["connect", "bind"]);
}

/// The room did not take leave of the bindings, but the device has left: it cannot know where they stand.
#[test]
fn goes_on_only_after_a_break() {
    let mut world = World::bound(Confirm::Auto);
    world.room.keep(true);
    world.room.send(Push { binding: world.binding.0, seq: 9, skip: 2, id: 9, ..Push::default() });
    world.exchange();
    assert!(matches!(world.out.ended.as_ref().unwrap().cause, Cause::Violation(_)));
    world.sent();
    world.connect();
    assert_eq!(world.sent(), ["connect", "bind"]);
}

#[test]
fn what_the_app_has_yet_to_confirm_is_received_and_not_acked() {
    let mut world = World::bound(Confirm::ByApp);
    world.room.inbox.append(1);
    world.room.inbox.append(2);
    world.exchange();
    let at = |seq: u64| Position { epoch: 1.into(), seq: seq.into() };
    world.session.confirm(world.binding, at(1), world.now);
    world.cut(true);
    world.room.up.clear();
    world.events();
    world.connect();
    let Some(ClientBody::Connect(connect)) = world.room.up[0].body.clone() else { panic!() };
    assert_eq!((connect.resume[0].received, connect.resume[0].confirmed), (2, 1));
    assert_eq!(world.room.inbox.entries.len(), 1, "the confirmed one is acked by that");
    assert_eq!(world.events(), ["resumed", "bound"], "nothing comes again");
    world.session.confirm(world.binding, at(2), world.now);
    world.now = world.now + std::time::Duration::from_secs(1);
    world.exchange();
    assert!(world.room.inbox.entries.is_empty(), "the rest is acked on the new connection");
}

#[test]
fn a_binding_that_was_replaced_meanwhile_stays_away() {
    let mut world = World::bound(Confirm::Auto);
    world.cut(true);
    world.room.gone = Some(UnboundReason::Replaced);
    world.sent();
    world.events();
    world.connect();
    assert_eq!(world.events(), ["resumed", "bound", "unbound"]);
    world.now = world.now + std::time::Duration::from_secs(40);
    world.exchange();
    assert!(!world.sent().contains(&"bind"), "it does not fight");
}

#[test]
fn a_binding_given_up_on_the_way_is_unbound() {
    let mut world = World::bound(Confirm::Auto);
    world.cut(true);
    world.sent();
    world.events();
    world.room.accept();
    world.out.ended = None;
    world.session.opened(world.now, &mut world.out);
    world.session.unbind(world.binding);
    world.session.advance(world.now, &mut world.out);
    world.exchange();
    assert_eq!(world.sent(), ["connect", "unbind"]);
    assert_eq!(world.events(), ["resumed", "unbound"]);
}

#[test]
fn a_greeting_that_breaks_is_tried_again() {
    let mut world = World::bound(Confirm::Auto);
    world.cut(true);
    world.sent();
    world.out.ended = None;
    world.session.opened(world.now, &mut world.out);
    // The room never saw this.
    world.out.bytes.clear();
    world.session.lost(Cause::Lost("cut".into()), &mut world.out);
    world.connect();
    assert_eq!(world.sent(), ["connect"]);
}

#[test]
fn a_room_that_claims_what_was_not_asked_for_is_left() {
    let mut world = World::bound(Confirm::Auto);
    world.session.lost(Cause::Silent, &mut world.out);
    world.session.forget_resume();
    world.out.ended = None;
    world.session.opened(world.now, &mut world.out);
    let connected = Connected { version: 1, resumed: true, ..Connected::default() };
    world.session.on_frame(connected.into(), world.now, &mut world.out);
    assert!(matches!(world.out.ended.as_ref().unwrap().cause, Cause::Violation(_)));
}
