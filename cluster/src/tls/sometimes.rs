//! What may be said once a minute.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A wrong certificate is tried again every second by each of its peers; the operator needs one line of it.
const EVERY: Duration = Duration::from_secs(60);

/// Says when a warning is due that something outside could make flood the log.
#[derive(Debug, Default)]
pub struct Sometimes(Mutex<Option<Instant>>);

impl Sometimes {
    /// True at most once a minute.
    pub fn due(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now - last >= EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn once_a_minute() {
        let sometimes = Sometimes::default();
        assert!(sometimes.due());
        assert!(!sometimes.due());
        tokio::time::advance(EVERY).await;
        assert!(sometimes.due());
        assert!(!sometimes.due());
    }
}
