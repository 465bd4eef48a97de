//! Measures the archive on MySQL: landing of journals, group commits, acks, and the bounded steps of clean-up over what
//! is there then. `cargo run --release -p saver --example mysql_bench -- [rows] [landers] [groups in flight] [rows a
//! group]`; on a MariaDB of its own that syncs every commit, or on the server of the variable `MYSQL_URL`.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use saver::{
    archive::{
        Archive, Body, Forget, Group, Landing, NewDelivery,
        mysql::{MySqlArchive, MySqlSettings},
    },
    model::{InboxKey, Row, State},
};
use wire::id::{AppId, Epoch, MessageId, Position, Seq, Uid};

const PAYLOAD: usize = 256;
const USERS: u64 = 100_000;
/// Deliveries in a landing, and rows in a step of clean-up.
const BATCH: u64 = 2_000;
const NOW: u64 = MessageId::EPOCH_MS + 1_000_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let get = |n: usize, default: u64| arguments.get(n).copied().unwrap_or(default);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(get(0, 1_000_000), get(1, 2), get(2, 4), get(3, 256)))
}

async fn run(
    rows: u64,
    landers: u64,
    in_flight: u64,
    group_rows: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let own = match std::env::var("MYSQL_URL") {
        Ok(_) => None,
        Err(_) => Some(stores::MariaDb::start().await?),
    };
    let url = match &own {
        Some(server) => server.url("longwire").await?,
        None => std::env::var("MYSQL_URL")?,
    };
    let archive = MySqlArchive::open(&MySqlSettings::new(url)).await?;

    let begun = Instant::now();
    let land = async |lander| {
        for batch in (lander..rows / BATCH).step_by(usize::try_from(landers).unwrap()) {
            archive.land(&landing(batch)).await.unwrap();
        }
    };
    futures::future::join_all((0..landers).map(land)).await;
    report("landed, half of them acked before", rows, begun.elapsed());
    let begun = Instant::now();
    for batch in 0..rows / BATCH / 10 {
        archive.land(&landing(batch)).await?;
    }
    report("landed again, all there", rows / 10, begun.elapsed());

    let first = rows;
    let groups = rows / 4 / group_rows;
    let mut slowest = Vec::new();
    let begun = Instant::now();
    let work = (0..in_flight).map(|worker| {
        let archive = &archive;
        async move {
            let mut took = Vec::new();
            for n in (worker..groups).step_by(usize::try_from(in_flight).unwrap()) {
                let asked = Instant::now();
                archive.commit(&group(first + n * group_rows, group_rows)).await.unwrap();
                took.push(asked.elapsed());
            }
            took
        }
    });
    for took in futures::future::join_all(work).await {
        slowest.extend(took);
    }
    report("stored by group commits", groups * group_rows, begun.elapsed());
    slowest.sort_unstable();
    let at = |part: f64| slowest[((slowest.len() - 1) as f64 * part) as usize];
    println!("{:>40}: p50 {:?}, p99 {:?}, max {:?}", "a group commit took", at(0.5), at(0.99), at(1.0));

    let acked: Vec<(Row, State)> =
        (first..first + groups * group_rows).map(|n| (Row::unicast(id(n)), State::Acked)).collect();
    let begun = Instant::now();
    for part in acked.chunks(usize::try_from(BATCH)?) {
        archive.commit(&Group { finished: part.to_vec(), now_ms: NOW, ..Group::default() }).await?;
    }
    report("acked", acked.len() as u64, begun.elapsed());
    println!("{:>40}: {} retries, {} losses", "meanwhile", archive.retries(), archive.losses());
    walks(&archive, rows).await
}

/// The bounded steps, over all that is there.
async fn walks(archive: &MySqlArchive, rows: u64) -> Result<(), Box<dyn std::error::Error>> {
    let step = usize::try_from(BATCH)?;
    let (mut place, mut seen, mut longest) = (None, 0, Duration::ZERO);
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let (_, next) = archive.expired(place, NOW, step).await?;
        (seen, longest) = (seen + 1, longest.max(asked.elapsed()));
        place = next;
        if place.is_none() {
            break;
        }
    }
    println!("{:>40}: {seen} steps in {:.1?}, longest {longest:.1?}", "expired", begun.elapsed());

    let keys: Vec<InboxKey> = (1..USERS).step_by(200).map(key).collect();
    let asked = Instant::now();
    let found: usize = archive.surviving(&keys).await?.iter().map(Vec::len).sum();
    println!("{:>40}: {found} of {} inboxes in {:.1?}", "surviving", keys.len(), asked.elapsed());
    let asked = Instant::now();
    let (keys, _) = archive.recently_stored(id(rows / 2), step).await?;
    println!("{:>40}: {} in {:.1?}", "recently stored", keys.len(), asked.elapsed());

    let (mut row, mut gone, mut steps) = (Row(0), 0, 0);
    let (mut read, mut wrote) = (Duration::ZERO, Duration::ZERO);
    loop {
        let asked = Instant::now();
        let (old, next) = archive.finished_unicast(row, NOW + 3_600_000, step).await?;
        read = read.max(asked.elapsed());
        let asked = Instant::now();
        let forget = Forget { unicast: old, ..Forget::default() };
        gone += archive.commit(&Group { forget, ..Group::default() }).await?.forgotten;
        (wrote, steps) = (wrote.max(asked.elapsed()), steps + 1);
        match next {
            Some(next) => row = next,
            None => break,
        }
    }
    println!(
        "{:>40}: {gone} in {steps} steps, longest look {read:.1?}, longest write {wrote:.1?}",
        "forgotten"
    );
    Ok(())
}

fn report(what: &str, rows: u64, taken: Duration) {
    println!("{what:>40}: {rows} in {taken:.1?}, {:.0}/s", rows as f64 / taken.as_secs_f64());
}

fn id(n: u64) -> MessageId {
    MessageId(MessageId::from_parts(NOW, 1, 0).0 + n + 1)
}

fn key(user: u64) -> InboxKey {
    InboxKey::new(AppId(1), Uid::new(format!("user-{user:06}")).unwrap())
}

fn delivery(n: u64) -> NewDelivery {
    NewDelivery {
        row: Row::unicast(id(n)),
        id: id(n),
        key: key(n.wrapping_mul(7919) % USERS),
        position: Position { epoch: Epoch(5), seq: Seq(n / USERS + 1) },
        accepted_ms: NOW,
        expires_ms: NOW + 86_400_000,
        payload_bytes: PAYLOAD as u32,
        collapse: None,
    }
}

fn body(n: u64) -> Body {
    Body { id: id(n), payload: Bytes::from(vec![7; PAYLOAD]) }
}

fn landing(batch: u64) -> Landing {
    let all = batch * BATCH..(batch + 1) * BATCH;
    let state = |n: u64| if n.is_multiple_of(2) { State::Acked } else { State::Stored };
    Landing {
        deliveries: all.clone().map(|n| (delivery(n), state(n))).collect(),
        bodies: all.filter(|n| state(*n) == State::Stored).map(body).collect(),
        now_ms: NOW,
        ..Landing::default()
    }
}

fn group(first: u64, rows: u64) -> Group {
    let all = first..first + rows;
    Group {
        bodies: all.clone().map(body).collect(),
        deliveries: all.map(delivery).collect(),
        now_ms: NOW,
        ..Group::default()
    }
}
