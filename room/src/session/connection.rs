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
    /// When the budget was last filled up, in eighths of a second.
    budget_at: u32,
    pub(crate) heartbeat_s: u16,
    /// How long it may still take when it leaves, s.
    pub(crate) leave_s: u16,
    pub(crate) phase: Phase,
    pub(crate) bindings: u8,
    pub(crate) ups: u8,
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
            budget_at: eighths(now_ms),
            heartbeat_s: 0,
            leave_s: 0,
            phase: Phase::Handshake,
            bindings: 0,
            ups: 0,
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
        let now = eighths(now_ms);
        let earned = now.saturating_sub(self.budget_at).saturating_mul(limits.frames_per_second);
        self.budget = self.budget.saturating_add(earned).min(limits.frames_burst.saturating_mul(8));
        self.budget_at = now;
        if self.budget < 8 {
            return false;
        }
        self.budget -= 8;
        true
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
            Phase::Open => super::limits::Heartbeat::timeout_ms(self.heartbeat_s),
            Phase::Leaving => u64::from(self.leave_s) * 1_000,
            Phase::Closing => limits.linger_ms,
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
}
