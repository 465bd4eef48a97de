//! A device's place in one inbox: order, holes, duplicates, epochs and cumulative confirmation.

mod places;

use wire::id::{MessageId, Position, Seq};

use self::places::Places;

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

/// A device's place in one inbox. Most inboxes are at rest nearly always: everything that came is done with and acked,
/// and one position says it all.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Where everything stands, while there are no `places`.
    at: Position,
    /// Where it does not stand at one place; 96 bytes less in each of a million devices at rest.
    places: Option<Box<Places>>,
    /// Made when the first message comes.
    recent: Option<Box<Recent>>,
    recent_ids: u32,
    /// Whether the device has a place at all, while there are no `places`.
    known: bool,
}

impl Inbox {
    pub(super) fn new(start: Option<Position>, recent_ids: usize) -> Self {
        Self {
            at: start.unwrap_or_default(),
            places: None,
            recent: None,
            recent_ids: u32::try_from(recent_ids).unwrap_or(u32::MAX),
            known: start.is_some(),
        }
    }

    /// The place to keep over a restart.
    pub(super) fn resume(&self) -> Option<Position> {
        self.places().resume()
    }

    /// The place to offer in a bind, which acks it.
    pub(super) fn offer(&mut self) -> Option<Position> {
        self.change(Places::offer)
    }

    /// What to offer to go on with after a broken connection: what has come, and what of it is done with.
    pub(super) fn offer_again(&mut self) -> (Position, Seq) {
        self.change(Places::offer_again)
    }

    /// The room goes on with that.
    pub(super) fn resumed(&mut self) {
        self.change(Places::resumed);
    }

    /// Continues where the room says: after a bind, or after it has rebuilt the inbox.
    pub(super) fn continue_at(&mut self, at: Position) {
        self.change(|places| places.continue_at(at));
    }

    pub(super) fn accept(&mut self, seq: Seq, skip: u64, id: MessageId) -> Verdict {
        let mut places = self.places();
        let mut verdict = places.arrive(seq, skip);
        if verdict == Verdict::New {
            let limit = self.recent_ids as usize;
            if self.recent.get_or_insert_with(|| Box::new(Recent::new(limit))).insert(id) {
                places.hand_out();
            } else {
                // Handed out before, under another number.
                places.settle();
                verdict = Verdict::Repeat;
            }
        }
        self.keep(places);
        verdict
    }

    /// The app is done with everything up to `at`. Whether that was news.
    pub(super) fn confirm(&mut self, at: Position) -> bool {
        self.change(|places| places.confirm(at))
    }

    /// The app is done with everything.
    pub(super) fn confirm_all(&mut self) {
        self.change(Places::confirm_all);
    }

    /// The last message that came.
    pub(super) fn received(&self) -> Position {
        self.places.as_ref().map_or(self.at, |places| places.received)
    }

    /// The place to ack next, if there is one that the room does not know of.
    pub(super) fn to_ack(&self) -> Option<Position> {
        self.places.as_ref().and_then(|places| places.next_ack())
    }

    /// How many messages the next ack would cover, as far as can be told.
    pub(super) fn unacked(&self) -> u64 {
        self.places.as_ref().map_or(0, |places| places.unacked())
    }

    /// The room has been told.
    pub(super) fn acked(&mut self, at: Position) {
        self.change(|places| places.acked(at));
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Places) -> T) -> T {
        let mut places = self.places();
        let answer = change(&mut places);
        self.keep(places);
        answer
    }

    fn places(&self) -> Places {
        self.places.as_ref().map_or_else(|| Places::at_rest(self.at, self.known), |places| **places)
    }

    fn keep(&mut self, now: Places) {
        match (now.rest(), &mut self.places) {
            (Some((at, known)), _) => {
                self.places = None;
                (self.at, self.known) = (at, known);
            }
            (None, Some(places)) => **places = now,
            (None, none) => *none = Some(Box::new(now)),
        }
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
