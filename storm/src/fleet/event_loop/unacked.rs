//! When the messages that no ack has covered yet were meant to be sent.

use std::num::NonZeroU32;

/// Names a device's list; four bytes, and nothing where there is no list.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle(Option<NonZeroU32>);

impl Handle {
    /// Whether there is a message without an ack.
    pub(super) fn is_some(self) -> bool {
        self.0.is_some()
    }
}

/// The lists of all devices of a worker. Few devices have one at a time, so lists are lent: no message allocates.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    lists: Vec<Vec<u64>>,
    free: Vec<NonZeroU32>,
}

impl Unacked {
    /// Adds a message.
    pub(super) fn push(&mut self, handle: &mut Handle, sent_ns: u64) {
        let number = *handle.0.get_or_insert_with(|| match self.free.pop() {
            Some(number) => number,
            None => {
                self.lists.push(Vec::new());
                // One list a device at most, and devices are counted in 32 bits.
                NonZeroU32::new(self.lists.len() as u32).unwrap_or(NonZeroU32::MIN)
            }
        });
        self.lists[number.get() as usize - 1].push(sent_ns);
    }

    /// Ends a list; `each` is called for each message of it.
    pub(super) fn end(&mut self, handle: &mut Handle, each: impl FnMut(u64)) {
        let Some(number) = handle.0.take() else { return };
        self.lists[number.get() as usize - 1].drain(..).for_each(each);
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_apart_and_used_again() {
        let (mut all, mut a, mut b) = (Unacked::default(), Handle::default(), Handle::default());
        all.push(&mut a, 1);
        all.push(&mut b, 2);
        all.push(&mut a, 3);
        let mut seen = Vec::new();
        all.end(&mut a, |ns| seen.push(ns));
        assert_eq!((seen.as_slice(), a.is_some(), b.is_some()), ([1, 3].as_slice(), false, true));
        all.push(&mut a, 4);
        assert_eq!(all.lists.len(), 2);
        all.end(&mut a, |ns| seen.push(ns));
        all.end(&mut a, |_| panic!("it has ended"));
        assert_eq!(seen, [1, 3, 4]);
    }
}
