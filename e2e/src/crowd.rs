//! Many devices that count what comes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use client::{Config, Device, Event, Snapshot, UtcOffset, session::Traits};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{sync::watch, task::JoinHandle};

use crate::{ApiClient, Stack, eventually, external};

/// Devices that are started, and tokens that are asked for, at the same time.
const AT_ONCE: usize = 32;
/// What comes at all comes in this time, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a crowd has seen of a message: how often each user.
pub type Seen = HashMap<String, u32>;

/// Devices, each of one user of the demo app, that take whatever comes and count it.
pub struct Crowd {
    members: Vec<Member>,
    book: Arc<Mutex<Book>>,
    api: ApiClient,
    route: String,
}

#[derive(Debug, Default)]
struct Book {
    /// By message id, as the API writes it.
    seen: HashMap<String, Seen>,
    recalled: HashMap<String, u32>,
    /// When each broadcast came to anybody, for rates.
    times: HashMap<String, Vec<Instant>>,
}

struct Member {
    uid: String,
    /// `None` while it is away.
    present: Option<Present>,
    kept: Snapshot,
}

struct Present {
    device: Device,
    reading: JoinHandle<()>,
    mode: watch::Sender<Mode>,
}

/// What a member does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Reads,
    /// Nothing, for the time being.
    Rests,
    /// It is closed: what it has not taken it never saw.
    Leaves,
}

impl Crowd {
    /// `count` users called `<prefix>-0` and so on, bound.
    ///
    /// # Errors
    /// When one of them does not get bound.
    pub async fn gather(stack: &Stack, prefix: &str, count: usize) -> anyhow::Result<Self> {
        storm::limits::raise_open_files();
        let uids = (0..count).map(|n| format!("{prefix}-{n}"));
        let members = uids.map(|uid| Member { uid, present: None, kept: Snapshot::default() }).collect();
        let (api, route) = (stack.api(), stack.addresses().route.clone());
        let mut crowd = Self { members, book: Arc::default(), api, route };
        crowd.come(0..count).await?;
        Ok(crowd)
    }

    /// How many users it has.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Name of a member.
    pub fn uid(&self, n: usize) -> &str {
        &self.members[n].uid
    }

    /// Those that are away come back, going on from what they kept.
    ///
    /// # Errors
    /// When one does not get bound.
    pub async fn come(&mut self, which: impl IntoIterator<Item = usize>) -> anyhow::Result<()> {
        let away: Vec<_> = which.into_iter().filter(|n| self.members[*n].present.is_none()).collect();
        let starts = away.iter().map(|n| {
            let member = &self.members[*n];
            let (uid, kept) = (member.uid.clone(), member.kept.clone());
            let (api, route, book) = (self.api.clone(), self.route.clone(), self.book.clone());
            async move { anyhow::Ok((*n, start(uid, kept, api, &route, book).await?)) }
        });
        let started: Vec<_> = stream::iter(starts).buffer_unordered(AT_ONCE).try_collect().await?;
        for (n, present) in started {
            self.members[n].present = Some(present);
        }
        Ok(())
    }

    /// These leave in good order.
    pub async fn leave(&mut self, which: impl IntoIterator<Item = usize>) {
        let there: Vec<_> =
            which.into_iter().filter_map(|n| Some((n, self.members[n].present.take()?))).collect();
        let ends = there.into_iter().map(|(n, present)| async move {
            present.mode.send_replace(Mode::Leaves);
            // It ends by itself, and what it has taken is confirmed.
            let _ = present.reading.await;
            (n, present.device.close().await)
        });
        let mut ended = stream::iter(ends).buffer_unordered(AT_ONCE);
        while let Some((n, kept)) = ended.next().await {
            self.members[n].kept = kept;
        }
    }

    /// These read nothing until they are told to.
    pub fn read(&self, which: impl IntoIterator<Item = usize>, reads: bool) {
        for present in which.into_iter().filter_map(|n| self.members[n].present.as_ref()) {
            present.mode.send_replace(if reads { Mode::Reads } else { Mode::Rests });
        }
    }

    /// What each user has seen of a message.
    pub fn seen(&self, id: &str) -> Seen {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).seen.get(id).cloned().unwrap_or_default()
    }

    /// When a message came to anybody, in order.
    pub fn times(&self, id: &str) -> Vec<Instant> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).times.get(id).cloned().unwrap_or_default()
    }

    /// How many devices were told that it was taken back.
    pub fn recalled(&self, id: &str) -> u32 {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).recalled.get(id).copied().unwrap_or(0)
    }

    /// Waits until so many users have seen a message; fails when one has seen it twice.
    ///
    /// # Errors
    /// When they have not in time.
    pub async fn expect(&self, id: &str, users: usize) -> anyhow::Result<Seen> {
        eventually(&format!("{users} users see {id}"), PATIENCE, async || {
            let seen = self.seen(id);
            ensure!(seen.len() == users, "it is {}", seen.len());
            Ok(())
        })
        .await?;
        let seen = self.seen(id);
        let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
        ensure!(doubled.is_empty() && seen.len() == users, "{} users, doubled: {doubled:?}", seen.len());
        Ok(seen)
    }
}

async fn start(
    uid: String,
    kept: Snapshot,
    api: ApiClient,
    route: &str,
    book: Arc<Mutex<Book>>,
) -> anyhow::Result<Present> {
    let mut config = Config { utc_offset: UtcOffset::Untold, ..Config::default() };
    config.ack.max_delay = Duration::from_millis(20);
    config.backoff.initial = Duration::from_millis(100);
    config.backoff.cap = Duration::from_secs(1);
    let (device, mut events) = Device::builder(&format!("device-of-{uid}"))
        .dispatcher(route)
        .config(config)
        // Who does not read is soon felt by the room.
        .event_queue(4)
        .restore(kept)
        .token(move |app, uid| {
            let api = api.clone();
            async move { api.token(&external::answer(app.to_string()), &uid).await.map_err(Into::into) }
        })
        .start()?;
    device.bind_with(external::app("demo").parse()?, uid.parse()?, Traits::default()).await?;
    let (mode, mut told) = watch::channel(Mode::Reads);
    let (bound, mut is_bound) = watch::channel(false);
    let name = uid.clone();
    let reading = tokio::spawn(async move {
        loop {
            // The sender goes with the device.
            match told.wait_for(|mode| *mode != Mode::Rests).await.map(|mode| *mode) {
                Ok(Mode::Reads | Mode::Rests) => {}
                Ok(Mode::Leaves) | Err(_) => return,
            }
            let event = tokio::select! {
                biased;
                _ = told.changed() => continue,
                event = events.next() => event,
            };
            let Some(event) = event else { return };
            events.confirm_last();
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Event::Bound { .. } => {
                    bound.send_replace(true);
                }
                Event::Message(message) => {
                    *book.seen.entry(message.id.to_string()).or_default().entry(name.clone()).or_default() +=
                        1;
                }
                Event::Broadcast(broadcast) => {
                    let id = broadcast.id.to_string();
                    book.times.entry(id.clone()).or_default().push(Instant::now());
                    *book.seen.entry(id).or_default().entry(name.clone()).or_default() += 1;
                }
                Event::Recalled { id, .. } => *book.recalled.entry(id.to_string()).or_default() += 1,
                _ => {}
            }
        }
    });
    let waiting = tokio::time::timeout(PATIENCE, is_bound.wait_for(|bound| *bound)).await;
    waiting.with_context(|| format!("{uid} does not get bound"))?.with_context(|| format!("{uid} ended"))?;
    Ok(Present { device, reading, mode })
}
