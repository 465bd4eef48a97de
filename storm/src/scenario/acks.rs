//! How far the acks of broadcasts have come, as the center tells it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};

use crate::load::{Centers, Failure};

/// Between two questions about the same broadcast: a hundredth of what a broadcast to 10,000 takes.
const PAUSE: Duration = Duration::from_millis(1);

/// Asks about one broadcast after the other, until every device has acked it.
pub(super) struct Acks {
    centers: Arc<Centers>,
    devices: u64,
    /// Ids of those that were accepted, by their numbers.
    ids: BTreeMap<u64, u64>,
    complete: u64,
    /// The question under way; one at a time.
    asking: FuturesUnordered<BoxFuture<'static, Result<u64, Failure>>>,
}

impl Acks {
    pub(super) fn new(centers: Arc<Centers>, devices: u64) -> Self {
        Self { centers, devices, ids: BTreeMap::new(), complete: 0, asking: FuturesUnordered::new() }
    }

    /// Broadcast `number` was accepted as `id`.
    pub(super) fn accepted(&mut self, number: u64, id: u64) {
        self.ids.insert(number, id);
    }

    /// All broadcasts up to this one are acked by everybody.
    pub(super) fn complete(&self) -> u64 {
        self.complete
    }

    /// Asks on, if there is something to ask: broadcasts up to `arrived` are at every device. May be cancelled.
    pub(super) async fn follow(&mut self, arrived: u64) -> Result<(), Failure> {
        let next = self.complete + 1;
        if self.asking.is_empty() {
            let Some(id) = self.ids.get(&next).copied().filter(|_| next <= arrived) else {
                return std::future::pending().await;
            };
            let centers = self.centers.clone();
            self.asking.push(Box::pin(async move {
                let acked = centers.broadcast_state(id).await?.acked;
                Ok(acked)
            }));
        }
        match self.asking.next().await {
            Some(Ok(acked)) if acked >= self.devices => {
                self.ids.remove(&next);
                self.complete = next;
                Ok(())
            }
            Some(Err(failure)) => Err(failure),
            _ => {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
        }
    }
}
