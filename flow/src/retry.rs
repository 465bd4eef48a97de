//! Trying again until it works, may not work, or time is up.

use std::{future::Future, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Backoff;

/// How one attempt failed, as the operation itself judges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt<E> {
    /// Another attempt may succeed.
    Again(E),
    /// Another attempt may succeed, but not before so long: the peer said so.
    After(E, Duration),
    /// Another attempt would fail the same way, or could do harm.
    Stop(E),
}

/// Why [`retry`] ended without success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GaveUp<E> {
    /// The operation said that it makes no sense to try again.
    #[error("{0}")]
    Stopped(E),
    /// Time was up; the last failure, if an attempt had ended at all.
    #[error("the deadline passed{}", .0.as_ref().map(|e| format!(", last: {e}")).unwrap_or_default())]
    Deadline(Option<E>),
    /// The caller is shutting down; the last failure, if an attempt had ended at all.
    #[error("cancelled{}", .0.as_ref().map(|e| format!(", last: {e}")).unwrap_or_default())]
    Cancelled(Option<E>),
}

impl<E> GaveUp<E> {
    /// The failure of the last attempt that ended.
    pub fn into_last(self) -> Option<E> {
        match self {
            Self::Stopped(e) => Some(e),
            Self::Deadline(e) | Self::Cancelled(e) => e,
        }
    }
}

/// Calls `op` with the number of the attempt (from 0) until it succeeds, says [`Attempt::Stop`], `deadline` passes or
/// `cancel` fires. The deadline and the token also cut short an attempt that is under way, and no wait is begun that
/// would end after the deadline.
pub async fn retry<T, E, Op, Fut>(
    backoff: Backoff,
    deadline: Instant,
    cancel: &CancellationToken,
    mut op: Op,
) -> Result<T, GaveUp<E>>
where
    Op: FnMut(u32) -> Fut,
    Fut: Future<Output = Result<T, Attempt<E>>>,
{
    let mut last = None;
    let mut attempt = 0;
    loop {
        let failure = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(GaveUp::Cancelled(last)),
            result = tokio::time::timeout_at(deadline, op(attempt)) => match result {
                Err(_) => return Err(GaveUp::Deadline(last)),
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(failure)) => failure,
            },
        };
        let delay = backoff.delay(attempt, &mut rand::rng());
        let delay = match failure {
            Attempt::Stop(e) => return Err(GaveUp::Stopped(e)),
            Attempt::Again(e) => {
                last = Some(e);
                delay
            }
            // On top of what the peer asked for, so that all who were told the same do not come back together.
            Attempt::After(e, least) => {
                last = Some(e);
                least + delay
            }
        };
        if Instant::now() + delay >= deadline {
            return Err(GaveUp::Deadline(last));
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(GaveUp::Cancelled(last)),
            () = tokio::time::sleep(delay) => {}
        }
        attempt = attempt.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const B: Backoff = Backoff::full_jitter(Duration::from_millis(100), Duration::from_secs(1));

    fn never() -> CancellationToken {
        CancellationToken::new()
    }

    fn within(d: Duration) -> Instant {
        Instant::now() + d
    }

    #[tokio::test(start_paused = true)]
    async fn succeeds_after_failures() {
        let out = retry(B, within(Duration::from_secs(10)), &never(), |n| async move {
            if n < 3 { Err(Attempt::Again(n)) } else { Ok(n) }
        })
        .await;
        assert_eq!(out, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn stops_at_once_when_told() {
        let calls = Cell::new(0);
        let out = retry(B, within(Duration::from_secs(10)), &never(), |_| {
            calls.set(calls.get() + 1);
            async { Err::<(), _>(Attempt::Stop("no")) }
        })
        .await;
        assert_eq!(out, Err(GaveUp::Stopped("no")));
        assert_eq!(calls.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_by_the_deadline_with_the_last_failure() {
        let start = Instant::now();
        let limit = Duration::from_secs(5);
        let out = retry(B, start + limit, &never(), |n| async move { Err::<(), _>(Attempt::Again(n)) }).await;
        assert!(matches!(out, Err(GaveUp::Deadline(Some(n))) if n > 3));
        assert!(start.elapsed() <= limit);
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_cuts_an_attempt_short() {
        let start = Instant::now();
        let out = retry(B, start + Duration::from_secs(2), &never(), |_| {
            std::future::pending::<Result<(), Attempt<()>>>()
        })
        .await;
        assert_eq!(out, Err(GaveUp::Deadline(None)));
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn cancel_ends_a_wait() {
        let cancel = CancellationToken::new();
        let fire = cancel.clone();
        let start = Instant::now();
        let out = retry(B, start + Duration::from_secs(60), &cancel, |_| {
            fire.cancel();
            async { Err::<(), _>(Attempt::After("later", Duration::from_secs(30))) }
        })
        .await;
        assert!(matches!(out, Err(GaveUp::Cancelled(_))));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_at_least_what_the_peer_asked_for() {
        let start = Instant::now();
        let out = retry(B, start + Duration::from_secs(60), &never(), |n| async move {
            if n == 0 { Err(Attempt::After((), Duration::from_secs(7))) } else { Ok(()) }
        })
        .await;
        assert_eq!(out, Ok(()));
        assert!(start.elapsed() >= Duration::from_secs(7));
    }
}
