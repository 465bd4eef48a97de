//! What an archive does for an inbox store that several savers share, and that answers before the archive has the
//! message: it lands what the store's journal holds, and knows which life of the store is the present one.

use std::collections::{HashMap, HashSet};

use wire::id::{Epoch, MessageId};

use super::{Body, Group, NewDelivery, Reservation};
use crate::model::{Row, State};

/// A part of a journal, to be landed. Landing is idempotent, and two may land the same part at once: a delivery that
/// is there keeps its row, and a state that is final stays. A payload is stored only for a row that still needs it.
#[derive(Clone, Debug, Default)]
pub struct Landing {
    /// Deliveries, and what has become of each since it was appended.
    pub deliveries: Vec<(NewDelivery, State)>,
    /// Payloads of those that need one. Others may be among them; they are not stored.
    pub bodies: Vec<Body>,
    /// Final states of deliveries that were landed before, or are among these.
    pub finished: Vec<(Row, State)>,
    /// Idempotency keys. One that is there stays, unless it ends sooner.
    pub reservations: Vec<Reservation>,
    /// What [`super::Archive::forgets`] answered before the journal was read. It tells a part that lay with a lander
    /// for longer than finished rows are kept from one that only waited in the journal.
    pub forgets: u64,
    /// The store's life in which some of this could not be put into the store. Committed with it is that the life lacks
    /// something; if another life has begun meanwhile, nothing is committed ([`LIFE_CHANGED`]).
    pub alone: Option<Epoch>,
    /// The time, ms since 1970.
    pub now_ms: u64,
}

/// The present life of the inbox store that all savers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedLife {
    /// Its epoch.
    pub epoch: Epoch,
    /// What the store is known by: another identity is another store, or one that lost something.
    pub store: String,
    /// Partitions of its keys.
    pub partitions: u32,
    /// Something was committed here that the store lacks.
    pub unseen: bool,
}

/// What is told of a landing that may bring back what was forgotten.
pub(super) const OUTDATED: &str =
    "the landing names rows that may have been forgotten since its journal was read";

/// What a landing is told whose life is over.
pub const LIFE_CHANGED: &str = "another life of the inbox store has begun";

impl Landing {
    /// Whether any of its messages is as old as some that were forgotten.
    pub(super) fn reaches_back_to(&self, forgotten: MessageId) -> bool {
        self.deliveries.iter().any(|(d, _)| d.id <= forgotten)
    }

    /// The group that does it, given the states of those rows that are there. New rows are stored and then finished.
    pub(super) fn group(&self, known: &HashMap<Row, State>) -> Group {
        let mut new = HashSet::new();
        let mut needed = HashSet::new();
        let mut group = Group { now_ms: self.now_ms, ..Group::default() };
        for (delivery, state) in &self.deliveries {
            if !known.contains_key(&delivery.row) && new.insert(delivery.row) {
                group.deliveries.push(delivery.clone());
                if !state.frees_payload() {
                    needed.insert(delivery.id);
                }
            }
            if *state != State::Stored {
                group.finished.push((delivery.row, *state));
            }
        }
        group.bodies = self.bodies.iter().filter(|b| needed.contains(&b.id)).cloned().collect();
        group.finished.extend_from_slice(&self.finished);
        group
    }
}
