//! Random waits, so that those who were told to come back do not come back together.

/// xorshift64*: eight bytes of state and a few instructions; nothing here needs to be unguessable.
#[derive(Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Anything from 0 to `bound`.
    pub(crate) fn up_to(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * (u64::from(bound) + 1)) >> 32) as u32
    }

    /// Anything from `least` to twice that.
    pub(crate) fn from(&mut self, least: u32) -> u32 {
        least.saturating_add(self.up_to(least))
    }
}
