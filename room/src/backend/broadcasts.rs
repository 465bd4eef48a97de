//! The broadcast logs of the apps that are bound here.
//!
//! One task keeps all of them in order: a notice that is next goes straight to the threads, one that overtook another
//! waits a moment, and what does not come is read from the saver, once for the room and not for each user. The heads are
//! asked for every few seconds, and when the cluster has changed, so a center that died before it told us loses nothing.

mod cache;
pub(crate) mod credits;
mod entries;
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
use wire::id::{AppId, Bseq, Cursor, Epoch};

use super::{Backend, BackendLimits, Services, items};
use crate::{
    event_loop::{Order, Thread},
    exchange::{LogEntry, LogRun, PageAsk},
};
use cache::Cache;
pub(crate) use entries::filter;
use entries::run_of;
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
    pub(crate) cache: Cache,
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
        let cache = Cache::new(limits.cache_bytes);
        let known = (Arc::clone(&heads), cache.clone());
        let keeper = Keeper::new(services, threads, limits.clone(), queue, known, looks, cancel);
        (Self { asks, heads, cache }, keeper)
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
        let before = self.cache.of(app, notice.id);
        let Some(entry) = entries::of_notice(&notice, before.as_deref()) else { return Ok(()) };
        let (reply, done) = oneshot::channel();
        self.asks.try_send(Ask::Notice { app, epoch, entry, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoticeError::Full,
            mpsc::error::TrySendError::Closed(_) => NoticeError::Ending,
        })?;
        done.await.map_err(|_| NoticeError::Ending)
    }

    /// The head of an app's log, if it is known to be at least so far.
    pub(crate) fn known_head(&self, app: AppId, at_least: u64) -> Option<Cursor> {
        let known = self.heads.read().unwrap_or_else(PoisonError::into_inner).get(&app).copied();
        known.filter(|head| head.bseq.0 >= at_least)
    }

    /// The head of an app's log, asked for if it is not known or is known to be less than `at_least`. From then on the
    /// log is followed.
    ///
    /// # Errors
    /// When the saver does not answer.
    pub async fn head(&self, app: AppId, at_least: u64) -> Result<Cursor, PeerError> {
        if let Some(head) = self.known_head(app, at_least) {
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
            let order = match read_page(&**backend, ask.app, ask.after).await {
                Ok(run) => Order::Page(run),
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

/// A part of the log after a number, from the cache; what is not there is read, once for all who want it.
async fn read_page<S: Services>(backend: &Backend<S>, app: AppId, after: u64) -> Result<LogRun, PeerError> {
    let cache = &backend.broadcasts.cache;
    let bytes = backend.limits.page_bytes as usize;
    let cached = || cache.page(app, after, PAGE_MESSAGES as usize, bytes);
    if let Some(run) = cached() {
        return Ok(run);
    }
    let flight = cache.flight(app);
    let _flight = flight.lock().await;
    if let Some(run) = cached() {
        return Ok(run);
    }
    let request = rpc::LoadBroadcastsRequest {
        app: app.0,
        after_bseq: after,
        max_messages: PAGE_MESSAGES,
        max_bytes: backend.limits.page_bytes,
    };
    let run = run_of(app, after, backend.services.log(request).await?);
    cache.put(&run);
    Ok(run)
}

fn cursor(epoch: u64, bseq: u64) -> Cursor {
    Cursor { epoch: Epoch(epoch), bseq: Bseq(bseq) }
}

/// The Recall frame of a broadcast.
pub(crate) fn broadcast_recall(app: AppId, id: u64) -> Bytes {
    wire::codec::encode_server_frame(&wire::frame::Recall { binding: 0, id, app: app.0 }.into())
}
