//! Where and when a device connects next.
//!
//! The last good address first, then what the dispatcher (or the fixed list) names; addresses of one group
//! one after the other; when all have failed, a jittered back-off, and the dispatcher is asked again with
//! `tried`. No I/O and no clock: the driver asks [`Dialer::step`] what to do and reports what came of it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use wire::close::{Wait, Whither};

use crate::{
    backoff::{Backoff, Dice},
    moment::Moment,
    session::{Cause, Ending},
};

/// A connection that lived this long clears the record of failures; one that lives shorter, however often,
/// still backs off.
const STABLE: Duration = Duration::from_secs(30);

/// Addresses named to the dispatcher as tried: more than it hands out in two groups.
const MAX_TRIED: usize = 16;

/// Where addresses come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// These, in this order of preference.
    Fixed(Vec<Arc<str>>),
    /// A dispatcher, whom the driver asks.
    Dispatcher,
}

/// What a driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Wait until then, and ask again.
    Wait(Moment),
    /// Ask the dispatcher, then [`Dialer::routed`] or [`Dialer::failed`].
    Route {
        /// Addresses tried without success.
        tried: Vec<Arc<str>>,
    },
    /// Connect to this address, then [`Dialer::connected`] once the room has answered, or
    /// [`Dialer::failed`], or [`Dialer::ended`].
    Dial(Arc<str>),
    /// Report on the last step first, or on the end of the connection.
    Busy,
    /// Never connect again.
    Stop,
}

#[derive(Debug)]
enum Stage {
    Waiting(Moment),
    Routing,
    Dialing(Arc<str>),
    Connected { to: Arc<str>, since: Moment },
    Stopped,
}

/// Where and when a device connects next.
#[derive(Debug)]
pub struct Dialer {
    source: Source,
    backoff: Backoff,
    dice: Dice,
    stage: Stage,
    last_good: Option<Arc<str>>,
    /// To be tried before the source is asked (again).
    queue: VecDeque<Arc<str>>,
    tried: Vec<Arc<str>>,
    /// Whether the source has been asked since the last wait.
    asked: bool,
    failures: u32,
}

impl Dialer {
    /// A dialer that begins at once, with `last_good` if that is kept from an earlier life.
    #[must_use]
    pub fn new(source: Source, backoff: Backoff, last_good: Option<Arc<str>>, seed: u64) -> Self {
        Self {
            source,
            backoff,
            dice: Dice::new(seed),
            stage: Stage::Waiting(Moment(0)),
            queue: last_good.iter().cloned().collect(),
            last_good,
            tried: Vec::new(),
            asked: false,
            failures: 0,
        }
    }

    /// What to do now.
    pub fn step(&mut self, now: Moment) -> Step {
        match &self.stage {
            Stage::Waiting(until) if *until > now => Step::Wait(*until),
            Stage::Waiting(_) => self.proceed(),
            Stage::Routing | Stage::Dialing(_) | Stage::Connected { .. } => Step::Busy,
            Stage::Stopped => Step::Stop,
        }
    }

    /// The dispatcher has named addresses, and how long to wait before the first.
    pub fn routed(&mut self, addresses: impl IntoIterator<Item = Arc<str>>, after: Duration, now: Moment) {
        self.queue = addresses.into_iter().collect();
        if self.queue.is_empty() {
            // It knows none but those that failed: they may have come back.
            self.tried.clear();
            return self.next_round(after, now);
        }
        self.stage = Stage::Waiting(now + after);
    }

    /// The last step did not work: no connection, or no answer from the dispatcher.
    pub fn failed(&mut self, now: Moment) {
        if let Stage::Dialing(address) = &self.stage {
            let address = address.clone();
            self.note_tried(address);
        }
        let exhausted = self.queue.is_empty() && (self.asked || matches!(self.stage, Stage::Routing));
        if exhausted { self.next_round(Duration::ZERO, now) } else { self.stage = Stage::Waiting(now) }
    }

    /// The room has answered `Connected`.
    pub fn connected(&mut self, now: Moment) {
        if let Stage::Dialing(to) = &self.stage {
            let to = to.clone();
            self.last_good = Some(to.clone());
            self.tried.clear();
            self.stage = Stage::Connected { to, since: now };
        }
    }

    /// The connection has ended.
    pub fn ended(&mut self, ending: &Ending, now: Moment) {
        let (address, lived) = match &self.stage {
            Stage::Dialing(to) => (Some(to.clone()), None),
            Stage::Connected { to, since } => (Some(to.clone()), Some(now.since(*since))),
            _ => (None, None),
        };
        if ending.whither == Whither::Nowhere {
            self.stage = Stage::Stopped;
            return;
        }
        let told = matches!(ending.cause, Cause::Closed { .. } | Cause::Moved(_));
        if lived.is_none() && !told {
            return self.failed(now);
        }
        let stable = lived.is_some_and(|lived| lived >= STABLE);
        if stable {
            self.failures = 0;
        }
        let mut wait = self.backoff.delay(self.failures, &mut self.dice);
        match ending.wait {
            // The room has spread its devices already.
            Wait::Brief if stable && matches!(ending.cause, Cause::Moved(_)) => wait = Duration::ZERO,
            Wait::Brief if stable => {}
            Wait::Brief | Wait::Backoff => self.failures = self.failures.saturating_add(1),
            Wait::AsTold => {
                self.failures = self.failures.saturating_add(1);
                wait = wait.max(ending.retry_after);
            }
        }
        self.queue = ending.addresses.iter().map(|address| address.as_str().into()).collect();
        self.asked = false;
        match (ending.whither, address) {
            (Whither::Elsewhere, Some(address)) => self.note_tried(address),
            _ => self.queue.extend(self.last_good.clone()),
        }
        self.stage = Stage::Waiting(now + wait);
    }

    /// The address to keep over a restart.
    #[must_use]
    pub fn last_good(&self) -> Option<&Arc<str>> {
        self.last_good.as_ref()
    }

    fn proceed(&mut self) -> Step {
        if self.queue.is_empty() {
            self.asked = true;
            match &self.source {
                Source::Dispatcher => {
                    self.stage = Stage::Routing;
                    return Step::Route { tried: self.tried.clone() };
                }
                Source::Fixed(addresses) => {
                    // Those that failed come last, but they come: there are no others.
                    let (tried, fresh): (Vec<_>, Vec<_>) =
                        addresses.iter().cloned().partition(|address| self.tried.contains(address));
                    self.queue = fresh.into_iter().chain(tried).collect();
                    self.tried.clear();
                }
            }
        }
        match self.queue.pop_front() {
            Some(address) => {
                self.stage = Stage::Dialing(address.clone());
                Step::Dial(address)
            }
            // A fixed list without an address.
            None => {
                self.stage = Stage::Stopped;
                Step::Stop
            }
        }
    }

    /// All has failed: begin again after the back-off.
    fn next_round(&mut self, at_least: Duration, now: Moment) {
        let wait = self.backoff.delay(self.failures, &mut self.dice).max(at_least);
        self.failures = self.failures.saturating_add(1);
        self.queue = self.last_good.iter().cloned().collect();
        self.asked = false;
        self.stage = Stage::Waiting(now + wait);
    }

    fn note_tried(&mut self, address: Arc<str>) {
        if !self.tried.contains(&address) {
            self.tried.push(address);
        }
        if self.tried.len() > MAX_TRIED {
            self.tried.remove(0);
        }
    }
}

#[cfg(test)]
mod tests;
