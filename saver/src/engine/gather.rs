//! Loads that come in one by one and are read together.
//!
//! Each room asks for a few users at a time, and there are many rooms: what it costs to ask the archive is the question, not the
//! number of users in it. So whoever gets a turn to read takes with it what others wait for.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::loads::{LoadItem, LoadedInbox};
use crate::error::Refused;

/// Inboxes that are read in one turn: as many as one query takes. A call with more has a turn for itself.
const ITEMS: usize = 512;

/// What became of the items of one call, in their order.
pub(super) type Loads = Vec<Result<LoadedInbox, Refused>>;

/// A call that waits for its turn.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) items: Vec<LoadItem>,
    pub(super) reply: oneshot::Sender<Loads>,
}

impl Call {
    fn bytes(&self) -> usize {
        self.items.iter().fold(0, |sum, item| sum.saturating_add(item.read.max_bytes))
    }
}

/// The calls that wait. Their callers bound how many, and for how long.
#[derive(Debug, Default)]
pub(super) struct Gather(Mutex<VecDeque<Call>>);

impl Gather {
    /// Waits with the others; the answer comes when somebody has had a turn.
    pub(super) fn join(&self, items: Vec<LoadItem>) -> oneshot::Receiver<Loads> {
        let (reply, answer) = oneshot::channel();
        self.lock().push_back(Call { items, reply });
        answer
    }

    /// The calls that are read in one turn: the longest that wait, whose payloads together fit into `bytes`. Those that nobody
    /// waits for any more are left out.
    pub(super) fn take(&self, bytes: usize) -> Vec<Call> {
        let mut waiting = self.lock();
        let mut turn = Vec::new();
        let (mut items, mut room) = (0, bytes);
        while let Some(call) = waiting.front() {
            if call.reply.is_closed() {
                waiting.pop_front();
                continue;
            }
            items += call.items.len();
            let fits = room.checked_sub(call.bytes()).filter(|_| items <= ITEMS);
            if fits.is_none() && !turn.is_empty() {
                break;
            }
            room = fits.unwrap_or(0);
            turn.extend(waiting.pop_front());
        }
        turn
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use wire::id::{AppId, Uid};

    use super::*;
    use crate::model::{InboxKey, Read};

    fn call(users: usize, max_bytes: usize) -> Vec<LoadItem> {
        let read = Read { after: None, acknowledges: false, max_messages: 1, max_bytes };
        let key = |n: usize| InboxKey::new(AppId(1), Uid::new(format!("u{n}")).unwrap());
        let item = |n| LoadItem { key: key(n), read, bind: true, own_cursor: None, utc_offset_min: None };
        (0..users).map(item).collect()
    }

    #[test]
    fn a_turn_takes_what_fits() {
        let gather = Gather::default();
        let answers: Vec<_> = (0..6).map(|_| gather.join(call(3, 100))).collect();
        assert_eq!(gather.take(1_000).len(), 3, "300 bytes each");
        assert_eq!(gather.take(10).len(), 1, "one that is too large has a turn for itself");
        drop(answers);
        assert_eq!(gather.take(10_000).len(), 0, "nobody waits any more");
        let _all: Vec<_> = (0..4).map(|_| gather.join(call(200, 1))).collect();
        assert_eq!(gather.take(1 << 20).len(), 2);
        assert_eq!(gather.take(1 << 20).len(), 2);
    }
}
