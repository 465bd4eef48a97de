//! kill -9 of a saver at any moment loses nothing that was answered: a child process appends and acks until it is
//! killed, and what it was answered must all be there, once and in order, life after life. Redis and MariaDB live on, and
//! another saver works on the same users all the time.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

mod shared;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use saver::engine::Durability;
use shared::{Saver, Servers, append, limits, settings};
use wire::id::{Epoch, Position, Seq};

const REDIS: &str = "LONGWIRE_KILL_REDIS";
const MYSQL: &str = "LONGWIRE_KILL_MYSQL";
const LIFE: &str = "LONGWIRE_KILL_LIFE";
const USERS: u64 = 20;
const LIVES: u64 = 8;

/// The child: one task for each of some users, appending one message after the other. It says what it was answered,
/// and before an ack that it may ack.
#[test]
#[ignore = "the child of the test below"]
fn child_appends_until_killed() {
    let word = |name: &str| std::env::var(name).ok();
    let (Some(redis), Some(mysql), Some(life)) = (word(REDIS), word(MYSQL), word(LIFE)) else { return };
    let life: u64 = life.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let saver = Saver::start(settings(vec![redis]), &mysql, limits(), true).await;
        let users = (0..USERS).map(async |user| {
            let uid = format!("user-{user}");
            for n in 0..u64::MAX {
                // Ids of later lives are greater.
                let number = (life << 24) + n * USERS + user + 1;
                let class = if n % 3 == 0 { Durability::Safe } else { Durability::Fast };
                let item = saver::engine::Append { durability: Some(class), ..append(number, &[&uid]) };
                let Ok(done) = saver.push(item).await else { continue };
                let place = done.positions[0];
                say(&format!("+ {user} {number} {} {}", place.epoch, place.seq));
                if n % 7 == user % 7 {
                    say(&format!("- {user} {} {}", place.epoch, place.seq));
                    saver.ack(&uid, place).await;
                }
            }
        });
        futures::future::join_all(users).await;
    });
}

/// One line at once, so that a kill cuts lines and does not mix them.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}

#[derive(Default)]
struct Told {
    /// Answered messages and their places, in the order of the answers.
    stored: Vec<(u64, Position)>,
    /// All up to this may have been acked.
    acked: Option<(u64, u64)>,
}

/// Runs a child for a while, kills it, and takes in what it said.
fn live(servers: &Servers, life: u64, millis: u64, told: &mut BTreeMap<u64, Told>) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_appends_until_killed", "--exact", "--ignored", "--nocapture"])
        .env(REDIS, servers.redis.url())
        .env(MYSQL, servers.url())
        .env(LIFE, life.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        out.split(b'\n')
            .map_while(Result::ok)
            .map(|l| String::from_utf8_lossy(&l).into_owned())
            .collect::<Vec<_>>()
    });
    std::thread::park_timeout(Duration::from_millis(millis));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut answered = 0;
    for line in reader.join().unwrap() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |n: usize| words.get(n).and_then(|w| w.parse::<u64>().ok());
        let place = |n: usize| Some(Position { epoch: Epoch(number(n)?), seq: Seq(number(n + 1)?) });
        match words.first() {
            Some(&"+") if words.len() == 5 => {
                let (Some(user), Some(id), Some(at)) = (number(1), number(2), place(3)) else { continue };
                told.entry(user).or_default().stored.push((id, at));
                answered += 1;
            }
            Some(&"-") if words.len() == 4 => {
                let (Some(user), Some(at)) = (number(1), place(2)) else { continue };
                let acked = &mut told.entry(user).or_default().acked;
                *acked = (*acked).max(Some((at.epoch.0, at.seq.0)));
            }
            _ => {}
        }
    }
    answered
}

async fn check(saver: &Saver, told: &BTreeMap<u64, Told>) {
    for (user, told) in told {
        let found = saver.ids(&format!("user-{user}")).await;
        assert!(found.is_sorted_by(|a, b| a < b), "user {user}: out of order or doubled");
        let found: BTreeSet<u64> = found.into_iter().collect();
        let mut places = BTreeSet::new();
        for (n, (number, place)) in told.stored.iter().enumerate() {
            let at = (place.epoch.0, place.seq.0);
            assert!(places.insert(at), "user {user}: a number was given twice");
            let may_be_acked = told.acked.is_some_and(|acked| at <= acked);
            assert!(found.contains(number) || may_be_acked, "user {user}: {number} at {place:?} is lost");
            // Each lands all journals; a part of them is enough.
            if n % 64 == 0 {
                let ledger = saver.ledger(*number).await;
                assert_eq!((ledger.targets, ledger.acked + ledger.stored), (1, 1), "user {user}: {number}");
            }
        }
    }
}

#[test]
fn kill_9_of_a_saver_loses_nothing_that_was_answered() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let servers = runtime.block_on(Servers::start());
    // It lands what the killed ones leave, as others of a cluster do.
    let saver = runtime.block_on(servers.saver(|_| {}));
    let mut told = BTreeMap::new();
    let mut answered = 0;
    for life in 1..=LIVES {
        answered += live(&servers, life, random.random_range(300..900), &mut told);
        runtime.block_on(check(&saver, &told));
        println!("life {life}: {answered} answered so far");
        if life % 3 == 0 {
            // What was checked is enough.
            told.values_mut().for_each(|t| t.stored.drain(..t.stored.len() / 2).for_each(drop));
        }
    }
    runtime.block_on(saver.stop());
    assert!(answered > 100, "the children hardly lived: {answered}");
}
