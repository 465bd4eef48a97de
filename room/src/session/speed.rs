//! How fast devices ack: the times of a sample of broadcasts and bindings, over the last ten seconds.

use std::collections::{BTreeMap, HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::tail::Kept;
use crate::exchange::Latency;

/// Sent frames of one app whose acks are waited for; the oldest gives way. 100 KB.
const SAMPLES: usize = 2_048;
/// Above half of that, one of so many is taken.
const EVERY: u64 = 16;
/// Messages of one app of which something is known; the oldest gives way. Up to 800 bytes each while acks come.
const MESSAGES: usize = 1_024;
/// Seconds that count.
const WINDOW: u64 = 10;

/// The samples of one app.
#[derive(Debug, Default)]
pub(crate) struct Speeds {
    sent: HashMap<(u32, u64), u64, RandomState>,
    order: VecDeque<(u32, u64)>,
    count: u64,
    messages: BTreeMap<u64, Message>,
}

#[derive(Debug, Default)]
struct Message {
    /// Sent of entries that are not known any more.
    sent_before: u64,
    /// The last second in which something came, and the counts of the ten up to it.
    second: u64,
    seconds: VecDeque<[u32; 20]>,
}

impl Message {
    fn pass_to(&mut self, second: u64) {
        let passed = second.saturating_sub(self.second).min(WINDOW);
        for _ in 0..passed {
            self.seconds.push_back([0; 20]);
        }
        while self.seconds.len() > WINDOW as usize {
            self.seconds.pop_front();
        }
        self.second = self.second.max(second);
    }
}

impl Speeds {
    /// Something was handed to a socket.
    pub(crate) fn sent(&mut self, slot: u32, bseq: u64, now_ms: u64) {
        self.count += 1;
        let takes = self.sent.len() < SAMPLES / 2 || self.count.is_multiple_of(EVERY);
        if !takes {
            // Whoever had the slot before may have been sent it too.
            self.sent.remove(&(slot, bseq));
            return;
        }
        if self.sent.insert((slot, bseq), now_ms).is_none() {
            self.order.push_back((slot, bseq));
        }
        while self.order.len() > SAMPLES {
            let oldest = self.order.pop_front();
            oldest.map(|oldest| self.sent.remove(&oldest));
        }
    }

    /// The device has acked.
    pub(crate) fn acked(&mut self, id: u64, slot: u32, bseq: u64, now_ms: u64) {
        let Some(sent_ms) = self.sent.remove(&(slot, bseq)) else { return };
        let took = now_ms.saturating_sub(sent_ms).max(1);
        let bucket = (u64::BITS - (took - 1).leading_zeros()).min(19) as usize;
        let message = self.message(id);
        message.pass_to(now_ms / 1_000);
        if message.seconds.is_empty() {
            message.seconds.push_back([0; 20]);
        }
        if let Some(last) = message.seconds.back_mut() {
            last[bucket] += 1;
        }
    }

    fn message(&mut self, id: u64) -> &mut Message {
        if !self.messages.contains_key(&id) && self.messages.len() >= MESSAGES {
            self.messages.pop_first();
        }
        self.messages.entry(id).or_default()
    }

    /// An entry is not known any more; what was sent of it is.
    pub(crate) fn forget_entry(&mut self, kept: &Kept) {
        if kept.sent > 0 {
            self.message(kept.id).sent_before += kept.sent;
        }
    }

    /// What was sent of entries that are not known any more.
    pub(crate) fn sent_before(&self, id: u64) -> u64 {
        self.messages.get(&id).map_or(0, |message| message.sent_before)
    }

    /// Acks of the last ten seconds by the time they took.
    pub(crate) fn latency(&self, id: u64, now_ms: u64) -> Latency {
        let mut sum = Latency::default();
        let Some(message) = self.messages.get(&id) else { return sum };
        let passed = (now_ms / 1_000).saturating_sub(message.second);
        let keep = (WINDOW.saturating_sub(passed) as usize).min(message.seconds.len());
        for second in message.seconds.range(message.seconds.len() - keep..) {
            for (bucket, count) in sum.iter_mut().zip(second) {
                *bucket += u64::from(*count);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_for_ten_seconds() {
        let mut speeds = Speeds::default();
        for (slot, took) in [(1, 0), (2, 1), (3, 2), (4, 3), (5, 1_000), (6, u64::MAX / 2)] {
            speeds.sent(slot, 9, 5_000);
            speeds.acked(77, slot, 9, 5_000 + took.min(1 << 40));
            if took > 1_000 {
                continue;
            }
            let all: u64 = speeds.latency(77, 6_000).iter().sum();
            assert_eq!(all, u64::from(slot));
        }
        let mut speeds = Speeds::default();
        for (slot, took) in [(1, 0), (2, 1), (3, 2), (4, 3), (5, 1_000)] {
            speeds.sent(slot, 9, 5_000);
            speeds.acked(77, slot, 9, 5_000 + took);
        }
        let latency = speeds.latency(77, 6_000);
        assert_eq!((latency[0], latency[1], latency[2], latency[10]), (2, 1, 1, 1));
        assert_eq!(speeds.latency(77, 14_999).iter().sum::<u64>(), 5);
        assert_eq!(speeds.latency(77, 15_000).iter().sum::<u64>(), 1, "those of the first second are over");
        assert_eq!(speeds.latency(77, 16_000), Latency::default());
        speeds.acked(77, 1, 9, 9_000);
        assert_eq!(speeds.latency(77, 6_000).iter().sum::<u64>(), 5, "each once");
    }

    #[test]
    fn samples_are_bounded() {
        let mut speeds = Speeds::default();
        for slot in 0..100_000 {
            speeds.sent(slot, 9, 1);
        }
        assert!(speeds.sent.len() <= SAMPLES && speeds.order.len() <= SAMPLES);
        for id in 0..5_000 {
            speeds.sent(1, id, 1);
            speeds.acked(id, 1, id, 2);
        }
        assert!(speeds.messages.len() <= MESSAGES);
    }
}
