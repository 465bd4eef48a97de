//! Counting and choosing among a million bindings.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod crowd;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use audience::{Audience, Slice};
use room::exchange::Meant;

use self::crowd::{APP, Crowd, NOW};

const COUNT: u32 = 1_000_000;

/// The preview of a broadcast: exact, and at once. And a paced broadcast: each slice costs a round over all in bounded steps, or
/// several of them one round.
#[test]
fn a_million_are_counted_at_once_and_slices_are_chosen_in_steps() {
    let mut crowd = Crowd::new(COUNT);
    let five = "even and (all or not third) or third and not even";
    let meant: Meant = five.parse::<Audience>().unwrap().into();
    let mut least = Duration::MAX;
    for _ in 0..20 {
        let began = Instant::now();
        let count = crowd.sessions.count(APP, &meant);
        least = least.min(began.elapsed());
        assert_eq!(count, 500_000 + 166_667);
    }
    println!("five terms over a million: {least:?}");
    assert!(least <= Duration::from_millis(20), "{least:?}");

    // Ten slices one by one, then ninety that are known at once.
    let everyone = Arc::new(Meant::default());
    let slice = |number: u64| {
        let edge = |number: u64| number * (1 << 32) / 100;
        Slice::new(edge(number), if number == 99 { 0 } else { edge(number + 1) }).unwrap()
    };
    let (mut steps, mut longest) = (0, Duration::ZERO);
    let mut work = |crowd: &mut Crowd| {
        let began = crowd.out.frames;
        loop {
            let (before, start) = (crowd.out.frames, Instant::now());
            let more = crowd.sessions.work(NOW, &mut crowd.out);
            longest = longest.max(start.elapsed());
            steps += 1;
            assert!(crowd.out.frames - before <= 256, "{} writes in one step", crowd.out.frames - before);
            if !more {
                return crowd.out.frames - began;
            }
        }
    };
    let began = Instant::now();
    let mut sent = 0;
    for number in 0..10 {
        crowd.slice(7, slice(number), &everyone);
        let slice = work(&mut crowd);
        assert!((9_000..11_000).contains(&slice), "a hundredth is {slice}");
        sent += slice;
    }
    println!("a slice of a hundredth: {:?}", began.elapsed() / 10);
    for number in 10..100 {
        crowd.slice(7, slice(number), &everyone);
    }
    sent += work(&mut crowd);
    assert_eq!(sent, u64::from(COUNT), "everyone once");
    println!("{steps} steps, the longest {longest:?}");
    // Rounds over all: one for each that came alone, one for all that came together; and the writes.
    let rounds = 11 * u64::from(COUNT) / (64 * 256);
    assert!((rounds..rounds + u64::from(COUNT) / 256 + 300).contains(&steps), "{steps} steps");
    let began = Instant::now();
    let progress = crowd.sessions.progress(7);
    println!("its progress: {:?}", began.elapsed());
    assert_eq!((progress.pending, progress.sent), (u64::from(COUNT), u64::from(COUNT)));
}
