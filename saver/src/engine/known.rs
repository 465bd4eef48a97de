//! What a batch's messages have met before: the archive, or an earlier message of the same batch.

use hashbrown::HashMap;
use wire::id::{MessageId, Position, Seq};

use super::Append;
use crate::{
    archive::{Archive, Recorded, Wanted},
    error::Refused,
    model::{InboxKey, State},
};

/// What becomes of one delivery.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// The staged delivery with this index.
    New(usize),
    /// It is there already.
    Repeat(Position),
    /// The same as another one of this batch.
    Twin(usize),
}

/// What is known of deliveries that may be repeats.
pub(super) struct Known {
    recorded: HashMap<(MessageId, InboxKey), Recorded>,
    /// Deliveries of this batch whose id came up before: the index of the first, or `usize::MAX` before it came.
    batch: HashMap<(MessageId, InboxKey), usize>,
    /// Who has the id, among the messages to one user of this batch.
    unicast: HashMap<MessageId, InboxKey>,
}

impl Known {
    pub(super) async fn look_up<A: Archive>(
        archive: &A,
        items: &[&Append],
        suspects: &[bool],
    ) -> Result<Self, Refused> {
        let mut wanted = Vec::new();
        for (item, _) in items.iter().zip(suspects).filter(|(_, suspect)| **suspect) {
            let multicast = item.is_multicast();
            wanted.extend(item.keys.iter().map(|key| Wanted { id: item.id, key: key.clone(), multicast }));
        }
        let mut known = Self { recorded: HashMap::new(), batch: HashMap::new(), unicast: HashMap::new() };
        if wanted.is_empty() {
            return Ok(known);
        }
        let recorded = archive.recorded(&wanted).await?;
        for (wanted, recorded) in wanted.into_iter().zip(recorded) {
            if let Some(recorded) = recorded {
                known.recorded.insert((wanted.id, wanted.key), recorded);
            }
        }
        // A suspect's twin may have come earlier in this batch, when its id was still new.
        let ids: hashbrown::HashSet<MessageId> =
            items.iter().zip(suspects).filter(|(_, s)| **s).map(|(i, _)| i.id).collect();
        for item in items.iter().filter(|i| ids.contains(&i.id)) {
            for key in &item.keys {
                known.batch.entry((item.id, key.clone())).or_insert(usize::MAX);
                if !item.is_multicast() {
                    known.unicast.entry(item.id).or_insert_with(|| key.clone());
                }
            }
        }
        Ok(known)
    }

    /// What becomes of one delivery; `next` is its index if it is new.
    pub(super) fn fate(&mut self, item: &Append, key: &InboxKey, next: usize) -> Result<Fate, Refused> {
        if self.recorded.is_empty() && self.batch.is_empty() {
            return Ok(Fate::New(next));
        }
        let taken = || Refused::bad("id_taken", format!("message id {} is in use", item.id));
        if !item.is_multicast() && self.unicast.get(&item.id).is_some_and(|other| other != key) {
            return Err(taken());
        }
        let name = (item.id, key.clone());
        if let Some(recorded) = self.recorded.get(&name) {
            if recorded.app != key.app() || recorded.uid != *key.uid() {
                return Err(taken());
            }
            let seq = if recorded.state == State::Stored { recorded.position.seq } else { Seq::ZERO };
            return Ok(Fate::Repeat(Position { epoch: recorded.position.epoch, seq }));
        }
        match self.batch.get_mut(&name) {
            Some(twin) if *twin != usize::MAX => Ok(Fate::Twin(*twin)),
            Some(place) => {
                *place = next;
                Ok(Fate::New(next))
            }
            None => Ok(Fate::New(next)),
        }
    }

    /// The item is refused: its deliveries have no index.
    pub(super) fn forget(&mut self, item: &Append) {
        for key in &item.keys {
            if let Some(place) = self.batch.get_mut(&(item.id, key.clone())) {
                *place = usize::MAX;
            }
        }
    }
}
