//! One connection, as the sessions see it: 32 bytes, no buffer, no timer.

use super::{binding::NONE, limits::Limits};

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Accepted; Connect has not come.
    Handshake,
    /// Connect was answered; nothing has been bound yet.
    Greeted,
    /// Has been bound at least once.
    Open,
    /// Told to leave; closed if it does not.
    Leaving,
    /// The Close frame is on its way.
    Closing,
    /// Its socket broke without a word. It has none, and its bindings are kept for the device to come back.
    Ghost,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) generation: u32,
    /// First of its bindings, which are a list through the bindings' slab.
    pub(crate) first: u32,
    /// When the phase's time began: for an open connection when it was last heard. Seconds lose too much, and
    /// milliseconds in 32 bits last 49 days, so: eighths of a second, which last 17 years.
    since: u32,
    /// Frames that it may still send, in eighths of a frame.
    budget: u32,
    /// Bytes that it may still send.
    bytes: u32,
    /// When the budgets were last filled up, in eighths of a second.
    budget_at: u32,
    /// How long the device may be silent, or when it was told to leave how long it may still take, s.
    pub(crate) allowed_s: u16,
    /// When the entry of the timer wheel that counts comes up; those from before are passed over.
    pub(crate) due: u16,
    pub(crate) phase: Phase,
    pub(crate) bindings: u8,
    pub(crate) ups: u8,
    /// Which of its resume tokens is good. The last number is never given out, so none is good twice.
    pub(crate) serial: u8,
}

/// Eighths of a second.
fn eighths(ms: u64) -> u32 {
    (ms / 125) as u32
}

impl Session {
    pub(crate) fn new(generation: u32, now_ms: u64, limits: &Limits) -> Self {
        Self {
            generation,
            first: NONE,
            since: eighths(now_ms),
            budget: limits.frames_burst.saturating_mul(8),
            bytes: limits.bytes_burst,
            budget_at: eighths(now_ms),
            allowed_s: 0,
            due: 0,
            phase: Phase::Handshake,
            bindings: 0,
            ups: 0,
            serial: 0,
        }
    }

    /// Notes a sign of life. Only an open connection earns time by it: one that has bound nothing could otherwise stay
    /// for ever without ever showing a token.
    pub(crate) fn heard(&mut self, now_ms: u64) {
        if self.phase == Phase::Open {
            self.since = eighths(now_ms);
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, now_ms: u64) {
        self.phase = phase;
        self.since = eighths(now_ms);
    }

    /// Takes one frame off the budget; `false` if there is none left.
    pub(crate) fn spend(&mut self, now_ms: u64, limits: &Limits) -> bool {
        self.earn(now_ms, limits);
        let left = self.budget.checked_sub(8);
        self.budget = left.unwrap_or(self.budget);
        left.is_some()
    }

    /// Takes bytes off the budget; `false` if there are not so many left.
    pub(crate) fn spend_bytes(&mut self, count: usize, now_ms: u64, limits: &Limits) -> bool {
        self.earn(now_ms, limits);
        let left = u32::try_from(count).ok().and_then(|count| self.bytes.checked_sub(count));
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }

    /// Fills the budgets up by what the time since the last look has earned.
    fn earn(&mut self, now_ms: u64, limits: &Limits) {
        let now = eighths(now_ms);
        let passed = now.saturating_sub(self.budget_at);
        if passed == 0 {
            return;
        }
        self.budget_at = now;
        let frames = self.budget.saturating_add(passed.saturating_mul(limits.frames_per_second));
        self.budget = frames.min(limits.frames_burst.saturating_mul(8));
        let earned = u64::from(passed) * u64::from(limits.bytes_per_second) / 8;
        let bytes = u64::from(self.bytes).saturating_add(earned).min(limits.bytes_burst.into());
        self.bytes = bytes as u32;
    }

    /// Gives a frame back that cost nothing: an ack of something that was sent. Devices cannot make more of them than
    /// they are sent messages, and one that catches up must not be closed for acking fast.
    pub(crate) fn refund(&mut self) {
        self.budget = self.budget.saturating_add(8);
    }

    /// When this connection has to be looked at, ms.
    pub(crate) fn deadline_ms(&self, limits: &Limits) -> u64 {
        let allowed = match self.phase {
            Phase::Handshake => limits.handshake_ms,
            Phase::Greeted => limits.first_bind_ms,
            Phase::Open => super::limits::Heartbeat::timeout_ms(self.allowed_s),
            Phase::Leaving => u64::from(self.allowed_s) * 1_000,
            Phase::Closing => limits.linger_ms,
            // Off while there are ghosts: they go at their time or the next, as their entries come up.
            Phase::Ghost => limits.resume_ms.unwrap_or(0),
        };
        // `since` was rounded down; a deadline must not be early.
        (u64::from(self.since) + 1) * 125 + allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_refills_at_its_rate() {
        let limits = Limits { frames_per_second: 10, frames_burst: 20, ..Limits::default() };
        let mut session = Session::new(1, 0, &limits);
        let spent = |session: &mut Session, now| (0..100).take_while(|_| session.spend(now, &limits)).count();
        assert_eq!(spent(&mut session, 0), 20);
        assert_eq!(spent(&mut session, 500), 5);
        assert_eq!(spent(&mut session, 60_000), 20, "what is saved up is bounded");
    }

    #[test]
    fn bytes_and_frames_are_earned_by_the_same_clock() {
        let limits = Limits {
            frames_per_second: 8,
            frames_burst: 8,
            bytes_per_second: 8_000,
            bytes_burst: 10_000,
            ..Limits::default()
        };
        let mut session = Session::new(1, 0, &limits);
        assert!(session.spend_bytes(10_000, 0, &limits) && !session.spend_bytes(1, 124, &limits));
        assert_eq!((0..100).take_while(|_| session.spend(124, &limits)).count(), 8);
        // An eighth of a second is a thousand bytes and one frame, whichever is asked about first.
        assert!(session.spend(250, &limits) && session.spend(250, &limits) && !session.spend(250, &limits));
        assert!(session.spend_bytes(2_000, 250, &limits) && !session.spend_bytes(1, 250, &limits));
        assert!(session.spend_bytes(10_000, 3_600_000, &limits), "what is saved up is bounded");
        assert!(!session.spend_bytes(1, 3_600_000, &limits));
        assert!(!session.spend_bytes(usize::MAX, 7_200_000, &limits));
    }
}
