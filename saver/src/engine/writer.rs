//! The one task that writes: it takes whatever waits, numbers it, commits it as one transaction, publishes it and
//! answers. While a transaction is under way the next one gathers, so transactions grow with the load and there is
//! no delay without one.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use proto::internal::JobState;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wire::id::{AppId, MessageId};

use super::{
    Append, Appended, Core,
    group::{self, Prepared},
    repeats::RecentIds,
    report,
    rows::RowNumbers,
    writes::{Place, Write, Written},
};
use crate::{
    archive::{Archive, ArchiveError, Committed, Group, JobWrite, JobWritten, LoggedBroadcast},
    error::Refused,
    inbox::{InboxStore, WriteThrough as _},
    model::Row,
};

/// Final states that ride in one transaction at most: about 20 ms of it.
const FINISHED_STEP: usize = 8192;

/// Counts a waiting call's messages and bytes for as long as it lives.
#[derive(Debug)]
pub(super) struct Charge {
    messages: (Arc<AtomicUsize>, usize),
    bytes: (Arc<AtomicUsize>, usize),
    before: (usize, usize),
}

impl Charge {
    pub(super) fn new(m: &Arc<AtomicUsize>, messages: usize, b: &Arc<AtomicUsize>, bytes: usize) -> Self {
        let before = (m.fetch_add(messages, Ordering::Relaxed), b.fetch_add(bytes, Ordering::Relaxed));
        Self { messages: (m.clone(), messages), bytes: (b.clone(), bytes), before }
    }

    /// What waited when this came.
    pub(super) fn before(&self) -> (usize, usize) {
        self.before
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.messages.0.fetch_sub(self.messages.1, Ordering::Relaxed);
        self.bytes.0.fetch_sub(self.bytes.1, Ordering::Relaxed);
    }
}

pub(super) type AppendReply = oneshot::Sender<Vec<Result<Appended, Refused>>>;

/// Something for the writer to do.
pub(super) enum Op {
    Append { items: Vec<Append>, reply: AppendReply, _charge: Charge },
    Write { write: Write, reply: oneshot::Sender<Result<Written, Refused>> },
}

pub(super) struct Writer<I, A> {
    pub(super) core: Arc<Core<I, A>>,
    queue: mpsc::Receiver<Op>,
    pub(super) recent: RecentIds,
    rows: RowNumbers,
    /// The last transaction failed.
    failing: bool,
    /// A transaction failed in a way that leaves open whether its deliveries are in the archive. If they are, the
    /// inboxes in memory lack them, so before anything else is numbered all are forgotten.
    in_doubt: bool,
}

impl<I, A> Drop for Writer<I, A> {
    fn drop(&mut self) {
        self.core.backlog.close();
    }
}

impl<I: InboxStore, A: Archive> Writer<I, A> {
    pub(super) fn new(core: Arc<Core<I, A>>, queue: mpsc::Receiver<Op>, greatest: MessageId) -> Self {
        Self {
            core,
            queue,
            recent: RecentIds::new(greatest),
            rows: RowNumbers::default(),
            failing: false,
            in_doubt: false,
        }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) {
        loop {
            let first = tokio::select! {
                op = self.queue.recv() => match op {
                    Some(op) => Some(op),
                    None => break,
                },
                () = self.core.backlog.due() => None,
                () = cancel.cancelled() => break,
            };
            let ops = self.gather(first);
            self.transact(ops).await;
        }
        // What was taken in is written; what comes now is told that this is the end.
        self.queue.close();
        while let Some(op) = self.queue.recv().await {
            let ops = self.gather(Some(op));
            self.transact(ops).await;
        }
        while self.core.backlog.len() > 0 {
            if !self.flush_some().await {
                break;
            }
        }
    }

    /// Takes whatever waits, up to a transaction's bound.
    fn gather(&mut self, first: Option<Op>) -> Vec<Op> {
        let limits = self.core.limits();
        let mut ops = Vec::new();
        let mut messages = 0;
        let mut next = first;
        while let Some(op) = next {
            let restart = matches!(&op, Op::Write { write: Write::Restart, .. });
            messages += match &op {
                Op::Append { items, .. } => items.iter().map(|i| i.keys.len()).sum(),
                Op::Write { .. } => 1,
            };
            ops.push(op);
            // A restart ends its transaction: what comes after it belongs to the new epoch.
            next =
                if messages < limits.batch_messages && !restart { self.queue.try_recv().ok() } else { None };
        }
        ops
    }

    /// Writes a batch and answers it.
    async fn transact(&mut self, ops: Vec<Op>) {
        let mut appends = Vec::new();
        let mut writes = Vec::new();
        for op in ops {
            match op {
                Op::Append { items, reply, _charge: charge } => appends.push((items, reply, charge)),
                Op::Write { write, reply } => writes.push((write, reply)),
            }
        }
        let items: Vec<&Append> = appends.iter().flat_map(|(items, _, _)| items).collect();
        let mut group = Group { now_ms: self.core.now_ms(), ..Group::default() };
        let mut restart = false;
        let mut flush = false;
        let mut places = Vec::with_capacity(writes.len());
        let mut replies = Vec::with_capacity(writes.len());
        for (write, reply) in writes {
            restart |= matches!(write, Write::Restart);
            flush |= matches!(write, Write::Flush | Write::Restart);
            places.push(Place::add(&mut group, write));
            replies.push(reply);
        }
        let doubt = if self.in_doubt && !items.is_empty() { self.restart("doubt").await.err() } else { None };
        let (results, committed) = self.commit(&items, &mut group, flush, doubt).await;
        drop(items);
        let mut results = results.into_iter();
        for (items, reply, _charge) in appends {
            // A caller that has gone away does not mind.
            let _ = reply.send(results.by_ref().take(items.len()).collect());
        }
        let committed = match committed {
            Ok(_) if flush && self.core.backlog.len() > 0 && !self.flush_all().await => Err(Refused::Busy),
            other => other,
        };
        let committed = match committed {
            Ok(committed) if restart => self.restart("savers").await.map(|()| committed),
            other => other,
        };
        if let Ok(done) = &committed {
            self.remember_broadcasts(&group, done);
        }
        for (place, reply) in places.into_iter().zip(replies) {
            let _ = reply.send(committed.as_ref().map_err(Clone::clone).map(|done| place.answer(done)));
        }
    }

    /// Commits appends, the rest of the group, and as much of the backlog as should ride along.
    async fn commit(
        &mut self,
        items: &[&Append],
        group: &mut Group,
        flush: bool,
        doubt: Option<Refused>,
    ) -> (Vec<Result<Appended, Refused>>, Result<Committed, Refused>) {
        let taken = self.core.backlog.take(FINISHED_STEP, flush);
        let base = group.finished.len();
        let mut look_up_all = false;
        let outcome = loop {
            let prepared = match &doubt {
                None => group::prepare(self, items, look_up_all).await,
                Some(refused) => Prepared::refused(items, refused),
            };
            prepared.fill(group, items);
            group.finished.truncate(base);
            group.finished.extend(prepared.pushed_out());
            group.finished.extend(taken.finished.iter().map(|f| (f.row, f.state)));
            let cursors = group.cursors.len();
            group.cursors.extend(taken.cursors.iter().cloned());
            group.passed.clone_from(&taken.passed);
            let started = std::time::Instant::now();
            let result = self.core.archive.commit(group).await;
            self.core.metrics.committed(started.elapsed(), group, result.is_ok());
            group.cursors.truncate(cursors);
            match result {
                Ok(done) => {
                    self.went_well();
                    break (prepared.publish(&self.core, items).await, Ok(done));
                }
                // Something that was held to be new is there: somebody else wrote it, so ask for each.
                Err(ArchiveError::Conflict(_)) if !look_up_all => {
                    prepared.withdraw(&self.core).await;
                    look_up_all = true;
                }
                Err(e) => {
                    let unknown = matches!(e, ArchiveError::Io(_) | ArchiveError::Corrupt(_));
                    self.in_doubt |= unknown && !group.deliveries.is_empty();
                    let refused = Refused::Archive(e);
                    self.failed(&refused);
                    break (prepared.refuse(&self.core, &refused).await, Err(refused));
                }
            }
        };
        match &outcome.1 {
            Ok(_) => {
                self.core.backlog.written();
                let credits = taken.passed.iter().map(|p| p.credits.len() as u64).sum();
                self.core.metrics.broadcast_credits.inc_by(credits);
                self.settle(&taken.finished).await;
            }
            Err(refused) => self.core.backlog.put_back(taken, refused),
        }
        for refused in outcome.0.iter().filter_map(|r| r.as_ref().err()) {
            self.core.metrics.refused(refused, 1);
        }
        outcome
    }

    /// An archive that fails is told once, not for each of thousands of transactions a second.
    fn failed(&mut self, refused: &Refused) {
        if !std::mem::replace(&mut self.failing, true) {
            report(refused, "a transaction");
        }
    }

    fn went_well(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("the archive takes transactions again");
        }
    }

    async fn settle(&self, finished: &[crate::model::Finished]) {
        if let Some(inboxes) = self.core.inboxes.through()
            && let Err(e) = inboxes.settle(finished).await
        {
            report(&e.into(), "settling");
        }
    }

    /// Writes a part of the backlog by itself; false if the archive refuses.
    async fn flush_some(&mut self) -> bool {
        let mut group = Group { now_ms: self.core.now_ms(), ..Group::default() };
        self.commit(&[], &mut group, true, None).await.1.is_ok()
    }

    async fn flush_all(&mut self) -> bool {
        // What comes while this runs is not waited for.
        let parts = self.core.backlog.len().div_ceil(FINISHED_STEP);
        for _ in 0..parts {
            if !self.flush_some().await {
                return false;
            }
        }
        true
    }

    async fn restart(&mut self, reason: &'static str) -> Result<(), Refused> {
        // What left the inboxes must not come back with them.
        if self.core.backlog.len() > 0 && !self.flush_all().await {
            return Err(Refused::Busy);
        }
        if let Some(inboxes) = self.core.inboxes.through() {
            let epoch = self.core.archive.begin_epoch().await?;
            inboxes.restart(epoch).await?;
            self.core.metrics.epoch_begun(reason);
            tracing::info!(%epoch, reason, "inboxes begin anew");
        }
        self.core.logs.clear();
        self.recent = RecentIds::new(self.core.archive.greatest_id().await?);
        self.in_doubt = false;
        Ok(())
    }

    fn remember_broadcasts(&self, group: &Group, done: &Committed) {
        // Others write to the logs too: what is remembered would grow old unseen.
        if self.core.shared() {
            return;
        }
        for (new, numbered) in group.broadcasts.iter().zip(&done.broadcasts).filter(|(_, n)| !n.repeated) {
            let logged = LoggedBroadcast {
                place: numbered.place,
                id: new.id,
                payload: new.payload.clone(),
                audience: new.audience.clone(),
                filter: new.filter.clone(),
                accepted_ms: new.accepted_ms,
                expires_ms: new.expires_ms,
                recalled: false,
            };
            self.core.logs.append(new.app, logged);
        }
        for (write, written) in group.jobs.iter().zip(&done.jobs) {
            match (write, written) {
                (_, JobWritten::Released { job, entry, repeated: false }) => {
                    self.core.logs.append(AppId(job.app), (**entry).clone());
                }
                (JobWrite::Change(change), JobWritten::Kept(job)) if change.state() == JobState::Recalled => {
                    self.core.logs.recall(AppId(job.app), MessageId(job.id));
                }
                _ => {}
            }
        }
        for ((app, id), _) in group.broadcast_recalls.iter().zip(&done.broadcast_recalls) {
            self.core.logs.recall(*app, *id);
        }
    }

    /// Row numbers for `count` deliveries of multicasts.
    pub(super) async fn take_rows(&mut self, count: usize) -> Result<Vec<Row>, Refused> {
        Ok(self.rows.take(&self.core.archive, count).await?)
    }
}
