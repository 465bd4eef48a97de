//! Lands journals: what a journaled store has answered for comes into the archive, in transactions of many rows.
//!
//! A message that was acked before its turn is written once, as finished and without its payload; so landing is not
//! hurried. Two landers of one partition do no harm, and neither does one that wakes up late: landing is idempotent,
//! and a store forgets a part of its journal only in the epoch in which it was read.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use hashbrown::{HashMap, HashSet};
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Core, journal::Land, report};
use crate::{
    archive::{Archive, ArchiveError, ArchiveResult, Body, Landing},
    error::Refused,
    inbox::{JournalPart, Journaled, Record},
    model::{Row, State},
};

/// From the end of one round to the next: most online users ack within it.
const ROUND: Duration = Duration::from_millis(150);
/// First and greatest pause after a failure, with jitter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Rows that the committer wrote and the lander need not write again: some seconds of the greatest load, 1 MiB.
const COMMITTED: usize = 32_768;

/// What landers and committer know together.
#[derive(Debug, Default)]
pub(super) struct LandingState {
    /// The archive failed when it was used last.
    pub(super) away: AtomicBool,
    /// What [`Archive::forgets`] answered, and one more; 0 if it is to be asked.
    forgets: AtomicU64,
    /// Rows that are in the archive though the journal has them still, in two generations.
    committed: Mutex<[HashSet<Row>; 2]>,
}

impl LandingState {
    /// How often the archive forgot rows, asked anew after a conflict.
    pub(super) async fn forgets<A: Archive>(&self, archive: &A) -> ArchiveResult<u64> {
        match self.forgets.load(Ordering::Relaxed) {
            0 => {
                let forgets = archive.forgets().await.inspect_err(|e| self.went(&Err(e.clone())))?;
                self.forgets.store(forgets + 1, Ordering::Relaxed);
                Ok(forgets)
            }
            known => Ok(known - 1),
        }
    }

    pub(super) fn forget_forgets(&self) {
        self.forgets.store(0, Ordering::Relaxed);
    }

    /// Notes whether the archive works.
    pub(super) fn went(&self, result: &ArchiveResult<()>) {
        let away =
            matches!(result, Err(ArchiveError::Io(_) | ArchiveError::DiskFull | ArchiveError::Corrupt(_)));
        if !matches!(result, Err(ArchiveError::Conflict(_) | ArchiveError::Locked)) {
            self.away.store(away, Ordering::Relaxed);
        }
    }

    pub(super) fn committed(&self, rows: impl Iterator<Item = Row>) {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        if committed[0].len() >= COMMITTED {
            committed.swap(0, 1);
            committed[0].clear();
        }
        committed[0].extend(rows);
    }
}

/// The lander of the partitions that are this saver's.
pub(super) struct Lander<I, A> {
    core: Arc<Core<I, A>>,
    mine: Arc<dyn Fn(u32) -> bool + Send + Sync>,
    state: Arc<LandingState>,
}

impl<I: Journaled, A: Archive> Lander<I, A> {
    pub(super) fn new(core: Arc<Core<I, A>>, mine: Arc<dyn Fn(u32) -> bool + Send + Sync>) -> Self {
        Self { core, mine, state: Arc::default() }
    }

    pub(super) fn state(&self) -> Arc<LandingState> {
        self.state.clone()
    }

    /// Lands until `cancel`, and then what is there.
    pub(super) async fn run(&self, cancel: CancellationToken) {
        let mut pause = PAUSE.0;
        let mut failing = false;
        while !cancel.is_cancelled() {
            let mine: Vec<u32> = (0..self.core.inboxes.partitions()).filter(|p| (self.mine)(*p)).collect();
            let wait = match self.round(&mine).await {
                Ok(more) => {
                    if std::mem::take(&mut failing) {
                        info!("journals land again");
                    }
                    pause = PAUSE.0;
                    if more { Duration::ZERO } else { ROUND }
                }
                Err(e) => {
                    match &e {
                        Refused::Archive(ArchiveError::Conflict(_)) => self.state.forget_forgets(),
                        // The store's keeper has told it.
                        Refused::Inbox(_) => debug!(error = %e, "journals cannot be read"),
                        e if !std::mem::replace(&mut failing, true) => report(e, "journals"),
                        _ => {}
                    }
                    let wait = pause.mul_f64(rand::rng().random_range(0.5..1.0));
                    pause = (pause * 2).min(PAUSE.1);
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = cancel.cancelled() => {}
            }
        }
        if let Err(e) = self.all().await {
            warn!(error = %e, "journals are left as they are");
        }
    }

    /// Lands a part of each of these journals; whether there is more.
    async fn round(&self, partitions: &[u32]) -> Result<bool, Refused> {
        if self.state.away.load(Ordering::Relaxed) {
            // There may be nothing to land by which to find out that the archive is back.
            self.state.forget_forgets();
            self.state.forgets(&self.core.archive).await?;
            self.state.went(&Ok(()));
        }
        if partitions.is_empty() {
            return Ok(false);
        }
        let forgets = self.state.forgets(&self.core.archive).await?;
        let parts = self.core.inboxes.journal(partitions).await?;
        if parts.is_empty() {
            return Ok(false);
        }
        let more = parts.iter().any(|p| p.more);
        let marks: Vec<_> = parts.iter().map(|p| (p.partition, p.mark.clone())).collect();
        let mut landing = self.landing(parts);
        landing.forgets = forgets;
        let started = std::time::Instant::now();
        let result = self.core.archive.land(&landing).await;
        self.core.metrics.landed(started.elapsed(), &landing, result.is_ok());
        self.state.went(&result);
        result?;
        self.core.inboxes.landed(&marks).await?;
        Ok(more)
    }

    /// One transaction of several parts.
    fn landing(&self, parts: Vec<JournalPart>) -> Landing {
        let mut landing = Landing { now_ms: self.core.now_ms(), ..Landing::default() };
        let committed = self.state.committed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places: HashMap<Row, usize> = HashMap::new();
        let mut bodies = HashMap::new();
        for record in parts.into_iter().flat_map(|p| p.records) {
            match record {
                Record::Appended(delivery, payload) => {
                    if let Some(payload) = payload {
                        bodies.insert(delivery.id, payload);
                    }
                    if committed.iter().any(|rows| rows.contains(&delivery.row)) {
                        continue;
                    }
                    if !places.contains_key(&delivery.row) {
                        places.insert(delivery.row, landing.deliveries.len());
                        landing.deliveries.push((delivery, State::Stored));
                    }
                }
                Record::Reserved(reservation) => landing.reservations.push(reservation),
                Record::Finished(row, state) => match places.get(&row) {
                    Some(place) => {
                        let (_, now) = &mut landing.deliveries[*place];
                        if *now == State::Stored {
                            *now = state;
                        }
                    }
                    None => landing.finished.push((row, state)),
                },
            }
        }
        for (delivery, state) in &landing.deliveries {
            if !state.frees_payload()
                && let Some(payload) = bodies.remove(&delivery.id)
            {
                landing.bodies.push(Body { id: delivery.id, payload });
            }
        }
        landing
    }

    /// Lands all that the journals hold now, whoever's they are.
    async fn all(&self) -> Result<(), Refused> {
        // What comes while this runs is not waited for: a bound keeps it from running for ever.
        let lag = self.core.inboxes.lag(&self.everywhere()).await?;
        let mut rounds = 2 + lag.bytes / (64 << 10) + lag.records / 256;
        while rounds > 0 {
            rounds -= 1;
            match self.round(&self.everywhere()).await {
                Ok(false) => return Ok(()),
                Ok(true) => {}
                Err(Refused::Archive(ArchiveError::Conflict(_) | ArchiveError::Locked)) => {
                    self.state.forget_forgets();
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn everywhere(&self) -> Vec<u32> {
        (0..self.core.inboxes.partitions()).collect()
    }
}

impl<I: Journaled, A: Archive> Land for Lander<I, A> {
    fn land(&self) -> BoxFuture<'_, Result<(), Refused>> {
        Box::pin(self.all())
    }
}
