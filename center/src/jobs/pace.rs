//! How many users a paced job is released to next. No I/O and no clock: times and counts come in.
//!
//! The pacer holds a *credit* of users, which grows with time at the job's rate. A slice costs what it is expected to reach,
//! by the audience that is online. What the rooms then say they sent corrects the credit, so an audience that was counted
//! wrong, that comes and goes, or that is caught up with after a bind, makes no lasting difference.

use std::time::Duration;

use cluster::NodeId;
use hashbrown::HashMap;

use super::ring::RING;

/// Slices of one second.
const A_SECOND: f64 = 4.0;
/// Time from slice to slice.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// Slices of a job at most. Each is an entry of the log: at five seconds for each thousand of them, that is what a log of
/// several jobs can hold and be read through.
pub(crate) const SLICES_MAX: f64 = 20_000.0;

/// Credit that is saved up at most, seconds: after a stall it is made up for within a few slices, which ten seconds hide.
const SAVED_S: f64 = 0.5;
/// Debt at most, seconds. A reconnect storm that catches up with a job sends at no rate of ours; the job waits so long for it.
const DEBT_S: f64 = 5.0;
/// No slice is wider than this part of the ring: audiences are miscounted when rooms come up, and a storm would follow.
const WIDEST: f64 = 1.0 / 20.0;

/// What the rooms have sent of a job, as a sum that outlives rooms and their counters.
#[derive(Debug, Default)]
struct Sent {
    /// The last count of each life of a room.
    seen: HashMap<NodeId, u64>,
    total: u64,
}

impl Sent {
    /// Takes counts of rooms; the first ever is where counting begins.
    fn add(&mut self, counts: &[(NodeId, u64)], first: bool) {
        for (room, count) in counts {
            let before = self.seen.insert(*room, *count);
            self.total += match before {
                // It began anew.
                Some(before) if *count < before => *count,
                Some(before) => count - before,
                None if first => 0,
                None => *count,
            };
        }
    }
}

/// A moment in a pace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    /// Expected to have been sent by then.
    expected: f64,
    /// In which counting it was.
    era: u64,
}

/// The pace of one job, at one center.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Users a second.
    rate: f64,
    credit: f64,
    /// When credit was last added, in time since the job was taken up.
    at: Option<Duration>,
    /// Expected to have been sent of all slices so far.
    expected: f64,
    sent: Sent,
    counted: bool,
    /// How often counting has begun anew.
    era: u64,
    /// How much more than expected was sent, as it was already corrected for.
    corrected: f64,
    /// What a slice reaches at least.
    least: f64,
}

impl Pacer {
    pub(crate) fn new(users_per_second: u32) -> Pacer {
        Pacer {
            rate: f64::from(users_per_second),
            credit: 0.0,
            at: None,
            expected: 0.0,
            sent: Sent::default(),
            counted: false,
            era: 0,
            corrected: 0.0,
            least: 0.0,
        }
    }

    /// Another rate; what was sent too much or too little stays known.
    pub(crate) fn set_rate(&mut self, users_per_second: u32) {
        self.rate = f64::from(users_per_second);
        self.bound();
    }

    /// The job was paused: no credit comes of that time.
    pub(crate) fn stop(&mut self) {
        self.at = None;
    }

    /// Another center released some of the job: what the rooms sent of that is no debt of this one, which would stand still for it
    /// when it comes back after a pause of its machine. Nor are its savings worth anything.
    pub(crate) fn begin_anew(&mut self) {
        self.credit = 0.0;
        self.sent = Sent::default();
        self.counted = false;
        self.era += 1;
    }

    /// A mark, to be taken before rooms are asked what they sent.
    pub(crate) fn mark(&self) -> Mark {
        Mark { expected: self.expected, era: self.era }
    }

    /// What rooms sent, by their counters; `mark` is of the moment before they were asked.
    pub(crate) fn sent(&mut self, counts: &[(NodeId, u64)], mark: Mark) {
        if mark.era != self.era {
            return;
        }
        let mark = mark.expected;
        self.sent.add(counts, !self.counted);
        if !self.counted {
            // What went before is of no account: another center may have paced it.
            self.counted = true;
            self.corrected = -mark;
        }
        let error = self.sent.total as f64 - mark;
        // Positive: more was sent than credit was taken for.
        self.credit -= error - self.corrected;
        self.corrected = error;
        self.bound();
    }

    /// Places of the ring to release at `now` (time since the job was taken up), to an `audience` that is online on the `bound`
    /// first places; `steps_share` is the part of the job's slices that this step may take. None: not now.
    pub(crate) fn next(&mut self, now: Duration, audience: u64, bound: u64, steps_share: f64) -> Option<u64> {
        let since = self.at.map_or(TICK, |at| now.saturating_sub(at));
        self.credit += self.rate * since.as_secs_f64();
        self.at = Some(now);
        let density = audience as f64 / bound as f64;
        let narrowest = bound as f64 / (SLICES_MAX * steps_share).max(1.0);
        // One more slice than the rate asks for would follow a wide one at once: half a slice's worth is waited for.
        self.least = (self.rate / A_SECOND / 2.0).max(narrowest * density);
        self.bound();
        if self.credit < self.least {
            return None;
        }
        // After a stall twice the usual, so that it is made up for over several slices.
        let users = self.credit.min(2.0 * (self.rate / A_SECOND)).max(self.least);
        let widest = (bound as f64 * WIDEST).max(1.0);
        let width = if density > 0.0 { users / density } else { widest };
        let width = width.clamp(narrowest, widest.max(narrowest)).ceil();
        Some((width as u64).clamp(1, RING))
    }

    /// A slice was released that is expected to reach so many.
    pub(crate) fn released(&mut self, users: f64) {
        self.credit -= users;
        self.expected += users;
        self.bound();
    }

    fn bound(&mut self) {
        self.credit = self.credit.clamp(-DEBT_S * self.rate, self.saved());
    }

    fn saved(&self) -> f64 {
        // A slice that is made wide for the sake of their number needs its whole worth.
        (SAVED_S * self.rate).max(2.0 * self.least).max(1.0)
    }
}
