//! What goes wrong in a run, and how often; drawn from the seed.

use client::backoff::Dice;

/// The faults of one run. Times in ms, chances in percent.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    /// Each segment takes from here to there, either way.
    pub(crate) delay: (u64, u64),
    /// Bytes of a segment at most.
    pub(crate) segment: usize,
    /// Bytes that a socket takes before the device has read any.
    pub(crate) window: usize,
    /// Answers of the cluster take from here to there, so they overtake each other.
    pub(crate) answer: (u64, u64),
    /// Questions to the cluster that fail.
    pub(crate) fail: u64,
    /// Deliveries and broadcasts that nobody hears of.
    pub(crate) lose: u64,
    /// Deliveries, acks and runs of the log that come twice.
    pub(crate) double: u64,
    /// Connections that break by themselves, at a random byte.
    pub(crate) cut: u64,
    /// Of these, one of the two ends learns of it only when it misses the other.
    pub(crate) half_open: u64,
    /// Turns of the room in which the rest of the room takes nothing from it.
    pub(crate) stall: u64,
    /// Messages and entries of one page.
    pub(crate) page: usize,
}

impl Weather {
    /// Nothing goes wrong, and everything takes a moment.
    pub(crate) fn calm() -> Self {
        Self {
            delay: (5, 5),
            segment: 1_400,
            window: 64 << 10,
            answer: (3, 3),
            fail: 0,
            lose: 0,
            double: 0,
            cut: 0,
            half_open: 0,
            stall: 0,
            page: 8,
        }
    }

    /// Any weather.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let mut pick = |of: &[u64]| of[dice.below(of.len() as u64) as usize];
        let (delay, answer) = (pick(&[1, 30, 400]), pick(&[1, 50, 2_000]));
        Self {
            delay: (1, delay),
            segment: pick(&[1, 7, 100, 1_400]) as usize,
            window: pick(&[40, 200, 2_000, 64 << 10]) as usize,
            answer: (1, answer),
            fail: pick(&[0, 0, 10, 40]),
            lose: pick(&[0, 10, 50]),
            double: pick(&[0, 20]),
            cut: pick(&[0, 30, 80]),
            half_open: pick(&[0, 50]),
            stall: pick(&[0, 0, 50, 95]),
            page: pick(&[1, 3, 20]) as usize,
        }
    }

    /// The faults are over; what is slow stays slow.
    pub(crate) fn clear(&mut self) {
        let calm = Self::calm();
        *self = Self { segment: self.segment, window: self.window.max(200), page: self.page, ..calm };
    }
}
