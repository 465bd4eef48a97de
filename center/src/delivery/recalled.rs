//! Messages that were taken back a moment ago and may still wait to be delivered.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::Waiting;
use crate::metrics::{Delivered, Metrics};

/// So many recalls are remembered; what waits of an earlier one is taken out of the room, as if it had been delivered before.
const REMEMBERED: usize = 64;

/// Nothing waits here for longer: look-ups and deliveries have their deadlines.
const FOR: Duration = Duration::from_secs(10);

/// Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Recalled(Arc<ArcSwap<Vec<(Instant, u64)>>>);

impl Recalled {
    /// A message was taken back.
    pub(crate) fn note(&self, id: u64) {
        let now = Instant::now();
        self.0.rcu(|known| {
            let fresh = known.iter().filter(|(at, known)| at.elapsed() < FOR && *known != id);
            let mut fresh: Vec<_> = fresh.copied().collect();
            if fresh.len() >= REMEMBERED {
                fresh.remove(0);
            }
            fresh.push((now, id));
            fresh
        });
    }

    /// Whether a message was taken back lately.
    pub(super) fn has(&self, id: u64) -> bool {
        self.0.load().iter().any(|(_, known)| *known == id)
    }

    /// Drops and counts what was taken back. Nearly always there is nothing to look for.
    pub(super) fn drop_from(&self, batch: &mut Vec<Waiting>, metrics: &Metrics) {
        let known = self.0.load();
        if known.last().is_none_or(|(at, _)| at.elapsed() >= FOR) {
            return;
        }
        batch.retain(|waiting| {
            let gone = known.iter().any(|(_, id)| *id == waiting.parcel.id);
            if gone {
                metrics.delivered(Delivered::Recalled);
            }
            !gone
        });
    }
}
