//! The saver's work, over any inbox store and any archive.
//!
//! Over a store of this process one task writes ([`writer`]): it numbers, commits and publishes in that order, so that no
//! number is ever seen that could be used again. Over a shared store appends go to its journal ([`journal`]) and from
//! there to the archive ([`lander`]); the writer does the rest. Reads go to the inbox store, and to the archive for what
//! is not there.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use wire::id::{AppId, MessageId, Position};

use crate::{
    archive::{Archive, ArchiveResult},
    error::Refused,
    inbox::{InboxStore, Waiting},
    metrics::Metrics,
    model::{CollapseKey, InboxKey},
};

mod acks;
mod backlog;
#[cfg(test)]
mod bind_tests;
#[cfg(test)]
mod bounds_tests;
mod broadcasts;
#[cfg(test)]
mod collapse_tests;
#[cfg(test)]
mod credit_tests;
mod directory;
mod gather;
mod group;
mod jobs;
mod journal;
mod known;
mod lander;
mod lane;
mod ledger;
mod limits;
mod loads;
mod logs;
mod offsets;
mod rebuild;
mod repeats;
mod rows;
mod safe;
mod schedule;
#[cfg(test)]
mod stall_tests;
mod targets;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upkeep_tests;
mod words;
mod writer;
mod writes;

pub use acks::AckItem;
pub use jobs::{Found, Released};
pub use ledger::{Ledger, RecallOutcome};
pub use limits::{Durability, Limits};
pub use loads::{LoadItem, LoadedInbox};
pub use targets::{Target, Targets};

use backlog::Backlog;
use journal::Journal;
use logs::LogCache;
use writer::{Charge, Op};

/// What this saver owns. The others of the cluster own the rest.
pub trait Shard: Send + Sync + 'static {
    /// Whether the user's inbox is here.
    fn owns_user(&self, app: AppId, uid: &str) -> bool;
    /// Whether the app's broadcast log is numbered here.
    fn owns_app(&self, app: AppId) -> bool;
    /// Whether the idempotency key is kept here.
    fn owns_word(&self, app: AppId, word: &str) -> bool;
}

/// The only saver owns everything.
#[derive(Clone, Copy, Debug)]
pub struct Everything;

impl Shard for Everything {
    fn owns_user(&self, _: AppId, _: &str) -> bool {
        true
    }
    fn owns_app(&self, _: AppId) -> bool {
        true
    }
    fn owns_word(&self, _: AppId, _: &str) -> bool {
        true
    }
}

/// Tells the time, ms since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A message to append.
#[derive(Clone, Debug)]
pub struct Append {
    /// The message.
    pub id: MessageId,
    /// Its receivers, all of one app.
    pub keys: Vec<InboxKey>,
    /// What to deliver. It owns its bytes.
    pub payload: Bytes,
    /// When the cluster took it, ms since 1970.
    pub accepted_ms: u64,
    /// When it ends, ms since 1970.
    pub expires_ms: u64,
    /// Inbox cap of the app; `None` = the saver's default.
    pub inbox_cap: Option<usize>,
    /// It goes to more receivers than these.
    pub multicast: bool,
    /// When it is answered; `None` = the saver's default.
    pub durability: Option<Durability>,
    /// It takes the place of stored messages of its receivers with the same key.
    pub collapse: Option<CollapseKey>,
}

impl Append {
    /// Whether its deliveries are rows of a multicast.
    pub(crate) fn is_multicast(&self) -> bool {
        self.multicast || self.keys.len() != 1
    }
}

/// A message that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// In the order of the keys; seq 0 for one that was there before and has left the inbox.
    pub positions: Vec<Position>,
    /// All of it was there before.
    pub repeated: bool,
}

struct Core<I, A> {
    inboxes: I,
    archive: A,
    shard: Box<dyn Shard>,
    limits: ArcSwap<Limits>,
    clock: Clock,
    metrics: Metrics,
    backlog: Backlog,
    logs: LogCache,
    offsets: offsets::Offsets,
    queued_messages: Arc<AtomicUsize>,
    queued_bytes: Arc<AtomicUsize>,
    /// Turns to ask the archive; who waits for one is asked for by those that have one.
    looks: Arc<Semaphore>,
    /// Turns to read payloads.
    reads: Semaphore,
    gather: gather::Gather,
}

/// The saver's work. Clones share everything.
pub struct Engine<I, A> {
    core: Arc<Core<I, A>>,
    ops: mpsc::Sender<Op>,
    /// Where appends go, if the store has a journal.
    journal: Option<Arc<Journal<A>>>,
}

impl<I, A> Clone for Engine<I, A> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), ops: self.ops.clone(), journal: self.journal.clone() }
    }
}

/// Turns that ask the archive at a time. A turn takes all that fits of what waits; so the fewer there are, the more users
/// share what a question costs. Two, so that one that meets a cold disk does not hold up the others.
const LOOKS: usize = 2;
/// Turns that may read payloads at a time, each up to [`Limits::load_bytes`]; their callers bound how many wait, and for how
/// long.
pub(crate) const READS: usize = 8;

/// Operations that wait for the writer. Each carries a whole call; messages and bytes have bounds of their own.
const OPS: usize = 4096;

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// An engine, and its writer for the caller to spawn. The writer ends when `cancel` fires, after it has written
    /// what it was given.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn start(
        inboxes: I,
        archive: A,
        shard: impl Shard,
        limits: Limits,
        clock: Clock,
        metrics: Metrics,
        cancel: CancellationToken,
    ) -> ArchiveResult<(Self, impl Future<Output = ()> + Send + 'static)> {
        let (engine, writer) = Self::prepare(inboxes, archive, shard, limits, clock, metrics).await?;
        Ok((engine, writer.run(cancel)))
    }

    async fn prepare(
        inboxes: I,
        archive: A,
        shard: impl Shard,
        limits: Limits,
        clock: Clock,
        metrics: Metrics,
    ) -> ArchiveResult<(Self, writer::Writer<I, A>)> {
        let greatest = archive.greatest_id().await?;
        let core = Arc::new(Core {
            inboxes,
            archive,
            shard: Box::new(shard),
            backlog: Backlog::new(limits.backlog),
            logs: LogCache::new(limits.log_cache_bytes),
            offsets: offsets::Offsets::new(),
            limits: ArcSwap::from_pointee(limits),
            clock,
            metrics,
            queued_messages: Arc::default(),
            queued_bytes: Arc::default(),
            looks: Arc::new(Semaphore::new(LOOKS)),
            reads: Semaphore::new(READS),
            gather: gather::Gather::default(),
        });
        let (ops, queue) = mpsc::channel(OPS);
        let writer = writer::Writer::new(core.clone(), queue, greatest);
        Ok((Self { core, ops, journal: None }, writer))
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// What waits in an inbox, which is rebuilt if need be.
    ///
    /// # Errors
    /// When the inbox cannot be rebuilt.
    pub async fn waiting_in(&self, key: &InboxKey) -> Result<Option<Waiting>, Refused> {
        self.core.ensure(std::slice::from_ref(key)).await?;
        Ok(self.core.inboxes.waiting(key, self.now_ms()).await?)
    }

    /// Puts inboxes on watch, which are rebuilt if need be.
    ///
    /// # Errors
    /// When an inbox cannot be rebuilt.
    pub async fn watch(&self, keys: &[InboxKey]) -> Result<(), Refused> {
        self.core.ensure(keys).await?;
        for key in keys {
            self.core.inboxes.watch(key, self.now_ms()).await?;
        }
        Ok(())
    }

    /// The inbox store.
    pub fn inboxes(&self) -> &I {
        &self.core.inboxes
    }

    /// The archive.
    pub fn archive(&self) -> &A {
        &self.core.archive
    }

    /// Whether the user's inbox may be used here: with a shared store, each is.
    pub fn owns(&self, key: &InboxKey) -> bool {
        self.core.shared() || self.core.shard.owns_user(key.app(), key.uid())
    }

    /// Whether any saver may be asked for any user.
    pub fn is_shared(&self) -> bool {
        self.core.shared()
    }

    /// Takes new bounds while it works. Those of queues that are there already stay as they are.
    pub fn apply(&self, limits: Limits) {
        self.core.limits.store(Arc::new(limits));
    }

    /// Whether the archive took what it was given last.
    pub fn archive_works(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| !journal.archive_is_away())
    }

    /// What waits for the archive: deliveries, and final states.
    pub fn waiting(&self) -> (usize, usize) {
        (self.core.queued_messages.load(Ordering::Relaxed), self.core.backlog.len())
    }

    /// The time, ms since 1970.
    pub fn now_ms(&self) -> u64 {
        (self.core.clock)()
    }

    /// Numbers and stores messages; answers when they are durable, one result for each.
    pub async fn append(&self, items: Vec<Append>) -> Vec<Result<Appended, Refused>> {
        let count = items.len();
        let messages = items.iter().map(|i| i.keys.len()).sum();
        let bytes = items.iter().map(|i| i.payload.len()).sum();
        let refuse = |refused: &Refused| vec![Err(refused.clone()); count];
        let Some(charge) = self.core.charge(messages, bytes) else {
            self.core.metrics.refused(&Refused::Busy, count);
            return refuse(&Refused::Busy);
        };
        if let Some(journal) = &self.journal {
            return journal.append(&self.core, items, charge).await;
        }
        let (reply, answer) = oneshot::channel();
        if let Err(e) = self.ops.try_send(Op::Append { items, reply, _charge: charge }) {
            let refused = refused_by(&e);
            self.core.metrics.refused(&refused, count);
            return refuse(&refused);
        }
        answer.await.unwrap_or_else(|_| refuse(&Refused::Ending))
    }

    /// Waits until everything that has happened in the inboxes so far is in the archive.
    ///
    /// # Errors
    /// When the archive cannot take it.
    pub async fn flush(&self) -> Result<(), Refused> {
        if let Some(journal) = &self.journal {
            journal.landing.land().await?;
        }
        if self.core.backlog.len() > 0 {
            self.write(writes::Write::Flush).await?;
        }
        Ok(())
    }

    /// Forgets all inboxes and numbers in a new epoch. To be called when the savers of the cluster are others than
    /// before, because inboxes that another saver had meanwhile are not as they are remembered here.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub async fn restart(&self) -> Result<(), Refused> {
        self.write(writes::Write::Restart).await.map(drop)
    }

    async fn write(&self, write: writes::Write) -> Result<writes::Written, Refused> {
        let (reply, answer) = oneshot::channel();
        self.ops.try_send(Op::Write { write, reply }).map_err(|e| refused_by(&e))?;
        answer.await.unwrap_or(Err(Refused::Ending))
    }
}

fn refused_by<T>(error: &mpsc::error::TrySendError<T>) -> Refused {
    match error {
        mpsc::error::TrySendError::Full(_) => Refused::Busy,
        mpsc::error::TrySendError::Closed(_) => Refused::Ending,
    }
}

impl<I, A> Core<I, A> {
    fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }
}

impl<I: InboxStore, A: Archive> Core<I, A> {
    /// Whether others use the same store.
    fn shared(&self) -> bool {
        self.inboxes.through().is_none()
    }

    /// Counts deliveries and bytes as waiting, if there is room for them.
    fn charge(&self, messages: usize, bytes: usize) -> Option<Charge> {
        let charge = Charge::new(&self.queued_messages, messages, &self.queued_bytes, bytes);
        // One call that is larger than the bound is let in when nothing else waits.
        let (waiting, held) = charge.before();
        let limits = self.limits.load();
        let fits = waiting + messages <= limits.queue_messages && held + bytes <= limits.queue_bytes;
        (fits || waiting == 0).then_some(charge)
    }
}

/// Says once where it is handled that a transaction failed.
fn report(refused: &Refused, what: &str) {
    if refused.is_alarming() {
        tracing::error!(error = %refused, what, "the archive refuses");
    } else {
        warn!(error = %refused, what, "not written");
    }
}
