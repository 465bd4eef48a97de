//! Messages that go to their users part by part: lists that are still read, and parts of the schedule. Who takes a message back
//! stops it first: no part of it begins any more, and those that have begun are waited for. Else a part that is just being stored
//! would come into inboxes that had been searched already.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashbrown::HashMap;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::delivery::Recalled;

/// A message that was stopped stays so for this time, or until its list is no longer read. Whoever stopped it has removed what
/// waits by then; if that failed, what was only cancelled goes on.
const STOPPED: Duration = Duration::from_secs(15);

/// So many are remembered without being under way here; a further one takes the place of the oldest. 100 bytes each.
const REMEMBERED: usize = 1_024;

/// A part takes milliseconds, and seconds while a saver changes. Less than a call to another center may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// App and message id: an id alone could be made up by another app's caller.
type Key = (u32, u64);

/// What is under way at this center. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct UnderWay {
    messages: Arc<Mutex<Messages>>,
    /// For what is stored and on its way to rooms.
    recalled: Recalled,
}

#[derive(Default)]
struct Messages {
    known: HashMap<Key, Message>,
    /// Oldest first.
    stops: VecDeque<(Instant, Key)>,
}

/// A message that is under way, or that was stopped.
#[derive(Default)]
struct Message {
    lists: usize,
    parts: usize,
    stopped: bool,
    /// Of `stops`.
    stops: usize,
    quiet: Arc<Notify>,
}

impl Message {
    fn is_over(&self) -> bool {
        self.lists + self.parts + self.stops == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    Part,
}

/// A list that is read, or a part that is sent, until it is dropped.
pub(crate) struct Share {
    of: UnderWay,
    key: Key,
    kind: Kind,
}

impl UnderWay {
    /// `recalled` is that of the stage that delivers.
    pub(crate) fn new(recalled: Recalled) -> UnderWay {
        UnderWay { recalled, ..UnderWay::default() }
    }

    /// A list whose users come one after another: as long as it is read, it stays stopped once it was.
    pub(crate) fn list(&self, app: u32, id: u64) -> Share {
        let key = (app, id);
        self.lock().known.entry(key).or_default().lists += 1;
        Share { of: self.clone(), key, kind: Kind::List }
    }

    /// A part of a message is about to be sent; none if the message was stopped.
    pub(crate) fn part(&self, app: u32, id: u64) -> Option<Share> {
        let key = (app, id);
        let mut messages = self.lock();
        messages.forget(Instant::now(), REMEMBERED);
        let message = messages.known.entry(key).or_default();
        if message.stopped {
            return None;
        }
        message.parts += 1;
        Some(Share { of: self.clone(), key, kind: Kind::Part })
    }

    /// Lets no part of a message begin any more, and waits for those that have begun. Whether that was worth the wait: false if
    /// one of them takes too long.
    pub(crate) async fn stop(&self, app: u32, id: u64, recalled: bool) -> bool {
        if recalled {
            self.recalled.note(id);
        }
        let key = (app, id);
        let quiet = {
            let mut messages = self.lock();
            let now = Instant::now();
            messages.forget(now, REMEMBERED - 1);
            messages.stops.push_back((now, key));
            let message = messages.known.entry(key).or_default();
            message.stopped = true;
            message.stops += 1;
            Arc::clone(&message.quiet)
        };
        let wait = async {
            loop {
                let mut change = pin!(quiet.notified());
                // From here on none is missed.
                change.as_mut().enable();
                if self.lock().known.get(&key).is_none_or(|message| message.parts == 0) {
                    return;
                }
                change.await;
            }
        };
        timeout(PATIENCE, wait).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Messages {
    /// Forgets stops that are over, and the oldest of more than `most`.
    fn forget(&mut self, now: Instant, most: usize) {
        while let Some((at, key)) = self.stops.front().copied()
            && (now.saturating_duration_since(at) >= STOPPED || self.stops.len() > most)
        {
            self.stops.pop_front();
            self.change(key, |message| {
                message.stops -= 1;
                // A list that goes on stays stopped: what was taken back must not come by its next users.
                message.stopped = message.stops + message.lists > 0;
            });
        }
    }

    fn change(&mut self, key: Key, change: impl FnOnce(&mut Message)) {
        let Some(message) = self.known.get_mut(&key) else { return };
        change(message);
        if message.is_over() {
            self.known.remove(&key);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let kind = self.kind;
        self.of.lock().change(self.key, |message| match kind {
            Kind::List => message.lists -= 1,
            Kind::Part => {
                message.parts -= 1;
                if message.parts == 0 {
                    message.quiet.notify_waiters();
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_stops_waits_for_what_has_begun_and_nothing_begins() {
        let under_way = UnderWay::default();
        let (part, other) = (under_way.part(1, 7).unwrap(), under_way.part(2, 7).unwrap());
        let begun = Instant::now();
        let wait = Duration::from_secs(1);
        let end = async {
            tokio::time::sleep(wait).await;
            assert!(under_way.part(1, 7).is_none());
            drop(part);
        };
        let (quiet, ()) = tokio::join!(under_way.stop(1, 7, false), end);
        assert_eq!((quiet, begun.elapsed()), (true, wait));
        assert!(under_way.stop(1, 8, false).await, "of which nothing is known");
        assert!(under_way.part(1, 7).is_none() && under_way.part(2, 7).is_some());
        assert!(!under_way.stop(2, 7, false).await, "one takes too long");
        drop(other);
        tokio::time::advance(STOPPED + wait).await;
        drop(under_way.part(1, 7).expect("what was not removed goes on"));
        assert!(under_way.lock().known.is_empty());
        assert!(under_way.lock().stops.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_stays_stopped_as_long_as_it_is_read() {
        let under_way = UnderWay::default();
        let list = under_way.list(1, 7);
        assert!(under_way.stop(1, 7, true).await);
        tokio::time::advance(STOPPED * 2).await;
        assert!(under_way.part(1, 7).is_none());
        drop(list);
        assert!(under_way.part(1, 7).is_some());
        assert!(under_way.lock().known.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let under_way = UnderWay::default();
        for id in 0..2 * REMEMBERED as u64 {
            assert!(under_way.stop(1, id, false).await);
        }
        assert_eq!(under_way.lock().known.len(), REMEMBERED);
        assert_eq!(under_way.lock().stops.len(), REMEMBERED);
        assert!(under_way.part(1, 0).is_some() && under_way.part(1, REMEMBERED as u64).is_none());
    }
}
