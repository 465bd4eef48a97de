//! What a binding has under way, one bit each.

/// Bits of a binding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    /// A load is under way.
    pub(crate) const LOADING: Self = Self(1);
    /// Something came during that load which it may have missed.
    pub(crate) const AGAIN: Self = Self(1 << 1);
    /// The inbox goes on once the socket has drained.
    pub(crate) const BEHIND: Self = Self(1 << 2);
    /// In the list of those that ask again at a later tick.
    pub(crate) const PARKED: Self = Self(1 << 3);
    /// In the list of those whose ack is to be handed over.
    pub(crate) const DIRTY: Self = Self(1 << 4);
    /// The numbering has changed since the bind: an ack that does not name its epoch cannot be understood.
    pub(crate) const REBASED: Self = Self(1 << 5);

    /// The load under way began after something that the device has not got: its answer is of no use.
    pub(crate) const STALE: Self = Self(1 << 6);
    /// The connection has, or had, another binding of the app: its broadcasts name it, so that the device knows whose cursor
    /// each of them moves.
    pub(crate) const SHARES_APP: Self = Self(1 << 7);

    pub(crate) fn has(self, bit: Self) -> bool {
        self.0 & bit.0 != 0
    }

    pub(crate) fn set(&mut self, bit: Self) {
        self.0 |= bit.0;
    }

    /// Takes the bit away and tells whether it was there.
    pub(crate) fn take(&mut self, bit: Self) -> bool {
        let had = self.has(bit);
        self.0 &= !bit.0;
        had
    }
}
