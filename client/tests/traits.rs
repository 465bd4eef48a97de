//! What a device tells of itself, by which broadcasts choose, and what a message tells of those that it replaces.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod room;

use std::sync::Arc;

use client::{
    Config, Event, Moment, Output, Session, UtcOffset,
    session::{BindSpec, Message, Traits},
};
use room::{Entry, Room, exchange};
use wire::{
    frame::{Bind, ClientBody, Connect, Push},
    id::{AppKey, Uid},
};

/// Connects and binds; what came of it.
fn connect(session: &mut Session, room: &mut Room) -> (Connect, Bind, Output) {
    let mut out = Output::default();
    room.accept();
    session.opened(Moment(0), &mut out);
    exchange(session, room, Moment(0), &mut out, usize::MAX);
    let (mut connect, mut bind) = (None, None);
    for frame in std::mem::take(&mut room.up) {
        match frame.body.unwrap() {
            ClientBody::Connect(frame) => connect = Some(frame),
            ClientBody::Bind(frame) => bind = Some(frame),
            _ => {}
        }
    }
    (connect.unwrap(), bind.unwrap(), out)
}

fn session(utc_offset: UtcOffset, traits: Traits) -> Session {
    let config = Config { utc_offset, ..Config::default() };
    let mut session = Session::new(Arc::new(config), "test".into(), 1);
    session.bind(BindSpec {
        app: AppKey::new("demo").unwrap(),
        uid: Uid::new("alice").unwrap(),
        token: Some("token".into()),
        traits: traits.into(),
        inbox: None,
        broadcasts: None,
    });
    session
}

#[test]
fn a_bind_tells_tags_and_version() {
    let traits = Traits { tags: vec!["beta".to_owned()], app_version: "3.12.0".to_owned() };
    let (_, bind, _) = connect(&mut session(UtcOffset::Untold, traits), &mut Room::default());
    assert_eq!((&bind.tags[..], bind.app_version.as_str()), (&["beta".to_owned()][..], "3.12.0"));
    let (_, bind, _) = connect(&mut session(UtcOffset::Untold, Traits::default()), &mut Room::default());
    assert_eq!((bind.tags.len(), bind.app_version.as_str()), (0, ""));
}

#[test]
fn the_offset_is_what_the_driver_says_unless_the_configuration_knows_better() {
    let told = |offset: UtcOffset, system: Option<i16>| {
        let mut session = session(offset, Traits::default());
        session.set_utc_offset(system);
        connect(&mut session, &mut Room::default()).0.utc_offset_min
    };
    assert_eq!(told(UtcOffset::System, None), None);
    assert_eq!(told(UtcOffset::System, Some(-210)), Some(-210));
    assert_eq!(told(UtcOffset::Minutes(345), Some(-210)), Some(345));
    assert_eq!(told(UtcOffset::Untold, Some(-210)), None);
}

/// A device that travels tells where it is on its next connection.
#[test]
fn a_new_offset_is_told_on_the_next_connection() {
    let (mut session, mut room) = (session(UtcOffset::System, Traits::default()), Room::default());
    session.set_utc_offset(Some(60));
    assert_eq!(connect(&mut session, &mut room).0.utc_offset_min, Some(60));
    session.lost(client::session::Cause::Silent, &mut Output::default());
    session.forget_resume();
    session.set_utc_offset(Some(120));
    assert_eq!(connect(&mut session, &mut room).0.utc_offset_min, Some(120));
}

/// A message that replaces others says so, and the numbers of those are skipped without a hole.
#[test]
fn what_replaces_others_says_so() {
    let (mut session, mut room) = (session(UtcOffset::Untold, Traits::default()), Room::default());
    let (.., mut out) = connect(&mut session, &mut room);
    out.events.clear();
    let entry = |seq: u64| Entry { birth: 1, seq, id: seq };
    let score = Push { collapse_key: "score".to_owned(), ..room.push(entry(3), 2) };
    let plain = room.push(entry(4), 0);
    room.send(score);
    room.send(plain);
    exchange(&mut session, &mut room, Moment(0), &mut out, usize::MAX);
    let keys = |event: &Event| match event {
        Event::Message(Message { id, collapse_key, .. }) => Some((id.0, collapse_key.clone())),
        _ => None,
    };
    let seen: Vec<_> = out.events.iter().filter_map(keys).collect();
    assert_eq!(seen, [(3, Some("score".into())), (4, None)]);
    assert_eq!(out.ended, None);
}
