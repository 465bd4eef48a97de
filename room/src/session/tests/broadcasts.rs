//! Fan-out, catching up, cursors.

use wire::frame::{ServerBody, UnboundReason};

use super::{
    super::Limits,
    harness::{APP, World, ack, cursor, done, entry, run},
};
use crate::exchange::{BindDone, LogEntry, LogRun, Progress};

fn small() -> World {
    World::new(Limits { slice: 3, ..Limits::default() })
}

/// `count` connections with one binding each; those with an even number have the tag "even".
fn crowd(world: &mut World, count: u32) -> Vec<u32> {
    let one = |n| {
        let slot = world.connect();
        let tags: &[&str] = if n % 2 == 0 { &["even", "all"] } else { &["all"] };
        world.bind_with(slot, 1, &format!("u{n}"), tags, done(u64::from(n) + 1, 0));
        slot
    };
    (0..count).map(one).collect()
}

#[test]
fn a_broadcast_goes_out_in_slices_and_is_encoded_once() {
    let mut world = small();
    let slots = crowd(&mut world, 10);
    world.sessions.on_log(&run(0, 1, &[(1, "")]), false);
    let mut slices = 0;
    while world.sessions.work(world.now, &mut world.out) {
        slices += 1;
        assert!(world.out.shared.len() <= slices * 3, "no slice is larger");
    }
    assert!(slices >= 3);
    assert_eq!(world.out.shared.len(), 10);
    assert!(world.out.shared.iter().all(|at| *at == world.out.shared[0]), "all share the same bytes");
    for slot in slots {
        assert_eq!(world.broadcasts(slot), [1]);
    }
    assert_eq!(world.sessions.progress(1_001), Progress { pending: 10, sent: 10, ..Progress::default() });
}

/// What is told of a broadcast is everybody only when it has been chosen whom it is for.
#[test]
fn a_room_says_whether_it_has_come_as_far_as_a_place() {
    let mut world = small();
    assert!(!world.sessions.is_behind(APP, cursor(1, 1)), "nobody of the app is here");
    crowd(&mut world, 10);
    assert!(world.sessions.is_behind(APP, cursor(1, 1)));
    world.sessions.on_log(&run(0, 1, &[(1, "")]), false);
    world.work();
    assert_eq!(world.sessions.progress(1_001).pending, 10);
    assert!(!world.sessions.is_behind(APP, cursor(1, 1)));
    assert!(world.sessions.is_behind(APP, cursor(1, 2)) && world.sessions.is_behind(APP, cursor(2, 0)));
}

#[test]
fn audiences_choose_and_acks_are_counted() {
    let mut world = small();
    let slots = crowd(&mut world, 6);
    world.sessions.on_log(&run(0, 3, &[(1, "even"), (3, "all and not even")]), false);
    world.work();
    assert_eq!(world.broadcasts(slots[0]), [1]);
    assert_eq!(world.broadcasts(slots[1]), [3]);
    assert_eq!(world.sessions.progress(1_001), Progress { pending: 3, sent: 3, ..Progress::default() });
    world.send(slots[0], ack(1, 0, 1));
    world.send(slots[0], ack(1, 0, 99));
    world.send(slots[1], ack(1, 0, 99));
    assert_eq!(world.sessions.progress(1_001).acked, 1);
    assert_eq!(world.sessions.progress(1_003).acked, 1);
}

#[test]
fn what_gathers_leaves_together_in_order() {
    let mut world = small();
    let slots = crowd(&mut world, 9);
    world.sessions.on_log(&run(0, 1, &[(1, "")]), false);
    world.sessions.work(world.now, &mut world.out);
    for bseq in 2..=5 {
        world.sessions.on_log(&run(bseq - 1, bseq, &[(bseq, "")]), false);
    }
    world.work();
    for slot in slots {
        assert_eq!(world.broadcasts(slot), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn a_slow_reader_costs_its_cursor_and_disturbs_nobody() {
    let mut world = small();
    let slots = crowd(&mut world, 4);
    let slow = slots[2];
    world.out.room.insert(slow, 0);
    for bseq in 1..=5 {
        world.sessions.on_log(&run(bseq - 1, bseq, &[(bseq, "")]), false);
        world.work();
    }
    assert_eq!(world.broadcasts(slots[0]), [1, 2, 3, 4, 5]);
    assert!(world.frames(slow).is_empty());
    world.out.room.insert(slow, 30);
    world.sessions.on_drained(slow, &mut world.out);
    world.work();
    let first = world.broadcasts(slow);
    assert!(!first.is_empty() && first.len() < 5, "{first:?}");
    world.out.room.clear();
    world.sessions.on_drained(slow, &mut world.out);
    world.work();
    let rest = world.broadcasts(slow);
    assert_eq!([first, rest].concat(), [1, 2, 3, 4, 5]);
    world.sessions.on_log(&run(5, 6, &[(6, "")]), false);
    world.work();
    assert_eq!(world.broadcasts(slow), [6], "it keeps up again");
}

#[test]
fn who_lags_behind_the_tail_reads_the_log_by_pages() {
    let mut world = World::new(Limits { slice: 3, tail_bytes: 60, ..Limits::default() });
    let slots = crowd(&mut world, 2);
    let slow = slots[1];
    world.out.room.insert(slow, 0);
    for bseq in 1..=12 {
        world.sessions.on_log(&run(bseq - 1, bseq, &[(bseq, "")]), false);
        world.work();
    }
    world.out.room.clear();
    world.sessions.on_drained(slow, &mut world.out);
    world.work();
    let mut got = Vec::new();
    while let Some(ask) = world.sessions.asks.pages.take(9).pop() {
        assert_eq!(ask.app, APP);
        let through = (ask.after + 4).min(12);
        let entries: Vec<(u64, &str)> = (ask.after + 1..=through).map(|bseq| (bseq, "")).collect();
        world.sessions.on_log(&run(ask.after, through, &entries), true);
        world.work();
        got.extend(world.broadcasts(slow));
    }
    assert_eq!(got, (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_hole_in_the_log_is_asked_for_once() {
    let mut world = small();
    let slots = crowd(&mut world, 2);
    world.sessions.on_log(&run(3, 4, &[(4, "")]), false);
    world.sessions.on_log(&run(4, 5, &[(5, "")]), false);
    world.work();
    assert!(world.frames(slots[0]).is_empty(), "nothing out of order");
    let asks = world.sessions.asks.pages.take(9);
    assert_eq!(asks.len(), 1);
    assert_eq!(asks[0].after, 0);
    world.sessions.on_log(&run(0, 5, &[(2, ""), (4, ""), (5, "")]), true);
    world.work();
    assert_eq!(world.broadcasts(slots[0]), [2, 4, 5]);
    // It may not have been all.
    assert_eq!(world.sessions.asks.pages.take(9)[0].after, 5);
    world.sessions.on_log(&run(5, 5, &[]), true);
    world.work();
    assert!(world.sessions.asks.pages.is_empty());
}

/// An answer that there is nothing after the tail was taken for one that there is nothing before it: whoever had come to
/// wait for an older page meanwhile skipped all up to the tail.
#[test]
fn nothing_new_in_the_log_says_nothing_of_what_is_older() {
    let mut world = World::new(Limits { tail_bytes: 60, ..Limits::default() });
    crowd(&mut world, 1);
    let all: Vec<(u64, &str)> = (1..=12).map(|bseq| (bseq, "")).collect();
    world.sessions.on_log(&run(0, 12, &all), false);
    world.work();
    world.sessions.on_log(&run(13, 14, &[(14, "")]), false);
    world.work();
    assert_eq!(world.sessions.asks.pages.take(9)[0].after, 12, "what the hole holds");
    let late = world.connect();
    world.bind_with(late, 1, "late", &[], BindDone { cursor: cursor(1, 2), ..done(9, 12) });
    world.work();
    world.sessions.on_log(&run(12, 12, &[]), true);
    world.work();
    assert_eq!(world.sessions.asks.pages.take(9)[0].after, 2);
    world.sessions.on_log(&run(2, 12, &all[2..]), true);
    world.work();
    assert_eq!(world.broadcasts(late), (3..=12).collect::<Vec<_>>());
}

#[test]
fn who_comes_late_goes_on_from_its_cursor() {
    let mut world = small();
    crowd(&mut world, 1);
    world.sessions.on_log(&run(0, 5, &[(1, ""), (2, "even"), (3, ""), (4, "beta"), (5, "")]), false);
    world.work();
    let late = world.connect();
    let place = BindDone { cursor: cursor(1, 2), saved_cursor: cursor(1, 2), ..done(9, 5) };
    world.bind_with(late, 1, "late", &["beta"], place);
    world.work();
    assert_eq!(world.broadcasts(late), [3, 4, 5]);
    assert_eq!(world.sessions.progress(1_003).targets(), 2);
    assert_eq!(world.sessions.progress(1_004), Progress { pending: 1, sent: 1, ..Progress::default() });
}

/// The saver told the bind of a broadcast whose notice has not reached this thread.
#[test]
fn who_is_ahead_gets_nothing_twice() {
    let mut world = small();
    let slots = crowd(&mut world, 1);
    let ahead = world.connect();
    world.bind_with(ahead, 1, "ahead", &[], BindDone { cursor: cursor(1, 2), ..done(9, 0) });
    world.sessions.on_log(&run(0, 3, &[(1, ""), (2, ""), (3, "")]), false);
    world.work();
    assert_eq!(world.broadcasts(ahead), [3]);
    assert_eq!(world.broadcasts(slots[0]), [1, 2, 3]);
}

#[test]
fn the_cursor_is_kept_when_the_binding_ends() {
    let mut world = small();
    let slots = crowd(&mut world, 3);
    world.sessions.on_log(&run(0, 4, &[(2, ""), (4, "even")]), false);
    world.work();
    world.send(slots[0], ack(1, 0, 2));
    world.send(slots[1], ack(1, 0, 2));
    for slot in &slots {
        world.sessions.on_closed(*slot);
    }
    let cursors: Vec<_> = world.sessions.take_ends(9).into_iter().map(|end| end.cursor).collect();
    // The first has not acked 4; the second has all that was for it; the third has acked nothing.
    assert_eq!(cursors, [Some(cursor(1, 2)), Some(cursor(1, 4)), None]);
}

#[test]
fn recalled_and_expired_are_not_sent() {
    let mut world = small();
    let slots = crowd(&mut world, 3);
    world.out.room.insert(slots[1], 0);
    let mut log = run(0, 3, &[(1, ""), (3, "")]);
    log.entries.insert(1, {
        let mut expired = std::sync::Arc::into_inner(super::harness::entry(2, "")).unwrap();
        expired.expires_ms = world.now.unix_ms;
        expired.into()
    });
    world.sessions.on_log(&log, false);
    world.work();
    assert_eq!(world.broadcasts(slots[0]), [1, 3]);
    let frame =
        wire::codec::encode_server_frame(&wire::frame::Recall { binding: 0, id: 1_001, app: APP.0 }.into());
    assert_eq!(world.sessions.recall_broadcast(APP, 1_001, frame), Some(2), "who has not got it is not told");
    world.work();
    assert!(matches!(world.one(slots[0]), ServerBody::Recall(_)));
    world.out.room.clear();
    world.sessions.on_drained(slots[1], &mut world.out);
    world.work();
    assert_eq!(world.broadcasts(slots[1]), [3]);
}

/// All share a frame's bytes, but for the bindings of one app on one connection: whose cursor would it move?
#[test]
fn bindings_of_one_app_on_a_connection_get_frames_of_their_own() {
    let mut world = small();
    let slot = world.connect();
    world.bind_with(slot, 1, "alice", &["a"], done(1, 0));
    world.sessions.on_log(&run(0, 1, &[(1, "")]), false);
    world.work();
    assert_eq!(world.broadcasts(slot), [1]);
    world.bind_with(slot, 2, "bob", &[], BindDone { cursor: cursor(1, 1), ..done(2, 1) });
    world.sessions.on_log(&run(1, 3, &[(2, ""), (3, "a")]), false);
    world.work();
    let of = |frame| match frame {
        ServerBody::Broadcast(broadcast) => (broadcast.binding, broadcast.bseq),
        other => panic!("no broadcast: {other:?}"),
    };
    let mut got: Vec<_> = world.frames(slot).into_iter().map(of).collect();
    got.sort_unstable();
    assert_eq!(got, [(1, 2), (1, 3), (2, 2)]);
}

/// Whoever is met after it came gets it in the same visit, and those before in the next round: so in steady state everyone
/// is visited once a round, whatever number of broadcasts comes during it.
#[test]
fn what_comes_during_a_round_leaves_with_it() {
    let mut world = small();
    let slots = crowd(&mut world, 8);
    world.sessions.on_log(&run(0, 1, &[(1, "")]), false);
    world.sessions.work(world.now, &mut world.out);
    world.sessions.on_log(&run(1, 2, &[(2, "")]), false);
    world.sessions.work(world.now, &mut world.out);
    assert_eq!(world.broadcasts(slots[0]), [1], "met before it came");
    let both = slots.iter().filter(|slot| world.broadcasts(**slot) == [1, 2]).count();
    assert!(both > 0, "somebody was met after it");
    let frame =
        wire::codec::encode_server_frame(&wire::frame::Recall { binding: 0, id: 1_002, app: APP.0 }.into());
    assert_eq!(world.sessions.recall_broadcast(APP, 1_002, frame), Some(both as u64), "who has it is told");
    world.work();
    assert!(world.frames(slots[0]).is_empty(), "it was taken back before its turn came");
}

/// A slot that is freed during a pass and used again must not make a newcomer a target of it.
#[test]
fn a_slot_used_again_during_a_pass_is_no_target() {
    let mut world = small();
    let slots = crowd(&mut world, 8);
    world.sessions.on_log(&run(0, 1, &[(1, "")]), false);
    world.sessions.work(world.now, &mut world.out);
    world.sessions.on_closed(slots[7]);
    world.sessions.take_ends(9);
    let next = world.connect();
    world.bind_with(next, 1, "next", &[], BindDone { cursor: cursor(1, 1), ..done(99, 1) });
    world.work();
    assert!(world.frames(next).is_empty());
    world.sessions.on_log(&run(1, 2, &[(2, "")]), false);
    world.work();
    assert_eq!(world.broadcasts(next), [2]);
}

/// A device that was left in a numbering that is no more would take the new log's first numbers for old ones.
#[test]
fn numbers_that_went_back_are_told_and_begin_anew() {
    let mut world = small();
    let slots = crowd(&mut world, 2);
    world.sessions.on_log(&run(0, 9, &[(9, "")]), false);
    world.work();
    slots.iter().for_each(|slot| assert_eq!(world.broadcasts(*slot), [9]));
    world.sessions.on_log(&crate::exchange::LogRun { epoch: 2, ..run(3, 3, &[]) }, false);
    world.sessions.on_log(&crate::exchange::LogRun { epoch: 2, ..run(3, 4, &[(4, "")]) }, false);
    world.work();
    assert!(world.frames(slots[0]).is_empty(), "nothing is sent in numbers that it would misread");
    assert!(!world.sessions.end_some(world.now, &mut world.out));
    for slot in &slots {
        let ServerBody::Unbound(unbound) = world.one(*slot) else { panic!() };
        assert_eq!(unbound.reason(), UnboundReason::Lost);
    }
    let ends = world.sessions.take_ends(9);
    assert!(
        ends.len() == 2 && ends.iter().all(|end| end.cursor.is_none()),
        "its place means nothing now: {ends:?}"
    );
    world.bind_with(
        slots[0],
        1,
        "u0",
        &[],
        BindDone { cursor: cursor(2, 3), log: cursor(2, 4), ..done(5, 0) },
    );
    world.work();
    assert_eq!(world.broadcasts(slots[0]), [4]);
}

#[test]
fn too_many_tags_end_the_bind() {
    let mut world = World::new(Limits { tags_per_app: 1, ..Limits::default() });
    let slot = world.connect();
    let ask = world.ask_bind(slot, 1, "alice", &["a", "b"]);
    world.answer_bind(&ask, done(5, 0));
    assert!(matches!(world.one(slot), ServerBody::BindFailed(_)));
    assert_eq!(world.sessions.take_ends(9)[0].fence, 5.into(), "the register is told");
    world.bind_with(slot, 1, "alice", &["a"], done(6, 0));
}

/// Whom a round over the candidates of slices had already chosen went into the pass of what was before the slices: it was sent
/// that, which was not meant for it, and its slice never, which then counted as expired.
#[test]
fn a_pass_does_not_take_whom_an_unfinished_round_has_chosen() {
    let mut world = World::new(Limits { slice: 1, ..Limits::default() });
    let slots = crowd(&mut world, 200);
    let half = |bseq: u64, from: u64, below: u64| {
        let slice = audience::Slice::new(from, below).unwrap();
        std::sync::Arc::new(LogEntry { slice, ..(*entry(bseq, "")).clone() })
    };
    let slices = [half(2, 0, 1 << 31), half(3, 1 << 31, 0)];
    let run = LogRun { entries: [entry(1, "even")].into_iter().chain(slices).collect(), ..run(0, 3, &[]) };
    world.sessions.on_log(&run, false);
    world.sessions.work(world.now, &mut world.out);
    // Who comes while the round is under way is chosen by itself, and gets all.
    let late = world.connect();
    world.bind_with(late, 1, "late", &["even"], done(900, 0));
    world.work();
    let slice_of = |uid: &str| if audience::place(APP.0, uid) < 1 << 31 { 2 } else { 3 };
    for (n, slot) in slots.into_iter().enumerate() {
        let slice = slice_of(&format!("u{n}"));
        let wanted = if n % 2 == 0 { vec![1, slice] } else { vec![slice] };
        assert_eq!(world.broadcasts(slot), wanted, "u{n}");
    }
    assert_eq!(world.broadcasts(late), [1, slice_of("late")]);
}

/// A page was sent as far as it went, and not only as far as had been opened: who acked that at once was counted as one who had
/// not, for ever.
#[test]
fn a_page_goes_no_further_than_the_tail_begins() {
    let mut world = World::new(Limits::default());
    let slot = world.connect();
    world.bind_with(slot, 1, "alice", &[], done(1, 100));
    let late = world.connect();
    let place = BindDone { cursor: cursor(1, 2), saved_cursor: cursor(1, 2), ..done(9, 100) };
    world.bind_with(late, 1, "late", &[], place);
    world.work();
    assert_eq!(world.sessions.asks.pages.take(9)[0].after, 2);
    // Far more than is opened in one turn.
    let all: Vec<(u64, &str)> = (3..=250).map(|bseq| (bseq, "")).collect();
    world.sessions.on_log(&run(2, 250, &all), true);
    world.sessions.work(world.now, &mut world.out);
    let first = world.broadcasts(late);
    world.send(late, ack(1, 0, *first.last().unwrap()));
    world.work();
    let rest = world.broadcasts(late);
    assert_eq!([first, rest].concat(), (3..=250).collect::<Vec<_>>());
    world.send(late, ack(1, 0, 250));
    for id in 1_003..=1_250 {
        let Progress { acked, pending, .. } = world.sessions.progress(id);
        assert_eq!((acked, pending), (1, u64::from(id > 1_100)), "{id}");
    }
}

/// At its bind the log could not be read, so what a device had acked in a room that had died was counted by nobody.
#[test]
fn what_could_not_be_counted_at_a_bind_is_gone_over_and_not_sent_again() {
    for head in [2, 6] {
        let mut world = World::new(Limits::default());
        let slot = world.connect();
        let log = [(2, ""), (3, ""), (5, "")];
        let place = BindDone { cursor: cursor(1, 3), saved_cursor: cursor(1, 1), ..done(1, head) };
        world.bind_with(slot, 1, "alice", &[], place);
        // A thread that comes by it in time, and one that reads it by pages.
        if head == 2 {
            world.sessions.on_log(&run(2, 6, &log[1..]), false);
        }
        world.work();
        for ask in world.sessions.asks.pages.take(9) {
            let rest: Vec<_> = log.iter().filter(|(bseq, _)| *bseq > ask.after).copied().collect();
            world.sessions.on_log(&run(ask.after, 6.max(ask.after), &rest), true);
            world.work();
        }
        assert_eq!(world.broadcasts(slot), [5], "{head}");
        let acked = |id: u64| world.sessions.progress(id).acked;
        assert_eq!([acked(1_002), acked(1_003), acked(1_005)], [1, 1, 0], "{head}");
        world.sessions.on_closed(slot);
        let credits = world.sessions.take_ends(9).remove(0).credits;
        assert_eq!(credits.iter().map(|credit| credit.bseq).collect::<Vec<_>>(), [2, 3], "{head}");
    }
}

/// An answer that had been on its way since before a hole said that there was nothing more: the hole was forgotten, and what was
/// behind it went to nobody here, until the next broadcast.
#[test]
fn an_older_answer_does_not_close_a_hole() {
    let mut world = small();
    let slots = crowd(&mut world, 1);
    world.sessions.on_log(&run(1, 2, &[(2, "")]), false);
    world.work();
    assert_eq!(world.sessions.asks.pages.take(9)[0].after, 0);
    world.sessions.on_log(&run(0, 2, &[(1, ""), (2, "")]), true);
    world.work();
    assert_eq!(world.sessions.asks.pages.take(9)[0].after, 2, "it may not have been all");
    world.sessions.on_log(&run(3, 4, &[(4, "")]), false);
    world.sessions.on_log(&run(2, 2, &[]), true);
    world.sessions.on_log(&run(2, 3, &[(3, "")]), false);
    world.work();
    assert_eq!(world.sessions.asks.pages.take(9)[0].after, 3);
    world.sessions.on_log(&run(3, 4, &[(4, "")]), true);
    world.work();
    assert_eq!(world.broadcasts(slots[0]), [1, 2, 3, 4]);
}
