//! No turn of a thread grows with the number of its connections: what concerns very many at once is done in parts, and
//! between two parts others have their turn.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod crowd;

use std::time::Instant;

use bytes::Bytes;
use room::{
    clock::Now,
    exchange::{Delivery, DeliveryItem, DrainOrder, LoadAnswer, LogRun},
    session::Limits,
};
use wire::{frame::Ping, id::MessageId};

use self::crowd::{APP, Crowd, NOW, uid};

/// A write to a socket takes about 7 µs, so 10 ms are some 1,400 of them. A slice is far below.
const WRITES: u64 = 512;

fn later(ms: u64) -> Now {
    Now { ms: NOW.ms + ms, unix_ms: NOW.unix_ms + ms }
}

fn message(number: u32, seq: u64) -> DeliveryItem {
    DeliveryItem {
        app: APP,
        uid: uid(number),
        fence: None,
        epoch: 1,
        seq,
        id: MessageId(seq),
        payload: Some(Bytes::from_static(b"hello")),
        accepted_ms: NOW.unix_ms,
        collapse_key: "".into(),
        urgent: false,
    }
}

/// A broadcast to a million: between any two slices a heartbeat is answered and a message delivered.
#[test]
fn a_broadcast_to_a_million_lets_others_pass() {
    const COUNT: u32 = 1_000_000;
    let mut crowd = Crowd::with(COUNT, false);
    crowd.broadcast("");
    let (mut slices, mut longest, began) = (0u64, 0, Instant::now());
    loop {
        let before = crowd.out.frames;
        let more = crowd.sessions.work(NOW, &mut crowd.out);
        longest = longest.max(crowd.out.frames - before);
        slices += 1;
        // Whoever has not been served yet is served all the same.
        let other = COUNT - 1 - (slices as u32 % 1_000);
        let before = crowd.out.frames;
        crowd.frame(other, Ping {});
        assert_eq!(crowd.out.frames - before, 1, "a heartbeat is answered at once");
        let seq = 1 + (slices - 1) / 1_000;
        assert_eq!(crowd.sessions.deliver(&message(other, seq), &mut crowd.out), Delivery::Sent);
        if !more {
            break;
        }
    }
    assert!(longest <= Limits::default().slice as u64, "{longest} writes in one slice");
    assert!(slices >= u64::from(COUNT) / Limits::default().slice as u64);
    let all = u64::from(COUNT) * 3 + 2 * slices;
    assert_eq!(crowd.out.frames, all, "greetings, bounds, the broadcast, and what came between");
    println!("{slices} slices, {:?} each", began.elapsed() / slices as u32);
}

/// All devices of a dead network at once: their heartbeats fail to come in the same tick.
#[test]
fn a_hundred_thousand_time_outs_at_once_are_closed_in_parts() {
    const COUNT: u32 = 100_000;
    let mut crowd = Crowd::with(COUNT, false);
    let mut now = later(2_000_000);
    let (mut turns, mut before) = (0, crowd.out.frames);
    crowd.sessions.on_tick(now, &mut crowd.out);
    loop {
        assert!(crowd.out.frames - before <= WRITES, "{} are closed in one turn", crowd.out.frames - before);
        before = crowd.out.frames;
        turns += 1;
        if !crowd.sessions.work(now, &mut crowd.out) {
            break;
        }
        // Time goes on meanwhile.
        now.ms += 1;
    }
    assert_eq!(crowd.sessions.live(), 0, "after {turns} turns all are over");
    assert_eq!(crowd.sessions.tally().closes.iter().sum::<u64>(), u64::from(COUNT));
}

/// A saver that is away: a hundred thousand inboxes have something, none can be read.
#[test]
fn loads_that_wait_are_tried_again_in_parts() {
    const COUNT: u32 = 100_000;
    let mut crowd = Crowd::with(COUNT, false);
    for number in 0..COUNT {
        crowd.sessions.deliver(&message(number, 9), &mut crowd.out);
    }
    let mut asked = std::collections::HashSet::new();
    let bound = Limits::default().asks;
    for tick in 1..200 {
        let asks = crowd.sessions.asks.loads.take(usize::MAX);
        assert!(asks.len() <= bound);
        for ask in asks {
            asked.insert(ask.binding);
            crowd.sessions.on_loaded(LoadAnswer { binding: ask.binding, result: None }, &mut crowd.out);
        }
        crowd.sessions.on_tick(later(tick * 250), &mut crowd.out);
    }
    assert_eq!(asked.len(), COUNT as usize, "everyone has had its turn");
}

/// Many broadcasts have gathered: they go out in passes that each choose their targets for a bounded number.
#[test]
fn what_has_gathered_goes_in_several_passes() {
    let mut crowd = Crowd::new(1_000);
    let before = crowd.out.frames;
    for _ in 0..500 {
        crowd.broadcast("even and all");
    }
    crowd.work();
    assert_eq!(crowd.out.frames - before, 500 * 500);
}

/// The end of a drain, with a hundred thousand devices that did not leave.
#[test]
fn a_drain_closes_those_who_stay_in_parts() {
    const COUNT: u32 = 100_000;
    let mut crowd = Crowd::with(COUNT, false);
    crowd.sessions.start_drain(DrainOrder { per_second: 1, spread_ms: 0, linger_ms: 60_000 }, NOW);
    let mut before = crowd.out.frames;
    crowd.sessions.close_all(NOW, &mut crowd.out);
    let mut turns = 1;
    while crowd.sessions.end_some(NOW, &mut crowd.out) {
        assert!(
            crowd.out.frames - before <= 2 * WRITES,
            "{} are closed in one turn",
            crowd.out.frames - before
        );
        before = crowd.out.frames;
        turns += 1;
    }
    assert!(turns >= u64::from(COUNT) / WRITES);
    assert_eq!(crowd.sessions.live(), 0, "after {turns} turns all are over");
    assert_eq!(crowd.sessions.tally().closes.iter().sum::<u64>(), u64::from(COUNT));
}

/// A drain that could tell everyone at once does not do so in one turn.
#[test]
fn a_drain_without_a_pace_sends_away_in_parts() {
    const COUNT: u32 = 20_000;
    let mut crowd = Crowd::with(COUNT, false);
    crowd.sessions.start_drain(DrainOrder { per_second: u32::MAX, spread_ms: 0, linger_ms: 0 }, NOW);
    let began = crowd.out.frames;
    let mut before = began;
    while crowd.sessions.drain_step(later(1_000), &mut crowd.out) {
        assert!(crowd.out.frames - before <= WRITES, "{} are told in one turn", crowd.out.frames - before);
        before = crowd.out.frames;
    }
    assert_eq!(crowd.out.frames - began, u64::from(COUNT));
}

/// The saver lost an app's log and numbers it anew: what the devices have of it says nothing any more.
#[test]
fn a_log_that_begins_anew_is_told_in_parts() {
    const COUNT: u32 = 100_000;
    let mut crowd = Crowd::with(COUNT, false);
    (0..3).for_each(|_| crowd.broadcast(""));
    crowd.work();
    let mut before = crowd.out.frames;
    let anew = LogRun { app: APP, epoch: 2, after: 0, through: 0, entries: Vec::new() };
    crowd.sessions.on_log(&anew, false);
    assert_eq!(crowd.out.frames, before);
    let mut turns = 0;
    while crowd.sessions.end_some(NOW, &mut crowd.out) {
        assert!(crowd.out.frames - before <= WRITES, "{} are told in one turn", crowd.out.frames - before);
        before = crowd.out.frames;
        turns += 1;
    }
    assert!(turns >= u64::from(COUNT) / WRITES - 1, "{turns}");
    assert_eq!(crowd.sessions.live(), 0);
    let mut kept = 0;
    while crowd.sessions.has_ends() {
        kept += crowd.sessions.take_ends(1_000).iter().filter(|end| end.cursor.is_some()).count();
    }
    assert_eq!(kept, 0, "no place of the old numbering is kept as one of the new");
}
