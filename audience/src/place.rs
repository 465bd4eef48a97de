//! Every user has a place on a ring of 2^32, by which a broadcast is released in slices and a canary is chosen.

use std::ops::RangeInclusive;

/// Size of the ring.
pub const PLACES: u64 = 1 << 32;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// A user's place on the ring. It is the same for ever and on every machine: what was released up to some place stays so, and
/// a canary of a greater share reaches whom a smaller one did.
///
/// FNV-1a of the app's number (4 bytes, little endian) and the name, then murmur3's finaliser, because FNV alone hardly moves
/// the upper bits for names that differ at their end; the upper half of that.
#[must_use]
pub fn place(app: u32, uid: &str) -> u32 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    let hash = app.to_le_bytes().iter().fold(FNV_OFFSET, step);
    let mut hash = uid.as_bytes().iter().fold(hash, step);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    (hash >> 32) as u32
}

/// A part of the ring: places in [from, below), at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    from: u32,
    last: u32,
}

impl Slice {
    /// The whole ring.
    pub const WHOLE: Self = Self { from: 0, last: u32::MAX };

    /// Places in [from, below); `below` 0 = the end of the ring. `None` if there is none, or it ends beyond the ring.
    #[must_use]
    pub fn new(from: u64, below: u64) -> Option<Self> {
        let below = if below == 0 { PLACES } else { below };
        let is_part = from < below && below <= PLACES;
        is_part.then(|| Self { from: from as u32, last: (below - 1) as u32 })
    }

    /// Whether a place is on it. One comparison: it is asked for every user and slice.
    #[must_use]
    pub fn contains(self, place: u32) -> bool {
        place.wrapping_sub(self.from) <= self.last - self.from
    }

    /// Whether it is the whole ring.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self == Self::WHOLE
    }

    /// The first place and the first that is not on it any more.
    #[must_use]
    pub fn bounds(self) -> (u64, u64) {
        (self.from.into(), u64::from(self.last) + 1)
    }

    /// Its places.
    #[must_use]
    pub fn places(self) -> RangeInclusive<u32> {
        self.from..=self.last
    }

    /// How large a part of the ring it is, 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        let (from, below) = self.bounds();
        (below - from) as f64 / PLACES as f64
    }
}

impl Default for Slice {
    fn default() -> Self {
        Self::WHOLE
    }
}
