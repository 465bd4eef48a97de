//! A device's cursor in one app's broadcast log.

use wire::id::{Bseq, Cursor};

use crate::moment::Moment;

/// A binding's cursor. Broadcasts that are not for this binding are not sent, so gaps are no holes.
#[derive(Debug)]
pub(super) struct Broadcasts {
    received: Cursor,
    confirmed: Bseq,
    acked: Bseq,
    known: bool,
    /// Broadcasts confirmed and not acked, up to the most that fit.
    unacked: u16,
    /// When `confirmed` came to be, as the last 32 bits of the moment's milliseconds.
    confirmed_at: u32,
    /// Likewise when the first of what is not acked was confirmed.
    unacked_since: u32,
}

impl Broadcasts {
    pub(super) fn new(start: Option<Cursor>) -> Self {
        let at = start.unwrap_or_default();
        Self {
            received: at,
            confirmed: at.bseq,
            acked: at.bseq,
            known: start.is_some(),
            unacked: 0,
            confirmed_at: 0,
            unacked_since: 0,
        }
    }

    /// The cursor to keep over a restart.
    pub(super) fn resume(&self) -> Option<Cursor> {
        self.known.then_some(Cursor { epoch: self.received.epoch, bseq: self.confirmed })
    }

    /// The cursor to offer in a bind; the room does not go back behind it.
    pub(super) fn offer(&mut self) -> Option<Cursor> {
        self.acked = self.confirmed;
        self.resume()
    }

    /// What to offer to go on with after a broken connection: what has come, and what of it is done with.
    pub(super) fn offer_again(&mut self) -> (Cursor, Bseq) {
        self.acked = self.confirmed;
        (self.received, self.confirmed)
    }

    /// Continues where the room says after a bind.
    pub(super) fn bound(&mut self, at: Cursor) {
        let same = self.known && at.epoch == self.received.epoch;
        if !same || at.bseq > self.received.bseq || at.bseq < self.acked {
            self.received = at;
            self.confirmed = at.bseq;
            self.known = true;
        } else {
            self.confirmed = self.confirmed.max(at.bseq);
        }
        self.acked = at.bseq;
    }

    /// Moves on to `bseq`; false if it was there before.
    pub(super) fn accept(&mut self, bseq: Bseq) -> bool {
        let new = bseq > self.received.bseq;
        if new {
            self.received.bseq = bseq;
        }
        new
    }

    pub(super) fn received(&self) -> Cursor {
        self.received
    }

    /// The app is done with everything up to `at`.
    pub(super) fn confirm(&mut self, at: Cursor, now: Moment) -> bool {
        let news =
            at.epoch == self.received.epoch && at.bseq > self.confirmed && at.bseq <= self.received.bseq;
        if news {
            if self.to_ack().is_none() {
                self.unacked_since = now.0 as u32;
            }
            self.confirmed = at.bseq;
            self.unacked = self.unacked.saturating_add(1);
            self.confirmed_at = now.0 as u32;
        }
        news
    }

    /// How long the first of what is to be acked has been confirmed, ms.
    pub(super) fn unacked_ms(&self, now: Moment) -> u32 {
        (now.0 as u32).wrapping_sub(self.unacked_since)
    }

    /// How long what is to be acked has been confirmed, ms.
    pub(super) fn held_ms(&self, now: Moment) -> u32 {
        (now.0 as u32).wrapping_sub(self.confirmed_at)
    }

    /// The number to ack, if the room does not know it yet.
    pub(super) fn to_ack(&self) -> Option<Bseq> {
        (self.known && self.confirmed > self.acked).then_some(self.confirmed)
    }

    /// Times that something was confirmed since the last ack. What lies between two numbers of the log was not for this device.
    pub(super) fn unacked(&self) -> u32 {
        if self.to_ack().is_some() { u32::from(self.unacked).max(1) } else { 0 }
    }

    pub(super) fn acked(&mut self, bseq: Bseq) {
        self.acked = bseq;
        self.unacked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::id::Epoch;

    fn at(epoch: u64, bseq: u64) -> Cursor {
        Cursor { epoch: Epoch(epoch), bseq: Bseq(bseq) }
    }

    fn confirm(log: &mut Broadcasts, bseq: u64) -> bool {
        log.confirm(at(1, bseq), Moment(bseq * 1_000))
    }

    #[test]
    fn an_ack_says_how_long_it_waited_and_how_many_it_is_for() {
        let mut log = Broadcasts::new(None);
        log.bound(at(1, 5));
        assert_eq!(log.unacked(), 0);
        for bseq in [9, 700] {
            log.accept(Bseq(bseq));
            assert!(confirm(&mut log, bseq));
        }
        assert_eq!((log.unacked(), log.held_ms(Moment(701_500))), (2, 1_500));
        assert_eq!(log.unacked_ms(Moment(701_500)), 692_500);
        log.acked(Bseq(700));
        assert_eq!(log.unacked(), 0);
        // The clock's low half begins anew after 49 days.
        log.accept(Bseq(701));
        assert!(log.confirm(at(1, 701), Moment(u64::from(u32::MAX))));
        assert_eq!(log.held_ms(Moment(u64::from(u32::MAX) + 40)), 40);
    }

    #[test]
    fn each_once_with_gaps() {
        let mut log = Broadcasts::new(None);
        log.bound(at(1, 5));
        assert!(!log.accept(Bseq(5)) && log.accept(Bseq(8)) && !log.accept(Bseq(8)));
        assert!(confirm(&mut log, 8) && !confirm(&mut log, 8) && !confirm(&mut log, 9));
        assert_eq!(log.to_ack(), Some(Bseq(8)));
        assert_eq!(log.resume(), Some(at(1, 8)));
    }

    #[test]
    fn unconfirmed_ones_come_again_and_are_dropped() {
        let mut log = Broadcasts::new(Some(at(1, 5)));
        log.bound(at(1, 5));
        log.accept(Bseq(7));
        log.bound(at(1, 5));
        assert!(!log.accept(Bseq(7)) && log.accept(Bseq(9)));
    }

    #[test]
    fn the_room_knows_better() {
        let mut log = Broadcasts::new(Some(at(1, 50)));
        log.bound(at(1, 5));
        assert!(log.accept(Bseq(6)));
        log.bound(at(2, 0));
        assert!(log.accept(Bseq(1)));
    }
}
