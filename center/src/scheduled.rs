//! Sends what was kept for its time.
//!
//! Each saver's part of the schedule belongs to one of the centers that are ready, by rendezvous hashing of the saver. It looks
//! twice a second. The other centers look seldom, at what is overdue: should the owner be dead and nobody know it, the schedule
//! goes on. That two do the same does no harm.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cluster::{NodeId, NodeState, Picture, Role, rendezvous};
use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use proto::internal::ScheduledPush;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::ops::Ops;

/// How late a message may be for this alone.
const TICK: Duration = Duration::from_millis(500);

/// What is overdue by so much was not seen by its owner: that looks twice a second, and gives up a saver that hangs after some
/// seconds.
const OVERDUE_MS: u64 = 15_000;

/// How often others look for that.
const TICKS_OF_OTHERS: u64 = 10;

/// Parts that are read at once: with thousand users each and the largest payloads 3 MiB.
const PARTS: usize = 16;

/// Parts that cannot be sent at the moment are read again and again before those behind them; of more than these nothing behind
/// them is seen.
const PARTS_AGAIN: usize = 48;

/// How long a part that failed is left alone: a saver that is away comes back after such a time.
const PAUSE: Duration = Duration::from_secs(2);

/// Parts of one saver that failed lately, with the time of their next try.
type Failed = HashMap<(u64, u32), Instant>;

/// Runs until `cancel`; what is under way then is done by the next center.
pub(crate) async fn run(ops: Arc<Ops>, cancel: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0u64;
    // Of each saver what failed; it is away while somebody works on that saver's part.
    let mut failed = HashMap::<NodeId, Option<Failed>>::new();
    let mut working = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some((shard, left)) = working.next(), if !working.is_empty() => {
                failed.insert(shard, Some(left));
            }
            _ = ticks.tick() => {
                count += 1;
                let shards = ops.schedule_shards();
                failed.retain(|shard, left| left.is_none() || shards.contains(shard));
                for shard in shards {
                    let mine = ops.owns_schedule(shard);
                    let slot = failed.entry(shard).or_insert_with(|| Some(Failed::new()));
                    if !mine && !count.is_multiple_of(TICKS_OF_OTHERS) {
                        continue;
                    }
                    let Some(left) = slot.take() else { continue };
                    let late_ms = if mine { 0 } else { OVERDUE_MS };
                    let ops = &ops;
                    working.push(async move { (shard, work(ops, shard, late_ms, left).await) });
                }
            }
        }
    }
}

/// Sends what is due of one saver's part, until nothing is that could be.
async fn work(ops: &Ops, shard: NodeId, late_ms: u64, mut failed: Failed) -> Failed {
    loop {
        failed.retain(|_, next| *next > Instant::now());
        let now_ms = cluster::now_ms();
        let limit = PARTS + failed.len().min(PARTS_AGAIN);
        let due = match ops.due_of(shard, now_ms.saturating_sub(late_ms), limit as u32).await {
            Ok(due) => due,
            Err(error) => {
                debug!(%shard, %error, "a saver cannot be asked what is due");
                return failed;
            }
        };
        let fresh: Vec<_> = due.iter().filter(|push| !failed.contains_key(&name(push))).collect();
        if fresh.is_empty() {
            return failed;
        }
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
