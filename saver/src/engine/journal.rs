//! Appends to a journaled store.
//!
//! Inboxes are spread over a few lanes by their partition. Each lane gathers what waits and sends it as one batch; while
//! that is under way the next one gathers. So several batches are under way and messages to one user keep their order.
//! What asks for `safe` then goes to the committer, and nobody who asks for `fast` waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering};

use futures::future::{BoxFuture, join_all};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Append, Appended, Core, Durability, Engine, OPS,
    lander::Lander,
    lane::{Lane, Work},
    refused_by,
    rows::RowNumbers,
    safe::Committer,
    words::{StoredWords, Words},
    writer::Charge,
};
use crate::{
    archive::{Archive, ArchiveError},
    error::Refused,
    inbox::{InboxError, Journaled, Placed},
    model::Row,
};

/// Batches that are under way at once: enough for the store to work while answers travel.
const LANES: usize = 4;

/// One call of [`Engine::append`].
pub(super) struct Call {
    pub(super) items: Vec<Append>,
    /// Rows of each item's deliveries.
    pub(super) rows: Vec<Vec<Row>>,
    state: Mutex<CallState>,
    _charge: Charge,
}

pub(super) struct CallState {
    /// What became of each delivery of each item.
    pub(super) placed: Vec<Vec<Result<Placed, Refused>>>,
    /// Deliveries that are still to be placed.
    pub(super) left: usize,
    reply: Option<oneshot::Sender<Vec<Result<Appended, Refused>>>>,
}

/// What the engine has of its journal.
pub(super) struct Journal<A> {
    lanes: Vec<mpsc::Sender<Work>>,
    lane_of: Box<dyn Fn(&crate::model::InboxKey) -> usize + Send + Sync>,
    rows: tokio::sync::Mutex<RowNumbers>,
    pub(super) landing: Arc<dyn Land>,
    pub(super) words: Arc<dyn Words>,
    pub(super) state: Arc<super::lander::LandingState>,
    archive: std::marker::PhantomData<fn(A)>,
}

/// Lands all that the journals hold now.
pub(super) trait Land: Send + Sync {
    fn land(&self) -> BoxFuture<'_, Result<(), Refused>>;
}

impl Call {
    pub(super) fn lock(&self) -> MutexGuard<'_, CallState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn safe(&self, item: usize, default: Durability) -> bool {
        self.items[item].durability.unwrap_or(default) == Durability::Safe
    }

    /// What became of the deliveries of each item.
    pub(super) fn placed(&self) -> Vec<Vec<Result<Placed, Refused>>> {
        std::mem::take(&mut self.lock().placed)
    }

    pub(super) fn answer(&self, results: Vec<Result<Appended, Refused>>) {
        if let Some(reply) = self.lock().reply.take() {
            // A caller that has gone away does not mind.
            let _ = reply.send(results);
        }
    }
}

/// The answer for an item whose deliveries were placed so.
pub(super) fn answer(placed: Vec<Result<Placed, Refused>>) -> Result<Appended, Refused> {
    let mut positions = Vec::with_capacity(placed.len());
    let mut repeated = true;
    for one in placed {
        match one? {
            Placed::New(position) => {
                repeated = false;
                positions.push(position);
            }
            Placed::Repeat(position) => positions.push(position),
            // The lane has asked.
            Placed::Ask => return Err(Refused::Busy),
        }
    }
    Ok(Appended { positions, repeated })
}

impl<A: Archive> Journal<A> {
    pub(super) async fn append<I>(
        &self,
        core: &Core<I, A>,
        items: Vec<Append>,
        charge: Charge,
    ) -> Vec<Result<Appended, Refused>> {
        let count = items.len();
        let refuse = |refused: Refused| vec![Err(refused); count];
        let default = core.limits().durability;
        let safe = |item: &Append| item.durability.unwrap_or(default) == Durability::Safe;
        if self.archive_is_away() && items.iter().any(safe) {
            // Nobody is made to wait for what is known to fail; the lander finds out when that is over.
            let refused = Refused::from(ArchiveError::Io("it has failed just now".to_owned()));
            let (safe, fast): (Vec<_>, Vec<_>) = items.into_iter().enumerate().partition(|(_, i)| safe(i));
            core.metrics.refused(&refused, safe.len());
            let mut results = refuse(refused);
            if !fast.is_empty() {
                let (places, fast): (Vec<usize>, Vec<Append>) = fast.into_iter().unzip();
                let done = Box::pin(self.append(core, fast, charge)).await;
                places.into_iter().zip(done).for_each(|(n, one)| results[n] = one);
            }
            return results;
        }
        let mut rows = Vec::with_capacity(count);
        for item in &items {
            if !item.is_multicast() {
                rows.push(vec![Row::unicast(item.id)]);
                continue;
            }
            match self.rows.lock().await.take(&core.archive, item.keys.len()).await {
                Ok(taken) => rows.push(taken),
                Err(e) => return refuse(e.into()),
            }
        }
        let (reply, answer) = oneshot::channel();
        let mut work: Vec<Vec<(u32, u32)>> = vec![Vec::new(); self.lanes.len()];
        let mut left = 0;
        for (n, item) in items.iter().enumerate() {
            left += item.keys.len();
            for (k, key) in item.keys.iter().enumerate() {
                work[(self.lane_of)(key)].push((n as u32, k as u32));
            }
        }
        if left == 0 {
            return refuse(Refused::bad("no_users", "a message needs a receiver"));
        }
        let placed = items.iter().map(|i| vec![Err(Refused::Ending); i.keys.len()]).collect();
        let state = Mutex::new(CallState { placed, left, reply: Some(reply) });
        let call = Arc::new(Call { items, rows, state, _charge: charge });
        for (lane, deliveries) in self.lanes.iter().zip(work).filter(|(_, w)| !w.is_empty()) {
            if let Err(e) = lane.try_send(Work { call: call.clone(), deliveries }) {
                // Another lane may have begun: the caller repeats, and what is there is found.
                return refuse(refused_by(&e));
            }
        }
        drop(call);
        answer.await.unwrap_or_else(|_| refuse(Refused::Ending))
    }
}

impl<I, A> Core<I, A> {
    /// Counts what was answered.
    pub(super) fn count(&self, results: &[Result<Appended, Refused>]) {
        for result in results {
            match result {
                Ok(done) if done.repeated => {}
                Ok(done) => _ = self.metrics.messages_appended.inc_by(done.positions.len() as u64),
                Err(refused) => self.metrics.refused(refused, 1),
            }
        }
    }
}

impl<I: Journaled, A: Archive> Engine<I, A> {
    /// An engine over a journaled store, and its work for the caller to spawn: lanes, committer, lander, and the writer
    /// of all that is not an append. It ends when `cancel` fires, after what was taken in is written.
    ///
    /// `mine` says which partitions this saver lands.
    ///
    /// # Errors
    /// When the archive cannot be read.
    #[expect(
        clippy::too_many_arguments,
        reason = "one more than `start` has, and each is a thing of its own"
    )]
    pub async fn start_journaled(
        inboxes: I,
        archive: A,
        shard: impl super::Shard,
        limits: super::Limits,
        clock: super::Clock,
        metrics: super::Metrics,
        mine: Arc<dyn Fn(u32) -> bool + Send + Sync>,
        cancel: CancellationToken,
    ) -> crate::archive::ArchiveResult<(Self, impl Future<Output = ()> + Send + 'static)> {
        let (mut engine, writer) = Self::prepare(inboxes, archive, shard, limits, clock, metrics).await?;
        let core = engine.core.clone();
        let lander = Arc::new(Lander::new(core.clone(), mine));
        let (committer, calls) = mpsc::channel(OPS);
        let mut lanes = Vec::new();
        let mut work = Vec::new();
        for _ in 0..LANES {
            let (lane, queue) = mpsc::channel(OPS);
            lanes.push(lane);
            let lane = Lane::new(core.clone(), queue, committer.clone(), lander.state());
            work.push(lane.run(cancel.clone()));
        }
        drop(committer);
        let committer = Committer::new(core.clone(), calls, lander.clone()).run();
        let words = core.clone();
        engine.journal = Some(Arc::new(Journal {
            lanes,
            lane_of: Box::new(move |key| core.inboxes.partition_of(key) as usize % LANES),
            rows: tokio::sync::Mutex::default(),
            landing: lander.clone(),
            words: Arc::new(StoredWords(words)),
            state: lander.state(),
            archive: std::marker::PhantomData,
        }));
        let work = async move {
            let ends = cancel.clone();
            let landing = CancellationToken::new();
            let appending = async {
                tokio::join!(join_all(work), committer);
                // What the last batches wrote is landed too.
                landing.cancel();
            };
            tokio::join!(appending, writer.run(ends), lander.run(landing.clone()));
        };
        Ok((engine, work))
    }
}

/// Whether a refusal says that the inbox store is away.
pub(super) fn store_is_away(refused: &Refused) -> bool {
    matches!(refused, Refused::Inbox(InboxError::Unavailable(_)))
}

impl<A> Journal<A> {
    /// Whether the archive has failed of late, so that nobody is made to wait for it.
    pub(super) fn archive_is_away(&self) -> bool {
        self.state.away.load(Ordering::Relaxed)
    }
}
