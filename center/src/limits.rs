//! Bounds on what callers may have under way: a rate for each app, and counts and bytes for all together.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use flow::TokenBucket;
use hashbrown::HashMap;
use wire::id::AppId;

use crate::error::{Error, Result};

/// Something of which only so much may be held at once.
#[derive(Debug, Clone)]
pub struct Budget {
    what: &'static str,
    limit: Arc<AtomicUsize>,
    held: Arc<AtomicUsize>,
}

impl Budget {
    /// A budget; `what` names it in the error of a caller who meets the bound.
    pub fn new(what: &'static str, limit: usize) -> Budget {
        Budget { what, limit: Arc::new(AtomicUsize::new(limit)), held: Arc::default() }
    }

    /// Takes a part, to be given back when the answer is dropped.
    pub fn take(&self, amount: usize) -> Result<Held> {
        let before = self.held.fetch_add(amount, Ordering::Relaxed);
        let held = Held { amount, of: Arc::clone(&self.held) };
        if before.saturating_add(amount) > self.limit.load(Ordering::Relaxed) {
            Err(Error::Full(self.what))
        } else {
            Ok(held)
        }
    }

    /// Another limit; what is held stays.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How much is held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// A part of a [`Budget`].
#[derive(Debug)]
pub struct Held {
    amount: usize,
    of: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// A token bucket for each app, refilled at the app's own rate. There are as many as there are known apps.
#[derive(Default)]
pub(crate) struct Rates {
    buckets: Mutex<HashMap<AppId, Rate, foldhash::fast::RandomState>>,
}

struct Rate {
    per_second: u32,
    bucket: TokenBucket,
}

impl Rates {
    /// Takes `count` pushes off the app's rate; a second's worth may be saved up. A longer list than that passes
    /// when the bucket is full and leaves it in debt, so it is slowed down and not shut out.
    pub(crate) fn take(&self, now: Instant, app: AppId, per_second: u32, count: usize) -> Result<()> {
        let fill = f64::from(per_second);
        // Nothing that could panic runs under the lock.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = buckets
            .entry(app)
            .or_insert_with(|| Rate { per_second, bucket: TokenBucket::new(fill, fill, now) });
        if rate.per_second != per_second {
            rate.per_second = per_second;
            rate.bucket.set(now, fill, fill);
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        rate.bucket.take(now, count).map_err(|retry_after| Error::TooFast { retry_after })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_budget_gives_back_what_is_dropped() {
        let budget = Budget::new("bytes", 10);
        let first = budget.take(6).unwrap();
        assert!(matches!(budget.take(5), Err(Error::Full("bytes"))));
        let second = budget.take(4).unwrap();
        drop(first);
        assert_eq!(budget.held(), 4);
        drop(second);
        assert_eq!(budget.held(), 0);
        let shared = budget.clone();
        shared.set_limit(3);
        assert!(budget.take(4).is_err(), "all who share it have the new limit");
        assert!(shared.take(4).is_err());
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn each_app_has_its_own_rate() {
        let (rates, now) = (Rates::default(), Instant::now());
        for _ in 0..3 {
            rates.take(now, AppId(1), 3, 1).unwrap();
        }
        let Err(Error::TooFast { retry_after }) = rates.take(now, AppId(1), 3, 1) else {
            panic!("over its rate")
        };
        rates.take(now, AppId(2), 3, 1).unwrap();
        rates.take(now + retry_after, AppId(1), 3, 1).unwrap();
    }

    #[test]
    fn a_new_rate_holds_from_the_next_call() {
        let (rates, now) = (Rates::default(), Instant::now());
        rates.take(now, AppId(1), 1, 1).unwrap();
        let later = now + Duration::from_millis(100);
        assert!(rates.take(later, AppId(1), 1, 1).is_err());
        rates.take(later, AppId(1), 1_000, 0).unwrap();
        rates.take(later + Duration::from_millis(1), AppId(1), 1_000, 1).unwrap();
    }
}
