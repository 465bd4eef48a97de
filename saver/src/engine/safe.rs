//! Commits what is to be `safe` before it is answered: whatever waits goes into one transaction, and while that is under
//! way the next one gathers.
//!
//! While the inbox store is away, `safe` goes on: what the store did not take is committed to the archive alone, born in
//! an epoch of its own, and the archive notes that the store lacks something. Once the store is back, that begins an
//! epoch in which these messages are found.

use std::sync::Arc;

use tokio::sync::mpsc;
use wire::id::{Epoch, Position, Seq};

use super::{
    Append, Appended, Core,
    journal::{Call, Land as _, answer, store_is_away},
    lander::{Lander, LandingState},
};
use crate::{
    archive::{Archive, ArchiveError, Body, LIFE_CHANGED, Landing, NewDelivery, Wanted},
    error::Refused,
    inbox::{InboxError, Journaled, Placed},
    model::{Row, State},
};

/// Deliveries in one transaction at most.
const BATCH: usize = 2_048;
/// A landing that is told to ask anew, and a transaction that lost to another, is tried so often.
const TRIES: usize = 3;

pub(super) struct Committer<I, A> {
    core: Arc<Core<I, A>>,
    calls: mpsc::Receiver<Arc<Call>>,
    lander: Arc<Lander<I, A>>,
    state: Arc<LandingState>,
    away: Option<Away>,
    /// The last number that was given away from the store: those of the next absence are greater.
    last: u64,
}

/// Where messages are born while the store is away.
#[derive(Clone, Copy, Debug)]
struct Away {
    epoch: Epoch,
    /// The store's epoch as this saver knew it then.
    known: Epoch,
    /// The store's life by the archive, before the epoch was begun.
    life: Epoch,
}

/// What became of a call's deliveries, item by item.
type Places = Vec<Vec<Result<Placed, Refused>>>;

impl<I: Journaled, A: Archive> Committer<I, A> {
    pub(super) fn new(
        core: Arc<Core<I, A>>,
        calls: mpsc::Receiver<Arc<Call>>,
        lander: Arc<Lander<I, A>>,
    ) -> Self {
        Self { core, calls, state: lander.state(), lander, away: None, last: 0 }
    }

    /// Ends when nobody can ask any more.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.calls.recv().await {
            let mut calls = vec![first];
            let mut size = weight(&calls[0]);
            while size < BATCH {
                let Ok(next) = self.calls.try_recv() else { break };
                size += weight(&next);
                calls.push(next);
            }
            self.commit(calls).await;
        }
    }

    async fn commit(&mut self, calls: Vec<Arc<Call>>) {
        let default = self.core.limits().durability;
        let mut all: Vec<(Arc<Call>, Places)> = calls.into_iter().map(|c| (c.clone(), c.placed())).collect();
        let mut landing = Landing { now_ms: self.core.now_ms(), ..Landing::default() };
        let mut safe = Vec::new();
        let mut repeats = false;
        for (c, (call, places)) in all.iter_mut().enumerate() {
            for n in (0..call.items.len()).filter(|n| call.safe(*n, default)) {
                if places[n].iter().any(|p| p.as_ref().is_err_and(store_is_away)) {
                    self.alone(&call.items[n], &call.rows[n], &mut places[n]).await;
                }
                if places[n].iter().all(Result::is_ok) {
                    repeats |= places[n].iter().any(|p| matches!(p, Ok(Placed::Repeat(_))));
                    fill(&mut landing, &call.items[n], &call.rows[n], &places[n]);
                    safe.push((c, n));
                }
            }
        }
        let mut done = match landing.deliveries.is_empty() {
            true => Ok(()),
            false => self.land(&mut landing).await,
        };
        // What was there before may still be in a journal, and only that knows its row.
        if repeats && done.is_ok() && self.core.inboxes.partitions() > 0 {
            done = self.lander.land().await;
        }
        if let Err(e) = done {
            for (c, n) in safe {
                all[c].1[n].iter_mut().for_each(|p| *p = Err(e.clone()));
            }
        }
        for (call, places) in all {
            let mut results: Vec<Result<Appended, Refused>> = places.into_iter().map(answer).collect();
            // What is not in the store cannot be read there: nobody is to be told where it is.
            if let Some(Away { epoch, .. }) = self.away {
                let born_away = |p: &&mut Position| p.epoch == epoch;
                let places = results.iter_mut().flatten().flat_map(|r| &mut r.positions);
                places.filter(born_away).for_each(|p| p.seq = Seq::ZERO);
            }
            self.core.count(&results);
            call.answer(results);
        }
    }

    /// Gives places to what the store did not take. What the archive has already keeps its own.
    async fn alone(&mut self, item: &Append, rows: &[Row], places: &mut [Result<Placed, Refused>]) {
        let refuse = |places: &mut [Result<Placed, Refused>], e: Refused| {
            places.iter_mut().filter(|p| p.is_err()).for_each(|p| *p = Err(e.clone()));
        };
        debug_assert_eq!(rows.len(), places.len());
        if let Err(e) = self.begin_alone().await {
            return refuse(places, e);
        }
        let multicast = item.is_multicast();
        let wanted = item.keys.iter().map(|key| Wanted { id: item.id, key: key.clone(), multicast });
        let recorded = match self.core.archive.recorded(&wanted.collect::<Vec<_>>()).await {
            Ok(recorded) => recorded,
            Err(e) => return refuse(places, e.into()),
        };
        let Some(Away { epoch, .. }) = self.away else { return };
        for ((place, recorded), key) in places.iter_mut().zip(recorded).zip(&item.keys) {
            if !place.as_ref().is_err_and(store_is_away) {
                continue;
            }
            *place = match recorded {
                Some(r) if r.app != key.app() || r.uid != *key.uid() => {
                    Err(Refused::bad("id_taken", format!("message id {} is in use", item.id)))
                }
                Some(r) => Ok(Placed::Repeat(Position { epoch: r.position.epoch, seq: Seq::ZERO })),
                None => {
                    self.last += 1;
                    Ok(Placed::New(Position { epoch, seq: Seq(self.last) }))
                }
            };
        }
    }

    /// An epoch for what is born while the store is away; another for each absence. It is greater than that of the store's
    /// life, and what is born in it is committed only while that life is the present one: so the next one, which finds
    /// it, is greater still.
    ///
    /// # Errors
    /// When the store has come back: what is born away must come before all that the store gives then.
    async fn begin_alone(&mut self) -> Result<(), Refused> {
        let inboxes = &self.core.inboxes;
        let stands = inboxes.epoch();
        let mut away = self.away.filter(|away| away.known == stands);
        if away.is_none() {
            let Some(life) = self.core.archive.shared_life().await? else {
                return Err(InboxError::Unavailable("it has never been used yet".to_owned()).into());
            };
            let epoch = self.core.archive.begin_epoch().await?;
            tracing::warn!(%epoch, "the inbox store is away: what is to be safe goes to the archive alone");
            self.last = self.last.max(inboxes.away_number(&life, self.core.now_ms()));
            away = Some(Away { epoch, known: stands, life: life.epoch });
        }
        if inboxes.partitions() > 0 || inboxes.epoch() != stands {
            return Err(InboxError::Changing.into());
        }
        self.away = away;
        Ok(())
    }

    async fn land(&mut self, landing: &mut Landing) -> Result<(), Refused> {
        let away = |away: &Away| landing.deliveries.iter().any(|(d, _)| d.position.epoch == away.epoch);
        landing.alone = self.away.filter(away).map(|away| away.life);
        let mut tries = 0;
        loop {
            landing.forgets = self.state.forgets(&self.core.archive).await?;
            let started = std::time::Instant::now();
            let result = self.core.archive.land(landing).await;
            self.core.metrics.landed(started.elapsed(), landing, result.is_ok());
            self.state.went(&result);
            match result {
                Ok(()) => break,
                Err(ArchiveError::Conflict(reason)) if reason == LIFE_CHANGED => {
                    self.away = None;
                    return Err(InboxError::Changing.into());
                }
                Err(ArchiveError::Conflict(_) | ArchiveError::Locked) if tries < TRIES => {
                    tries += 1;
                    self.state.forget_forgets();
                }
                Err(e) => return Err(e.into()),
            }
        }
        // Before anybody is answered: what the callers send next must not overtake this.
        if let Some(life) = landing.alone {
            self.core.inboxes.lacks(life);
        }
        self.state.committed(landing.deliveries.iter().map(|(d, _)| d.row));
        Ok(())
    }
}

fn weight(call: &Call) -> usize {
    call.items.iter().map(|i| i.keys.len()).sum()
}

/// Adds an item's new deliveries.
fn fill(landing: &mut Landing, item: &Append, rows: &[Row], places: &[Result<Placed, Refused>]) {
    let before = landing.deliveries.len();
    for ((key, row), place) in item.keys.iter().zip(rows).zip(places) {
        let Ok(Placed::New(position)) = place else { continue };
        let delivery = NewDelivery {
            row: *row,
            id: item.id,
            key: key.clone(),
            position: *position,
            accepted_ms: item.accepted_ms,
            expires_ms: item.expires_ms,
            payload_bytes: u32::try_from(item.payload.len()).unwrap_or(u32::MAX),
            collapse: item.collapse.clone(),
        };
        landing.deliveries.push((delivery, State::Stored));
    }
    if landing.deliveries.len() > before {
        landing.bodies.push(Body { id: item.id, payload: item.payload.clone() });
    }
}
