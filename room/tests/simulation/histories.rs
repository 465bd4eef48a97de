//! Random histories in random weather.

use std::{panic::AssertUnwindSafe, time::Duration};

use client::{AckPolicy, Config, Confirm, backoff::Dice};
use room::session::{Heartbeat, Limits, Pace};

use super::{
    cluster::User,
    weather::Weather,
    world::{Act, Event, World},
};

/// Runs unless `SIMULATION_RUNS` says how many.
const RUNS: u64 = 1_500;
const AUDIENCES: [&str; 4] = ["", "", "vip", "not vip"];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Small bounds, so that they are reached.
fn limits(dice: &mut Dice) -> Limits {
    let mut pick = |of: &[usize]| of[dice.below(of.len() as u64) as usize];
    let resume_ms = [None, Some(2_000), Some(30_000)][pick(&[0, 1, 2])];
    Limits {
        resume_ms,
        connections: 16,
        slice: pick(&[1, 2, 16]),
        looks: pick(&[1, 4, 64]),
        tail_bytes: pick(&[150, 1_000, 4 << 20]),
        asks: pick(&[1, 3, 64]),
        up_bytes: pick(&[60, 4_000]),
        keep_ms: pick(&[0, 3_000, 600_000]) as u64,
        slow_ms: 60_000,
        heartbeat: Heartbeat {
            min_s: 10,
            fixed: Pace { usual_s: 20, max_s: 60 },
            mobile: Pace { usual_s: 20, max_s: 60 },
        },
        ..Limits::default()
    }
}

fn config(dice: &mut Dice) -> Config {
    let confirm = if dice.below(2) == 0 { Confirm::Auto } else { Confirm::ByApp };
    let max_unacked = [1, 4, 32][dice.below(3) as usize];
    let ack = AckPolicy {
        confirm,
        max_delay: Duration::from_millis(50),
        broadcast_delay: Duration::from_millis(100),
        max_unacked,
    };
    Config { ack, recent_ids: 10_000, ..Config::default() }
}

fn act(dice: &mut Dice, devices: u64, users: u64, apps: u64) -> Act {
    let mut one_of = |count: u64| dice.below(count) as usize;
    let (user, device, app, kind) = (one_of(users), one_of(devices), one_of(apps), one_of(100));
    let audience = AUDIENCES[one_of(4)];
    let ms = [200, 5_000, 40_000, 90_000][one_of(4)];
    let (slices, pace) = ([2, 5, 9][one_of(3)], [0, 3, 250][one_of(3)]);
    match kind {
        0..35 => Act::Push(user),
        35..50 => Act::Broadcast(app, audience, (one_of(8) == 0).then_some(500)),
        50..60 => Act::Paced(app, audience, slices, pace),
        60..67 => Act::Up(device),
        67..75 => Act::Cut(device, one_of(2) == 0),
        75..80 => Act::Expire(user),
        80..85 => Act::Rebuild(user),
        85..90 => Act::Pause(device, ms),
        90..94 => Act::Freeze(device, ms),
        94 => Act::Kick(user),
        95 => Act::Forget,
        96 => Act::Unbind(device),
        97 => Act::Crash(one_of(2)),
        // The other room takes them.
        98 => Act::Drain(0),
        _ => Act::Crash(1),
    }
}

fn history(seed: u64) {
    let mut dice = Dice::new(seed);
    let (limits, config) = (limits(&mut dice), config(&mut dice));
    let mut world = World::new(dice.roll(), 2, 2, limits, config);
    world.weather = Weather::draw(&mut dice);
    for (number, app) in [0, 1, 0, 0, 0].into_iter().enumerate() {
        world.users.push(User::new(app, &format!("user-{number}"), 2));
    }
    world.add_device(&[(0, &["vip"]), (1, &[])]);
    world.add_device(&[(2, &[])]);
    match dice.below(3) {
        // A user on two devices, which take it from each other.
        0 => _ = world.add_device(&[(2, &["vip"])]),
        // Two users of one app on one device.
        1 => _ = world.add_device(&[(3, &["vip"]), (4, &[])]),
        _ => {}
    }
    if dice.below(3) == 0 {
        for number in 5..12 {
            world.users.push(User::new(0, &format!("user-{number}"), 2));
            world.add_device(&[(number, if number % 2 == 0 { &["vip"] } else { &[] })]);
        }
    }
    let (devices, users) = (world.devices.len() as u64, world.users.len() as u64);
    let span = [500, 10_000, 60_000][dice.below(3) as usize];
    for _ in 0..dice.below(60) {
        let act = act(&mut dice, devices, users, 2);
        world.at(dice.below(span), Event::Act(act));
    }
    let end = world.now + span + 1_000;
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
        world.pass(end);
        world.settle();
    }));
    if let Err(panic) = result {
        world.tell();
        std::panic::resume_unwind(panic);
    }
}

/// One run; if it fails it says how to repeat it.
fn run(seed: u64) {
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| history(seed)));
    if let Err(panic) = result {
        eprintln!("SIMULATION_SEED={seed} repeats it");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn everything_arrives_once_and_in_order_in_any_weather() {
    if let Some(seed) = number("SIMULATION_SEED") {
        return run(seed);
    }
    // Other runs each time; what once failed has a test of its own.
    let first = u64::from(std::process::id()) << 32
        | u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos());
    for seed in first..first + number("SIMULATION_RUNS").unwrap_or(RUNS) {
        run(seed);
    }
}
