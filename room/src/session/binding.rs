//! One (app, uid) on one connection.

use audience::Offset;
use wire::id::{AppId, Cursor, Epoch, Position, Seq, Uid};

use super::{apps::TagNumbers, flags::Flags};

/// No slot: the end of a list.
pub(crate) const NONE: u32 = u32::MAX;

/// Where a binding is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The register and the saver are being asked.
    Pending,
    /// The device gave it up before the answer came; the answer has to come first.
    Cancelled,
    /// Bound.
    Live,
    /// Over; the register still has to be told.
    Ending,
}

/// One binding. Its numbers are described in the order in which they may lag: acked ≤ told ≤ sent.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) uid: Uid,
    pub(crate) fence: u64,
    /// Numbering of the three below.
    pub(crate) epoch: u64,
    /// Everything up to here has been sent, or is known to hold nothing.
    pub(crate) sent: u64,
    /// The last number that the device was told; `skip` counts from it.
    pub(crate) told: u64,
    /// The device has everything up to here.
    pub(crate) acked: u64,
    /// Broadcasts up to here were sent or are not for it. Counts only while the app's log does not know better. In front of
    /// `backed` where the device came with more than could be counted.
    pub(crate) cursor: u64,
    /// The last broadcast that was sent.
    pub(crate) bsent: u64,
    /// The last broadcast that the device has acked.
    pub(crate) backed: u64,
    /// The cursor that the saver has; further where there is nothing to count up to there.
    pub(crate) bsaved: u64,
    /// Numbers of its tags in the app's table. Boxed: most bindings have none.
    pub(crate) tags: Option<Box<TagNumbers>>,
    pub(crate) generation: u32,
    pub(crate) app: AppId,
    /// Its connection.
    pub(crate) conn: u32,
    pub(crate) conn_generation: u32,
    /// The device's number for it.
    pub(crate) number: u32,
    /// Next binding of the connection.
    pub(crate) next: u32,
    /// Its user's place on the ring.
    pub(crate) place: u32,
    pub(crate) state: State,
    pub(crate) flags: Flags,
    /// Number of its device's network; 0 = not told.
    pub(crate) network: u8,
    /// What its device's clock shows minus UTC.
    pub(crate) offset: Offset,
}

impl Binding {
    /// One that is nobody's.
    #[cfg(test)]
    pub(crate) fn simulated() -> Self {
        Self {
            uid: Uid::new("nobody").expect("a name"),
            fence: 0,
            epoch: 0,
            sent: 0,
            told: 0,
            acked: 0,
            cursor: 0,
            bsent: 0,
            backed: 0,
            bsaved: 0,
            tags: None,
            generation: 0,
            app: AppId(0),
            conn: 0,
            conn_generation: 0,
            number: 0,
            next: NONE,
            place: 0,
            state: State::Live,
            flags: Flags::default(),
            network: 0,
            offset: Offset::UNTOLD,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Everything up to here has been sent, as the saver is told.
    pub(crate) fn sent_position(&self) -> Position {
        Position { epoch: Epoch(self.epoch), seq: Seq(self.sent) }
    }

    pub(crate) fn acked_position(&self) -> Position {
        Position { epoch: Epoch(self.epoch), seq: Seq(self.acked) }
    }

    /// Where the device's broadcasts go on the next time; `reached` is how far it was served. What was sent and not
    /// acked is sent again. `owes`: something is to be counted even if it has not moved since the bind.
    pub(crate) fn resume_cursor(&self, epoch: u64, reached: u64, owes: bool) -> Option<Cursor> {
        let cursor = if self.backed >= self.bsent { reached } else { self.backed };
        (cursor > self.bsaved || owes).then_some(Cursor { epoch: Epoch(epoch), bseq: cursor.into() })
    }
}
