//! How far the acks of broadcasts have come, as the center tells it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};

use crate::load::{Centers, Failure};

/// Between two questions: a hundredth of what a broadcast to 10,000 takes.
const PAUSE: Duration = Duration::from_millis(1);

/// Broadcasts that a question is about, for each that is open: two centers give ids that are not in the order of our numbers, so
/// others may lie between.
const LISTED_PER_OPEN: u32 = 2;

/// A broadcast's id, and how many have acked it.
type Told = Vec<(u64, u64)>;

/// Asks about all open broadcasts at once, until every device has acked them: one question for each would take longer than ten of
/// them together do.
pub(super) struct Acks {
    centers: Arc<Centers>,
    /// The question under way; one at a time.
    asking: FuturesUnordered<BoxFuture<'static, Result<Told, Failure>>>,
    open: Open,
}

impl Acks {
    pub(super) fn new(centers: Arc<Centers>, devices: u64) -> Self {
        Self { centers, asking: FuturesUnordered::new(), open: Open { devices, ..Open::default() } }
    }

    /// Broadcast `number` was accepted as `id`.
    pub(super) fn accepted(&mut self, number: u64, id: u64) {
        self.open.ids.insert(number, id);
    }

    /// All broadcasts up to this one are acked by everybody.
    pub(super) fn complete(&self) -> u64 {
        self.open.complete
    }

    /// Asks on, if there is something to ask: broadcasts up to `arrived` are at every device. May be cancelled.
    pub(super) async fn follow(&mut self, arrived: u64) -> Result<(), Failure> {
        if self.asking.is_empty() {
            let Some(ask) = self.open.ask(arrived) else { return std::future::pending().await };
            let centers = self.centers.clone();
            self.asking.push(Box::pin(async move {
                let states = centers.broadcasts(ask.before_id, ask.limit).await?;
                let told: Told = states.into_iter().map(|state| (state.id, state.acked)).collect();
                if told.iter().any(|(id, _)| *id == ask.next) {
                    return Ok(told);
                }
                Ok(vec![(ask.next, centers.broadcast_state(ask.next).await?.acked)])
            }));
        }
        match self.asking.next().await {
            Some(Ok(told)) if self.open.told(&told) => Ok(()),
            Some(Err(failure)) => Err(failure),
            _ => {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
        }
    }
}

/// Broadcasts of which not all acks are known to be counted.
#[derive(Debug, Default)]
struct Open {
    devices: u64,
    /// Ids of those that were accepted, by their numbers.
    ids: BTreeMap<u64, u64>,
    /// Acked by everybody, while one before them is not.
    ahead: BTreeSet<u64>,
    complete: u64,
}

/// A question about the newest broadcasts before an id.
#[derive(Debug, PartialEq, Eq)]
struct Ask {
    before_id: u64,
    limit: u32,
    /// Id of the one that all wait for.
    next: u64,
}

impl Open {
    fn ask(&self, arrived: u64) -> Option<Ask> {
        let next = *self.ids.get(&(self.complete + 1)).filter(|_| self.complete < arrived)?;
        let open = self.ids.range(..=arrived).map(|(_, id)| *id);
        let (newest, count) = open.fold((0, 0_u32), |(newest, count), id| (newest.max(id), count + 1));
        Some(Ask { before_id: newest.saturating_add(1), limit: count * LISTED_PER_OPEN, next })
    }

    /// Notes what was told; whether more are complete now.
    fn told(&mut self, told: &[(u64, u64)]) -> bool {
        let before = self.complete;
        let by_all: BTreeSet<u64> =
            told.iter().filter(|(_, acked)| *acked >= self.devices).map(|(id, _)| *id).collect();
        let ahead = &mut self.ahead;
        self.ids.retain(|number, id| {
            let done = by_all.contains(id);
            if done {
                ahead.insert(*number);
            }
            !done
        });
        while self.ahead.remove(&(self.complete + 1)) {
            self.complete += 1;
        }
        self.complete > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One question is about all that have arrived, and what is complete has no hole.
    #[test]
    fn all_open_ones_are_asked_for_at_once() {
        let mut open = Open { devices: 3, ..Open::default() };
        assert_eq!(open.ask(9), None, "nothing was accepted");
        // Two centers number by clocks of their own.
        open.ids.extend([(1, 110), (2, 105), (3, 130), (4, 140)]);
        assert_eq!(open.ask(0), None, "nothing has arrived");
        assert_eq!(open.ask(3), Some(Ask { before_id: 131, limit: 6, next: 110 }));
        assert!(!open.told(&[(105, 3), (110, 2), (7, 3)]));
        assert!(open.told(&[(110, 3), (130, 2)]));
        assert_eq!((open.complete, open.ask(2)), (2, None));
        assert!(open.told(&[(130, 3), (140, 4)]));
        assert_eq!((open.complete, open.ids.len(), open.ahead.len()), (4, 0, 0));
    }
}
