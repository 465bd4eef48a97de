//! What comes while a socket takes nothing: it waits in the order of its class, and what is out of date leaves.

use std::hash::{BuildHasher as _, Hasher as _};

use bytes::Bytes;
use wire::frame::Push;

use super::{
    Bits, NONE, Outbox, Piece,
    framing::{frame_len, read_push, write_push},
};
use crate::{
    event_loop::{
        backlog::{Backlog, Mark},
        line::Kind,
    },
    session::Class,
};

impl Outbox {
    /// Whether what comes now has to wait.
    pub(super) fn queues(&self, slot: u32) -> bool {
        // What was staged before the line had a backlog comes first.
        let socket = self.sockets.get(slot as usize);
        socket.is_some_and(|socket| {
            socket.luggage.is_some() && socket.first == NONE && socket.backlog().is_some()
        })
    }

    /// Puts a frame that was admitted into the backlog.
    pub(super) fn enqueue(
        &mut self,
        slot: u32,
        class: Class,
        mark: Mark,
        parts: impl IntoIterator<Item = Bytes>,
    ) -> bool {
        self.on_backlog(slot, |backlog| backlog.push(class, mark, parts));
        self.bound_waiting(slot);
        true
    }

    fn on_backlog<T>(&mut self, slot: u32, change: impl FnOnce(&mut Backlog) -> T) -> Option<T> {
        let luggage = self.sockets.get_mut(slot as usize)?.luggage.as_mut()?;
        let backlog = luggage.backlog.as_mut()?;
        let before = backlog.len();
        let done = change(backlog);
        self.waiting = self.waiting + backlog.len() - before;
        Some(done)
    }

    /// What has to be known of a message that waits.
    fn mark(&self, push: &Push) -> Mark {
        let key = match push.collapse_key.as_str() {
            "" => 0,
            key => {
                let mut hasher = self.keys.build_hasher();
                hasher.write(key.as_bytes());
                hasher.finish().max(1)
            }
        };
        if push.seq == 0 { Mark::Transient(push.binding, key) } else { Mark::Stored(push.binding, key) }
    }

    /// Takes a message for a line where others wait; it takes the place of the one that it replaces.
    pub(super) fn push_behind(&mut self, slot: u32, push: &Push, class: Class) -> bool {
        let (kind, mark) = (self.speaks(slot).0, self.mark(push));
        let socket = self.sockets.get(slot as usize);
        let change = socket.and_then(|socket| socket.backlog()).and_then(|backlog| plan(backlog, kind, mark));
        let Some(Change { place, len, numbers, follower }) = change else {
            let frame = write_push(kind, push);
            return self.admit(slot, frame.len(), class) && self.enqueue(slot, class, mark, [frame]);
        };
        // The next that the device gets of this inbox says that the number holds nothing.
        let skip = push.skip + if follower.is_none() { numbers } else { 0 };
        let frame = write_push(kind, &Push { skip, ..push.clone() });
        self.unadmit(slot, len);
        if !self.admit(slot, frame.len(), class) {
            self.admit(slot, len, Class::Page);
            return false;
        }
        if let Some((at, old, new)) = follower {
            self.unadmit(slot, old);
            self.admit(slot, new.len(), Class::Page);
            self.on_backlog(slot, |backlog| backlog.replace(at, &new));
        }
        self.on_backlog(slot, |backlog| backlog.remove(place));
        self.replaced += 1;
        self.enqueue(slot, class, mark, [frame])
    }

    /// Bytes that were admitted leave another way than over the socket.
    fn unadmit(&mut self, slot: u32, len: usize) {
        if let Some(socket) = self.sockets.get_mut(slot as usize) {
            socket.pending = socket.pending.saturating_sub(len as u32);
        }
    }

    /// Keeps what the socket refused of what was staged: of the first piece, all but `skip` bytes.
    pub(super) fn keep(&mut self, slot: u32, at: u32, skip: usize) {
        let kind = self.speaks(slot).0;
        let kept = self.frames_of(kind, at, skip);
        let now_ms = self.now_ms;
        let Some(socket) = self.sockets.get_mut(slot as usize) else { return };
        socket.luggage().backlog.get_or_insert_with(|| Box::new(Backlog::new(now_ms)));
        for Kept { class, begun, parts } in kept {
            let mark = match (class, &parts[..]) {
                (Class::Data, _) => Mark::Broadcast,
                (Class::Unicast | Class::Urgent | Class::Page, [frame]) if !begun => {
                    read_push(kind, frame).map_or(Mark::Answer, |push| self.mark(&push))
                }
                _ => Mark::Answer,
            };
            self.on_backlog(slot, |backlog| {
                if begun {
                    parts.into_iter().for_each(|part| backlog.push_begun(part));
                } else {
                    backlog.push(class, mark, parts);
                }
            });
        }
        self.bound_waiting(slot);
    }

    /// The frames of a chain of pieces. The first may have been begun.
    pub(super) fn frames_of(&self, kind: Kind, mut at: u32, skip: usize) -> Vec<Kept> {
        let mut kept: Vec<Kept> = Vec::new();
        // Bytes of the last frame that are in the pieces to come.
        let (mut missing, mut from) = (0, skip);
        while at != NONE {
            let piece = &self.pieces[at as usize];
            let bytes = self.bytes_of(piece);
            let mut here = 0;
            while here < bytes.len() {
                let goes_on = std::mem::take(&mut missing);
                let len = match piece.class {
                    _ if goes_on > 0 => goes_on,
                    // The first piece of all is the rest of a frame that has been begun.
                    _ if piece.goes_on => bytes.len(),
                    Class::Control | Class::Barrier => bytes.len() - here,
                    _ => frame_len(kind, &bytes[here..]).max(1),
                };
                let end = bytes.len().min(here + len);
                missing = here + len - end;
                if end > from {
                    let begun = piece.goes_on || from > here;
                    let part = bytes.slice(here.max(from)..end);
                    match kept.last_mut().filter(|_| goes_on > 0) {
                        Some(last) => last.parts.push(part),
                        None => kept.push(Kept { class: piece.class, begun, parts: vec![part] }),
                    }
                }
                here = end;
            }
            (at, from) = (piece.next, 0);
        }
        kept
    }

    fn bytes_of(&self, piece: &Piece) -> Bytes {
        match &piece.bits {
            Bits::Shared(bytes) => bytes.clone(),
            Bits::Built { .. } => Bytes::copy_from_slice(piece.bytes(&self.scratch)),
        }
    }
}

/// A frame that the socket refused.
pub(super) struct Kept {
    pub(super) class: Class,
    pub(super) begun: bool,
    pub(super) parts: Vec<Bytes>,
}

/// A message in the queue that is out of date.
struct Change {
    place: crate::event_loop::backlog::Place,
    len: usize,
    /// How many numbers hold nothing when it is gone.
    numbers: u64,
    /// The next one of its inbox: where it lies, its length, and how it is to be.
    follower: Option<(crate::event_loop::backlog::Place, usize, Bytes)>,
}

fn plan(backlog: &Backlog, kind: Kind, mark: Mark) -> Option<Change> {
    let place = backlog.replaced_by(mark)?;
    let frame = backlog.frame(place)?;
    let old = read_push(kind, frame)?;
    let numbers = if old.seq == 0 { 0 } else { old.skip + 1 };
    let follower = match backlog.follower(place).filter(|_| numbers > 0) {
        None => None,
        Some(at) => {
            let frame = backlog.frame(at)?;
            let next = read_push(kind, frame)?;
            let new = write_push(kind, &Push { skip: next.skip + numbers, ..next });
            Some((at, frame.len(), new))
        }
    };
    Some(Change { place, len: frame.len(), numbers, follower })
}
