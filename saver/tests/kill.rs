//! kill -9 at any moment loses nothing that was answered: a child process appends and acks until it is killed, and
//! what it was answered must all be in the archive, once and in order, life after life.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use saver::{
    archive::{
        Archive as _,
        sqlite::{SqliteArchive, SqliteSettings},
    },
    engine::{AckItem, Append, Engine, Everything, Limits, LoadItem},
    inbox::{
        InboxStore as _,
        memory::{MemoryInboxes, MemoryLimits},
    },
    metrics::Metrics,
    model::{InboxKey, LoadedMessage, Read},
};
use tokio_util::sync::CancellationToken;
use wire::id::{AppId, Epoch, MessageId, Position, Seq, Uid};

const FOLDER: &str = "LONGWIRE_KILL_FOLDER";
const NOW: u64 = MessageId::EPOCH_MS + 1_000_000;
const USERS: u64 = 40;
const LIVES: u64 = 12;

fn key(user: u64) -> InboxKey {
    InboxKey::new(AppId(1), Uid::new(format!("user-{user}")).unwrap())
}

async fn open(
    folder: &Path,
) -> (Engine<MemoryInboxes, SqliteArchive>, tokio::task::JoinHandle<()>, CancellationToken) {
    let settings = SqliteSettings {
        path: folder.join("archive.db"),
        cache_bytes: 1 << 20,
        busy_timeout: Duration::from_secs(5),
    };
    let archive = SqliteArchive::open(&settings).await.unwrap();
    let epoch = archive.begin_epoch().await.unwrap();
    let memory = MemoryLimits { inboxes: 1600, messages: 160_000, payload_bytes: 1 << 20, idle_s: 60 };
    let limits = Limits { default_inbox_cap: 10_000, max_loads: 1_000_000, ..Limits::default() };
    let cancel = CancellationToken::new();
    let start = Engine::start(
        MemoryInboxes::new(epoch, memory),
        archive,
        Everything,
        limits,
        Arc::new(|| NOW),
        Metrics::default(),
        cancel.clone(),
    );
    let (engine, writer) = start.await.unwrap();
    (engine, tokio::spawn(writer), cancel)
}

/// The child: one task for each of some users, appending one message after the other. It says what it was answered,
/// and before an ack that it may ack.
#[test]
#[ignore = "the child of the test below"]
fn child_appends_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (engine, _writer, _cancel) = open(Path::new(&folder)).await;
        let epoch = engine.inboxes().epoch().0;
        let users = (0..USERS).map(|user| {
            let engine = engine.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    // Ids of later lives are greater.
                    let id = MessageId((epoch << 30) + n * USERS + user + 1);
                    let append = Append {
                        id,
                        keys: vec![key(user)],
                        payload: Bytes::from(id.to_string()),
                        accepted_ms: NOW,
                        expires_ms: NOW * 2,
                        inbox_cap: None,
                        multicast: false,
                        durability: None,
                        collapse: None,
                    };
                    let position = engine.append(vec![append]).await.remove(0).unwrap().positions[0];
                    say(&format!("+ {user} {id} {} {}", position.epoch, position.seq));
                    if n % 7 == user % 7 {
                        say(&format!("- {user} {} {}", position.epoch, position.seq));
                        let ack = AckItem {
                            key: key(user),
                            inbox: Some(position),
                            cursor: None,
                            credits: Vec::new(),
                        };
                        engine.ack(vec![ack]).await.unwrap();
                    }
                }
            })
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
    /// All up to each of these may have been acked. Not only the last: an inbox that was empty when its saver died
    /// begins at 1 again in the next epoch.
    acked: Vec<Position>,
}

/// Runs a child for a while, kills it, and takes in what it said.
fn live(folder: &Path, millis: u64, told: &mut BTreeMap<u64, Told>) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_appends_until_killed", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
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
            Some(&"+") => {
                let (Some(user), Some(id), Some(at)) = (number(1), number(2), place(3)) else { continue };
                told.entry(user).or_default().stored.push((id, at));
                answered += 1;
            }
            Some(&"-") => {
                let (Some(user), Some(at)) = (number(1), place(2)) else { continue };
                told.entry(user).or_default().acked.push(at);
            }
            _ => {}
        }
    }
    answered
}

async fn check(folder: &Path, told: &BTreeMap<u64, Told>) {
    let (engine, writer, cancel) = open(folder).await;
    for (user, told) in told {
        let read = Read { after: None, acknowledges: false, max_messages: 100_000, max_bytes: 1 << 30 };
        let item = LoadItem { key: key(*user), read, bind: false, own_cursor: None, utc_offset_min: None };
        let found = engine.load(vec![item]).await.remove(0).unwrap().inbox.messages;
        assert!(
            found.is_sorted_by(|a, b| a.seq < b.seq && a.id < b.id),
            "user {user}: out of order or doubled"
        );
        for message in &found {
            assert_eq!(message.payload.as_deref(), Some(message.id.to_string().as_bytes()));
        }
        let by_id: BTreeMap<u64, &LoadedMessage> = found.iter().map(|m| (m.id.0, m)).collect();
        for (n, (id, place)) in told.stored.iter().enumerate() {
            let here = by_id.get(id);
            let may_be_acked = told.acked.iter().any(|a| place.epoch <= a.epoch && place.seq <= a.seq);
            match here {
                Some(message) => assert_eq!(message.seq, place.seq, "user {user}: message {id} moved"),
                None => assert!(may_be_acked, "user {user}: message {id} at {place:?} is lost"),
            }
            // Each is a query; a part of them is enough.
            if n % 16 > 0 {
                continue;
            }
            let ledger = engine.ledger(AppId(1), MessageId(*id)).await.unwrap();
            assert_eq!((ledger.targets, ledger.acked + ledger.stored), (1, 1), "user {user}: message {id}");
        }
    }
    cancel.cancel();
    writer.await.unwrap();
    engine.archive().close().await;
}

#[test]
fn kill_9_loses_nothing_that_was_answered() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut told = BTreeMap::new();
    let mut answered = 0;
    for life in 0..LIVES {
        answered += live(folder.path(), random.random_range(60..450), &mut told);
        runtime.block_on(check(folder.path(), &told));
        println!("life {life}: {answered} answered so far");
        if life % 4 == 3 {
            // What was checked is enough.
            told.values_mut().for_each(|t| t.stored.drain(..t.stored.len() / 2).for_each(drop));
        }
    }
    assert!(answered > 100, "the children hardly lived: {answered}");
}
