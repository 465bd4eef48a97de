//! A lane of a journaled store: what goes to its partitions, one batch after the other.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::id::{Position, Seq};

use super::{
    Core,
    journal::{Call, answer},
    lander::LandingState,
};
use crate::{
    archive::{Archive, Wanted},
    error::Refused,
    inbox::{Entry, InboxResult, Journaled, Placed},
    model::{InboxKey, Staging, State},
};

/// Deliveries in one batch: about 5 ms of Redis.
const BATCH: usize = 512;
/// Payload in one batch.
const BATCH_BYTES: usize = 4 << 20;

/// A call's deliveries for one lane: item and receiver.
pub(super) struct Work {
    pub(super) call: Arc<Call>,
    pub(super) deliveries: Vec<(u32, u32)>,
}

/// A lane at work.
pub(super) struct Lane<I, A> {
    core: Arc<Core<I, A>>,
    queue: mpsc::Receiver<Work>,
    committer: mpsc::Sender<Arc<Call>>,
    landing: Arc<LandingState>,
}

impl<I: Journaled, A: Archive> Lane<I, A> {
    pub(super) fn new(
        core: Arc<Core<I, A>>,
        queue: mpsc::Receiver<Work>,
        committer: mpsc::Sender<Arc<Call>>,
        landing: Arc<LandingState>,
    ) -> Self {
        Self { core, queue, committer, landing }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) {
        loop {
            let first = tokio::select! {
                work = self.queue.recv() => work,
                () = cancel.cancelled() => break,
            };
            let Some(first) = first else { return };
            self.batch(first).await;
        }
        // What was taken in is written; what comes now is told that this is the end.
        self.queue.close();
        while let Some(first) = self.queue.recv().await {
            self.batch(first).await;
        }
    }

    /// Takes whatever waits, appends it and answers.
    async fn batch(&mut self, first: Work) {
        let mut works = vec![first];
        let mut size = self.size(&works[0]);
        while size.0 < BATCH && size.1 < BATCH_BYTES {
            let Ok(next) = self.queue.try_recv() else { break };
            let more = self.size(&next);
            size = (size.0 + more.0, size.1 + more.1);
            works.push(next);
        }
        let entries: Vec<Entry> = works.iter().flat_map(|work| self.entries(work)).collect();
        let mut placed = self.place(entries).await.into_iter();
        for work in works {
            let done = {
                let mut state = work.call.lock();
                for (item, receiver) in &work.deliveries {
                    let place = placed.next().unwrap_or(Err(Refused::Ending));
                    state.placed[*item as usize][*receiver as usize] = place;
                }
                state.left -= work.deliveries.len();
                state.left == 0
            };
            if done {
                self.settle(work.call).await;
            }
        }
    }

    fn size(&self, work: &Work) -> (usize, usize) {
        let bytes = work.deliveries.iter().map(|(item, _)| work.call.items[*item as usize].payload.len());
        (work.deliveries.len(), bytes.sum())
    }

    fn entries<'a>(&self, work: &'a Work) -> impl Iterator<Item = Entry> + use<'a, I, A> {
        let limits = self.core.limits();
        work.deliveries.iter().map(move |(item, receiver)| {
            let append = &work.call.items[*item as usize];
            let cap = append.inbox_cap.unwrap_or(limits.default_inbox_cap).clamp(1, limits.max_inbox_cap);
            Entry {
                staging: Staging {
                    key: append.keys[*receiver as usize].clone(),
                    row: work.call.rows[*item as usize][*receiver as usize],
                    id: append.id,
                    accepted_ms: append.accepted_ms,
                    expires_ms: append.expires_ms,
                    payload: append.payload.clone(),
                    cap,
                    collapse: append.collapse.clone(),
                },
                multicast: append.is_multicast(),
                checked: false,
            }
        })
    }

    /// Brings up the inboxes in which something may be replaced, so that it is in the same step. Where the archive cannot be
    /// asked, an inbox replaces what the archive has of it when it is rebuilt.
    async fn bring(&self, entries: &[Entry]) {
        let keyed = entries.iter().filter(|e| e.staging.collapse.is_some());
        let keys: Vec<InboxKey> = keyed.map(|e| e.staging.key.clone()).collect();
        if !keys.is_empty()
            && !self.landing.away.load(Ordering::Relaxed)
            && let Err(e) = self.core.ensure(&keys).await
        {
            tracing::debug!(error = %e, "what is replaced leaves when the inbox is rebuilt");
        }
    }

    /// Appends, and asks the archive for those that are older than what the store remembers.
    async fn place(&self, mut entries: Vec<Entry>) -> Vec<Result<Placed, Refused>> {
        self.bring(&entries).await;
        let now = self.core.now_ms();
        let results: Vec<InboxResult<Placed>> = self.core.inboxes.append(&entries, now).await;
        let mut placed: Vec<Result<Placed, Refused>> =
            results.into_iter().map(|r| r.map_err(Refused::from)).collect();
        let asked: Vec<usize> = (0..placed.len()).filter(|n| placed[*n] == Ok(Placed::Ask)).collect();
        if asked.is_empty() {
            return placed;
        }
        let wanted: Vec<Wanted> = asked
            .iter()
            .map(|n| {
                let staging = &entries[*n].staging;
                Wanted { id: staging.id, key: staging.key.clone(), multicast: entries[*n].multicast }
            })
            .collect();
        let recorded = match self.core.archive.recorded(&wanted).await {
            Ok(recorded) => recorded,
            Err(e) => {
                asked.into_iter().for_each(|n| placed[n] = Err(e.clone().into()));
                return placed;
            }
        };
        let mut again = Vec::new();
        for ((n, wanted), recorded) in asked.into_iter().zip(wanted).zip(recorded) {
            match recorded {
                None => {
                    entries[n].checked = true;
                    again.push(n);
                }
                Some(r) if r.app != wanted.key.app() || r.uid != *wanted.key.uid() => {
                    placed[n] = Err(Refused::bad("id_taken", format!("message id {} is in use", wanted.id)));
                }
                Some(r) => {
                    let seq = if r.state == State::Stored { r.position.seq } else { Seq::ZERO };
                    placed[n] = Ok(Placed::Repeat(Position { epoch: r.position.epoch, seq }));
                }
            }
        }
        if !again.is_empty() {
            let retry: Vec<Entry> = again.iter().map(|n| entries[*n].clone()).collect();
            let results = self.core.inboxes.append(&retry, now).await;
            for (n, result) in again.into_iter().zip(results) {
                placed[n] = result.map_err(Refused::from);
            }
        }
        placed
    }

    /// All of a call's deliveries are placed, or refused.
    async fn settle(&self, call: Arc<Call>) {
        let default = self.core.limits().durability;
        if (0..call.items.len()).any(|n| call.safe(n, default)) {
            if let Err(e) = self.committer.send(call).await {
                e.0.answer(vec![Err(Refused::Ending); e.0.items.len()]);
            }
            return;
        }
        let results: Vec<_> = call.placed().into_iter().map(answer).collect();
        self.core.count(&results);
        call.answer(results);
    }
}
