//! Connections and bindings from their beginning to their end.

use wire::{
    frame::{
        BindCode, BindFailed, Bound, Close, CloseCode, Connect, Connected, Error, ErrorCode, Network, Ping,
        Reconnect, ServerBody, Unbind, Unbound, UnboundReason, Up, UpAck, UpCode,
    },
    id::{FenceNumber, Uid},
};

use super::{
    super::Limits,
    harness::{APP, World, bind, done, hello, item, page, place},
};
use crate::exchange::{
    BindAnswer, BindRefusal, Delivery, DrainOrder, KickOrder, KickWhy, LoadDone, UpAnswer,
};

fn world() -> World {
    World::new(Limits::default())
}

fn close_code(frame: &ServerBody) -> CloseCode {
    match frame {
        ServerBody::Close(close) => close.code(),
        other => panic!("no close: {other:?}"),
    }
}

#[test]
fn connect_comes_first_and_once() {
    let mut world = world();
    let early = world.sessions.open(world.now).unwrap().slot;
    assert!(!world.send(early, Ping {}));
    assert_eq!(close_code(&world.one(early)), CloseCode::BadFrame);
    assert_eq!(world.out.finished, [early]);

    let twice = world.connect();
    assert!(!world.send(twice, hello()));
    assert_eq!(close_code(&world.one(twice)), CloseCode::BadFrame);
}

#[test]
fn heartbeat_and_version_are_negotiated() {
    let mut world = world();
    let mut greet = |connect: Connect| {
        let slot = world.sessions.open(world.now).unwrap().slot;
        world.send(slot, connect);
        world.one(slot)
    };
    let ServerBody::Connected(Connected { heartbeat_s, version, conn, .. }) =
        greet(Connect { heartbeat_s: 400, network: i32::from(Network::Network3g), version: 9, ..hello() })
    else {
        panic!("refused")
    };
    assert_eq!((heartbeat_s, version), (300, 1), "a mobile network has bounds of its own");
    assert_ne!(conn, 0);
    let ServerBody::Connected(connected) = greet(Connect { heartbeat_s: 1, ..hello() }) else {
        panic!("refused")
    };
    assert_eq!(connected.heartbeat_s, 10, "the room has bounds");
    assert_eq!(close_code(&greet(Connect { version: 0, ..hello() })), CloseCode::BadVersion);
    assert_eq!(close_code(&greet(Connect { device: String::new(), ..hello() })), CloseCode::BadFrame);
}

#[test]
fn bound_comes_before_its_messages() {
    let mut world = world();
    let slot = world.connect();
    let ask = world.ask_bind(slot, 3, "alice", &[]);
    assert_eq!(ask.uid.as_str(), "alice");
    world.answer_bind(&ask, crate::exchange::BindDone { inbox: page((4, 10), &[12, 13], 15), ..done(1, 0) });
    let frames = world.frames(slot);
    let [
        ServerBody::Bound(Bound { binding, app, inbox, .. }),
        ServerBody::Push(first),
        ServerBody::Push(second),
    ] = &frames[..]
    else {
        panic!("{frames:?}")
    };
    assert_eq!((*binding, *app, *inbox), (3, APP.0, place(4, 10)));
    assert_eq!((first.binding, first.seq, first.skip), (3, 12, 1));
    assert_eq!((second.seq, second.skip), (13, 0));
    // 14 and 15 hold nothing: the next is 16, and the device has to be told of the two.
    assert_eq!(world.deliver(&item("alice", 4, 16)), Delivery::Sent);
    assert_eq!(world.pushed(slot), [(16, 2)]);
}

#[test]
fn what_a_bind_says_is_judged_before_anybody_is_asked() {
    let mut world = World::new(Limits { bindings_per_connection: 2, ..Limits::default() });
    let slot = world.connect();
    let mut code = |bind: wire::frame::Bind| {
        world.send(slot, bind);
        match world.frames(slot).pop() {
            Some(ServerBody::BindFailed(failed)) => Some(failed.code()),
            None => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code(bind(1, "", &[])), Some(BindCode::BadRequest));
    assert_eq!(code(bind(1, &"u".repeat(129), &[])), Some(BindCode::BadRequest));
    assert_eq!(code(bind(1, "a", &[""])), Some(BindCode::BadRequest));
    assert_eq!(code(bind(1, "a", &["t"; 33])), Some(BindCode::BadRequest));
    assert_eq!(code(bind(1, "a", &[])), None);
    assert_eq!(code(bind(1, "b", &[])), Some(BindCode::Duplicate));
    assert_eq!(code(bind(2, "b", &[])), None);
    assert_eq!(code(bind(3, "c", &[])), Some(BindCode::TooMany));
    assert_eq!(world.sessions.asks.binds.len(), 2);
}

#[test]
fn a_refused_bind_frees_its_number() {
    let mut world = world();
    let slot = world.connect();
    let ask = world.ask_bind(slot, 1, "alice", &[]);
    let refusal = BindRefusal { code: BindCode::TokenExpired, message: "expired".into(), retry_after_ms: 0 };
    let answer =
        BindAnswer { binding: ask.binding, tags: Vec::new(), device: ask.device, result: Err(refusal) };
    world.sessions.on_bound(answer, world.now, &mut world.out);
    let ServerBody::BindFailed(BindFailed { binding: 1, code, .. }) = world.one(slot) else { panic!() };
    assert_eq!(code, i32::from(BindCode::TokenExpired));
    world.bind(slot, 1, "alice", 1);
    assert_eq!(world.sessions.live(), 1);
}

#[test]
fn full_queues_are_answered_with_busy() {
    let mut world = World::new(Limits { asks: 1, ..Limits::default() });
    let slot = world.connect();
    world.send(slot, bind(1, "a", &[]));
    world.send(slot, bind(2, "b", &[]));
    let ServerBody::BindFailed(failed) = world.one(slot) else { panic!() };
    assert_eq!((failed.binding, failed.code()), (2, BindCode::Busy));
    assert!((1_000..=2_000).contains(&failed.retry_after_ms), "jittered: {}", failed.retry_after_ms);
}

#[test]
fn unbind_tells_the_register_with_the_fence() {
    let mut world = world();
    let slot = world.connect();
    world.bind(slot, 1, "alice", 77);
    world.send(slot, Unbind { binding: 1 });
    let ServerBody::Unbound(Unbound { binding: 1, reason }) = world.one(slot) else { panic!() };
    assert_eq!(reason, i32::from(UnboundReason::Requested));
    let ends = world.sessions.take_ends(9);
    assert_eq!(ends.len(), 1);
    assert_eq!((ends[0].fence, ends[0].uid.as_str()), (FenceNumber(77), "alice"));
    assert_eq!((ends[0].inbox, ends[0].cursor), (None, None));
    assert_eq!(world.deliver(&item("alice", 1, 1)), Delivery::NotHere);
    world.send(slot, Unbind { binding: 1 });
    let ServerBody::Error(Error { code, .. }) = world.one(slot) else { panic!() };
    assert_eq!(code, i32::from(ErrorCode::NoSuchBinding));
}

/// A connection that dies while its bind is under way leaves a session in the register that nobody would ever end.
#[test]
fn a_bind_that_is_answered_too_late_is_ended() {
    let mut world = world();
    let gone = world.connect();
    let ask = world.ask_bind(gone, 1, "alice", &[]);
    world.sessions.on_closed(gone);
    assert!(!world.sessions.is_at_rest(), "the answer is waited for");
    // The slots are used again before the answer comes.
    let next = world.connect();
    world.bind(next, 1, "bob", 5);
    world.answer_bind(&ask, done(9, 0));
    assert!(world.frames(next).is_empty());
    let ends = world.sessions.take_ends(9);
    assert_eq!((ends[0].uid.as_str(), ends[0].fence), ("alice", FenceNumber(9)));
    assert_eq!(world.sessions.live(), 1);
}

#[test]
fn a_kick_ends_only_what_is_not_newer() {
    let mut world = world();
    let (old, new) = (world.connect(), world.connect());
    world.bind(old, 1, "alice", 5);
    world.bind(new, 2, "alice", 6);
    let kick = |fence| KickOrder {
        app: APP,
        uid: Uid::new("alice").unwrap(),
        fence: FenceNumber(fence),
        why: KickWhy::Replaced,
    };
    assert_eq!(world.deliver(&item("alice", 1, 1)), Delivery::Sent);
    assert_eq!(world.pushed(new), [(1, 0)], "the newer one of the two gets it");
    assert!(world.sessions.kick(&kick(5), &mut world.out));
    let ServerBody::Unbound(unbound) = world.one(old) else { panic!() };
    assert_eq!((unbound.binding, unbound.reason()), (1, UnboundReason::Replaced));
    assert!(!world.sessions.kick(&kick(5), &mut world.out));
    assert!(world.frames(new).is_empty());
    assert_eq!(world.sessions.live(), 1);
}

#[test]
fn a_kick_that_came_during_the_bind_ends_it() {
    let mut world = world();
    let slot = world.connect();
    let ask = world.ask_bind(slot, 1, "alice", &[]);
    let kicked = Some(KickWhy::Kicked);
    world.answer_bind(&ask, crate::exchange::BindDone { kicked, ..done(5, 0) });
    let frames = world.frames(slot);
    assert!(matches!(frames[..], [ServerBody::Bound(_), ServerBody::Unbound(_)]), "{frames:?}");
    assert_eq!(world.sessions.take_ends(9).len(), 1);
}

#[test]
fn a_closed_connection_ends_all_its_bindings() {
    let mut world = world();
    let slot = world.connect();
    for (number, uid) in [(1, "a"), (2, "b"), (3, "c")] {
        world.bind(slot, number, uid, number.into());
    }
    world.deliver(&item("b", 1, 1));
    world.send(slot, super::harness::ack(2, 1, 0));
    world.send(slot, Unbind { binding: 2 });
    world.sessions.on_closed(slot);
    let ends = world.sessions.take_ends(9);
    assert_eq!(ends.len(), 3);
    let b = ends.iter().find(|end| end.uid.as_str() == "b").unwrap();
    assert_eq!(b.inbox, Some(super::harness::position(1, 1)), "the ack goes with the end");
    assert!(world.sessions.take_acks(9).is_empty());
    assert!(world.sessions.is_at_rest());
}

#[test]
fn silence_is_ended_in_every_phase() {
    let mut world = world();
    let silent = world.sessions.open(world.now).unwrap().slot;
    world.pass(9_900);
    assert!(world.frames(silent).is_empty());
    world.pass(600);
    assert_eq!(close_code(&world.one(silent)), CloseCode::HandshakeTimeout);
    assert!(world.out.aborted.is_empty());
    world.pass(2_500);
    assert_eq!(world.out.aborted, [silent], "it does not read its Close frame");
    world.sessions.on_closed(silent);

    let idle = world.connect();
    for _ in 0..29 {
        world.pass(1_000);
        world.send(idle, Ping {});
    }
    world.frames(idle);
    world.pass(1_600);
    assert_eq!(close_code(&world.one(idle)), CloseCode::HandshakeTimeout, "pings are no token");
    world.sessions.on_closed(idle);

    let bound = world.connect();
    world.bind(bound, 1, "alice", 1);
    for _ in 0..10 {
        world.pass(60_000);
        world.send(bound, Ping {});
        assert!(matches!(world.one(bound), ServerBody::Pong(_)));
    }
    world.pass(94_000);
    assert!(world.frames(bound).is_empty());
    world.pass(2_000);
    assert_eq!(close_code(&world.one(bound)), CloseCode::HeartbeatTimeout);
    assert_eq!(world.sessions.take_ends(9).len(), 1, "the register is told at once");
}

#[test]
fn who_sends_too_fast_is_closed() {
    let mut world = World::new(Limits { frames_burst: 5, frames_per_second: 1, ..Limits::default() });
    let slot = world.connect();
    for _ in 0..4 {
        assert!(world.send(slot, Ping {}));
    }
    world.frames(slot);
    assert!(!world.send(slot, Ping {}));
    let ServerBody::Close(Close { code, retry_after_ms, .. }) = world.one(slot) else { panic!() };
    assert_eq!(code, i32::from(CloseCode::TooFast));
    assert!(retry_after_ms >= 1_000);
    assert!(!world.send(slot, Ping {}), "what follows is thrown away");
    assert!(world.frames(slot).is_empty());
}

/// A device that comes back to a full inbox acks as fast as it reads.
#[test]
fn acks_of_what_was_sent_are_free() {
    let mut world = World::new(Limits { frames_burst: 5, frames_per_second: 1, ..Limits::default() });
    let slot = world.connect();
    world.bind(slot, 1, "alice", 1);
    for seq in 1..=100 {
        world.deliver(&item("alice", 1, seq));
        assert!(world.send(slot, super::harness::ack(1, seq, 0)));
    }
    world.frames(slot);
    let more = (0..100).take_while(|_| world.send(slot, super::harness::ack(1, 100, 0))).count();
    assert!(more < 5, "those that say nothing new are not");
}

#[test]
fn who_does_not_read_is_closed() {
    let mut world = world();
    let slot = world.connect();
    world.bind(slot, 1, "alice", 1);
    world.out.stalled_ms.insert(slot, 130_000);
    world.pass(10_250);
    assert_eq!(close_code(&world.one(slot)), CloseCode::Slow);
    assert_eq!(world.out.aborted, [slot]);
}

#[test]
fn an_unknown_frame_is_answered_and_the_connection_goes_on() {
    let mut world = world();
    let slot = world.connect();
    assert!(world.send(slot, wire::frame::ClientFrame { body: None }));
    let ServerBody::Error(error) = world.one(slot) else { panic!() };
    assert_eq!(error.code(), ErrorCode::UnknownFrame);
    assert!(world.send(slot, Ping {}));
}

#[test]
fn upstream_is_answered_by_its_number() {
    let mut world = World::new(Limits { ups_in_flight: 1, ..Limits::default() });
    let slot = world.connect();
    world.bind(slot, 1, "alice", 1);
    let up = |binding, kind: &str, r#ref| Up { binding, kind: kind.into(), payload: "x".into(), r#ref };
    let code = |frame| match frame {
        ServerBody::UpAck(UpAck { r#ref, code, .. }) => (r#ref, UpCode::try_from(code).unwrap()),
        other => panic!("{other:?}"),
    };
    world.send(slot, up(9, "chat", 1));
    assert_eq!(code(world.one(slot)), (1, UpCode::Rejected), "no such binding");
    world.send(slot, up(1, "", 2));
    assert_eq!(code(world.one(slot)), (2, UpCode::Rejected), "no kind");
    world.send(slot, up(1, "chat", 3));
    world.send(slot, up(1, "chat", 4));
    assert_eq!(code(world.one(slot)), (4, UpCode::Retry), "one at a time");
    let ask = world.sessions.asks.ups.take(9).pop().unwrap();
    assert_eq!((ask.reference, ask.kind.as_str()), (3, "chat"));
    let answer = UpAnswer { conn: ask.conn, reference: 3, code: UpCode::Ok, retry_after_ms: 0, bytes: 0 };
    world.sessions.on_up_answer(answer, &mut world.out);
    assert_eq!(code(world.one(slot)), (3, UpCode::Ok));
    world.send(slot, up(1, "chat", 5));
    assert!(world.frames(slot).is_empty());
}

/// Frames that waited for a coordinator were bounded in number only: a gigabyte of them fitted.
#[test]
fn upstream_data_that_waits_is_bounded_in_bytes() {
    let mut world = World::new(Limits { up_bytes: 100, ..Limits::default() });
    let slot = world.connect();
    world.bind(slot, 1, "alice", 1);
    let up =
        |bytes: usize, r#ref| Up { binding: 1, kind: "chat".into(), payload: vec![0; bytes].into(), r#ref };
    let code = |frame| match frame {
        ServerBody::UpAck(UpAck { r#ref, code, retry_after_ms }) => {
            (r#ref, UpCode::try_from(code).unwrap(), retry_after_ms > 0)
        }
        other => panic!("{other:?}"),
    };
    world.send(slot, up(60, 1));
    world.send(slot, up(60, 2));
    assert_eq!(code(world.one(slot)), (2, UpCode::Retry, true));
    world.send(slot, up(40, 3));
    assert!(world.frames(slot).is_empty(), "this one fits");
    let ask = world.sessions.asks.ups.take(1).pop().unwrap();
    let answer = UpAnswer { conn: ask.conn, reference: 1, code: UpCode::Ok, retry_after_ms: 0, bytes: 60 };
    world.sessions.on_up_answer(answer, &mut world.out);
    assert_eq!(code(world.one(slot)).0, 1);
    world.send(slot, up(60, 4));
    assert!(world.frames(slot).is_empty(), "there is room again");
}

#[test]
fn a_full_room_says_so() {
    let mut world = World::new(Limits { connections: 1, ..Limits::default() });
    world.connect();
    assert!(world.sessions.open(world.now).is_none());
    assert_eq!(world.sessions.busy().code(), CloseCode::Busy);
}

#[test]
fn a_drain_sends_devices_away_at_its_pace() {
    let mut world = world();
    let slots: Vec<u32> = (0..50).map(|_| world.connect()).collect();
    world.bind(slots[0], 1, "alice", 1);
    let order = DrainOrder { per_second: 10, spread_ms: 2_000, linger_ms: 1_000 };
    world.sessions.start_drain(order, world.now);
    assert!(world.sessions.open(world.now).is_none());
    let mut told = 0;
    for quarter in 1..=8 {
        world.pass(250);
        world.sessions.drain_step(world.now, &mut world.out);
        for slot in &slots {
            for frame in world.frames(*slot) {
                if let ServerBody::Reconnect(Reconnect { after_ms, .. }) = frame {
                    assert!(after_ms <= 2_000);
                    told += 1;
                }
            }
        }
        assert!(told <= 1 + 10 * quarter / 4, "{told} after {quarter} quarters");
    }
    assert_eq!(told, 21);
    world.sessions.on_closed(slots[0]);
    assert_eq!(world.sessions.take_ends(9).len(), 1);
    world.sessions.close_all(world.now, &mut world.out);
    assert_eq!(close_code(&world.frames(slots[40])[0]), CloseCode::GoingAway);
}

#[test]
fn a_page_with_more_is_followed_by_the_next() {
    let mut world = world();
    let slot = world.connect();
    let ask = world.ask_bind(slot, 1, "alice", &[]);
    let first = LoadDone { more: true, ..page((1, 0), &[1, 2], 2) };
    world.answer_bind(&ask, crate::exchange::BindDone { inbox: first, ..done(1, 0) });
    world.frames(slot);
    let ask = world.load_ask().expect("the rest is asked for");
    assert_eq!(ask.after, super::harness::position(1, 2));
    world.answer_load(&ask, Some(page((1, 2), &[3], 3)));
    assert_eq!(world.pushed(slot), [(3, 0)]);
    assert!(world.load_ask().is_none());
}

/// Devices that had waited for half a minute while the cluster was slow were sent away, came back, and made it slower.
#[test]
fn who_waits_for_the_cluster_is_not_sent_away_for_it() {
    let mut world = world();
    let patient = world.connect();
    let ask = world.ask_bind(patient, 1, "alice", &[]);
    for _ in 0..70 {
        world.pass(1_000);
        world.send(patient, Ping {});
    }
    assert!(world.frames(patient).iter().all(|frame| matches!(frame, ServerBody::Pong(_))));
    world.answer_bind(&ask, done(1, 0));
    assert!(matches!(world.one(patient), ServerBody::Bound(_)));
}
