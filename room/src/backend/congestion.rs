//! How long binds take, and whom to refuse for it.
//!
//! Devices come as they please. While they come faster than the cluster binds them, each waits for longer, until all are given up
//! by those who asked before they are answered, and the cluster does nothing but work for nobody. So once a bind takes too long,
//! those that come after are told at once to come later, and what is under way drains.

use std::{
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// A bind that takes longer shows that too many are under way. A device gives its bind up after ten seconds, and one that asks
/// its cluster anew costs more than one that waits.
const LONG: Duration = Duration::from_secs(3);
/// So many may be under way however long they take: they find out whether it has become better.
const FEW: usize = 64;

/// The binds of a room that are under way.
#[derive(Debug, Default)]
pub(crate) struct Congestion {
    under_way: AtomicUsize,
    /// What the last one took, ms.
    took_ms: AtomicU32,
}

/// One bind that is under way; it has ended when this is dropped.
pub(crate) struct UnderWay<'a> {
    all: &'a Congestion,
    since: Instant,
}

impl Congestion {
    /// Begins a bind.
    ///
    /// # Errors
    /// It had better not begin; after how many milliseconds it may.
    pub(crate) fn enter(&self) -> Result<UnderWay<'_>, u32> {
        let took_ms = self.took_ms.load(Ordering::Relaxed);
        // Several may pass the last place together: it is no bound of memory.
        let crowded = self.under_way.load(Ordering::Relaxed) >= FEW;
        if crowded && Duration::from_millis(took_ms.into()) > LONG {
            return Err(took_ms);
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Ok(UnderWay { all: self, since: Instant::now() })
    }
}

impl UnderWay<'_> {
    /// When it began.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.all.under_way.fetch_sub(1, Ordering::Relaxed);
        let took_ms = u32::try_from(self.since.elapsed().as_millis()).unwrap_or(u32::MAX);
        self.all.took_ms.store(took_ms, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// A ramp that was a little too fast ended with devices that all gave up, came again and gave up.
    #[tokio::test(start_paused = true)]
    async fn those_who_come_while_binds_take_long_are_sent_away_until_it_is_better() {
        let congestion = Congestion::default();
        let mut under_way: Vec<_> = (0..500).map(|_| congestion.enter().ok().unwrap()).collect();
        advance(Duration::from_secs(4)).await;
        drop(under_way.pop());
        assert_eq!(congestion.enter().err(), Some(4_000));
        under_way.truncate(FEW - 1);
        let one = congestion.enter();
        assert!(one.is_ok(), "a few find out");
        assert!(congestion.enter().is_err());
        advance(Duration::from_millis(100)).await;
        drop(one);
        let all: Vec<_> = (0..500).map(|_| congestion.enter().is_ok()).collect();
        assert!(all.iter().all(|entered| *entered));
    }
}
