//! One conversation that has everything in it, cut at each of its bytes, either way.

use std::time::Duration;

use client::{AckPolicy, Config, Confirm};
use room::session::{Heartbeat, Limits, Pace};

use super::{
    cluster::User,
    world::{Act, Event, World},
};

/// Two users of two apps on one device: pages, live messages, broadcasts, acks, a rebuilt inbox, data, an expiry, a
/// socket that is full for a while.
fn conversation(confirm: Confirm, resume_ms: Option<u64>, cut: (Option<u64>, Option<u64>, bool)) -> World {
    let ack = AckPolicy {
        confirm,
        max_delay: Duration::from_millis(20),
        broadcast_delay: Duration::from_millis(40),
        max_unacked: 3,
    };
    let config = Config { ack, recent_ids: 1_000, ..Config::default() };
    let pace = Pace { usual_s: 10, max_s: 60 };
    let heartbeat = Heartbeat { min_s: 10, fixed: pace, mobile: pace };
    let limits = Limits { slice: 2, heartbeat, resume_ms, ..Limits::default() };
    let mut world = World::new(7, 1, 2, limits, config);
    world.weather.segment = 100;
    world.weather.window = 300;
    world.weather.page = 2;
    world.cuts = vec![cut];
    world.users = vec![User::new(0, "alice", 1), User::new(1, "bob", 1)];
    let script = [
        (0, Act::Push(0)),
        (0, Act::Push(0)),
        (0, Act::Push(0)),
        (100, Act::Push(1)),
        (110, Act::Broadcast(0, "vip", None)),
        (120, Act::Broadcast(1, "", None)),
        (160, Act::Up(0)),
        (200, Act::Rebuild(0)),
        (210, Act::Push(0)),
        (220, Act::Push(0)),
        (260, Act::Expire(0)),
        (280, Act::Pause(0, 60)),
        (285, Act::Push(0)),
        (286, Act::Push(1)),
        (287, Act::Push(1)),
        (290, Act::Broadcast(1, "not vip", None)),
        (292, Act::Broadcast(1, "", None)),
        (400, Act::Push(0)),
        (410, Act::Broadcast(0, "", None)),
    ];
    for (at, act) in script {
        world.at(at, Event::Act(act));
    }
    world.pass(1);
    world.add_device(&[(0, &["vip"]), (1, &[])]);
    world.pass(1_000);
    world.settle();
    world
}

fn everywhere(confirm: Confirm, resume_ms: Option<u64>) {
    let whole = conversation(confirm, resume_ms, (None, None, false));
    let (up, down) = (whole.lines[0].up.carried, whole.lines[0].down.carried);
    assert!(up > 150 && down > 1_000 && whole.lines.len() == 1, "{up} and {down} bytes");
    let places = (0..=up).map(|place| (Some(place), None)).chain((0..=down).map(|place| (None, Some(place))));
    let mut resumed = 0;
    for (up, down) in places {
        for half_open in [false, true] {
            let run = || conversation(confirm, resume_ms, (up, down, half_open)).resumed;
            match std::panic::catch_unwind(run) {
                Ok(times) => resumed += times,
                Err(panic) => {
                    eprintln!("cut at byte {up:?} up or {down:?} down, half open: {half_open}");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    assert_eq!(resumed > 1_000, resume_ms.is_some(), "{resumed} connections were resumed");
}

const GRACE: Option<u64> = Some(30_000);

#[test]
fn a_cut_at_every_byte() {
    everywhere(Confirm::Auto, None);
}

#[test]
fn a_cut_at_every_byte_when_the_app_confirms() {
    everywhere(Confirm::ByApp, None);
}

#[test]
fn a_cut_at_every_byte_and_the_connection_is_resumed() {
    everywhere(Confirm::Auto, GRACE);
}

#[test]
fn a_cut_at_every_byte_and_the_connection_is_resumed_when_the_app_confirms() {
    everywhere(Confirm::ByApp, GRACE);
}
