//! Batches of messages under way: urgent ones first, and a batch of thousands in parts, between which the others have their turn.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::oneshot;

use super::outbox::Outbox;
use crate::{
    exchange::{Delivery, DeliveryItem},
    session::Sessions,
};

/// Batches under way at a time; more wait in the queue of orders.
const BATCHES: usize = 64;
/// Messages of a batch that are delivered before the next batch has its turn: with a write each, 2 ms.
const PART: usize = 256;
/// Messages between two looks at what has been staged and at the clock.
const LOOK: usize = 32;

/// Batches of messages that have been taken and not answered.
#[derive(Debug, Default)]
pub(super) struct Deliveries(VecDeque<Batch>);

#[derive(Debug)]
struct Batch {
    items: Arc<[DeliveryItem]>,
    results: Vec<Delivery>,
    /// Urgent ones before this have been delivered, and all before the other.
    urgent: usize,
    next: usize,
    reply: oneshot::Sender<Vec<Delivery>>,
}

impl Batch {
    /// Delivers some of those that are (not) urgent; `false`: there are no more of them.
    fn deliver(&mut self, urgent: bool, sessions: &mut Sessions, outbox: &mut Outbox) -> bool {
        let at = if urgent { &mut self.urgent } else { &mut self.next };
        let end = self.items.len().min(*at + LOOK);
        for place in *at..end {
            if self.items[place].urgent == urgent {
                self.results[place] = sessions.deliver(&self.items[place], outbox);
            }
        }
        *at = end;
        end < self.items.len()
    }
}

impl Deliveries {
    /// Takes a batch.
    pub(super) fn push(&mut self, items: Arc<[DeliveryItem]>, reply: oneshot::Sender<Vec<Delivery>>) {
        let results = vec![Delivery::NotHere; items.len()];
        let urgent = items.iter().position(|item| item.urgent).unwrap_or(items.len());
        self.0.push_back(Batch { items, results, urgent, next: 0, reply });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= BATCHES
    }

    /// Delivers until it is late, but something in any case, and answers for what is complete. Who asked may have given up;
    /// that is theirs to decide, so a lost answer is no error.
    pub(super) fn work(
        &mut self,
        sessions: &mut Sessions,
        outbox: &mut Outbox,
        late: impl Fn(&Outbox) -> bool,
    ) {
        for batch in &mut self.0 {
            while batch.urgent < batch.items.len() {
                batch.deliver(true, sessions, outbox);
                if late(outbox) {
                    return;
                }
            }
        }
        while let Some(mut batch) = self.0.pop_front() {
            let mut left = PART;
            while batch.deliver(false, sessions, outbox) && left > LOOK && !late(outbox) {
                left -= LOOK;
            }
            if batch.next < batch.items.len() {
                self.0.push_back(batch);
            } else {
                let _ = batch.reply.send(batch.results);
            }
            if late(outbox) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::id::{AppId, MessageId, Uid};

    use super::*;
    use crate::{clock::Now, event_loop::Bounds, session::Limits};

    fn batch(count: usize, urgent: bool) -> Arc<[DeliveryItem]> {
        let item = |seq| DeliveryItem {
            app: AppId(7),
            uid: Uid::new("nobody").unwrap(),
            fence: None,
            epoch: 1,
            seq,
            id: MessageId(seq),
            payload: None,
            accepted_ms: 1,
            collapse_key: "".into(),
            urgent,
        };
        (1..=count as u64).map(item).collect()
    }

    #[test]
    fn a_batch_of_thousands_lets_others_pass_and_urgent_ones_go_first() {
        let now = Now { ms: 0, unix_ms: 1 };
        let mut sessions = Sessions::new(Limits::default(), 0, 1, now);
        let mut outbox = Outbox::new(Bounds { connection: 1, reserve: 1, thread: 1 });
        let mut deliveries = Deliveries::default();
        let push = |deliveries: &mut Deliveries, count, urgent| {
            let (reply, answer) = oneshot::channel();
            deliveries.push(batch(count, urgent), reply);
            answer
        };
        let mut huge = push(&mut deliveries, 10_000, false);
        let mut urgent = push(&mut deliveries, 10, true);
        let mut small = push(&mut deliveries, 10, false);
        deliveries.work(&mut sessions, &mut outbox, |_| true);
        assert!(deliveries.0.iter().all(|batch| batch.urgent == batch.items.len() && batch.next == 0));
        let mut turns = 1;
        while urgent.try_recv().is_err() {
            deliveries.work(&mut sessions, &mut outbox, |_| true);
            turns += 1;
        }
        while small.try_recv().is_err() {
            deliveries.work(&mut sessions, &mut outbox, |_| true);
            turns += 1;
        }
        assert!(huge.try_recv().is_err(), "the others were through before");
        assert!(turns <= 4, "{turns}");
        while huge.try_recv().is_err() {
            deliveries.work(&mut sessions, &mut outbox, |_| false);
        }
        assert!(deliveries.is_empty());
        let late = push(&mut deliveries, 64, false);
        drop(late);
        deliveries.work(&mut sessions, &mut outbox, |_| false);
        assert!(deliveries.is_empty(), "who has given up is no error");
    }
}
