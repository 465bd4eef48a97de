//! What became of a message for each of its users.

use wire::id::{AppId, MessageId, Uid};

use super::Engine;
use crate::{
    archive::{Archive, Recorded},
    error::Refused,
    inbox::InboxStore,
    model::State,
};

/// Users in one answer: a page of a thousand rows takes an archive some milliseconds.
const MOST: usize = 5_000;
/// Pages that one call reads where most users are other savers'.
const PAGES: usize = 64;

/// A user of a message, and what became of it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The user.
    pub uid: Uid,
    /// The state; what is over but has not been swept yet is expired.
    pub state: State,
}

/// A part of a message's users, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The users.
    pub targets: Vec<Target>,
    /// There may be more after the last.
    pub more: bool,
}

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// The users of a message whose inboxes are here and whose names come after one; at most `limit`. The first page is as
    /// things stand after all that has happened so far; the others show what the archive has heard of when they are read.
    ///
    /// # Errors
    /// When the archive cannot be read, or not told what has just happened.
    pub async fn targets(
        &self,
        app: AppId,
        id: MessageId,
        after_uid: &str,
        limit: usize,
    ) -> Result<Targets, Refused> {
        if after_uid.is_empty() {
            self.flush().await?;
        }
        let limit = limit.clamp(1, MOST);
        let now = self.now_ms();
        let mut found = Targets::default();
        let mut after = after_uid.to_owned();
        for _ in 0..PAGES {
            let page = self.core.archive.targets(app, id, &after, limit).await?;
            let whole = page.len() == limit;
            if let Some(last) = page.last() {
                after = last.uid.as_str().to_owned();
            }
            for Recorded { uid, state, expires_ms, .. } in page {
                if !self.core.shard.owns_user(app, &uid) {
                    continue;
                }
                if found.targets.len() == limit {
                    found.more = true;
                    return Ok(found);
                }
                let over = state == State::Stored && expires_ms <= now;
                found.targets.push(Target { uid, state: if over { State::Expired } else { state } });
            }
            if !whole {
                return Ok(found);
            }
            if found.targets.len() == limit {
                break;
            }
        }
        found.more = true;
        Ok(found)
    }
}
