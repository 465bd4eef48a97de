//! Broadcasts, their cursors and their acks.

use super::*;

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

/// Twenty broadcasts in a row were acked seven times by each device, while the room still sent.
#[test]
fn a_burst_of_broadcasts_is_acked_once_and_not_put_off_for_ever() {
    let (mut world, _) = World::bound();
    for bseq in 1..=5 {
        world.send(broadcast(bseq));
        world.pass(SECOND / 2);
    }
    assert!(!world.sent().contains(&"ack"));
    world.pass(2 * SECOND);
    assert_eq!(world.sent(), ["ack"]);
    // One that never ends, too slow for the number that does not wait.
    for bseq in 6..=30 {
        world.send(broadcast(bseq));
        world.pass(SECOND / 2);
    }
    let acks = world.sent().iter().filter(|name| **name == "ack").count();
    assert!((2..=4).contains(&acks), "{acks} in 12.5 s, each after 3 to 6");
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
