//! Messages for later: kept, listed, taken back.

use std::collections::BTreeMap;

use cluster::NodeId;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use proto::{internal::ScheduledPush, v1};
use wire::id::Uid;

use super::{Caller, Ops, letter::Letter};
use crate::{
    auth::Scope,
    error::{Error, Result},
    scheduled::{self, Soon},
    when::Due,
};

/// Users of one part: what is due is read, sent and removed by parts. With the longest names and the largest payload 200 KiB.
pub(crate) const PART_UIDS: usize = 1_000;

/// Parts of one list that are put at once.
const AT_ONCE: usize = 8;

/// Parts that a list is made of: of a multicast to a million users there are a thousand.
const LIST_PARTS: u32 = 10_000;

/// Entries of a list that asks for no number, and the most that it may ask for.
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 1_000;

impl Ops {
    /// Keeps a message until it is due, in parts numbered from `part` on.
    pub(super) async fn keep(&self, letter: &Letter, due: Due, part: u32, uids: Vec<Uid>) -> Result<()> {
        let users = uids.len() as u64;
        let parts = uids.chunks(PART_UIDS).zip(part..).map(|(uids, part)| {
            let uids = uids.iter().map(|uid| uid.as_str().to_owned()).collect();
            self.peers.savers.put_scheduled(letter.schedule(due, part, uids))
        });
        let parts: Vec<_> = parts.collect();
        stream::iter(parts).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
        self.metrics.scheduled.inc_by(users);
        self.soon.note(due.first_ms(), cluster::now_ms());
        Ok(())
    }

    /// What was kept here and is due soon.
    pub(crate) fn soon(&self) -> &Soon {
        &self.soon
    }

    /// The savers that keep parts of the schedule.
    pub(crate) fn schedule_shards(&self) -> Vec<NodeId> {
        self.peers.savers.shards()
    }

    /// Whether this center is to look after that part of the schedule.
    pub(crate) fn owns_schedule(&self, shard: NodeId) -> bool {
        scheduled::owner(&self.cluster.now(), shard) == Some(self.cluster.me().id())
    }

    /// What is due of one part, soonest first.
    pub(crate) async fn due_of(&self, shard: NodeId, now_ms: u64, limit: u32) -> Result<Vec<ScheduledPush>> {
        Ok(self.peers.savers.due_scheduled(shard, now_ms, limit).await?)
    }

    /// What waits for its time, soonest first.
    pub async fn list_scheduled(
        &self,
        caller: &Caller,
        request: v1::ListScheduledRequest,
    ) -> Result<v1::ListScheduledResponse> {
        let app = self.app(caller, Scope::Read, &request.app).await?;
        let limit = match request.limit {
            0 => LIST_DEFAULT,
            limit if limit <= LIST_MAX => limit,
            limit => return Err(Error::invalid("limit", format!("is {limit}; it must be 1 to {LIST_MAX}"))),
        };
        let mut whole = BTreeMap::<u64, v1::Scheduled>::new();
        for part in self.peers.savers.list_scheduled(app.id, LIST_PARTS).await? {
            let kind = if part.multicast { "multicast" } else { "unicast" };
            let one = whole.entry(part.id).or_insert_with(|| v1::Scheduled {
                id: part.id,
                kind: kind.to_owned(),
                due_ms: part.due_ms,
                targets: 0,
            });
            one.due_ms = one.due_ms.min(part.due_ms);
            one.targets += u64::from(part.users);
        }
        let mut scheduled: Vec<_> = whole.into_values().collect();
        scheduled.sort_by_key(|one| (one.due_ms, one.id));
        scheduled.truncate(limit as usize);
        Ok(v1::ListScheduledResponse { scheduled })
    }

    /// Takes back what waits for its time. What was sent already stays; a recall takes that back as well.
    pub async fn cancel_scheduled(
        &self,
        caller: &Caller,
        request: v1::CancelScheduledRequest,
    ) -> Result<v1::CancelScheduledResponse> {
        let app = self.app(caller, Scope::Push, &request.app).await?;
        let id = request.id;
        // What is just being sent counts as sent.
        self.stop(app.id, id, false).await?;
        match self.peers.savers.remove_scheduled(app.id, id, None).await? {
            0 => Err(Error::UnknownMessage { id }),
            cancelled => Ok(v1::CancelScheduledResponse { cancelled }),
        }
    }
}
