//! Keeps the store's life: connects, judges whether Redis still has all that it gave, and begins a new epoch when not.
//!
//! The archive has the truth: which epoch is the present one, and what the store was known by when it began. Redis that
//! started anew, was promoted, or lost its keys is known by something else, or its partitions are in no epoch. Then an
//! epoch begins: first in the archive, where one saver wins, then in each partition, which any saver may finish. What
//! the journals still hold lands as ever; until it has, no inbox of the new epoch is rebuilt.

use std::time::Duration;

use rand::RngExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::*;
use crate::{
    archive::{Archive, ArchiveError, SharedLife},
    metrics::count_epoch,
};

/// How often the server's identity is asked for, and the archive's word.
const LOOK: Duration = Duration::from_secs(1);
/// First and greatest pause after a failure, with jitter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Numbers of a life begin at the time of its start, s since 2025 times this: no partition gives more in a second.
const NUMBERS_A_SECOND: u64 = 1 << 17;
/// Least distance between the first numbers of lives, for clocks that are turned back.
const NUMBERS_A_LIFE: u64 = 1 << 27;
/// More of it after a life without Redis, whose numbers came by other savers' clocks: they may differ by two hours.
const NUMBERS_AWAY: u64 = 1 << 30;
/// What another saver has begun in the archive it soon begins in the partitions.
const PATIENCE: Duration = Duration::from_millis(300);

/// Why there is no life yet.
#[derive(Debug, thiserror::Error)]
enum NoLife {
    #[error("Redis: {0}")]
    Redis(#[from] Failure),
    #[error("the archive: {0}")]
    Archive(#[from] ArchiveError),
    #[error("another saver has begun an epoch")]
    Overtaken,
}

/// Connects, and keeps the store in the present epoch, until `cancel`.
pub async fn keep<A: Archive>(store: RedisInboxes, archive: &A, cancel: CancellationToken) {
    let work = async {
        let mut pause = PAUSE.0;
        let mut told = false;
        // The archive had been away before Redis was lost sight of, and has been since.
        let mut alone = false;
        loop {
            let established = establish(&store, archive, &mut alone).await;
            match established.and_then(|live| store.begin(live)) {
                Ok(epoch) => {
                    if told {
                        info!(%epoch, "Redis is used again");
                    }
                    (pause, told) = (PAUSE.0, false);
                    alone = stand(&store, archive).await;
                }
                Err(e) => {
                    store.doubt(&e.to_string());
                    // Savers that start together are told so: one of them begins, and the others look again.
                    let (before, worth) = (told, !matches!(e, NoLife::Overtaken));
                    told |= worth;
                    if worth && !before {
                        warn!(error = %e, "the inboxes in Redis cannot be used");
                    } else {
                        debug!(error = %e, "the inboxes in Redis cannot be used");
                    }
                    let jitter = rand::rng().random_range(0.5..1.0);
                    tokio::time::sleep(pause.mul_f64(jitter)).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    };
    cancel.run_until_cancelled(work).await;
}

/// Returns when the life must be judged anew: whether the archive was away when it was asked last.
async fn stand<A: Archive>(store: &RedisInboxes, archive: &A) -> bool {
    let mut away = false;
    loop {
        tokio::select! {
            () = store.shared.trouble.notified() => return away,
            () = tokio::time::sleep(LOOK) => {}
        }
        let Ok(live) = store.live() else { return away };
        match live.link.identity().await {
            Ok(identity) if identity == live.identity => {}
            Ok(_) => {
                store.down(&live, "Redis is another one than before");
                return away;
            }
            Err(e) => {
                store.down(&live, &e.to_string());
                return away;
            }
        }
        // Without the archive's word the life stands.
        away = match archive.shared_life().await {
            Ok(Some(life)) if life.unseen || life.epoch != live.epoch => return false,
            Ok(_) => false,
            Err(_) => true,
        };
    }
}

impl RedisInboxes {
    /// Uses a life, unless it has been found to lack something since it was judged.
    fn begin(&self, live: Live) -> Result<Epoch, NoLife> {
        let epoch = live.epoch;
        let mut last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch.0 <= self.shared.lacking.load(Ordering::Relaxed) {
            return Err(NoLife::Overtaken);
        }
        *last = Some(Last {
            epoch,
            identity: live.identity.clone(),
            bases: live.bases.clone(),
            first: live.first,
        });
        self.shared.live.store(Some(Arc::new(live)));
        self.shared.epochs.send_if_modified(|now| std::mem::replace(now, epoch) != epoch);
        Ok(epoch)
    }

    /// Uses no life up to this one any more.
    pub(super) fn give_up(&self, life: Epoch) {
        let _last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.lacking.fetch_max(life.0, Ordering::Relaxed);
        if let Some(live) = self.shared.live.load_full().filter(|live| live.epoch <= life) {
            self.down(&live, "messages were stored while Redis was away");
        }
    }

    /// There is no life to use.
    fn doubt(&self, reason: &str) {
        *self.shared.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason.to_owned();
        self.shared.live.store(None);
    }
}

/// A link, in the present epoch: the one that stands, or one that begins now. `alone`: see [`stood`].
async fn establish<A: Archive>(store: &RedisInboxes, archive: &A, alone: &mut bool) -> Result<Live, NoLife> {
    let settings = &store.shared.settings;
    let link = Link::open(settings).await?;
    let identity = link.identity().await?;
    let life = match archive.shared_life().await {
        Ok(life) => {
            *alone = false;
            life
        }
        Err(e) if *alone => return stood(store, link, identity, e).await,
        Err(e) => return Err(e.into()),
    };
    let mut partitions = settings.partitions;
    if let Some(life) = &life {
        if life.partitions != partitions {
            debug!(configured = partitions, "the store has {} partitions", life.partitions);
        }
        partitions = life.partitions;
        let bases = bases(settings, partitions);
        if known_by(life).0 == identity && !life.unseen {
            let mut epochs = epochs(&link, &bases).await?;
            if epochs.iter().any(Option::is_none) {
                tokio::time::sleep(PATIENCE).await;
                epochs = self::epochs(&link, &bases).await?;
            }
            if epochs.iter().all(|e| *e == Some(life.epoch)) {
                return Ok(Live { link, epoch: life.epoch, identity, bases, first: known_by(life).1 });
            }
            // Somebody began it and did not come to the end.
            if epochs.iter().all(|e| e.is_some_and(|e| e <= life.epoch)) {
                return install(archive, link, life.clone(), identity, bases).await;
            }
        }
    }
    let (word, reason) = reason(life.as_ref(), &identity);
    let from = life.as_ref().map(|l| l.epoch);
    let name = format!("{identity} {}", first_number(life.as_ref(), cluster::now_ms()));
    let life = archive.begin_shared_life(from, &name, partitions).await?.ok_or(NoLife::Overtaken)?;
    count_epoch(&store.shared.begun, word);
    info!(epoch = %life.epoch, reason, "a new epoch of the inboxes in Redis");
    let bases = bases(settings, life.partitions);
    install(archive, link, life, identity, bases).await
}

/// Without the archive: the life stands if everything is as it was, and the archive was away before Redis was, and all
/// the time since. If it was not, a saver may have stored there what the life lacks, and what is appended now would
/// overtake that.
async fn stood(
    store: &RedisInboxes,
    link: Link,
    identity: String,
    error: ArchiveError,
) -> Result<Live, NoLife> {
    let known = store.shared.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(Last { epoch, bases, first, .. }) = known.filter(|last| last.identity == identity) else {
        return Err(error.into());
    };
    let epochs = epochs(&link, &bases).await?;
    if epochs.iter().any(|e| *e != Some(epoch)) {
        return Err(error.into());
    }
    Ok(Live { link, epoch, identity, bases, first })
}

/// Begins a life's epoch in all partitions.
async fn install<A: Archive>(
    archive: &A,
    link: Link,
    life: SharedLife,
    identity: String,
    bases: Vec<String>,
) -> Result<Live, NoLife> {
    let greatest = archive.greatest_id().await?.0.to_be_bytes();
    let reserved = archive.reserved_until().await?.min(codec::GREATEST);
    let first = known_by(&life).1;
    let calls = bases.iter().map(|base| {
        let mut cmd = scripts::BEGIN.by_hash(base, 4);
        cmd.arg(life.epoch.0).arg(first).arg(greatest.as_slice()).arg(reserved);
        Call { cmd, source: Some(&*scripts::BEGIN) }
    });
    for answer in link.run(Line::Calls, calls.collect()).await {
        if answer? == Value::Nil {
            return Err(NoLife::Overtaken);
        }
    }
    Ok(Live { link, epoch: life.epoch, identity, bases, first })
}

/// What the archive knows the store by: its identity, and what the life's numbers are greater than.
fn known_by(life: &SharedLife) -> (&str, u64) {
    let (identity, first) = life.store.rsplit_once(' ').unwrap_or((&life.store, ""));
    (identity, first.parse().unwrap_or(0))
}

/// What the numbers of a new life are greater than: all that were ever given, so that places are ordered by epoch and by
/// number alike though an inbox is begun without asking what it held before. Scripts and JSON count to 2^53.
fn first_number(before: Option<&SharedLife>, now_ms: u64) -> u64 {
    let by_clock = now_ms.saturating_sub(cluster::EPOCH_2025_MS) / 1000 * NUMBERS_A_SECOND;
    let last = before.map_or(0, |life| known_by(life).1 + NUMBERS_A_LIFE);
    by_clock.max(last) + before.filter(|life| life.unseen).map_or(0, |_| NUMBERS_AWAY)
}

/// What the numbers of messages are greater than that are born while Redis is away.
pub(super) fn away_number(life: &SharedLife, now_ms: u64) -> u64 {
    let by_clock = now_ms.saturating_sub(cluster::EPOCH_2025_MS) / 1000 * NUMBERS_A_SECOND;
    by_clock.max(known_by(life).1 + NUMBERS_A_LIFE / 2)
}

/// The epoch of each partition.
async fn epochs(link: &Link, bases: &[String]) -> Result<Vec<Option<Epoch>>, Failure> {
    let calls = bases.iter().map(|base| {
        let mut cmd = plain("HGET", base, "m");
        cmd.arg("e");
        Call { cmd, source: None }
    });
    let answers = link.run(Line::Calls, calls.collect()).await;
    answers.into_iter().map(|a| Ok(number(Some(&a?)).map(Epoch))).collect()
}

/// The keys of a partition begin with this; the braces make them one slot of Redis Cluster.
fn bases(settings: &RedisSettings, partitions: u32) -> Vec<String> {
    (0..partitions).map(|p| format!("{{lw:{}:{p}}}", settings.name)).collect()
}

/// Why a life begins: for metrics, and for people.
fn reason(life: Option<&SharedLife>, identity: &str) -> (&'static str, &'static str) {
    match life {
        None => ("first", "the first"),
        Some(life) if life.unseen => ("unseen", "something was stored while Redis was away"),
        Some(life) if known_by(life).0 != identity => ("replaced", "Redis started anew or was replaced"),
        Some(_) => ("lost", "Redis lost its keys"),
    }
}

#[cfg(test)]
impl RedisInboxes {
    /// Begins an epoch without an archive.
    pub(super) async fn stand_alone(&self, epoch: Epoch, reserved_until: u64) {
        let settings = &self.shared.settings;
        let link = Link::open(settings).await.unwrap();
        let identity = link.identity().await.unwrap();
        let bases = bases(settings, settings.partitions);
        let calls = bases.iter().map(|base| {
            let mut cmd = scripts::BEGIN.by_hash(base, 4);
            cmd.arg(epoch.0).arg(first_of(epoch)).arg([0u8; 8].as_slice()).arg(reserved_until);
            Call { cmd, source: Some(&*scripts::BEGIN) }
        });
        for answer in link.run(Line::Calls, calls.collect()).await {
            assert!(matches!(answer, Ok(Value::Int(_))), "{answer:?}");
        }
        self.begin(Live { link, epoch, identity, bases, first: first_of(epoch) }).unwrap();
    }
}

/// What the numbers of an epoch of the tests are greater than.
#[cfg(test)]
pub(super) fn first_of(epoch: Epoch) -> u64 {
    epoch.0 << 36
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_from_life_to_life_whatever_clocks_say() {
        let hour = 3_600_000;
        let now = cluster::EPOCH_2025_MS + 1_000 * hour;
        let life = |first: u64, unseen| SharedLife {
            epoch: Epoch(1),
            store: format!("abc {first}"),
            partitions: 1,
            unseen,
        };
        let first = first_number(None, now);
        assert!(first_number(Some(&life(first, false)), now - hour) > first);
        assert!(first_number(Some(&life(first, false)), now + 1000) > first + 100_000);
        // Another saver's clock was an hour ahead while it was alone, and this one's is an hour behind.
        let away = first_number(None, now + hour);
        assert!(first_number(Some(&life(first, true)), now - hour) > away + 10_000_000);
        assert!(first_number(None, now + 50 * 365 * 24 * hour) < 1 << 53);
    }
}
