//! What becomes due: sent with the id that it got when it was accepted, and then removed.
//!
//! All of it may be done twice, by the next who looks or by two at a time: an append of the same id to the same user is done
//! once. Where the time is that of each device, those whose moment has come are sent to, and the others are kept as another
//! part, which is looked at again when the next of them are due: a device may be elsewhere by then.

use std::collections::BTreeMap;

use proto::internal::ScheduledPush;
use tracing::debug;
use wire::id::{AppId, Uid};

use super::{Ops, letter::Letter, multicast::Stored};
use crate::{
    error::{Error, Result},
    when,
};

/// Users whose clocks are to show the time later are looked at again after this at the latest: who travels east in between gets
/// the message so much late at most.
const RECHECK_MS: u64 = 3_600_000;

/// A part that follows on another has its number in the lower bits, and how often that happened above them.
const GENERATION: u32 = 1 << 16;

/// What was done with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Users that it was sent to.
    pub(crate) users: u64,
    /// Users that are kept for later.
    pub(crate) later: u64,
}

impl Ops {
    /// Sends one part that is due, and removes it.
    ///
    /// # Errors
    /// It stays as it is, and may be tried again unless the error says never.
    pub(crate) async fn send_due(&self, push: &ScheduledPush, now_ms: u64) -> Result<Sent> {
        let Some(app) = self.peers.apps.find(AppId(push.app)).await? else {
            // No app is ever removed: the directory is behind.
            return Err(Error::Full("apps to be learnt of"));
        };
        let letter = Letter::kept(app, push);
        let Split { due, later, next_ms } = self.split(push, now_ms).await?;
        let sent =
            Sent { users: due.values().map(|uids| uids.len() as u64).sum(), later: later.len() as u64 };
        if letter.transient {
            // Sent at most once: nothing would tell the second from the first.
            self.keep_rest(push, later, next_ms).await?;
            if self.remove(push).await? > 0 {
                for uids in due.into_values() {
                    let mut answer =
                        proto::v1::MulticastResponse { targets: uids.len() as u64, ..Default::default() };
                    self.send_transients(&letter, uids, &mut answer).await;
                }
            }
            return Ok(sent);
        }
        for (due_ms, uids) in due {
            self.store_due(&letter, due_ms, uids).await?;
        }
        self.keep_rest(push, later, next_ms).await?;
        self.remove(push).await?;
        Ok(sent)
    }

    async fn store_due(&self, letter: &Letter, due_ms: u64, mut uids: Vec<Uid>) -> Result<()> {
        // The life of the message hangs on when it was due and not on when somebody saw that, so a repeat says the same.
        let lifetime = letter.lifetime_from(due_ms);
        if !letter.multicast && uids.len() == 1 {
            if let Some(uid) = uids.pop() {
                self.store_one(letter.clone(), lifetime, uid).await?;
            }
            return Ok(());
        }
        let Stored { placed, failed, .. } = self.store_list(letter, lifetime, uids).await;
        self.deliver_to_all(letter, placed).await;
        match failed.into_iter().next() {
            Some((uid, error)) => {
                debug!(id = letter.id, %uid, %error, "a message that is due could not be stored for all");
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// Whose moment has come, by when it was, and who is still to wait.
    async fn split(&self, push: &ScheduledPush, now_ms: u64) -> Result<Split> {
        let uids = push.uids.iter().filter_map(|uid| Uid::new(uid).ok());
        let Some(minutes) = push.local_minutes else {
            return Ok(Split { due: [(push.due_ms, uids.collect())].into(), later: Vec::new(), next_ms: 0 });
        };
        let offsets = self.peers.savers.utc_offsets(push.app, &push.uids).await?;
        let mut split = Split { due: BTreeMap::new(), later: Vec::new(), next_ms: u64::MAX };
        for (uid, offset) in uids.zip(offsets) {
            let due_ms = when::local_due_ms(minutes, offset);
            if due_ms <= now_ms {
                split.due.entry(due_ms).or_default().push(uid);
            } else {
                split.next_ms = split.next_ms.min(due_ms);
                split.later.push(uid);
            }
        }
        split.next_ms = split.next_ms.min(now_ms.saturating_add(RECHECK_MS));
        Ok(split)
    }

    async fn keep_rest(&self, push: &ScheduledPush, later: Vec<Uid>, next_ms: u64) -> Result<()> {
        if later.is_empty() {
            return Ok(());
        }
        let rest = ScheduledPush {
            due_ms: next_ms,
            uids: later.iter().map(|uid| uid.as_str().to_owned()).collect(),
            part: push.part.wrapping_add(GENERATION),
            ..push.clone()
        };
        self.peers.savers.put_scheduled(rest).await?;
        self.soon().note(next_ms, cluster::now_ms());
        Ok(())
    }

    /// Removes a part; answers how many users it had, 0 if it was gone.
    pub(crate) async fn remove(&self, push: &ScheduledPush) -> Result<u64> {
        Ok(self.peers.savers.remove_scheduled(push.app, push.id, Some(push.part)).await?)
    }
}

struct Split {
    due: BTreeMap<u64, Vec<Uid>>,
    later: Vec<Uid>,
    /// When the next of those are to be looked at.
    next_ms: u64,
}
