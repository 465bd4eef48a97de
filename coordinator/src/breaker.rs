//! The breaker of one endpoint: stops asking a backend that fails, and finds out when it is back.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flow::Backoff;
use tokio::{sync::Notify, time::Instant};

/// Shared by all workers of an endpoint.
#[derive(Debug)]
pub(crate) struct Breaker {
    rules: Mutex<Rules>,
    state: Mutex<State>,
    /// Wakes who waits for a change.
    changed: Notify,
}

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy)]
struct Rules {
    failures: u32,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// All may pass; so many failures in a row.
    Closed { failed: u32 },
    /// Nobody passes until then; it has opened so many times since it was last closed.
    Open { until: Instant, opened: u32 },
    /// One is out to try.
    Probing { opened: u32 },
}

/// Permission for one request. Dropped without [`Pass::settle`] it counts as nothing.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    /// Set if this request is the probe.
    probe: Option<u32>,
    settled: bool,
}

/// A change of the breaker, for metrics and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Opened,
    Closed,
}

impl Breaker {
    pub(crate) fn new(failures: u32, backoff: Backoff) -> Breaker {
        let state = Mutex::new(State::Closed { failed: 0 });
        let rules = Mutex::new(Rules { failures: failures.max(1), backoff });
        Breaker { rules, state, changed: Notify::new() }
    }

    /// Takes other rules; a breaker that is open stays so until its time is over.
    pub(crate) fn set(&self, failures: u32, backoff: Backoff) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) =
            Rules { failures: failures.max(1), backoff };
    }

    fn rules(&self) -> Rules {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether requests are held back.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(*self.lock(), State::Closed { .. })
    }

    /// A pass if there is one now; else when to ask again (None: after a change).
    pub(crate) fn try_pass(&self, now: Instant) -> Result<Pass<'_>, Option<Instant>> {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => Ok(Pass { breaker: self, probe: None, settled: false }),
            State::Open { until, opened } if until <= now => {
                *state = State::Probing { opened };
                Ok(Pass { breaker: self, probe: Some(opened), settled: false })
            }
            State::Open { until, .. } => Err(Some(until)),
            State::Probing { .. } => Err(None),
        }
    }

    /// Waits for a pass.
    pub(crate) async fn pass(&self) -> Pass<'_> {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Registered before looking, or a change in between would be missed.
            changed.as_mut().enable();
            match self.try_pass(Instant::now()) {
                Ok(pass) => return pass,
                Err(Some(until)) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(until) => {}
                    }
                }
                Err(None) => changed.await,
            }
        }
    }

    fn open(&self, now: Instant, opened: u32) -> State {
        let wait: Duration = self.rules().backoff.delay(opened, &mut rand::rng());
        State::Open { until: now + wait, opened: opened.saturating_add(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Whether this request only finds out if the endpoint is back.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// Says how the request ended.
    pub(crate) fn settle(mut self, well: bool, now: Instant) -> Change {
        self.settled = true;
        let breaker = self.breaker;
        let mut state = breaker.lock();
        let (next, change) = match (*state, well) {
            (State::Closed { .. }, true) => (State::Closed { failed: 0 }, Change::None),
            (State::Closed { failed }, false) if failed + 1 < breaker.rules().failures => {
                (State::Closed { failed: failed + 1 }, Change::None)
            }
            (State::Closed { .. }, false) => (breaker.open(now, 0), Change::Opened),
            (State::Open { .. } | State::Probing { .. }, true) => {
                (State::Closed { failed: 0 }, Change::Closed)
            }
            // A request that set out before the breaker opened says nothing new.
            (state, false) => match self.probe {
                Some(opened) => (breaker.open(now, opened), Change::None),
                None => (state, Change::None),
            },
        };
        *state = next;
        drop(state);
        breaker.changed.notify_waiters();
        change
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(opened) = self.probe
            && !self.settled
        {
            // The probe was given up: the next one may go at once.
            let mut state = self.breaker.lock();
            if matches!(*state, State::Probing { .. }) {
                *state = State::Open { until: Instant::now(), opened };
            }
            drop(state);
            self.breaker.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        let backoff = Backoff {
            initial: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(8),
            jitter: 0.0,
        };
        Breaker::new(3, backoff)
    }

    fn fail(breaker: &Breaker, now: Instant) -> Change {
        breaker.try_pass(now).expect("passes").settle(false, now)
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row() {
        let (breaker, now) = (breaker(), Instant::now());
        fail(&breaker, now);
        fail(&breaker, now);
        breaker.try_pass(now).unwrap().settle(true, now);
        assert_eq!([fail(&breaker, now), fail(&breaker, now)], [Change::None; 2]);
        assert_eq!(fail(&breaker, now), Change::Opened);
        assert_eq!(breaker.try_pass(now).unwrap_err(), Some(now + Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_and_longer_waits() {
        let (breaker, start) = (breaker(), Instant::now());
        assert_eq!([(); 3].map(|()| fail(&breaker, start))[2], Change::Opened);
        let at = start + Duration::from_secs(1);
        let probe = breaker.try_pass(at).unwrap();
        assert!(probe.is_probe());
        assert_eq!(breaker.try_pass(at).unwrap_err(), None);
        probe.settle(false, at);
        assert_eq!(breaker.try_pass(at).unwrap_err(), Some(at + Duration::from_secs(2)));
        let at = at + Duration::from_secs(2);
        assert_eq!(breaker.try_pass(at).unwrap().settle(true, at), Change::Closed);
        assert!(!breaker.is_open());
    }

    /// A worker that is stopped while it probes must not leave the others waiting for ever.
    #[tokio::test(start_paused = true)]
    async fn a_probe_given_up_lets_the_next_go() {
        let (breaker, start) = (breaker(), Instant::now());
        assert_eq!([(); 3].map(|()| fail(&breaker, start))[2], Change::Opened);
        drop(breaker.try_pass(start + Duration::from_secs(1)).unwrap());
        assert!(breaker.try_pass(start + Duration::from_secs(1)).unwrap().is_probe());
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_pass_when_it_closes() {
        let (breaker, start) = (breaker(), Instant::now());
        assert_eq!([(); 3].map(|()| fail(&breaker, start))[2], Change::Opened);
        let probe = breaker.pass().await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        let (waiter, _) = tokio::join!(breaker.pass(), async { probe.settle(true, Instant::now()) });
        assert!(!waiter.is_probe());
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
}
