//! The numbers by which a device knows its place in one inbox.

use wire::id::{Position, Seq};

use super::Verdict;

/// What is received, handed out, confirmed and acked of one inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// The last message that came. The room continues after it.
    pub(super) received: Position,
    /// The last message that was handed out. What came after it were repeats.
    handed_out: Position,
    /// The last message that is done with. In an earlier epoch than `received` while the app has not
    /// confirmed what was handed out before the inbox was rebuilt.
    confirmed: Position,
    /// Last place that the room was told.
    acked: Position,
    /// Confirmed in an earlier epoch, and the room is still to be told: it knows by birth which messages
    /// are meant.
    older: Option<Position>,
    /// Last number that came on this connection: what came on earlier ones is not acked on this one before
    /// the room has sent it again, so that a room can tell a device that acks what it was never sent.
    here: Seq,
    /// Whether the device has a place at all; before its first bind it has none.
    known: bool,
}

impl Places {
    /// All that came up to `at` is done with, and the room knows.
    pub(super) fn at_rest(at: Position, known: bool) -> Self {
        Self { received: at, handed_out: at, confirmed: at, acked: at, older: None, here: at.seq, known }
    }

    /// The one place that says it all, if there is one, and whether it is known.
    pub(super) fn rest(&self) -> Option<(Position, bool)> {
        (*self == Self::at_rest(self.received, self.known)).then_some((self.received, self.known))
    }

    pub(super) fn resume(&self) -> Option<Position> {
        self.known.then_some(self.confirmed)
    }

    pub(super) fn offer(&mut self) -> Option<Position> {
        self.acked = self.confirmed;
        self.older = None;
        self.resume()
    }

    /// What has come, and how much of it in the present epoch is done with, to go on with on another connection. The room
    /// takes the latter as acked.
    pub(super) fn offer_again(&mut self) -> (Position, Seq) {
        if self.confirmed.epoch == self.received.epoch {
            self.acked = self.confirmed;
            return (self.received, self.confirmed.seq);
        }
        // Its ack may have been lost with the connection.
        self.older = Some(self.confirmed);
        (self.received, Seq::ZERO)
    }

    /// The room goes on after the last that came.
    pub(super) fn resumed(&mut self) {
        self.here = self.received.seq;
    }

    pub(super) fn continue_at(&mut self, at: Position) {
        self.continue_after(at);
        self.here = at.seq;
    }

    fn continue_after(&mut self, at: Position) {
        let all_done = self.confirmed == self.received;
        if self.known && at.epoch > self.received.epoch && !all_done {
            // What the app still has is confirmed by its old numbers.
            self.received = at;
        } else if !self.known || at.epoch != self.received.epoch {
            self.restart(at);
        } else if at.seq > self.received.seq || at.seq < self.floor() {
            // Ahead: the rest was acked by another device of this user. Behind what was offered: the store
            // has never had what this device claims. The room knows better in both cases.
            self.restart(at);
        } else if self.confirmed.epoch == at.epoch {
            // Between the two: what comes again up to `received` was handed out before.
            self.confirmed = self.confirmed.max_of(at);
            self.settle();
        }
    }

    /// A number has come. [`Verdict::New`] is to be followed by [`hand_out`](Self::hand_out), or by
    /// [`settle`](Self::settle) where the message was there before under another number.
    pub(super) fn arrive(&mut self, seq: Seq, skip: u64) -> Verdict {
        if seq <= self.received.seq {
            self.here = self.here.max(seq);
            // The room does not know that this one is done with: tell it again.
            if self.confirmed.epoch == self.received.epoch && seq <= self.confirmed.seq {
                self.acked = Position { seq: Seq(seq.0.saturating_sub(1)), ..self.received };
            }
            return Verdict::Repeat;
        }
        if seq.0 - self.received.seq.0 - 1 > skip {
            return Verdict::Hole;
        }
        self.received.seq = seq;
        self.here = seq;
        Verdict::New
    }

    /// What has just come is handed out.
    pub(super) fn hand_out(&mut self) {
        self.handed_out = self.received;
    }

    pub(super) fn confirm(&mut self, at: Position) -> bool {
        if !self.known || !at.reaches(self.confirmed) || !self.received.reaches(at) {
            return false;
        }
        let before = self.confirmed;
        if at.epoch < self.received.epoch && at != before {
            self.older = Some(at);
        }
        self.confirmed = at;
        self.settle();
        self.confirmed != before
    }

    pub(super) fn confirm_all(&mut self) {
        self.confirmed = self.received;
    }

    /// Once all that was handed out is done with, so is all that came.
    pub(super) fn settle(&mut self) {
        if self.confirmed.reaches(self.handed_out) {
            self.confirmed = self.received;
        }
    }

    pub(super) fn next_ack(&self) -> Option<Position> {
        let here = Position { epoch: self.received.epoch, seq: self.confirmed.seq.min(self.here) };
        let news = self.confirmed.epoch == here.epoch && here != self.acked && here.reaches(self.acked);
        self.older.or((self.known && news).then_some(here))
    }

    pub(super) fn unacked(&self) -> u64 {
        self.next_ack().map_or(0, |at| {
            // What is told again, because it may have been lost, counts too.
            let new =
                if at.epoch == self.acked.epoch { at.seq.0.saturating_sub(self.acked.seq.0) } else { 1 };
            new.max(1)
        })
    }

    pub(super) fn acked(&mut self, at: Position) {
        self.acked = at;
        self.older = None;
    }

    /// The least place in the present epoch that the room may send this device back to.
    fn floor(&self) -> Seq {
        if self.acked.epoch == self.received.epoch { self.acked.seq } else { Seq::ZERO }
    }

    fn restart(&mut self, at: Position) {
        // Not `here`: only `continue_at` knows what this connection has brought.
        *self = Self { here: self.here, ..Self::at_rest(at, true) };
    }
}

/// Order of places: epochs grow, and so do numbers within one.
trait Order {
    fn reaches(self, other: Self) -> bool;
    fn max_of(self, other: Self) -> Self;
}

impl Order for Position {
    fn reaches(self, other: Self) -> bool {
        (self.epoch, self.seq) >= (other.epoch, other.seq)
    }

    fn max_of(self, other: Self) -> Self {
        if self.reaches(other) { self } else { other }
    }
}
