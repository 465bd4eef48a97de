//! What the storm itself did to the centers, counted by whoever does it and read by the runner.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::fleet::Tally;

/// Sums of all that was sent in a run.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Broadcasts so far, over all phases: their numbers.
    broadcasts: AtomicU64,
    /// Broadcasts that were accepted, with the devices that had a right to each.
    promised: Mutex<Vec<(u64, u64)>>,
    failures: Mutex<BTreeMap<String, u64>>,
}

impl Totals {
    /// The number of the next broadcast: 1, 2, 3…
    pub(super) fn next_broadcast(&self) -> u64 {
        self.broadcasts.fetch_add(1, Relaxed) + 1
    }

    /// A broadcast was accepted, and so many devices were bound when it was sent.
    pub(super) fn promise(&self, number: u64, devices: u64) {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner).push((number, devices));
    }

    /// Deliveries that all accepted broadcasts together owe.
    pub(super) fn owed(&self) -> u64 {
        let promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        promised.iter().map(|(_, devices)| devices).sum()
    }

    /// Deliveries that are missing. What a broadcast has beyond its due (devices that came while it was under way) makes
    /// up for nothing in another.
    pub(super) fn missing(&self, tallies: &[Tally]) -> u64 {
        let promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let came = |number: u64| {
            tallies.binary_search_by_key(&number, |tally| tally.number).map_or(0, |at| tallies[at].count)
        };
        promised.iter().map(|(number, devices)| devices.saturating_sub(came(*number))).sum()
    }

    pub(super) fn failed(&self, code: &str, count: u64) {
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner).entry(code.to_owned()).or_default() +=
            count;
    }

    /// Why pushes and broadcasts were not accepted, and how often.
    pub(super) fn failures(&self) -> BTreeMap<String, u64> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_too_many_makes_up_for_none_that_is_missing() {
        let totals = Totals::default();
        assert_eq!((totals.next_broadcast(), totals.next_broadcast()), (1, 2));
        totals.promise(1, 10);
        totals.promise(2, 10);
        let tally = |number, count| Tally { number, sent_ns: 0, count, first_ns: 0, last_ns: 0 };
        assert_eq!((totals.owed(), totals.missing(&[tally(1, 12), tally(2, 7)])), (20, 3));
        assert_eq!(totals.missing(&[]), 20);
    }
}
