//! What becomes of bindings.

use super::*;

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
