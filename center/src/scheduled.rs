//! Sends what was kept for its time.
//!
//! Each saver's part of the schedule belongs to one of the centers that are ready, by rendezvous hashing of the saver. It looks
//! twice a second while something is due soon, and else every few seconds. What is due before it would look again, the center
//! sends that took it, unless it dies. The other centers look seldom, at what is overdue: should the owner be dead and nobody
//! know it, the schedule goes on. That two do the same does no harm.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cluster::{NodeId, NodeState, Picture, Role, rendezvous};
use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use proto::internal::ScheduledPush;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::ops::Ops;

/// How late a message may be for this alone.
const TICK: Duration = Duration::from_millis(500);

/// A part of which nothing is due soon is looked at so often.
const REST: Duration = Duration::from_secs(5);

/// What is due soon: before the next look after a rest, and a second more for clocks that differ.
const SOON_MS: u64 = 6_000;

/// What is overdue by so much was not seen by its owner: that looks every few seconds, and gives up a saver that hangs after
/// some more.
const OVERDUE_MS: u64 = 15_000;

/// Parts that are read at once: with thousand users each and the largest payloads 3 MiB.
const PARTS: usize = 16;

/// Parts that cannot be sent at the moment are read again and again before those behind them; of more than these nothing behind
/// them is seen.
const PARTS_AGAIN: usize = 48;

/// How long a part that failed is left alone: a saver that is away comes back after such a time.
const PAUSE: Duration = Duration::from_secs(2);

/// Parts of one saver that failed lately, with the time of their next try.
type Failed = HashMap<(u64, u32), Instant>;

/// One saver's part of the schedule.
struct Shard {
    /// What failed lately; away while somebody works on it.
    failed: Option<Failed>,
    /// When it is looked at next.
    next: Instant,
    /// As it was at the last look.
    mine: bool,
}

/// Until when what this center itself has kept becomes due, of what is due soon, ms since 1970.
#[derive(Debug, Default)]
pub(crate) struct Soon(AtomicU64);

impl Soon {
    /// Something was kept that is due then. If that is soon, the owner of its part may not look before.
    pub(crate) fn note(&self, due_ms: u64, now_ms: u64) {
        if due_ms <= now_ms.saturating_add(SOON_MS) {
            self.0.fetch_max(due_ms.max(now_ms), Ordering::Relaxed);
        }
    }

    /// Whether any of it may wait still; a look or two after it was due it has been sent.
    fn waits(&self, now_ms: u64) -> bool {
        now_ms < self.0.load(Ordering::Relaxed).saturating_add(3 * TICK.as_millis() as u64)
    }
}

/// Runs until `cancel`; what is under way then is done by the next center.
pub(crate) async fn run(ops: Arc<Ops>, cancel: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = HashMap::<NodeId, Shard>::new();
    let mut working = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some((id, looked)) = working.next(), if !working.is_empty() => {
                let Looked { failed, rests } = looked;
                if let Some(shard) = known.get_mut(&id) {
                    shard.failed = Some(failed);
                    shard.next = Instant::now() + if rests { REST } else { Duration::ZERO };
                }
            }
            _ = ticks.tick() => {
                let (now, waits) = (Instant::now(), ops.soon().waits(cluster::now_ms()));
                let shards = ops.schedule_shards();
                known.retain(|id, shard| shard.failed.is_none() || shards.contains(id));
                for id in shards {
                    let mine = ops.owns_schedule(id);
                    let shard = known
                        .entry(id)
                        .or_insert_with(|| Shard { failed: Some(Failed::new()), next: now, mine });
                    // What another has just left may be due.
                    let due = waits || now >= shard.next || (mine && !shard.mine);
                    if !due {
                        continue;
                    }
                    let Some(failed) = shard.failed.take() else { continue };
                    shard.mine = mine;
                    let late_ms = if mine || waits { 0 } else { OVERDUE_MS };
                    let ops = &ops;
                    working.push(async move { (id, work(ops, id, late_ms, failed).await) });
                }
            }
        }
    }
}

/// What a look at one saver's part left.
struct Looked {
    failed: Failed,
    /// Nothing is due soon.
    rests: bool,
}

/// Sends what is due of one saver's part, and has been for `late_ms`, until nothing is that could be.
async fn work(ops: &Ops, shard: NodeId, late_ms: u64, mut failed: Failed) -> Looked {
    let upto_ms = || cluster::now_ms().saturating_sub(late_ms);
    if late_ms == 0 {
        match ops.due_of(shard, upto_ms() + SOON_MS, 1).await {
            Ok(soon) if soon.is_empty() => return Looked { failed: Failed::new(), rests: true },
            Ok(_) => {}
            Err(error) => {
                debug!(%shard, %error, "a saver cannot be asked what is due soon");
                return Looked { failed, rests: false };
            }
        }
    }
    loop {
        failed.retain(|_, next| *next > Instant::now());
        let limit = PARTS + failed.len().min(PARTS_AGAIN);
        let due = match ops.due_of(shard, upto_ms(), limit as u32).await {
            Ok(due) => due,
            Err(error) => {
                debug!(%shard, %error, "a saver cannot be asked what is due");
                return Looked { failed, rests: false };
            }
        };
        let fresh: Vec<_> = due.iter().filter(|push| !failed.contains_key(&name(push))).collect();
        if fresh.is_empty() {
            return Looked { failed, rests: late_ms > 0 };
        }
        let now_ms = cluster::now_ms();
        let results = join_all(fresh.iter().map(|push| send(ops, push, now_ms))).await;
        let again = fresh.iter().zip(results).filter(|(_, done)| !done);
        failed.extend(again.map(|(push, _)| (name(push), Instant::now() + PAUSE)));
    }
}

/// Whether the part is done with.
pub(crate) async fn send(ops: &Ops, push: &ScheduledPush, now_ms: u64) -> bool {
    let metrics = ops.metrics();
    // What is being taken back will be gone when it is looked for again.
    let Some(_part) = ops.part(push.app, push.id) else { return false };
    match ops.send_due(push, now_ms).await {
        Ok(sent) => {
            metrics.scheduled_sent.inc_by(sent.users);
            if sent.users > 0 && push.local_minutes.is_none() {
                metrics.scheduled_late.observe(now_ms.saturating_sub(push.due_ms) as f64 / 1000.0);
            }
            true
        }
        Err(error) if error.is_transient() => {
            metrics.scheduled_failed.inc();
            debug!(id = push.id, part = push.part, %error, "a message that is due is tried again");
            false
        }
        Err(error) => {
            // As it is it never will be, and it would be in the way of others for ever.
            metrics.scheduled_dropped.inc_by(push.uids.len() as u64);
            error!(id = push.id, app = push.app, part = push.part, %error, "a message that is due cannot be sent");
            ops.remove(push).await.is_ok()
        }
    }
}

fn name(push: &ScheduledPush) -> (u64, u32) {
    (push.id, push.part)
}

/// Whose part of the schedule that of a saver is. Only of centers that are ready: one that drains has stopped to look.
pub(crate) fn owner(picture: &Picture, shard: NodeId) -> Option<NodeId> {
    let key = rendezvous::word_key(shard.0, "schedule");
    let ready = picture.of(Role::Center).filter(|center| center.state == NodeState::Ready);
    ready.map(|center| center.id).max_by_key(|id| rendezvous::score(key, *id))
}

#[cfg(test)]
#[path = "scheduled_tests.rs"]
mod tests;
