//! Tells messages that are certainly new from those that may be repeats, without asking the archive.

use std::collections::VecDeque;

use hashbrown::HashSet;
use wire::id::MessageId;

/// Ids remembered one by one: some seconds of the greatest load, which is the disorder to expect among centers.
/// 64 Ki of them take about 2 MiB.
const REMEMBERED: usize = 64 * 1024;

/// Ids of late. Ids grow with time, so one that is greater than all that were ever forgotten and is not among the
/// remembered ones has not been here.
#[derive(Debug)]
pub(super) struct RecentIds {
    known: HashSet<MessageId, foldhash::fast::RandomState>,
    order: VecDeque<MessageId>,
    /// Greatest id that was forgotten, or that the archive had when this began.
    floor: MessageId,
    capacity: usize,
}

impl RecentIds {
    pub(super) fn new(floor: MessageId) -> Self {
        Self::with_capacity(floor, REMEMBERED)
    }

    fn with_capacity(floor: MessageId, capacity: usize) -> Self {
        Self { known: HashSet::default(), order: VecDeque::new(), floor, capacity }
    }

    /// Notes an id; false if it is certainly new.
    pub(super) fn note(&mut self, id: MessageId) -> bool {
        if id <= self.floor || !self.known.insert(id) {
            return true;
        }
        self.order.push_back(id);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
            self.floor = self.floor.max(oldest);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What has been noted is never called new again, however small the memory and mixed the order.
        #[test]
        fn never_calls_a_repeat_new(ids in prop::collection::vec(1u64..60, 1..200), floor in 0u64..20) {
            let mut recent = RecentIds::with_capacity(MessageId(floor), 5);
            let mut noted = std::collections::HashSet::new();
            for id in ids {
                let maybe = recent.note(MessageId(id));
                prop_assert!(maybe || (!noted.contains(&id) && id > floor));
                noted.insert(id);
            }
        }
    }

    #[test]
    fn growing_ids_are_new() {
        let mut recent = RecentIds::with_capacity(MessageId(10), 3);
        assert!((11..100).all(|id| !recent.note(MessageId(id))));
        assert!(recent.note(MessageId(50)));
    }
}
