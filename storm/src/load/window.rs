//! Pushes at a rate or as fast as a window lets them, in batches of which several are under way.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use proto::v1;
use tokio_util::sync::CancellationToken;

use super::{Centers, Failure};
use crate::{clock::Clock, fleet::uid, latency::Latencies, pacing::Pacer, payload::Header};

/// How pushes are made.
#[derive(Debug, Clone)]
pub struct PushPlan {
    /// Pushes per second; `None` = as many as the window lets through.
    pub rate: Option<f64>,
    /// Most pushes that have not come back: accepted and received, or failed.
    pub window: u64,
    /// Pushes in a batch at most.
    pub batch: usize,
    /// Batches under way at most.
    pub in_flight: usize,
    /// Bytes of a payload.
    pub payload: usize,
    /// Users, `<prefix>-0` to `<prefix>-<users - 1>`, in turn.
    pub users: u32,
    /// What users are called.
    pub uid_prefix: String,
    /// Seconds to live, if not the app's default.
    pub ttl_s: Option<u32>,
    /// Not stored.
    pub transient: bool,
    /// With an idempotency key each.
    pub keys: bool,
    /// Number of the run.
    pub run: u32,
}

/// What came of the pushes.
#[derive(Debug, Clone, Default)]
pub struct PushReport {
    /// Pushes sent.
    pub sent: u64,
    /// Accepted.
    pub accepted: u64,
    /// Accepted, and the user was not online (transient only).
    pub offline: u64,
    /// Not accepted.
    pub failed: u64,
    /// From the moment a push was meant to be sent to its acceptance.
    pub accept: Latencies,
    /// Why some failed.
    pub reasons: BTreeMap<String, u64>,
}

/// The report's sums, readable while pushes go on.
#[derive(Debug, Default)]
pub struct Live {
    sent: AtomicU64,
    accepted: AtomicU64,
    offline: AtomicU64,
    failed: AtomicU64,
}

impl Live {
    /// Sent, accepted, offline, failed.
    #[must_use]
    pub fn load(&self) -> (u64, u64, u64, u64) {
        (
            self.sent.load(Relaxed),
            self.accepted.load(Relaxed),
            self.offline.load(Relaxed),
            self.failed.load(Relaxed),
        )
    }

    fn store(&self, report: &PushReport) {
        self.sent.store(report.sent, Relaxed);
        self.accepted.store(report.accepted, Relaxed);
        self.offline.store(report.offline, Relaxed);
        self.failed.store(report.failed, Relaxed);
    }
}

/// Pushes; what came back is told by the caller.
pub struct Pusher {
    centers: Arc<Centers>,
    plan: PushPlan,
    clock: Clock,
    numbers: Vec<u64>,
    next_user: u64,
    stride: u64,
    live: Arc<Live>,
    /// What has come of it so far.
    pub report: PushReport,
}

type Answer = (Vec<Instant>, Result<Vec<Result<v1::PushResponse, Failure>>, Failure>);
type Flight = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// With nothing to do until the next push or answer, look again after this.
const TURN: Duration = Duration::from_millis(1);

impl Pusher {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(centers: Arc<Centers>, plan: PushPlan) -> Self {
        let users = u64::from(plan.users.max(1));
        Self {
            centers,
            clock: Clock::start(),
            numbers: vec![0; users as usize],
            next_user: 0,
            stride: stride(users),
            live: Arc::default(),
            report: PushReport::default(),
            plan,
        }
    }

    /// The sums, for somebody who watches.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.live.clone()
    }

    /// Pushes for `time`, or until cancelled, and waits for the last answers. `returned` says how many have reached
    /// their users so far.
    pub async fn run(&mut self, time: Duration, cancel: &CancellationToken, returned: impl Fn() -> u64) {
        let start = Instant::now();
        let mut pacer = self.plan.rate.map(|rate| Pacer::new(start, rate));
        let mut flights: FuturesUnordered<Flight> = FuturesUnordered::new();
        while start.elapsed() < time && !cancel.is_cancelled() {
            while flights.len() < self.plan.in_flight {
                let batch = self.batch(pacer.as_mut(), &returned);
                if batch.is_empty() {
                    break;
                }
                flights.push(self.send(batch));
            }
            tokio::select! {
                Some(answer) = flights.next() => self.note(answer),
                () = tokio::time::sleep(TURN) => {}
                () = cancel.cancelled() => {}
            }
        }
        while let Some(answer) = flights.next().await {
            self.note(answer);
        }
    }

    /// When the pushes that may leave now were meant to leave.
    fn batch(&self, pacer: Option<&mut Pacer>, returned: &impl Fn() -> u64) -> Vec<Instant> {
        let now = Instant::now();
        // Offline transients never come back; failures have.
        let back = returned() + self.report.failed + self.report.offline;
        let room = self.plan.window.saturating_sub(self.report.sent.saturating_sub(back));
        let most = room.min(self.plan.batch as u64);
        match pacer {
            Some(pacer) => (0..pacer.due(now).min(most)).map(|_| pacer.take()).collect(),
            None => vec![now; most as usize],
        }
    }

    fn send(&mut self, intended: Vec<Instant>) -> Flight {
        self.report.sent += intended.len() as u64;
        self.live.store(&self.report);
        let pushes = intended.iter().map(|at| self.push(*at)).collect();
        let centers = self.centers.clone();
        Box::pin(async move {
            let answer = centers.push(pushes).await;
            (intended, answer)
        })
    }

    fn push(&mut self, intended: Instant) -> v1::PushRequest {
        let user = (self.next_user % self.numbers.len() as u64) as u32;
        self.next_user += self.stride;
        let number = &mut self.numbers[user as usize];
        *number += 1;
        let header = Header { run: self.plan.run, user, number: *number, sent_ns: self.clock.ns(intended) };
        let key = if self.plan.keys { key(&header) } else { String::new() };
        v1::PushRequest {
            app: self.centers.app().to_owned(),
            uid: uid(&self.plan.uid_prefix, user),
            payload: header.payload(self.plan.payload),
            ttl_s: self.plan.ttl_s,
            transient: self.plan.transient,
            idempotency_key: key,
            ..Default::default()
        }
    }

    fn note(&mut self, (intended, answer): Answer) {
        let now = Instant::now();
        let results = match answer {
            Ok(results) => results,
            Err(failure) => vec![Err(failure); intended.len()],
        };
        for (at, result) in intended.into_iter().zip(results) {
            match result {
                Ok(response) => {
                    self.report.accepted += 1;
                    self.report.offline += u64::from(response.outcome() == v1::Outcome::Offline);
                    self.report.accept.record(now.saturating_duration_since(at));
                }
                Err(failure) => {
                    self.report.failed += 1;
                    *self.report.reasons.entry(failure.code).or_default() += 1;
                }
            }
        }
        self.live.store(&self.report);
    }
}

/// The idempotency key of a message of a storm.
#[must_use]
pub(crate) fn key(header: &Header) -> String {
    format!("storm-{:08x}-{:x}-{:x}", header.run, header.user, header.number)
}

/// A step that visits every user once a round and puts neighbours far apart, so that the users of one batch are of
/// different rooms and shards.
fn stride(users: u64) -> u64 {
    // Near the golden section of a round, the steps spread most evenly.
    let wanted = (users as f64 * 0.618_034) as u64;
    (wanted.max(1)..).find(|step| gcd(*step, users) == 1).unwrap_or(1)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_round_visits_every_user() {
        for users in [1, 2, 3, 10, 1000, 15_000] {
            let step = stride(users);
            let visited: HashSet<u64> = (0..users).map(|k| k * step % users).collect();
            assert_eq!(visited.len() as u64, users);
        }
    }
}
