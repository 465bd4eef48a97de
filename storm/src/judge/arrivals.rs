//! Numbers in the order in which they came.

use serde::{Deserialize, Serialize};

/// A sequence of numbers, kept as runs of consecutive ones: what arrives in order and without holes costs 16 bytes
/// however long it is, and what does not is kept exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Arrivals {
    /// First number and length of each run.
    runs: Vec<(u64, u64)>,
}

impl Arrivals {
    /// Adds the next number.
    pub fn push(&mut self, number: u64) {
        match self.runs.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => self.runs.push((number, 1)),
        }
    }

    /// Adds the next number unless it needs a run that `runs_left` does not have; whether it was added.
    pub fn push_within(&mut self, number: u64, runs_left: &mut usize) -> bool {
        let before = self.runs.len();
        if before > 0 && *runs_left == 0 && self.last().is_none_or(|last| last + 1 != number) {
            return false;
        }
        self.push(number);
        // The first is free: what arrives as it should costs nothing.
        *runs_left = runs_left.saturating_sub(if before == 0 { 0 } else { self.runs.len() - before });
        true
    }

    /// How many numbers there are, repeats counted.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|(_, count)| count).sum()
    }

    /// Whether nothing came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The numbers, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().flat_map(|(first, count)| *first..first + count)
    }

    /// The number that came last.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.runs.last().map(|(first, count)| first + count - 1)
    }

    /// Whether `number` is in a sequence that is known to be ascending.
    #[must_use]
    pub(crate) fn ascending_contains(&self, number: u64) -> bool {
        let after = self.runs.partition_point(|(first, _)| *first <= number);
        after > 0 && {
            let (first, count) = self.runs[after - 1];
            number < first + count
        }
    }
}

impl FromIterator<u64> for Arrivals {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut arrivals = Self::default();
        for number in numbers {
            arrivals.push(number);
        }
        arrivals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_clean_sequence_is_one_run() {
        let arrivals: Arrivals = (1..=1_000_000).collect();
        assert_eq!(arrivals.runs, [(1, 1_000_000)]);
        assert_eq!(arrivals.last(), Some(1_000_000));
        assert!(arrivals.ascending_contains(1_000_000) && !arrivals.ascending_contains(0));
    }

    #[test]
    fn disorder_has_a_bound() {
        let (mut arrivals, mut left) = (Arrivals::default(), 2);
        let took = [5, 6, 1, 9, 10, 3, 11].map(|number| arrivals.push_within(number, &mut left));
        // 5 6, 1, 9 10: there is room for no more, but 11 goes on where 10 was.
        assert_eq!(took, [true, true, true, true, true, false, true]);
        assert_eq!((arrivals.len(), left), (6, 0));
    }

    proptest! {
        #[test]
        fn nothing_is_forgotten(numbers in prop::collection::vec(0u64..20, 0..100)) {
            let arrivals: Arrivals = numbers.iter().copied().collect();
            prop_assert_eq!(arrivals.len(), numbers.len() as u64);
            prop_assert_eq!(arrivals.iter().collect::<Vec<_>>(), numbers);
            let json = serde_json::to_string(&arrivals).unwrap();
            prop_assert_eq!(serde_json::from_str::<Arrivals>(&json).unwrap(), arrivals);
        }
    }
}
