//! The session's rules one by one, in virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod room;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use client::{
    AckPolicy, Config, Event, Moment, Output, Session,
    session::{BindSpec, Cause, Ending, MAX_UP_PAYLOAD, UpError, UpOutcome},
};
use room::{Room, exchange};
use wire::{
    frame::*,
    id::{AppKey, BindingId, MessageId, Uid},
};

struct World {
    session: Session,
    room: Room,
    out: Output,
    now: Moment,
}

fn spec(uid: &str, token: Option<&str>) -> BindSpec {
    let token = token.map(Into::into);
    let (app, uid) = (AppKey::new("demo").unwrap(), Uid::new(uid).unwrap());
    BindSpec { app, uid, token, traits: Arc::default(), inbox: None, broadcasts: None }
}

impl World {
    fn new(config: Config) -> Self {
        let session = Session::new(Arc::new(config), "test".into(), 1);
        Self { session, room: Room::default(), out: Output::default(), now: Moment(0) }
    }

    /// Connected and with one binding.
    fn bound() -> (Self, BindingId) {
        let mut world = Self::new(Config::default());
        let binding = world.session.bind(spec("alice", Some("token")));
        world.connect();
        assert!(matches!(&world.events()[..], [Event::Connected { .. }, Event::Bound { .. }]));
        (world, binding)
    }

    fn connect(&mut self) {
        self.room.accept();
        self.out.ended = None;
        self.session.opened(self.now, &mut self.out);
        self.exchange();
    }

    fn exchange(&mut self) {
        exchange(&mut self.session, &mut self.room, self.now, &mut self.out, usize::MAX);
    }

    fn send(&mut self, frame: impl Into<ServerFrame>) {
        self.room.send(frame);
        self.exchange();
    }

    /// Lets time pass, with everything done when it is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.session.next_deadline().filter(|next| *next <= end) {
            assert!(next >= self.now || next == Moment(0), "a deadline in the past is not met");
            self.now = self.now.max(next);
            self.exchange();
        }
        self.now = end;
    }

    fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.out.events)
    }

    fn sent(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.room.up).iter().map(ClientFrame::name).collect()
    }

    fn cause(&mut self) -> Option<Cause> {
        self.out.ended.take().map(|ending: Ending| ending.cause)
    }
}

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
fn replaced_and_kicked_are_not_bound_again() {
    for reason in [UnboundReason::Replaced, UnboundReason::Kicked] {
        let (mut world, binding) = World::bound();
        world.sent();
        world.send(Unbound { binding: binding.0, reason: reason.into() });
        assert_eq!(world.events(), [Event::Unbound { binding, reason }]);
        world.pass(40 * SECOND);
        world.session.lost(Cause::Silent, &mut world.out);
        world.connect();
        assert_eq!(world.sent(), ["connect"]);
        world.session.rebind(binding);
        world.exchange();
        assert!(world.events().contains(&Event::TokenNeeded { binding }));
        world.session.set_token(binding, "new".into());
        world.exchange();
        assert_eq!(world.sent(), ["bind"]);
    }
}

#[test]
fn a_lost_binding_is_bound_again() {
    for lost in [
        ServerFrame::from(Unbound { binding: 1, reason: UnboundReason::Lost.into() }),
        Error { binding: 1, code: ErrorCode::NoSuchBinding.into(), message: String::new() }.into(),
    ] {
        let (mut world, binding) = World::bound();
        world.sent();
        world.send(lost);
        world.pass(SECOND);
        assert_eq!(world.sent(), ["bind"]);
        assert!(world.session.is_bound(binding));
    }
}

#[test]
fn bind_failures_are_followed_by_code() {
    let failed = |code: BindCode, retry_after_ms| BindFailed {
        binding: 1,
        code: code.into(),
        message: String::new(),
        retry_after_ms,
    };
    // The room's answer is put in by hand: no Bound of its own.
    let ask = |answer: BindFailed| {
        let mut world = World::new(Config::default());
        world.session.bind(spec("alice", Some("token")));
        world.session.opened(world.now, &mut world.out);
        let connected = Connected { version: 1, heartbeat_s: 60, ..Connected::default() };
        world.session.on_frame(connected.into(), world.now, &mut world.out);
        world.session.advance(world.now, &mut world.out);
        world.session.on_frame(answer.into(), world.now, &mut world.out);
        world.out.bytes.clear();
        world
    };
    let mut world = ask(failed(BindCode::Busy, 5000));
    world.session.advance(Moment(4999), &mut world.out);
    assert!(world.out.bytes.is_empty());
    world.session.advance(Moment(5000), &mut world.out);
    assert!(!world.out.bytes.is_empty(), "asked again when told");

    let mut world = ask(failed(BindCode::TokenExpired, 0));
    world.session.advance(Moment(0), &mut world.out);
    assert!(world.events().contains(&Event::TokenNeeded { binding: BindingId(1) }), "at once");

    let mut world = ask(failed(BindCode::UnknownApp, 0));
    assert!(matches!(world.events().last(), Some(Event::BindFailed { gives_up: true, .. })));
    world.session.advance(Moment(40_000), &mut world.out);
    assert!(world.events().is_empty());
}

#[test]
fn bad_tokens_are_not_asked_for_for_ever() {
    let mut world = World::new(Config::default());
    let binding = world.session.bind(spec("alice", None));
    world.session.opened(world.now, &mut world.out);
    let connected = Connected { version: 1, heartbeat_s: 3600, ..Connected::default() };
    world.session.on_frame(connected.into(), world.now, &mut world.out);
    let mut asked = 0;
    for _ in 0..100 {
        world.now = world.now + SECOND;
        world.session.advance(world.now, &mut world.out);
        for event in world.events() {
            if let Event::TokenNeeded { .. } = event {
                asked += 1;
                world.session.set_token(binding, "bad".into());
                world.session.advance(world.now, &mut world.out);
                let code = BindCode::BadToken.into();
                let answer = BindFailed { binding: 1, code, ..BindFailed::default() };
                world.session.on_frame(answer.into(), world.now, &mut world.out);
            }
        }
    }
    assert_eq!(asked, Config::default().max_token_attempts);
}

#[test]
fn unbind_acks_first_and_ends_what_waits() {
    let (mut world, binding) = World::bound();
    world.room.inbox.append(1);
    world.room.deliver();
    world.exchange();
    let reference = world.session.up(binding, "k".into(), Bytes::new()).unwrap();
    world.exchange();
    world.sent();
    world.events();
    world.session.unbind(binding);
    assert_eq!(world.session.up(binding, "k".into(), Bytes::new()), Err(UpError::NoBinding));
    world.exchange();
    assert_eq!(world.sent(), ["ack", "unbind"]);
    let reason = UnboundReason::Requested;
    let done = Event::UpDone { reference, outcome: UpOutcome::NoBinding };
    assert_eq!(world.events(), [done, Event::Unbound { binding, reason }]);
    world.send(Push { binding: binding.0, seq: 2, ..Push::default() });
    assert_eq!((world.cause(), world.events()), (None, vec![]), "what crossed the unbind is ignored");
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

fn broadcast(bseq: u64) -> Broadcast {
    Broadcast { app: 1, bseq, id: 1000 + bseq, ..Broadcast::default() }
}

#[test]
fn broadcasts_come_once_and_are_acked() {
    let (mut world, binding) = World::bound();
    for bseq in [3, 3, 7, 5] {
        world.send(broadcast(bseq));
    }
    let bseqs: Vec<_> = world
        .events()
        .iter()
        .map(|event| match event {
            Event::Broadcast(b) if b.bindings[..] == [binding] => b.cursor.bseq.0,
            event => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(bseqs, [3, 7]);
    // Between half of what it may wait and all.
    world.pass(SECOND - Duration::from_millis(1));
    assert!(!world.sent().contains(&"ack"));
    world.pass(SECOND + Duration::from_millis(1));
    let Some(ClientBody::Ack(ack)) = world.room.up.last().and_then(|frame| frame.body.clone()) else {
        panic!("no ack");
    };
    assert!((1_000..=2_000).contains(&ack.held_ms), "{} ms", ack.held_ms);
    assert_eq!(ack, Ack { binding: binding.0, bseq: 7, held_ms: ack.held_ms, ..Ack::default() });
    world.send(Broadcast { app: 2, bseq: 9, ..Broadcast::default() });
    assert!(world.events().is_empty(), "of an app that is not bound");
}

#[test]
fn two_bindings_of_an_app_see_a_broadcast_once_and_miss_none() {
    let (mut world, _) = World::bound();
    world.session.bind(spec("bob", Some("token")));
    world.exchange();
    world.events();
    // The first is live at 9 while the second catches up from the beginning.
    for (binding, bseq) in [(1, 9), (2, 1), (2, 9), (1, 10), (2, 10)] {
        world.send(Broadcast { binding, ..broadcast(bseq) });
    }
    let ids = world.events().iter().filter(|event| matches!(event, Event::Broadcast(_))).count();
    assert_eq!(ids, 3);
}

/// A frame without its receiver moved the cursors of all bindings of the app; when the connection broke then, the one that
/// was catching up went on behind broadcasts that it had never got.
#[test]
fn a_broadcast_moves_the_cursor_of_its_own_binding() {
    let (mut world, first) = World::bound();
    let second = world.session.bind(spec("bob", Some("token")));
    world.exchange();
    world.events();
    world.send(Broadcast { binding: first.0, ..broadcast(9) });
    world.send(Broadcast { binding: second.0, ..broadcast(4) });
    world.pass(2 * SECOND);
    let acked: BTreeMap<_, _> = world
        .room
        .up
        .iter()
        .filter_map(|frame| match &frame.body {
            Some(ClientBody::Ack(ack)) if ack.bseq > 0 => Some((ack.binding, ack.bseq)),
            _ => None,
        })
        .collect();
    assert_eq!(acked, [(first.0, 9), (second.0, 4)].into());
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
