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

/// The state of a series of attempts, for a caller whose loop [`retry`] does not fit.
#[derive(Debug)]
pub struct Retries<E> {
    backoff: Backoff,
    deadline: Instant,
    attempt: u32,
    last: Option<E>,
}

impl<E> Retries<E> {
    /// Before the first attempt.
    #[must_use]
    pub fn new(backoff: Backoff, deadline: Instant) -> Self {
        Self { backoff, deadline, attempt: 0, last: None }
    }

    /// The number of the present attempt, from 0.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the whole series must have ended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Notes how an attempt failed and waits until the next is due.
    ///
    /// # Errors
    /// When there is to be no next attempt. No wait is begun that would end after the deadline.
    pub async fn pause(&mut self, failure: Attempt<E>, cancel: &CancellationToken) -> Result<(), GaveUp<E>> {
        let mut delay = self.backoff.delay(self.attempt, &mut rand::rng());
        match failure {
            Attempt::Stop(e) => return Err(GaveUp::Stopped(e)),
            Attempt::Again(e) => self.last = Some(e),
            Attempt::After(e, least) => {
                self.last = Some(e);
                // On top of what the peer asked for, so that all who were told the same do not come back together.
                delay += least;
            }
        }
        if Instant::now() + delay >= self.deadline {
            return Err(GaveUp::Deadline(self.last.take()));
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(GaveUp::Cancelled(self.last.take())),
            () = tokio::time::sleep(delay) => {}
        }
        self.attempt = self.attempt.saturating_add(1);
        Ok(())
    }

    /// The end of a series whose present attempt was cut short by the deadline.
    #[must_use]
    pub fn cut_short(self) -> GaveUp<E> {
        GaveUp::Deadline(self.last)
    }
}

/// Calls `op` with the number of the attempt (from 0) until it succeeds, says [`Attempt::Stop`], `deadline` passes or
/// `cancel` fires. The deadline and the token also cut short an attempt that is under way.
///
/// # Errors
/// [`GaveUp`] with the last failure.
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
    let mut retries = Retries::new(backoff, deadline);
    loop {
        let failure = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(GaveUp::Cancelled(retries.last)),
            result = tokio::time::timeout_at(deadline, op(retries.attempt)) => match result {
                Err(_) => return Err(retries.cut_short()),
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(failure)) => failure,
            },
        };
        retries.pause(failure, cancel).await?;
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
