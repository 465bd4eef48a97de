//! What becomes of broadcasts, counted once for each user.
//!
//! A user has one cursor in its app's log. Whoever moves it says what became of the broadcasts that it passes; what
//! the kept cursor has passed before does not count again. So a repeat counts nothing twice, whoever repeats it.

use std::collections::{BTreeMap, HashMap};

use wire::id::{AppId, Bseq, Cursor, MessageId};

use crate::model::InboxKey;

/// What became of a broadcast for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreditKind {
    /// The device has it.
    Acked = 0,
    /// Its time was over.
    Expired = 1,
    /// It was taken back.
    Recalled = 2,
    /// The room could not keep it for the user.
    Dropped = 3,
}

/// One broadcast that a cursor passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The entry of the log, in the epoch of the cursor.
    pub bseq: Bseq,
    /// The message.
    pub id: MessageId,
    /// What became of it.
    pub kind: CreditKind,
}

/// A cursor that is to move, and what it passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The user.
    pub key: InboxKey,
    /// Where it stands now, unless the one that is kept is further.
    pub cursor: Cursor,
    /// Of those, what counts is between the kept cursor and this one.
    pub credits: Vec<Credit>,
}

/// Users by what became of a broadcast for them, and what rooms have sent of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Devices that have it.
    pub acked: u64,
    /// Its time was over.
    pub expired: u64,
    /// It was taken back.
    pub recalled: u64,
    /// The room could not keep it.
    pub dropped: u64,
    /// Frames handed to sockets, as rooms last told.
    pub sent: u64,
}

/// What a transaction adds to the counts, and where its cursors end.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Users by [`CreditKind`]. In order, so that two transactions wait for each other and do not lock each other out.
    pub(super) counts: BTreeMap<(MessageId, AppId), [u64; 4]>,
    /// Each user once, the furthest cursor.
    pub(super) cursors: Vec<(InboxKey, Cursor)>,
}

impl Tally {
    /// Adds up what counts, given the kept cursors of the users that have one.
    pub(super) fn of(passed: &[Passed], kept: impl IntoIterator<Item = (InboxKey, Cursor)>) -> Self {
        let mut stands: HashMap<InboxKey, Cursor> = kept.into_iter().collect();
        let mut counts: BTreeMap<(MessageId, AppId), [u64; 4]> = BTreeMap::new();
        let mut order = Vec::new();
        let mut seen: HashMap<&InboxKey, ()> = HashMap::new();
        for Passed { key, cursor, credits } in passed {
            let before = stands.get(key).copied();
            let mut last = None;
            let mut sorted: Vec<&Credit> = credits.iter().collect();
            sorted.sort_by_key(|credit| credit.bseq);
            for credit in sorted {
                let at = Cursor { epoch: cursor.epoch, bseq: credit.bseq };
                let new = before.is_none_or(|before| is_before(before, at)) && last != Some(credit.bseq);
                if new && credit.bseq <= cursor.bseq {
                    counts.entry((credit.id, key.app())).or_default()[credit.kind as usize] += 1;
                    last = Some(credit.bseq);
                }
            }
            if before.is_none_or(|before| is_before(before, *cursor)) {
                stands.insert(key.clone(), *cursor);
            }
            if seen.insert(key, ()).is_none() {
                order.push(key);
            }
        }
        let cursors = order.into_iter().map(|key| (key.clone(), stands[key])).collect();
        Self { counts, cursors }
    }
}

/// Whether a cursor stands before another.
pub(crate) fn is_before(a: Cursor, b: Cursor) -> bool {
    (a.epoch, a.bseq) < (b.epoch, b.bseq)
}

#[cfg(test)]
mod tests {
    use wire::id::{Epoch, Uid};

    use super::*;

    fn key() -> InboxKey {
        InboxKey::new(AppId(1), Uid::new("a").unwrap())
    }

    fn at(epoch: u64, bseq: u64) -> Cursor {
        Cursor { epoch: Epoch(epoch), bseq: Bseq(bseq) }
    }

    fn passed(cursor: Cursor, bseqs: &[u64]) -> Passed {
        let credit = |n: &u64| Credit { bseq: Bseq(*n), id: MessageId(100 + n), kind: CreditKind::Acked };
        Passed { key: key(), cursor, credits: bseqs.iter().map(credit).collect() }
    }

    fn counted(list: &[Passed], kept: Option<Cursor>) -> Vec<u64> {
        let tally = Tally::of(list, kept.map(|kept| (key(), kept)));
        let once = |(id, counts): (&(MessageId, AppId), &[u64; 4])| {
            assert_eq!(counts[0], 1, "{id:?}");
            id.0.0 - 100
        };
        tally.counts.iter().map(once).collect()
    }

    #[test]
    fn only_what_lies_between_the_cursors_counts() {
        assert_eq!(counted(&[passed(at(1, 5), &[3, 4, 5, 6])], Some(at(1, 3))), [4, 5]);
        assert_eq!(counted(&[passed(at(1, 5), &[3, 3, 4])], None), [3, 4]);
        assert!(counted(&[passed(at(1, 5), &[4])], Some(at(2, 0))).is_empty(), "an older log");
        assert_eq!(counted(&[passed(at(2, 5), &[4])], Some(at(1, 9))), [4], "a newer log");
    }

    #[test]
    fn two_of_one_user_follow_each_other() {
        let list = [passed(at(1, 5), &[2, 5]), passed(at(1, 4), &[4]), passed(at(1, 7), &[2, 5, 7])];
        assert_eq!(counted(&list, Some(at(1, 1))), [2, 5, 7]);
        let tally = Tally::of(&list, None);
        assert_eq!(tally.cursors, [(key(), at(1, 7))]);
    }
}
