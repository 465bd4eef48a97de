//! What reaches a thread, and how.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use bytes::Bytes;
use mio::Waker;
use tokio::sync::{mpsc, oneshot};
use wire::id::{AppId, Cursor};

use super::Arrival;
use super::{Entries, WebSocketDoor};
use crate::{
    exchange::{
        BindAnswer, Delivery, DeliveryItem, DrainOrder, GivenUp, HeldSession, KeepAnswer, KickOrder,
        LoadAnswer, LogRun, Meant, Progress, UpAnswer,
    },
    session::{Limits, Sessions, Tally},
};

/// One order to a thread. Every variant carries a batch, or stands for many connections.
#[derive(Debug)]
pub enum Order {
    /// Binds were answered.
    Bound(Vec<BindAnswer>),
    /// Loads were answered.
    Loaded(Vec<LoadAnswer>),
    /// Upstream data was answered.
    Ups(Vec<UpAnswer>),
    /// New broadcasts.
    Log(LogRun),
    /// The page of a log that was asked for.
    Page(LogRun),
    /// It could not be read.
    PageFailed(AppId),
    /// Messages for users; every thread gets them all and answers for those that are here.
    Deliver(Arc<[DeliveryItem]>, oneshot::Sender<Vec<Delivery>>),
    /// Ends bindings.
    Kick(Arc<[KickOrder]>, oneshot::Sender<Vec<bool>>),
    /// A message was taken back that these users may have.
    RecallUsers(AppId, u64, Arc<[String]>, oneshot::Sender<u64>),
    /// A broadcast was taken back; `None` if too many such rounds are under way.
    RecallBroadcast(AppId, u64, Bytes, oneshot::Sender<Option<u64>>),
    /// What was done for these broadcasts, and whether the thread has not come as far as that place in an app's log.
    Progress(Arc<[u64]>, Option<(AppId, Cursor)>, oneshot::Sender<(Vec<Progress>, bool)>),
    /// How many bindings something is meant for.
    Count(AppId, Arc<Meant>, oneshot::Sender<u64>),
    /// Broadcast cursors of live bindings were kept, or not.
    Kept(Vec<KeepAnswer>),
    /// Which sessions are held: from a slot on, at most so many; and where to go on.
    Held(u32, usize, oneshot::Sender<(Vec<HeldSession>, Option<u32>)>),
    /// Which of these sessions are held no more, by their places.
    Over(Arc<[HeldSession]>, oneshot::Sender<Vec<u32>>),
    /// A device comes from another thread to go on with its connection here.
    Adopt(Box<Arrival>),
    /// Other bounds, from now on.
    Limits(Box<Limits>),
    /// Another door for WebSockets that come from now on.
    WebSocket(Option<Box<WebSocketDoor>>),
    /// Stop accepting, send the devices away.
    Drain(DrainOrder),
    /// Close whoever is still here.
    CloseAll,
    /// End as soon as nothing would be lost, or at once.
    Stop {
        /// Even if something would be lost.
        now: bool,
    },
}

impl Order {
    /// Whether it goes before those of broadcasts: a message does not wait behind a burst of them.
    fn goes_first(&self) -> bool {
        match self {
            // Answers are among these: a message that passed the answer to its user's bind would find nobody.
            Self::Bound(_)
            | Self::Loaded(_)
            | Self::Ups(_)
            | Self::Deliver(..)
            | Self::Kick(..)
            | Self::RecallUsers(..)
            | Self::Adopt(_)
            | Self::Limits(_)
            | Self::WebSocket(_)
            | Self::Drain(_)
            | Self::CloseAll
            | Self::Stop { .. } => true,
            _ => false,
        }
    }
}

/// How a thread is, for whoever asks; written by the thread at every turn.
#[derive(Debug, Default)]
pub struct Status {
    /// Connections.
    pub connections: AtomicU64,
    /// Broken connections that are kept for their devices.
    pub ghosts: AtomicU64,
    /// Live bindings.
    pub bindings: AtomicU64,
    /// Bytes that wait for sockets.
    pub waiting_bytes: AtomicU64,
    /// Nothing would be lost if the thread ended now.
    pub at_rest: AtomicBool,
    /// For how long the thread holds binds back after some that it has handed over, so that they go together, ms. Written by the
    /// tokio side, by how long binds take.
    pub binds_gather_ms: AtomicU32,
    /// Binds whose devices have gone before they were answered.
    pub given_up: GivenUp,
    /// Counters, brought up to date every tick.
    counts: Mutex<Counts>,
}

/// What a thread counts.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // The names are those of the metrics.
pub struct Counts {
    pub tally: Tally,
    pub writes: u64,
    pub written_bytes: u64,
    pub slow_shed: u64,
    pub replaced: u64,
    pub partial_shed: u64,
    pub accept_pauses: u64,
    pub(crate) entries: Entries,
}

impl Status {
    /// That of a thread with these sessions.
    pub(crate) fn of(sessions: &Sessions) -> Self {
        Self { given_up: sessions.given_up().clone(), ..Self::default() }
    }

    /// The counters as of the last tick.
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn publish(&self, counts: Counts) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

/// Wakes a thread that sleeps in `poll`, and costs a system call only then.
#[derive(Debug)]
pub(crate) struct Bell {
    pub(crate) waker: Waker,
    pub(crate) asleep: AtomicBool,
}

impl Bell {
    pub(super) fn ring(&self) {
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            // The thread looks at its orders at every tick as well, so this costs a quarter of a second.
            tracing::warn!(%error, "cannot wake a thread");
        }
    }
}

/// A thread, as the tokio side has it. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Thread {
    pub(crate) orders: mpsc::Sender<Order>,
    /// Orders of broadcasts, and all that may wait behind messages.
    pub(crate) later: mpsc::Sender<Order>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) status: Arc<Status>,
}

/// An order was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Too many orders wait.
    #[error("too many orders wait for the thread")]
    Full,
    /// The thread has ended.
    #[error("the thread has ended")]
    Gone,
}

impl Thread {
    /// Gives an order; waits for a place in the queue.
    ///
    /// # Errors
    /// [`NotTaken::Gone`].
    pub async fn send(&self, order: Order) -> Result<(), NotTaken> {
        self.queue(&order).send(order).await.map_err(|_| NotTaken::Gone)?;
        self.bell.ring();
        Ok(())
    }

    /// Gives an order if there is a place now.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn try_send(&self, order: Order) -> Result<(), NotTaken> {
        self.queue(&order).try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotTaken::Full,
            mpsc::error::TrySendError::Closed(_) => NotTaken::Gone,
        })?;
        self.bell.ring();
        Ok(())
    }

    fn queue(&self, order: &Order) -> &mpsc::Sender<Order> {
        if order.goes_first() { &self.orders } else { &self.later }
    }

    /// How the thread is.
    pub fn status(&self) -> &Status {
        &self.status
    }
}

#[cfg(test)]
impl Thread {
    /// A thread whose orders a test follows itself.
    pub(crate) fn simulated() -> (Self, mpsc::Receiver<Order>) {
        let poll = mio::Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        let (orders, follow) = mpsc::channel(64);
        let bell = Arc::new(Bell { waker, asleep: AtomicBool::new(false) });
        (Self { later: orders.clone(), orders, bell, status: Arc::default() }, follow)
    }
}
