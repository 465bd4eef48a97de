//! Devices that are connected and never read, under broadcasts: they cost the room their cursors and nobody anything else,
//! and when they read again they get all that is still alive.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use e2e::{
    Backing, Layout, Processes, RawDevice, Shape, Stack, Tuning,
    api::{ApiClient, http},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use storm::procfs;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, sleep},
};
use wire::frame::{Broadcast, Push, ServerBody};

const SLOW: usize = 1_000;
const QUICK: usize = 40;
/// What a slow device takes before its room has to wait, bytes.
const RECEIVE: u32 = 4_096;
const PER_SECOND: u32 = 10;
const PAYLOAD: usize = 4_000;
/// With the quick ones alone, and then with the slow ones.
const ALONE: Duration = Duration::from_secs(20);
const TOGETHER: Duration = Duration::from_secs(60);
/// By then the slow ones' sockets and queues are full: 4 KB, what the kernel takes at the room's side, and 32 KiB.
const FILLED: Duration = Duration::from_secs(20);
/// Each n-th broadcast lives only for some seconds; the slow ones that have not got it by then do not get it.
const MORTAL: u64 = 5;
const LIFE_S: u32 = 10;
/// Of the slow users, so many are sent stored messages too.
const WRITTEN_TO: usize = 40;
const LETTERS: u64 = 5;
const MIB: u64 = 1 << 20;

/// They would be closed as slow after two minutes, and what is in a tail of 4 MiB would not be loaded again.
const TUNING: &str = "[room]\nqueued_bytes = 32768\nlog_bytes = 1048576\nslow_timeout = \"20min\"\n";

/// When each broadcast was sent, by its number in its payload.
type Sent = Arc<Mutex<Vec<Instant>>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_that_never_read_disturb_nobody_and_get_everything_later() -> anyhow::Result<()> {
    let layout = Layout { backing: Backing::Embedded, ..Layout::default() };
    let stack = Stack::start(Shape::Cluster, Tuning { toml: TUNING.to_owned(), layout }).await?;
    let cluster = stack.processes().context("a cluster has processes")?;
    let (api, rooms) = (stack.api(), stack.rooms().await?);
    let sent = Sent::default();

    let quick = Quick::start(&api, &rooms, &sent).await?;
    broadcast(&api, &sent, ALONE).await?;
    let alone = quick.latencies(0).await?;
    let before = memory(cluster);

    let mut slow = many(&api, &rooms, "slow", SLOW, Some(RECEIVE)).await?;
    let first = count(&sent);
    let (watched, letters, loaded) =
        tokio::join!(watch(cluster, TOGETHER), write_letters(&api), broadcast(&api, &sent, TOGETHER));
    letters?;
    loaded?;
    let together = quick.latencies(first).await?;
    let all = count(&sent) - first;

    let behind = metric(cluster, "longwire_room_behind_total").await?;
    println!(
        "{all} broadcasts of {PAYLOAD} B; {behind} times behind\nlatency alone {alone}\n   and together {together}"
    );
    ensure!(behind >= SLOW as u64, "only {behind} times a binding was behind: the test proves nothing");
    for (room, (filled, most)) in watched {
        println!(
            "{room}: {} MiB alone, {} MiB filled, at most {} MiB then",
            before[&room] / MIB,
            filled / MIB,
            most / MIB
        );
        let grown = most.saturating_sub(filled);
        ensure!(
            grown <= 4 * MIB + filled / 20,
            "{room} has grown by {grown} bytes after its queues were full"
        );
        // What may wait for the slow ones of this room, all of them if it must be, and as much again for the allocator.
        let bound = before[&room] + 2 * SLOW as u64 * (32_768 + 4_096) + 16 * MIB;
        ensure!(most <= bound, "{room} took {most} bytes");
    }
    ensure!(
        together.half <= alone.half * 3 + Duration::from_millis(20),
        "{together} with them, {alone} without"
    );
    ensure!(
        together.most <= alone.most * 3 + Duration::from_millis(150),
        "{together} with them, {alone} without"
    );

    // Now they read.
    let begun = Instant::now();
    let mut reading = JoinSet::new();
    for (n, device) in slow.drain(..).enumerate() {
        reading.spawn(async move { catch_up(n, device, first, all).await });
    }
    let mut skipped = 0;
    while let Some(read) = reading.join_next().await {
        skipped += read??;
    }
    println!("{SLOW} devices have read it all {:?} later; {skipped} had expired", begun.elapsed());
    ensure!(skipped > 0, "what had expired was sent all the same");
    quick.stop();
    ensure!(!stack.log().contains("panicked at"), "{}", stack.log());
    let mut stack = stack;
    stack.drain().await
}

/// Connects and binds so many users, spread over the rooms.
async fn many(
    api: &ApiClient,
    rooms: &[SocketAddr],
    name: &str,
    count: usize,
    receive: Option<u32>,
) -> anyhow::Result<Vec<RawDevice>> {
    let one = async |n: usize| {
        let (uid, room) = (format!("{name}-{n}"), rooms[n % rooms.len()]);
        let mut device = match receive {
            Some(receive) => RawDevice::connect_narrow(room, &uid, receive).await?,
            None => RawDevice::connect(room, &uid).await?,
        };
        let token = api.token("demo", &uid).await?;
        device.bind(1, "demo", &uid, &token).await?;
        anyhow::Ok(device)
    };
    stream::iter((0..count).map(one)).buffered(16).try_collect().await
}

fn count(sent: &Sent) -> u64 {
    sent.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
}

/// Broadcasts at a steady rate.
async fn broadcast(api: &ApiClient, sent: &Sent, time: Duration) -> anyhow::Result<()> {
    let mut tick = interval(Duration::from_secs(1) / PER_SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    while begun.elapsed() < time {
        tick.tick().await;
        let number = count(sent);
        let payload = format!("{number:<PAYLOAD$}");
        let mut body = json!({ "payload": payload, "audience": "" });
        if number.is_multiple_of(MORTAL) {
            body["ttl_s"] = LIFE_S.into();
        }
        sent.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        api.told(api.post("/v1/broadcasts", &body).await?)?;
    }
    Ok(())
}

fn number(broadcast: &Broadcast) -> anyhow::Result<u64> {
    Ok(std::str::from_utf8(&broadcast.payload)?.trim_end().parse()?)
}

/// Stored messages for some of the slow ones, over half a minute.
async fn write_letters(api: &ApiClient) -> anyhow::Result<()> {
    for letter in 0..LETTERS {
        sleep(Duration::from_secs(6)).await;
        for n in 0..WRITTEN_TO {
            api.push(&format!("slow-{n}"), &format!("letter {letter}")).await?;
        }
    }
    Ok(())
}

/// Reads as fast as it comes; how many of the mortal ones were not there any more.
async fn catch_up(n: usize, mut device: RawDevice, first: u64, all: u64) -> anyhow::Result<u64> {
    device.widen(1 << 20)?;
    let letters = if n < WRITTEN_TO { LETTERS } else { 0 };
    let (mut next, mut letter, mut skipped) = (first, 0, 0);
    let last =
        (first..first + all).rev().find(|number| !number.is_multiple_of(MORTAL)).context("all are mortal")?;
    while next <= last || letter < letters {
        let body = device.next_within(Duration::from_secs(60)).await;
        let body = body.with_context(|| format!("slow-{n} waits for {next} of {last}, letter {letter}"))?;
        match body.with_context(|| format!("slow-{n} was closed before {next}"))? {
            ServerBody::Broadcast(broadcast) => {
                let number = number(&broadcast)?;
                while next < number {
                    ensure!(next.is_multiple_of(MORTAL), "slow-{n} did not get {next}, and {number} came");
                    (next, skipped) = (next + 1, skipped + 1);
                }
                ensure!(next == number, "slow-{n} waits for {next} and {number} came");
                next += 1;
            }
            ServerBody::Push(Push { payload, .. }) => {
                let text = format!("letter {letter}");
                ensure!(payload == text.as_bytes(), "slow-{n} waits for {text}, and {payload:?} came");
                letter += 1;
            }
            other => bail!("slow-{n} got {other:?}"),
        }
    }
    Ok(skipped)
}

/// Devices that read what comes.
struct Quick {
    /// By the broadcast's number: how long it took to each.
    took: Arc<Mutex<BTreeMap<u64, Vec<Duration>>>>,
    readers: Vec<JoinHandle<anyhow::Result<()>>>,
    sent: Sent,
}

impl Quick {
    async fn start(api: &ApiClient, rooms: &[SocketAddr], sent: &Sent) -> anyhow::Result<Self> {
        let took = Arc::new(Mutex::new(BTreeMap::<u64, Vec<Duration>>::new()));
        let mut readers = Vec::new();
        for mut device in many(api, rooms, "quick", QUICK, None).await? {
            let (took, sent) = (Arc::clone(&took), Arc::clone(sent));
            readers.push(tokio::spawn(async move {
                while let Some(body) = device.next_within(Duration::from_secs(300)).await? {
                    let ServerBody::Broadcast(broadcast) = body else { continue };
                    let number = number(&broadcast)?;
                    let began = sent.lock().unwrap_or_else(PoisonError::into_inner)[number as usize];
                    let mut took = took.lock().unwrap_or_else(PoisonError::into_inner);
                    took.entry(number).or_default().push(began.elapsed());
                }
                bail!("a quick device was disconnected")
            }));
        }
        Ok(Self { took, readers, sent: Arc::clone(sent) })
    }

    /// How long the broadcasts from this number on took; all devices must have got all.
    async fn latencies(&self, first: u64) -> anyhow::Result<Latencies> {
        let last = count(&self.sent);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let took = self.took.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let complete =
                (first..last).all(|number| took.get(&number).is_some_and(|took| took.len() == QUICK));
            if complete {
                let mut all: Vec<_> = took.range(first..last).flat_map(|(_, took)| took.clone()).collect();
                all.sort_unstable();
                return Ok(Latencies { half: all[all.len() / 2], most: all[all.len() * 99 / 100] });
            }
            ensure!(Instant::now() < deadline, "quick devices have not got everything");
            ensure!(!self.readers.iter().any(JoinHandle::is_finished), "a quick device has ended");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn stop(self) {
        for reader in self.readers {
            reader.abort();
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Latencies {
    half: Duration,
    /// Of 99 in a hundred.
    most: Duration,
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:?}, p99 {:?}", self.half, self.most)
    }
}

fn rooms_of(cluster: &Processes) -> Vec<String> {
    cluster.names().into_iter().filter(|name| name.starts_with("room-")).collect()
}

/// Bytes in memory of each room.
fn memory(cluster: &Processes) -> BTreeMap<String, u64> {
    let of = |name: &String| procfs::usage(cluster.pid(name)?).ok().map(|usage| usage.rss_bytes);
    rooms_of(cluster).into_iter().filter_map(|name| of(&name).map(|bytes| (name, bytes))).collect()
}

/// For each room, what it had when its queues were full and the most that it had from then on.
async fn watch(cluster: &Processes, time: Duration) -> BTreeMap<String, (u64, u64)> {
    sleep(FILLED).await;
    let mut watched: BTreeMap<_, _> =
        memory(cluster).into_iter().map(|(name, bytes)| (name, (bytes, bytes))).collect();
    let begun = Instant::now();
    while begun.elapsed() < time - FILLED {
        sleep(Duration::from_millis(500)).await;
        for (name, bytes) in memory(cluster) {
            watched.entry(name).and_modify(|(_, most)| *most = bytes.max(*most));
        }
    }
    watched
}

/// A counter, over all rooms.
async fn metric(cluster: &Processes, name: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    for room in rooms_of(cluster) {
        let text =
            http().get(format!("http://{}/metrics", cluster.admin(&room)?)).send().await?.text().await?;
        let values =
            text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<u64>().ok());
        sum += values.sum::<u64>();
    }
    Ok(sum)
}
