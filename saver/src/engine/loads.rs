//! Reads inboxes.

use std::sync::Arc;

use futures::future::join_all;
use hashbrown::HashMap;
use tokio::sync::OwnedSemaphorePermit;
use wire::id::{Cursor, MessageId};

use super::{Core, Engine, backlog::later, gather::Call, writes};
use crate::{
    archive::{Archive, ArchiveError, Newcomer},
    error::Refused,
    inbox::{InboxError, InboxStore},
    model::{InboxKey, Loaded, Read},
};

/// What to read.
#[derive(Clone, Debug)]
pub struct LoadItem {
    /// The inbox.
    pub key: InboxKey,
    /// From where, and how much.
    pub read: Read,
    /// At a bind: answers the user's broadcast cursor too, and makes one for a user of whom none is kept.
    pub bind: bool,
    /// At a bind: the place in the log that the device named. A user of whom none is kept begins there, if it is one of the
    /// log, and it serves where the archive cannot be asked.
    pub own_cursor: Option<Cursor>,
    /// At a bind: what the device said of its clock, minutes from UTC.
    pub utc_offset_min: Option<i16>,
}

/// What was read; every message has its payload.
#[derive(Clone, Debug)]
pub struct LoadedInbox {
    /// The messages and their place.
    pub inbox: Loaded,
    /// Where the user stands in its app's broadcast log, if it was asked for.
    pub cursor: Option<Cursor>,
    /// It was asked for, the archive is away, and the device has one of its own.
    pub cursor_unknown: bool,
}

type Cursors = HashMap<InboxKey, Cursor>;

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// Reads inboxes, one result for each item. All payloads that are read in one turn together stay within a bound; items
    /// beyond it are told to come again.
    pub async fn load(&self, items: Vec<LoadItem>) -> Vec<Result<LoadedInbox, Refused>> {
        let count = items.len();
        let mut answer = self.core.gather.join(items);
        tokio::select! {
            biased;
            // Somebody's turn was this one's too.
            done = &mut answer => return done.unwrap_or_else(|_| vec![Err(Refused::Ending); count]),
            Ok(turn) = Arc::clone(&self.core.looks).acquire_owned() => {
                let calls = self.core.gather.take(self.core.limits().load_bytes);
                if !calls.is_empty() {
                    let engine = self.clone();
                    // A task of its own: whoever got the turn may be given up by its caller, and the others with it.
                    tokio::spawn(async move { engine.read_together(calls, turn).await });
                }
            }
        }
        answer.await.unwrap_or_else(|_| vec![Err(Refused::Ending); count])
    }

    /// Reads for all these calls at once and answers each.
    async fn read_together(&self, calls: Vec<Call>, turn: OwnedSemaphorePermit) {
        let mut items = Vec::new();
        let mut waiting = Vec::with_capacity(calls.len());
        for mut call in calls {
            waiting.push((call.items.len(), call.reply));
            items.append(&mut call.items);
        }
        let mut results = self.read_all(items, turn).await.into_iter();
        for (count, reply) in waiting {
            // Nobody may wait for it any more.
            let _ = reply.send(results.by_ref().take(count).collect());
        }
    }

    /// Reads all of these; gives up the turn as soon as the archive has been asked.
    async fn read_all(
        &self,
        items: Vec<LoadItem>,
        turn: OwnedSemaphorePermit,
    ) -> Vec<Result<LoadedInbox, Refused>> {
        // A store of this process is asked first, so that all that are to be rebuilt are so at once.
        if !self.core.shared() {
            let keys: Vec<InboxKey> = items.iter().map(|i| i.key.clone()).collect();
            if let Err(refused) = self.core.ensure(&keys).await {
                return vec![Err(refused); items.len()];
            }
        }
        self.keep_offsets(&items);
        let looked = self.look(&items).await;
        // Who is new waits for a commit: for one that takes along the new users of the next turns, too.
        drop(turn);
        let cursors = match looked {
            Ok((found, newcomers)) => self.begin(found, newcomers).await,
            Err(refused) => Err(refused),
        };
        let shared = self.core.shared();
        let _reading = self.core.reads.acquire().await;
        let mut room = self.core.limits().load_bytes;
        let mut results = Vec::with_capacity(items.len());
        for part in items.chunks(I::READS_AT_ONCE) {
            let share = room / part.len();
            let read = |item: &LoadItem| self.core.read_within(item.key.clone(), item.read, share);
            for (item, result) in part.iter().zip(join_all(part.iter().map(read)).await) {
                if let Ok((_, bytes)) = &result {
                    room = room.saturating_sub(*bytes);
                }
                results.push(result.and_then(|(inbox, _)| {
                    let (cursor, cursor_unknown) = match &cursors {
                        Ok(cursors) => (cursors.get(&item.key).copied(), false),
                        Err(_) if !item.bind || item.own_cursor.is_some() && shared => (None, item.bind),
                        Err(refused) => return Err(refused.clone()),
                    };
                    Ok(LoadedInbox { inbox, cursor, cursor_unknown })
                }));
            }
        }
        self.core.fill_payloads(&mut results).await;
        results
    }

    /// How many messages wait in an inbox.
    ///
    /// # Errors
    /// When the inbox cannot be rebuilt.
    pub async fn depth(&self, key: &InboxKey) -> Result<u64, Refused> {
        self.core.ensure(std::slice::from_ref(key)).await?;
        Ok(self.core.inboxes.depth(key, self.now_ms()).await?)
    }

    /// The cursors that are kept of those who bind, and who has none.
    async fn look(&self, items: &[LoadItem]) -> Result<(Cursors, Vec<Newcomer>), Refused> {
        let (binding, own): (Vec<InboxKey>, Vec<Option<Cursor>>) =
            items.iter().filter(|i| i.bind).map(|i| (i.key.clone(), i.own_cursor)).unzip();
        if binding.is_empty() {
            return Ok((Cursors::new(), Vec::new()));
        }
        if self.journal.as_ref().is_some_and(|journal| journal.archive_is_away()) {
            // Nobody is made to wait for what is known to fail.
            return Err(ArchiveError::Io("it has failed just now".to_owned()).into());
        }
        if self.core.backlog.counts_for(&binding) {
            // Whoever sent it may be gone, and nobody would count again what the device says it has.
            self.write(writes::Write::Flush).await?;
        }
        // A cursor that was kept a moment ago may still be on its way to the archive.
        let recent = self.core.backlog.cursors(&binding);
        let known = self.core.archive.cursors(&binding).await?;
        let mut found = Cursors::with_capacity(binding.len());
        let mut newcomers = Vec::new();
        for ((key, own), cursors) in binding.into_iter().zip(own).zip(known.into_iter().zip(recent)) {
            match cursors {
                (Some(known), Some(recent)) => _ = found.insert(key, later(known, recent)),
                (Some(cursor), None) | (None, Some(cursor)) => _ = found.insert(key, cursor),
                (None, None) => newcomers.push(Newcomer { key, own }),
            }
        }
        Ok((found, newcomers))
    }

    /// Lets newcomers begin.
    async fn begin(&self, mut found: Cursors, newcomers: Vec<Newcomer>) -> Result<Cursors, Refused> {
        if newcomers.is_empty() {
            return Ok(found);
        }
        let keys: Vec<InboxKey> = newcomers.iter().map(|newcomer| newcomer.key.clone()).collect();
        if let writes::Written::Cursors(made) = self.write(writes::Write::Newcomers(newcomers)).await? {
            found.extend(keys.into_iter().zip(made));
        }
        Ok(found)
    }
}

impl<I: InboxStore, A: Archive> Core<I, A> {
    /// Reads one inbox, if there is room for any of it.
    async fn read_within(&self, key: InboxKey, read: Read, room: usize) -> Result<(Loaded, usize), Refused> {
        match room {
            0 => Err(Refused::Busy),
            _ => self.read(&key, Read { max_bytes: read.max_bytes.min(room), ..read }).await,
        }
    }

    /// Reads one inbox; answers the bytes of payload too.
    async fn read(&self, key: &InboxKey, read: Read) -> Result<(Loaded, usize), Refused> {
        if !self.backlog.has_room() {
            return Err(Refused::Busy);
        }
        let now = self.now_ms();
        let max_loads = self.limits.load().max_loads;
        let mut loaded = match self.inboxes.load(key, read, max_loads, now).await {
            Err(InboxError::Absent) => {
                // Let go again by somebody who needed the room.
                self.ensure(std::slice::from_ref(key)).await?;
                self.inboxes.load(key, read, max_loads, now).await?
            }
            other => other?,
        };
        self.left(std::mem::take(&mut loaded.finished));
        self.metrics.messages_loaded.inc_by(loaded.messages.len() as u64);
        let held =
            loaded.messages.iter().filter_map(|m| m.payload.as_ref()).map(bytes::Bytes::len).sum::<usize>();
        // What is not held has to fit as well; its size is within the item's bound.
        let missing = loaded.messages.iter().any(|m| m.payload.is_none());
        Ok((loaded, if missing { read.max_bytes.max(held) } else { held }))
    }

    /// Reads payloads that the inbox store does not hold. A message that was finished meanwhile has none any more
    /// and is left out.
    async fn fill_payloads(&self, results: &mut [Result<LoadedInbox, Refused>]) {
        let missing: Vec<MessageId> = results
            .iter()
            .filter_map(|r| r.as_ref().ok())
            .flat_map(|l| &l.inbox.messages)
            .filter(|m| m.payload.is_none())
            .map(|m| m.id)
            .collect();
        if missing.is_empty() {
            return;
        }
        self.metrics.payloads_read.inc_by(missing.len() as u64);
        let payloads = self.archive.payloads(&missing).await;
        for result in results.iter_mut() {
            let Ok(loaded) = result else { continue };
            if loaded.inbox.messages.iter().all(|m| m.payload.is_some()) {
                continue;
            }
            match &payloads {
                Err(e) => *result = Err(e.clone().into()),
                Ok(payloads) => loaded.inbox.messages.retain_mut(|m| {
                    if m.payload.is_none() {
                        m.payload = payloads.get(&m.id).cloned();
                    }
                    m.payload.is_some()
                }),
            }
        }
    }
}
