//! How far each broadcast has come among a worker's devices.

use serde::{Deserialize, Serialize};

/// Arrivals of one broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The broadcast's number in the run.
    pub number: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// Devices that have it.
    pub count: u64,
    /// When the first had it.
    pub first_ns: u64,
    /// When the last one so far had it.
    pub last_ns: u64,
}

impl Tally {
    /// Adds another worker's tallies.
    pub fn merge(all: &mut Vec<Self>, other: Vec<Self>) {
        for tally in other {
            match all.binary_search_by_key(&tally.number, |mine| mine.number) {
                Ok(at) => {
                    let mine = &mut all[at];
                    mine.count += tally.count;
                    mine.first_ns = mine.first_ns.min(tally.first_ns);
                    mine.last_ns = mine.last_ns.max(tally.last_ns);
                }
                Err(at) => all.insert(at, tally),
            }
        }
    }
}

/// The tallies of one worker. Numbers are 1, 2, 3… and few (broadcasts, not deliveries), so all are kept.
#[derive(Debug)]
pub(crate) struct Tallies {
    devices: u64,
    by_number: Vec<Tally>,
    complete: u64,
}

/// A run sends its broadcasts one by one; a number far beyond is damage and would only cost memory.
const MAX_AHEAD: u64 = 100_000;

impl Tallies {
    pub(crate) fn new(devices: u32) -> Self {
        Self { devices: devices.into(), by_number: Vec::new(), complete: 0 }
    }

    /// A device got broadcast `number` for the first time.
    pub(crate) fn note(&mut self, number: u64, sent_ns: u64, now_ns: u64) {
        let have = self.by_number.len() as u64;
        if number == 0 || number > have + MAX_AHEAD {
            return;
        }
        for number in have + 1..=number {
            self.by_number.push(Tally { number, sent_ns, count: 0, first_ns: u64::MAX, last_ns: 0 });
        }
        let tally = &mut self.by_number[number as usize - 1];
        tally.sent_ns = sent_ns;
        tally.count += 1;
        tally.first_ns = tally.first_ns.min(now_ns);
        tally.last_ns = tally.last_ns.max(now_ns);
        self.advance();
    }

    /// One device less is waited for.
    pub(crate) fn without_one(&mut self) {
        self.devices = self.devices.saturating_sub(1);
        self.advance();
    }

    fn advance(&mut self) {
        while self.by_number.get(self.complete as usize).is_some_and(|next| next.count >= self.devices) {
            self.complete += 1;
        }
    }

    /// All broadcasts up to this one are at every device.
    pub(crate) fn complete(&self) -> u64 {
        self.complete
    }

    pub(crate) fn to_vec(&self) -> Vec<Tally> {
        self.by_number.iter().filter(|tally| tally.count > 0).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_counts_without_holes() {
        let mut tallies = Tallies::new(2);
        tallies.note(1, 10, 20);
        tallies.note(2, 10, 21);
        tallies.note(2, 10, 22);
        assert_eq!(tallies.complete(), 0);
        tallies.note(1, 10, 30);
        assert_eq!(tallies.complete(), 2);
        tallies.note(u64::MAX, 0, 0);
        let first = tallies.to_vec()[0];
        assert_eq!((first.count, first.first_ns, first.last_ns), (2, 20, 30));
        let mut all = tallies.to_vec();
        Tally::merge(&mut all, vec![Tally { number: 1, sent_ns: 10, count: 5, first_ns: 5, last_ns: 25 }]);
        assert_eq!((all[0].count, all[0].first_ns, all[0].last_ns), (7, 5, 30));
    }
}
