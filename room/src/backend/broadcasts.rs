//! The broadcast logs of the apps that are bound here.
//!
//! One task keeps all of them in order: a notice that is next goes straight to the threads, one that overtook another
//! waits a moment, and what does not come is read from the saver, once for the room and not for each user. The heads are
//! asked for every few seconds, and when the cluster has changed, so a center that died before it told us loses nothing.

mod keeper;
mod log;
mod looks;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt as _;
use peers::PeerError;
use proto::internal as rpc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wire::{
    codec::encode_broadcast,
    frame::Broadcast,
    id::{AppId, Bseq, Cursor, Epoch},
};

use super::{Backend, BackendLimits, Services, items};
use crate::{
    event_loop::{Order, Thread},
    exchange::{LogEntry, LogRun, PageAsk},
};
use keeper::Keeper;
pub(crate) use looks::Looks;

/// Notices and questions that may wait for the keeper.
const QUEUE: usize = 1_024;
/// Broadcasts of one page; their bytes are bounded as well.
const PAGE_MESSAGES: u32 = 256;
/// Pages of one thread that are read at a time.
const PAGES: usize = 16;
/// A page that could not be read is answered after this, so that the thread does not ask again at once.
const PAGE_PAUSE: Duration = Duration::from_secs(1);

/// A notice was not taken; it is found in the log later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// Too many wait.
    #[error("too many broadcasts wait to be handed to the threads")]
    Full,
    /// The room is ending.
    #[error("the room is shutting down")]
    Ending,
}

enum Ask {
    Notice { app: AppId, epoch: u64, entry: Arc<LogEntry>, reply: oneshot::Sender<()> },
    Head { app: AppId, at_least: u64, reply: oneshot::Sender<Result<Cursor, PeerError>> },
}

type Heads = Arc<RwLock<HashMap<AppId, Cursor>>>;

/// The logs, as the rest of the room has them. Clones share them.
#[derive(Clone)]
pub struct Broadcasts {
    asks: mpsc::Sender<Ask>,
    heads: Heads,
}

impl Broadcasts {
    pub(super) fn new<S: Services>(
        services: S,
        threads: Vec<Thread>,
        limits: &BackendLimits,
        looks: Looks,
        cancel: CancellationToken,
    ) -> (Self, Keeper<S>) {
        let (asks, queue) = mpsc::channel(QUEUE);
        let heads = Heads::default();
        let keeper = Keeper::new(services, threads, limits.clone(), queue, Arc::clone(&heads), looks, cancel);
        (Self { asks, heads }, keeper)
    }

    /// A broadcast was stored. Answers when every thread has been told, or at once if nobody of the app is here.
    ///
    /// # Errors
    /// [`NoticeError`].
    pub async fn notice(&self, notice: rpc::BroadcastNotice) -> Result<(), NoticeError> {
        let app = AppId(notice.app);
        if !self.heads.read().unwrap_or_else(PoisonError::into_inner).contains_key(&app) {
            return Ok(());
        }
        let epoch = notice.epoch;
        let Some(entry) = entry_of_notice(notice) else { return Ok(()) };
        let (reply, done) = oneshot::channel();
        self.asks.try_send(Ask::Notice { app, epoch, entry, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoticeError::Full,
            mpsc::error::TrySendError::Closed(_) => NoticeError::Ending,
        })?;
        done.await.map_err(|_| NoticeError::Ending)
    }

    /// The head of an app's log, asked for if it is not known or is known to be less than `at_least`. From then on the
    /// log is followed.
    ///
    /// # Errors
    /// When the saver does not answer.
    pub async fn head(&self, app: AppId, at_least: u64) -> Result<Cursor, PeerError> {
        let known = self.heads.read().unwrap_or_else(PoisonError::into_inner).get(&app).copied();
        if let Some(head) = known.filter(|head| head.bseq.0 >= at_least) {
            return Ok(head);
        }
        let (reply, head) = oneshot::channel();
        let ask = Ask::Head { app, at_least, reply };
        self.asks.try_send(ask).map_err(|_| PeerError::Full(cluster::Role::Saver))?;
        head.await.unwrap_or(Err(PeerError::ShuttingDown))
    }
}

/// Follows the page asks of one thread until the thread ends.
pub(super) async fn run_pages<S: Services>(
    backend: Arc<Backend<S>>,
    thread: Thread,
    asks: mpsc::Receiver<Vec<PageAsk>>,
) {
    let one = |ask: PageAsk| {
        let (backend, thread) = (&backend, &thread);
        async move {
            let request = rpc::LoadBroadcastsRequest {
                app: ask.app.0,
                after_bseq: ask.after,
                max_messages: PAGE_MESSAGES,
                max_bytes: backend.limits.page_bytes,
            };
            let order = match backend.services.log(request).await {
                Ok(response) => Order::Page(run_of(ask.app, ask.after, response)),
                Err(error) => {
                    tracing::debug!(app = %ask.app, %error, "a page of the broadcast log could not be read");
                    tokio::time::sleep(PAGE_PAUSE).await;
                    Order::PageFailed(ask.app)
                }
            };
            // A thread that has ended needs no page.
            let _ = thread.send(order).await;
        }
    };
    items(asks).for_each_concurrent(PAGES, one).await;
}

fn cursor(epoch: u64, bseq: u64) -> Cursor {
    Cursor { epoch: Epoch(epoch), bseq: Bseq(bseq) }
}

fn run_of(app: AppId, after: u64, response: rpc::LoadBroadcastsResponse) -> LogRun {
    LogRun {
        app,
        epoch: response.epoch,
        after,
        through: response.through,
        entries: response.broadcasts.into_iter().filter_map(|stored| entry_of_stored(app, stored)).collect(),
    }
}

fn entry_of_notice(notice: rpc::BroadcastNotice) -> Option<Arc<LogEntry>> {
    let frame = Broadcast {
        app: notice.app,
        bseq: notice.bseq,
        id: notice.id,
        payload: notice.payload,
        accepted_ms: notice.accepted_ms,
        binding: 0,
    };
    entry(&frame, &notice.audience, notice.expires_ms)
}

fn entry_of_stored(app: AppId, stored: rpc::StoredBroadcast) -> Option<Arc<LogEntry>> {
    if stored.recalled {
        return None;
    }
    let frame = Broadcast {
        app: app.0,
        bseq: stored.bseq,
        id: stored.id,
        payload: stored.payload,
        accepted_ms: stored.accepted_ms,
        binding: 0,
    };
    entry(&frame, &stored.audience, stored.expires_ms)
}

/// Encodes it, once for all who will get it.
fn entry(frame: &Broadcast, audience: &str, expires_ms: u64) -> Option<Arc<LogEntry>> {
    match audience.parse() {
        Ok(audience) => Some(Arc::new(LogEntry {
            bseq: frame.bseq,
            id: frame.id.into(),
            frame: encode_broadcast(frame),
            audience,
            expires_ms,
        })),
        Err(error) => {
            // The center checks before it stores, so this is a newer center's grammar: better nobody than the wrong ones.
            tracing::error!(app = frame.app, bseq = frame.bseq, %error, "an audience cannot be read; nobody gets it");
            None
        }
    }
}

/// The Recall frame of a broadcast.
pub(crate) fn broadcast_recall(app: AppId, id: u64) -> Bytes {
    wire::codec::encode_server_frame(&wire::frame::Recall { binding: 0, id, app: app.0 }.into())
}
