//! What was promised, and the comparison with what came.

use std::collections::HashSet;

use super::{Arrivals, Findings, Stream, Violation};

/// What one stream of messages (to one user, or the broadcasts) was promised. Messages of a stream are sent one
/// after the other: the next only when the one before has been accepted or refused for good.
#[derive(Debug, Clone, Default)]
pub struct Promised {
    /// Accepted, in order.
    accepted: Arrivals,
    /// Sent, and nobody knows what became of it: it may come, once, or not.
    open: Option<u64>,
}

impl Promised {
    /// `number` is about to be sent for the first time.
    pub fn sent(&mut self, number: u64) {
        debug_assert!(self.open.is_none(), "one message of a stream at a time");
        self.open = Some(number);
    }

    /// `number` was accepted: it must come.
    pub fn accepted(&mut self, number: u64) {
        debug_assert!(self.accepted.last().is_none_or(|last| last < number), "sent in order");
        self.open = None;
        self.accepted.push(number);
    }

    /// `number` was refused for good: it must not come.
    pub fn refused(&mut self) {
        self.open = None;
    }

    /// What must come.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.accepted.len()
    }

    /// Sent, with an unknown end.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Compares with what came and notes every difference.
    pub fn judge(&self, stream: Stream, came: &Arrivals, findings: &mut Findings) {
        if self.accepted == *came {
            return;
        }
        let mut seen = HashSet::new();
        let mut highest = None;
        for number in came.iter() {
            if !self.accepted.ascending_contains(number) && self.open != Some(number) {
                findings.note(Violation::Stray { stream, number });
            }
            if !seen.insert(number) {
                findings.note(Violation::Doubled { stream, number });
            } else if let Some(after) = highest.filter(|highest| number < *highest) {
                findings.note(Violation::Disordered { stream, number, after });
            }
            highest = highest.max(Some(number));
        }
        for number in self.accepted.iter().filter(|number| !seen.contains(number)) {
            findings.note(Violation::Lost { stream, number });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: Stream = Stream::User(3);

    fn promised(numbers: impl IntoIterator<Item = u64>) -> Promised {
        let mut promised = Promised::default();
        for number in numbers {
            promised.sent(number);
            promised.accepted(number);
        }
        promised
    }

    fn judge(promised: &Promised, came: &[u64]) -> Findings {
        let mut findings = Findings::default();
        promised.judge(STREAM, &came.iter().copied().collect(), &mut findings);
        findings
    }

    #[test]
    fn everything_once_and_in_order_is_clean() {
        assert!(judge(&promised(1..=5), &[1, 2, 3, 4, 5]).is_clean());
        assert!(judge(&promised([]), &[]).is_clean());
    }

    #[test]
    fn each_fault_has_its_name() {
        let five = promised(1..=5);
        assert_eq!(judge(&five, &[1, 2, 4, 5]).first(), [Violation::Lost { stream: STREAM, number: 3 }]);
        assert_eq!(
            judge(&five, &[1, 2, 2, 3, 4, 5]).first(),
            [Violation::Doubled { stream: STREAM, number: 2 }]
        );
        assert_eq!(
            judge(&five, &[1, 3, 2, 4, 5]).first(),
            [Violation::Disordered { stream: STREAM, number: 2, after: 3 }]
        );
        assert_eq!(
            judge(&five, &[1, 2, 3, 4, 5, 9]).first(),
            [Violation::Stray { stream: STREAM, number: 9 }]
        );
    }

    #[test]
    fn a_message_of_unknown_end_may_come_once() {
        let mut p = promised([1, 2]);
        p.sent(3);
        assert!(p.is_open());
        assert!(judge(&p, &[1, 2]).is_clean());
        assert!(judge(&p, &[1, 2, 3]).is_clean());
        assert_eq!(judge(&p, &[1, 2, 3, 3]).doubled, 1);
    }

    #[test]
    fn what_was_refused_must_not_come() {
        let mut p = promised([1]);
        p.sent(2);
        p.refused();
        p.sent(3);
        p.accepted(3);
        assert!(judge(&p, &[1, 3]).is_clean());
        assert_eq!(judge(&p, &[1, 2, 3]).stray, 1);
    }

    proptest! {
        /// Whatever is taken out, put in twice or moved is found, and counted exactly where it can be.
        #[test]
        fn damage_is_found(n in 1u64..60, lose in prop::collection::btree_set(0usize..60, 0..5),
                           double in prop::option::of(0usize..60), swap in prop::option::of(0usize..60)) {
            let mut came: Vec<u64> = (1..=n).filter(|k| !lose.contains(&(*k as usize - 1))).collect();
            let lost = n - came.len() as u64;
            let mut doubled = 0;
            if let Some(at) = double.filter(|at| *at < came.len()) {
                came.push(came[at]);
                doubled = 1;
            }
            let mut swapped = false;
            if let Some(at) = swap.filter(|at| at + 1 < came.len() && came[*at] != came[at + 1]) {
                came.swap(at, at + 1);
                swapped = true;
            }
            let f = judge(&promised(1..=n), &came);
            prop_assert_eq!(f.lost, lost);
            prop_assert_eq!(f.doubled, doubled);
            prop_assert_eq!(f.stray, 0);
            if doubled == 0 {
                prop_assert_eq!(f.disordered, u64::from(swapped));
            }
            prop_assert_eq!(f.is_clean(), lost == 0 && doubled == 0 && !swapped);
        }
    }
}
