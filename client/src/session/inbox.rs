//! A device's place in one inbox: order, holes, duplicates, epochs and cumulative confirmation.

use wire::id::{MessageId, Position, Seq};

/// What a numbered message is to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next one: hand it out.
    New,
    /// It was there before, under this number or another.
    Repeat,
    /// Numbers before it are missing: the room broke the protocol.
    Hole,
}

/// A device's place in one inbox.
#[derive(Debug)]
pub(super) struct Inbox {
    /// The last message that came. The room continues after it.
    received: Position,
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
    recent: Recent,
}

impl Inbox {
    pub(super) fn new(start: Option<Position>, recent_ids: usize) -> Self {
        let at = start.unwrap_or_default();
        Self {
            received: at,
            handed_out: at,
            confirmed: at,
            acked: at,
            older: None,
            here: at.seq,
            known: start.is_some(),
            recent: Recent::new(recent_ids),
        }
    }

    /// The place to keep over a restart.
    pub(super) fn resume(&self) -> Option<Position> {
        self.known.then_some(self.confirmed)
    }

    /// The place to offer in a bind, which acks it.
    pub(super) fn offer(&mut self) -> Option<Position> {
        self.acked = self.confirmed;
        self.older = None;
        self.resume()
    }

    /// Continues where the room says: after a bind, or after it has rebuilt the inbox.
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

    pub(super) fn accept(&mut self, seq: Seq, skip: u64, id: MessageId) -> Verdict {
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
        if self.recent.insert(id) {
            self.handed_out = self.received;
            return Verdict::New;
        }
        // Handed out before, under another number.
        self.settle();
        Verdict::Repeat
    }

    /// The app is done with everything up to `at`. Whether that was news.
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

    /// The app is done with everything.
    pub(super) fn confirm_all(&mut self) {
        self.confirmed = self.received;
    }

    /// Once all that was handed out is done with, so is all that came.
    fn settle(&mut self) {
        if self.confirmed.reaches(self.handed_out) {
            self.confirmed = self.received;
        }
    }

    /// The last message that came.
    pub(super) fn received(&self) -> Position {
        self.received
    }

    /// The place to ack next, if there is one that the room does not know of.
    pub(super) fn to_ack(&self) -> Option<Position> {
        let here = Position { epoch: self.received.epoch, seq: self.confirmed.seq.min(self.here) };
        let news = self.confirmed.epoch == here.epoch && here != self.acked && here.reaches(self.acked);
        self.older.or((self.known && news).then_some(here))
    }

    /// How many messages the next ack would cover, as far as can be told.
    pub(super) fn unacked(&self) -> u64 {
        self.to_ack().map_or(0, |at| {
            if at.epoch == self.acked.epoch { at.seq.0.saturating_sub(self.acked.seq.0) } else { 1 }
        })
    }

    /// The room has been told.
    pub(super) fn acked(&mut self, at: Position) {
        self.acked = at;
        self.older = None;
    }

    /// The least place in the present epoch that the room may send this device back to.
    fn floor(&self) -> Seq {
        if self.confirmed.epoch == self.received.epoch { self.confirmed.seq } else { Seq::ZERO }
    }

    fn restart(&mut self, at: Position) {
        self.received = at;
        self.handed_out = at;
        self.confirmed = at;
        self.acked = at;
        self.older = None;
        self.known = true;
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

/// The last ids, oldest overwritten. Holds no memory until the first comes.
#[derive(Debug)]
pub(super) struct Recent {
    ids: Vec<MessageId>,
    limit: u32,
    oldest: u32,
}

impl Recent {
    pub(super) fn new(limit: usize) -> Self {
        Self { ids: Vec::new(), limit: u32::try_from(limit).unwrap_or(u32::MAX), oldest: 0 }
    }

    /// Remembers an id; false if it was known. Id 0 names nothing and is always new.
    pub(super) fn insert(&mut self, id: MessageId) -> bool {
        if id.0 == 0 || self.limit == 0 {
            return true;
        }
        if self.ids.contains(&id) {
            return false;
        }
        if self.ids.len() < self.limit as usize {
            self.ids.push(id);
        } else {
            self.ids[self.oldest as usize] = id;
            self.oldest = (self.oldest + 1) % self.limit;
        }
        true
    }
}

#[cfg(test)]
mod tests;
