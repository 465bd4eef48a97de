//! Makes a batch of appends ready for its transaction, and settles it after.

use super::{
    Append, Appended, Core,
    known::{Fate, Known},
    report,
    writer::Writer,
};
use crate::{
    archive::{Archive, Body, Group, NewDelivery},
    error::Refused,
    inbox::{InboxError, InboxResult, InboxStore, WriteThrough as _},
    model::{InboxKey, Row, Staged, Staging, State},
};

/// A batch between its numbers and its transaction.
pub(super) struct Prepared {
    /// For each append: its deliveries, or why there are none.
    fates: Vec<Result<Vec<Fate>, Refused>>,
    staged: Vec<Staged>,
    /// Which append each staged delivery belongs to, and its row.
    origin: Vec<(usize, Row)>,
}

/// Finds repeats, rebuilds inboxes that are not loaded, and numbers the rest.
pub(super) async fn prepare<I: InboxStore, A: Archive>(
    writer: &mut Writer<I, A>,
    items: &[&Append],
    look_up_all: bool,
) -> Prepared {
    if items.is_empty() {
        return Prepared { fates: Vec::new(), staged: Vec::new(), origin: Vec::new() };
    }
    match number(writer, items, look_up_all).await {
        Ok(prepared) => prepared,
        Err(refused) => {
            report(&refused, "reading before a transaction");
            Prepared::refused(items, &refused)
        }
    }
}

async fn number<I: InboxStore, A: Archive>(
    writer: &mut Writer<I, A>,
    items: &[&Append],
    look_up_all: bool,
) -> Result<Prepared, Refused> {
    let suspects: Vec<bool> = items.iter().map(|i| writer.recent.note(i.id) || look_up_all).collect();
    let mut known = Known::look_up(&writer.core.archive, items, &suspects).await?;
    let keys: Vec<InboxKey> = items.iter().flat_map(|i| i.keys.iter().cloned()).collect();
    writer.core.ensure(&keys).await?;
    let rows = items.iter().filter(|i| i.is_multicast()).map(|i| i.keys.len()).sum();
    let mut rows = if rows > 0 { writer.take_rows(rows).await?.into_iter() } else { Vec::new().into_iter() };

    let limits = writer.core.limits();
    let mut fates = Vec::with_capacity(items.len());
    let mut stagings = Vec::with_capacity(keys.len());
    let mut origin = Vec::with_capacity(keys.len());
    for (index, item) in items.iter().enumerate() {
        let limits = &limits;
        let cap = item.inbox_cap.unwrap_or(limits.default_inbox_cap).clamp(1, limits.max_inbox_cap);
        let (before, mut own) = (stagings.len(), Vec::with_capacity(item.keys.len()));
        let mut refused = None;
        for key in &item.keys {
            match known.fate(item, key, stagings.len()) {
                Ok(Fate::New(place)) => {
                    let unicast = Row::unicast(item.id);
                    // The rows were counted above.
                    let row = if item.is_multicast() { rows.next().unwrap_or(unicast) } else { unicast };
                    stagings.push(Staging {
                        key: key.clone(),
                        row,
                        id: item.id,
                        accepted_ms: item.accepted_ms,
                        expires_ms: item.expires_ms,
                        payload: item.payload.clone(),
                        cap,
                        collapse: item.collapse.clone(),
                    });
                    origin.push((index, row));
                    own.push(Fate::New(place));
                }
                Ok(fate) => own.push(fate),
                Err(e) => refused = Some(e),
            }
        }
        fates.push(match refused {
            None => Ok(own),
            Some(refused) => {
                known.forget(item);
                stagings.truncate(before);
                origin.truncate(before);
                Err(refused)
            }
        });
    }
    let results = stage(&writer.core, &stagings).await?;
    let mut prepared = Prepared { fates, staged: Vec::with_capacity(results.len()), origin };
    let mut failed: Vec<(usize, Refused)> = Vec::new();
    let mut kept = Vec::with_capacity(results.len());
    for (result, (index, row)) in results.into_iter().zip(std::mem::take(&mut prepared.origin)) {
        match result {
            Ok(staged) => {
                kept.push(Some(prepared.staged.len()));
                prepared.staged.push(staged);
                prepared.origin.push((index, row));
            }
            Err(e) => {
                kept.push(None);
                failed.push((index, e.into()));
            }
        }
    }
    prepared.renumber(&kept);
    if !failed.is_empty() {
        // What took the place of something that a failed one should have replaced, or the other way round, would leave
        // both or none in the inbox: so all that replaces is asked for again.
        let replacing = |n: &usize| items[*n].collapse.is_some();
        if failed.iter().any(|(n, _)| replacing(n)) {
            let others = (0..items.len()).filter(replacing).filter(|n| prepared.fates[*n].is_ok());
            failed.extend(others.map(|n| (n, Refused::Busy)).collect::<Vec<_>>());
        }
        prepared.drop_failed(&writer.core, failed).await;
    }
    Ok(prepared)
}

/// Stages all of a batch. An inbox that was let go since it was made sure of is rebuilt once more: by now the others of
/// the batch are pinned, and no longer in its way.
async fn stage<I: InboxStore, A: Archive>(
    core: &Core<I, A>,
    stagings: &[Staging],
) -> Result<Vec<InboxResult<Staged>>, Refused> {
    let now = core.now_ms();
    let Some(inboxes) = core.inboxes.through() else { return Err(Refused::Ending) };
    let mut results = inboxes.stage(stagings, now).await?;
    let absent = |r: &InboxResult<Staged>| matches!(r, Err(InboxError::Absent));
    let again: Vec<usize> = (0..results.len()).filter(|n| absent(&results[*n])).collect();
    if !again.is_empty() {
        let items: Vec<Staging> = again.iter().map(|n| stagings[*n].clone()).collect();
        let keys: Vec<InboxKey> = items.iter().map(|i| i.key.clone()).collect();
        core.ensure(&keys).await?;
        for (n, result) in again.into_iter().zip(inboxes.stage(&items, now).await?) {
            results[n] = result;
        }
    }
    Ok(results)
}

impl Prepared {
    /// Nothing of the batch is to be stored.
    pub(super) fn refused(items: &[&Append], refused: &Refused) -> Self {
        let fates = items.iter().map(|_| Err(refused.clone())).collect();
        Self { fates, staged: Vec::new(), origin: Vec::new() }
    }

    /// Puts the batch into a group, in place of what an earlier try put there.
    pub(super) fn fill(&self, group: &mut Group, items: &[&Append]) {
        group.bodies.clear();
        group.deliveries.clear();
        let mut last = None;
        for (staged, (index, row)) in self.staged.iter().zip(&self.origin) {
            let item = items[*index];
            if last.replace(*index) != Some(*index) {
                group.bodies.push(Body { id: item.id, payload: item.payload.clone() });
            }
            group.deliveries.push(NewDelivery {
                row: *row,
                id: item.id,
                key: staged.key.clone(),
                position: staged.position,
                accepted_ms: item.accepted_ms,
                expires_ms: item.expires_ms,
                payload_bytes: u32::try_from(item.payload.len()).unwrap_or(u32::MAX),
                collapse: item.collapse.clone(),
            });
        }
    }

    /// What leaves the inboxes for the batch.
    pub(super) fn pushed_out(&self) -> impl Iterator<Item = (Row, State)> {
        self.staged.iter().flat_map(|s| s.pushed_out.iter().copied())
    }

    /// The archive has the batch: shows it to readers and answers.
    pub(super) async fn publish<I: InboxStore, A: Archive>(
        self,
        core: &Core<I, A>,
        items: &[&Append],
    ) -> Vec<Result<Appended, Refused>> {
        if let Some(inboxes) = core.inboxes.through()
            && let Err(e) = inboxes.publish(&self.staged, core.now_ms()).await
        {
            // It is durable, so the answer stands; the inbox comes back from the archive.
            report(&e.into(), "publishing");
        }
        core.metrics.appended(&self.staged);
        debug_assert_eq!(items.len(), self.fates.len());
        let place = |fate: &Fate| match fate {
            Fate::New(index) | Fate::Twin(index) => self.staged[*index].position,
            Fate::Repeat(position) => *position,
        };
        let answer = |fates: Vec<Fate>| Appended {
            repeated: !fates.iter().any(|f| matches!(f, Fate::New(_))),
            positions: fates.iter().map(place).collect(),
        };
        self.fates.into_iter().map(|fates| fates.map(answer)).collect()
    }

    /// The archive does not have the batch, and there will be another try.
    pub(super) async fn withdraw<I: InboxStore, A: Archive>(&self, core: &Core<I, A>) {
        if let Some(inboxes) = core.inboxes.through()
            && let Err(e) = inboxes.withdraw(&self.staged).await
        {
            report(&e.into(), "withdrawing");
        }
    }

    /// The archive does not have the batch. What was there before is there still.
    pub(super) async fn refuse<I: InboxStore, A: Archive>(
        self,
        core: &Core<I, A>,
        refused: &Refused,
    ) -> Vec<Result<Appended, Refused>> {
        self.withdraw(core).await;
        let answer = |fates: Vec<Fate>| {
            let there = |fate: &Fate| match fate {
                Fate::Repeat(position) => Some(*position),
                Fate::New(_) | Fate::Twin(_) => None,
            };
            match fates.iter().map(there).collect::<Option<Vec<_>>>() {
                Some(positions) => Ok(Appended { positions, repeated: true }),
                None => Err(refused.clone()),
            }
        };
        self.fates.into_iter().map(|fates| fates.and_then(answer)).collect()
    }

    /// Takes back appends of which a part found no room: a message is stored for all of a call's receivers or for
    /// none. Twins of what is taken back share its fate.
    async fn drop_failed<I: InboxStore, A: Archive>(
        &mut self,
        core: &Core<I, A>,
        failed: Vec<(usize, Refused)>,
    ) {
        for (index, refused) in failed {
            self.fates[index] = Err(refused);
        }
        loop {
            let alive: Vec<bool> = self.origin.iter().map(|(index, _)| self.fates[*index].is_ok()).collect();
            if alive.iter().all(|a| *a) {
                break;
            }
            let mut kept = Vec::with_capacity(alive.len());
            let (mut staged, mut origin, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
            for ((one, from), alive) in self.staged.drain(..).zip(self.origin.drain(..)).zip(alive) {
                kept.push(alive.then_some(staged.len()));
                if alive {
                    staged.push(one);
                    origin.push(from);
                } else {
                    dropped.push(one);
                }
            }
            (self.staged, self.origin) = (staged, origin);
            if let Some(inboxes) = core.inboxes.through()
                && let Err(e) = inboxes.withdraw(&dropped).await
            {
                report(&e.into(), "withdrawing");
            }
            self.renumber(&kept);
        }
    }

    /// Follows staged deliveries to their new indexes; an append that has lost one is refused.
    fn renumber(&mut self, kept: &[Option<usize>]) {
        let moved = |fate: Fate| match fate {
            Fate::New(n) => kept[n].map(Fate::New),
            Fate::Twin(n) => kept[n].map(Fate::Twin),
            Fate::Repeat(position) => Some(Fate::Repeat(position)),
        };
        for fates in &mut self.fates {
            if let Ok(own) = fates {
                match own.iter().map(|f| moved(*f)).collect() {
                    Some(own) => *fates = Ok(own),
                    None => *fates = Err(Refused::Busy),
                }
            }
        }
    }
}
