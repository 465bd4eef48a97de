//! The time, as it is passed in.

/// One moment, read once a turn of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic, ms since the thread began.
    pub ms: u64,
    /// Wall clock, ms since 1970.
    pub unix_ms: u64,
}
