//! Pushes for later. The archive has them; who sends them asks for what is due, and removes what is sent.

use std::collections::BTreeMap;

use proto::internal::ScheduledPush;
use wire::id::{AppId, MessageId};

use super::{Engine, writes};
use crate::{
    archive::{Archive, NewPart, PartDue, PartHead, PartName, pack},
    error::Refused,
    inbox::InboxStore,
    model::InboxKey,
};

/// Most users of one part: as many as a caller's request of 1 MiB holds with names of a usual length.
const MOST_USERS: usize = 10_000;
/// Most bytes of one part: half of the smallest packet that a MySQL server must take.
const MOST_BYTES: usize = 2 << 20;
/// Parts that one answer gives: a minute of work for the one who sends them.
const MOST_DUE: usize = 64;
/// Bytes that one answer gives; one part is always given.
const MOST_DUE_BYTES: usize = 8 << 20;
/// Parts looked at in one query: those of other savers are passed over.
const STEP: usize = 1_000;
/// Queries of one call: at more than 100,000 parts a list is cut, and what is due comes with the next call.
const STEPS: usize = 100;

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// Keeps a part of a push for later; whether it was there before, in which case it stays as it was.
    ///
    /// # Errors
    /// When it has no user, is too large, or the archive fails.
    pub async fn put_scheduled(&self, key: &InboxKey, push: ScheduledPush) -> Result<bool, Refused> {
        if push.uids.len() > MOST_USERS {
            return Err(Refused::bad(
                "too_many_users",
                "a part of a scheduled push has at most 10,000 users",
            ));
        }
        let due = PartDue {
            due_ms: push.due_ms,
            name: PartName { app: key.app(), id: MessageId(push.id), part: push.part },
            uid: key.uid().as_str().to_owned(),
        };
        let users = push.uids.len() as u32;
        let body = pack(push);
        if body.len() > MOST_BYTES {
            return Err(Refused::bad("too_large", "a part of a scheduled push has at most 2 MiB"));
        }
        match self.write(writes::Write::Schedule(NewPart { due, users, body })).await? {
            writes::Written::Repeated(repeated) => Ok(repeated),
            _ => Err(Refused::Ending),
        }
    }

    /// This saver's parts that are due, soonest first. They stay until they are removed.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn due_scheduled(&self, now_ms: u64, limit: usize) -> Result<Vec<ScheduledPush>, Refused> {
        let limit = limit.clamp(1, MOST_DUE);
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut after: Option<PartDue> = None;
        for _ in 0..STEPS {
            let page = self.core.archive.due(now_ms, after.as_ref(), STEP).await?;
            for part in page.iter().filter(|p| self.core.shard.owns_user(p.name.app, &p.uid)) {
                let Some(push) = self.core.archive.scheduled(part.name).await? else { continue };
                bytes += push.payload.len() + push.uids.iter().map(String::len).sum::<usize>();
                if bytes > MOST_DUE_BYTES && !found.is_empty() {
                    return Ok(found);
                }
                found.push(push);
                if found.len() == limit {
                    return Ok(found);
                }
            }
            if page.len() < STEP {
                break;
            }
            after = page.into_iter().last();
        }
        Ok(found)
    }

    /// What of an app waits here for its time, soonest first: at most `limit` messages, without users and payload, each with
    /// the number of its users in all parts that are here.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn list_scheduled(&self, app: AppId, limit: usize) -> Result<Vec<ScheduledPush>, Refused> {
        let mut found: BTreeMap<(u64, u64), ScheduledPush> = BTreeMap::new();
        let mut firsts: BTreeMap<u64, u64> = BTreeMap::new();
        let mut after: Option<PartDue> = None;
        for _ in 0..STEPS {
            let page = self.core.archive.scheduled_of(app, after.as_ref(), STEP).await?;
            for PartHead { uid, push } in &page {
                if !self.core.shard.owns_user(app, uid) {
                    continue;
                }
                match firsts.get(&push.id) {
                    Some(due) => {
                        if let Some(first) = found.get_mut(&(*due, push.id)) {
                            first.users = first.users.saturating_add(push.users);
                        }
                    }
                    // Later ones are only counted for messages that are in the list.
                    None if found.len() < limit => {
                        firsts.insert(push.id, push.due_ms);
                        found.insert((push.due_ms, push.id), push.clone());
                    }
                    None => {}
                }
            }
            let last = page.len() < STEP;
            after = page.into_iter().last().map(|PartHead { uid, push }| PartDue {
                due_ms: push.due_ms,
                name: PartName { app, id: MessageId(push.id), part: push.part },
                uid,
            });
            if last {
                break;
            }
        }
        Ok(found.into_values().collect())
    }

    /// Removes a part of a push for later, or all that there is of it. Answers how many users that had.
    ///
    /// # Errors
    /// When the archive fails.
    pub async fn remove_scheduled(
        &self,
        app: AppId,
        id: MessageId,
        part: Option<u32>,
    ) -> Result<u64, Refused> {
        match self.write(writes::Write::Unschedule(app, id, part)).await? {
            writes::Written::Count(users) => Ok(users),
            _ => Err(Refused::Ending),
        }
    }
}
