//! A worker: delivers the events of a part of a lane's users, one after the other.
//!
//! As long as the backend keeps up, events go straight to it. When it does not, the worker is *behind*: everything
//! that comes goes to the end of the durable queue, and the worker delivers from its head. It is the only one to
//! read its part of the queue, and to write there but for what operators replay, so it knows when it has caught up, and
//! the order holds all the way.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Job, Lane, Message,
    attempt::{Attempted, attempt},
};
use crate::spill::{Entry, PartKey, RowId, SpillError, Unreadable, Waiting};

/// Messages taken from the inbox at a time; one commit keeps them all.
const INBOX_BATCH: usize = 256;
/// Between reads of a queue that cannot be read.
const PAUSE_AFTER_SPILL_ERROR: Duration = Duration::from_secs(1);

/// A backend that is well answers in this time, and a drain has it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    lane: Arc<Lane>,
    part: PartKey,
    inbox: mpsc::Receiver<Message>,
    /// Another than this worker has put something into its queue.
    look_again: Arc<AtomicBool>,
    closing: CancellationToken,
    behind: bool,
    /// The head of the queue, as far as it has been read.
    window: VecDeque<Waiting>,
    /// The last row that was read. It grows, until the worker is to look again.
    read_to: RowId,
    /// No try before.
    not_before: Instant,
}

type Trying = BoxFuture<'static, Attempted>;

impl Worker {
    pub(super) fn new(
        lane: Arc<Lane>,
        part: u16,
        inbox: mpsc::Receiver<Message>,
        look_again: Arc<AtomicBool>,
        closing: CancellationToken,
    ) -> Worker {
        let part = PartKey { lane: lane.key, part };
        // An earlier life may have left something in the queue.
        let (behind, not_before) = (true, Instant::now());
        let window = VecDeque::new();
        Worker { lane, part, inbox, look_again, closing, behind, window, read_to: 0, not_before }
    }

    /// Works until closing, then puts what it was given into the queue.
    pub(super) async fn run(mut self) {
        let closing = self.closing.clone();
        // Without a sender there will be nothing to do, and nobody left who could say that it is time to close.
        while !closing.is_cancelled() && !self.inbox.is_closed() {
            if self.behind || self.look_again.load(Ordering::Acquire) {
                self.catch_up(None).await;
                continue;
            }
            match closing.run_until_cancelled(self.inbox.recv()).await {
                Some(Some(Message::Job(job))) => self.deliver(job).await,
                Some(Some(Message::LookAgain)) => {}
                Some(None) | None => break,
            }
        }
        self.inbox.close();
        let mut left = Vec::new();
        while self.inbox.recv_many(&mut left, INBOX_BATCH).await > 0 {
            self.keep(left.drain(..)).await;
        }
    }

    /// Gives the event straight to the backend, if that is quick enough.
    async fn deliver(&mut self, job: Job) {
        let now = Instant::now();
        let patience = self.lane.patience(job.since, now);
        let Some(patience) = patience.filter(|_| !self.lane.breaker.is_open()) else {
            self.fall_behind(job).await;
            return;
        };
        let mut trying = attempt(&self.lane, &job.event);
        match tokio::time::timeout_at(patience, &mut trying).await {
            Ok(Attempted::Delivered) => {
                self.lane.regain_patience();
                job.answer(Answer::Taken);
            }
            Ok(attempted) => {
                if let Some(head) = self.fall_behind(job).await {
                    self.settle(head, attempted).await;
                }
            }
            Err(_) => {
                self.lane.lose_patience(Instant::now());
                if self.fall_behind(job).await.is_some() {
                    self.catch_up(Some(trying)).await;
                }
            }
        }
    }

    /// Puts the event and all that came after it into the queue. Answers it as the queue's head, if it was taken.
    async fn fall_behind(&mut self, job: Job) -> Option<Waiting> {
        self.behind = true;
        let head = job.event.clone();
        let mut messages = vec![Message::Job(job)];
        while messages.len() < INBOX_BATCH
            && let Ok(message) = self.inbox.try_recv()
        {
            messages.push(message);
        }
        let (row, spilled_ms) = self.keep(messages.into_iter()).await?;
        let head = Waiting { row, event: head, spilled_ms, attempts: 0, refusals: 0 };
        // The rest is read when its turn comes.
        self.window.push_back(head.clone());
        self.read_to = row;
        Some(head)
    }

    /// Makes events durable and answers who sent them. Returns the row of the first and the time.
    async fn keep(&self, messages: impl Iterator<Item = Message>) -> Option<(RowId, u64)> {
        let jobs: Vec<Job> = messages
            .filter_map(|message| match message {
                Message::Job(job) => Some(job),
                Message::LookAgain => None,
            })
            .collect();
        let fit = self.lane.reserve(jobs.iter().map(|job| job.event.bytes() as u64));
        let spilled_ms = cluster::now_ms();
        let entries: Vec<Entry> =
            jobs[..fit].iter().map(|job| Entry { event: job.event.clone(), spilled_ms }).collect();
        let metrics = &self.lane.tools.metrics;
        let kept = match entries.is_empty() {
            true => Ok(Vec::new()),
            false => self.lane.tools.spill.append(entries).await,
        };
        let rows = kept.unwrap_or_else(|error| {
            tracing::error!(%error, "events cannot be kept; devices are told to send them again");
            jobs[..fit].iter().for_each(|job| self.lane.sub_spilled(job.event.bytes() as u64));
            Vec::new()
        });
        metrics.spilled.inc_by(rows.len() as u64);
        for (n, job) in jobs.into_iter().enumerate() {
            // What does not fit is refused from the first on, so that a user's events are not torn apart.
            job.answer(if n < rows.len() { Answer::Taken } else { Answer::Retry });
        }
        rows.first().map(|row| (*row, spilled_ms))
    }

    /// Delivers from the queue until it is empty. `trying` is a try under way for its head.
    async fn catch_up(&mut self, mut trying: Option<Trying>) {
        let closing = self.closing.clone();
        let mut messages = Vec::new();
        loop {
            if trying.is_none() && self.not_before <= Instant::now() {
                match self.head().await {
                    Ok(Some(head)) => trying = Some(attempt(&self.lane, &head.event)),
                    Ok(None) => {
                        // Only this worker adds to its queue, so it is still empty.
                        self.behind = false;
                        return;
                    }
                    Err(error) => {
                        tracing::error!(%error, "the spill queue cannot be read");
                        self.not_before = Instant::now() + PAUSE_AFTER_SPILL_ERROR;
                    }
                }
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => {
                    return self.finish(trying).await;
                }
                count = self.inbox.recv_many(&mut messages, INBOX_BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.keep(messages.drain(..)).await;
                }
                attempted = poll_or_wait(&mut trying) => {
                    trying = None;
                    if let Some(head) = self.window.front().cloned() {
                        self.settle(head, attempted).await;
                    }
                }
                () = tokio::time::sleep_until(self.not_before), if trying.is_none() => {}
            }
        }
    }

    /// Waits a little for a request under way, so that its event is not sent again in the next life.
    async fn finish(&mut self, trying: Option<Trying>) {
        if let Some(trying) = trying
            && let Ok(attempted) = tokio::time::timeout(CLOSE_PATIENCE, trying).await
            && let Some(head) = self.window.front().cloned()
        {
            self.settle(head, attempted).await;
        }
    }

    /// The event to deliver next. Those that nobody takes any more are given up here, without a request.
    async fn head(&mut self) -> Result<Option<Waiting>, SpillError> {
        loop {
            self.refill().await?;
            match self.window.front().cloned() {
                Some(head) if self.lane.breaker.is_open() && self.is_too_old(&head) => {
                    self.bury(head, "too old").await?;
                }
                head => return Ok(head),
            }
        }
    }

    /// Reads on when the window is empty. Afterwards it still is only if nothing waits.
    async fn refill(&mut self) -> Result<(), SpillError> {
        while self.window.is_empty() {
            if self.look_again.swap(false, Ordering::AcqRel)
                && let Err(error) = self.rewind().await
            {
                self.look_again.store(true, Ordering::Release);
                return Err(error);
            }
            let most = self.lane.tools.config.load().spill.window_bytes;
            let page = self.lane.tools.spill.read(self.part, self.read_to, most).await?;
            let Some(last) = page.last else { return Ok(()) };
            self.read_to = last;
            self.window.extend(page.waiting);
            for unreadable in page.unreadable {
                self.set_aside(unreadable).await;
            }
        }
        Ok(())
    }

    /// Reads from the beginning: what was put into the queue by another may lie before what was read last, because the
    /// worker takes the row of what it appends itself for the next.
    async fn rewind(&mut self) -> Result<(), SpillError> {
        // Until then events that were delivered may still be there.
        self.lane.tools.spill.flush().await?;
        self.read_to = 0;
        Ok(())
    }

    /// Makes a dead letter of what cannot be read: trying again would not make it any better, and all events behind it
    /// would wait.
    async fn set_aside(&self, unreadable: Unreadable) {
        let (app, kind) = (self.part.lane.app, self.part.lane.kind);
        let Unreadable { row, bytes, why } = unreadable;
        tracing::error!(app, kind = kind.as_str(), row, why, "a stored event became a dead letter");
        self.lane.tools.metrics.dead(kind);
        self.lane.sub_spilled(bytes);
        log(self.lane.tools.spill.bury(row, cluster::now_ms(), why).await);
    }

    fn is_too_old(&self, waiting: &Waiting) -> bool {
        let age = cluster::now_ms().saturating_sub(waiting.spilled_ms);
        age > self.lane.tools.config.load().webhook.max_age.as_millis() as u64
    }

    /// What becomes of the head after a try.
    async fn settle(&mut self, mut head: Waiting, attempted: Attempted) {
        let config = self.lane.tools.config.load_full();
        let config = &config.webhook;
        let (mut least, mut reason) = (Duration::ZERO, None);
        match attempted {
            Attempted::Delivered => {
                self.not_before = Instant::now();
                self.forget(&head);
                return log(self.lane.tools.spill.remove(head.row).await);
            }
            Attempted::NotWanted => reason = Some("not wanted".to_owned()),
            Attempted::Refused(why) => {
                head.refusals += 1;
                reason = (head.refusals >= config.max_refusals).then(|| format!("refused: {why}"));
            }
            Attempted::Failed { why, counts, retry_after } => {
                head.attempts += u32::from(counts);
                least = retry_after.unwrap_or_default();
                let given_up = head.attempts >= config.max_attempts || self.is_too_old(&head);
                reason = given_up.then(|| format!("failed: {why}")).or(reason);
            }
        }
        if let Some(reason) = reason {
            self.not_before = Instant::now();
            return log(self.bury(head, &reason).await);
        }
        let tries = (head.attempts + head.refusals).saturating_sub(1);
        self.not_before = Instant::now() + config.backoff().delay(tries, &mut rand::rng()).max(least);
        let counted = self.lane.tools.spill.count(head.row, head.attempts, head.refusals).await;
        if let Some(front) = self.window.front_mut() {
            *front = head;
        }
        log(counted);
    }

    /// Takes the head out of the window.
    fn forget(&mut self, head: &Waiting) {
        self.window.pop_front();
        self.lane.sub_spilled(head.event.bytes() as u64);
    }

    async fn bury(&mut self, head: Waiting, reason: &str) -> Result<(), SpillError> {
        let (app, kind, id) = (self.part.lane.app, self.part.lane.kind, head.event.id());
        tracing::warn!(app, kind = kind.as_str(), id, reason, "an event became a dead letter");
        self.lane.tools.metrics.dead(kind);
        self.forget(&head);
        self.lane.tools.spill.bury(head.row, cluster::now_ms(), reason.to_owned()).await
    }
}

/// The try under way; for ever if there is none.
async fn poll_or_wait(trying: &mut Option<Trying>) -> Attempted {
    match trying {
        Some(trying) => trying.await,
        None => std::future::pending().await,
    }
}

/// The event stays in the file and is delivered again after a restart: at least once, and out of its order.
fn log(done: Result<(), SpillError>) {
    if let Err(error) = done {
        tracing::error!(%error, "the spill queue could not be brought up to date");
    }
}
