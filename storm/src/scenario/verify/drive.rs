//! Carries the callers' messages to the centers and the answers back.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use proto::v1;
use tokio_util::sync::CancellationToken;

use super::{
    VerifyOptions,
    callers::{Call, Callers},
};
use crate::{
    clock::Clock,
    fleet::{FleetSpec, uid},
    latency::Latencies,
    load::{Centers, Failure, key},
    pacing::Pacer,
    payload::{EVERYONE, Header},
};

type Results = Vec<(Call, Result<(u64, bool), Failure>)>;
type Flight = Pin<Box<dyn Future<Output = Results> + Send>>;

/// With nothing to send or to hear, look again after this.
const TURN: Duration = Duration::from_millis(2);

/// An answer that takes longer will not come: the center's own time-outs are shorter, so it has died or hangs.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Drive {
    centers: Arc<Centers>,
    pub(super) callers: Callers,
    clock: Clock,
    flights: FuturesUnordered<Flight>,
    batch: usize,
    in_flight: usize,
    payload: usize,
    rate: f64,
    broadcast_rate: f64,
    prefix: String,
    run: u32,
    /// From the first attempt to acceptance.
    pub(super) accept: Latencies,
    /// Why attempts failed, and how often.
    pub(super) failures: BTreeMap<String, u64>,
}

impl Drive {
    pub(super) fn new(
        centers: Arc<Centers>,
        callers: Callers,
        options: &VerifyOptions,
        spec: &FleetSpec,
    ) -> Self {
        Self {
            centers,
            callers,
            clock: Clock::start(),
            flights: FuturesUnordered::new(),
            batch: options.batch.max(1),
            in_flight: options.in_flight.max(1),
            payload: options.payload,
            rate: options.rate,
            broadcast_rate: options.broadcasts,
            prefix: spec.uid_prefix.clone(),
            run: spec.run,
            accept: Latencies::default(),
            failures: BTreeMap::new(),
        }
    }

    /// Sends new messages for `time`.
    pub(super) async fn push(&mut self, time: Duration, stop: &CancellationToken) {
        let start = Instant::now();
        let mut messages = Pacer::new(start, self.rate);
        let mut broadcasts = Pacer::new(start, self.broadcast_rate);
        while start.elapsed() < time && !stop.is_cancelled() {
            let now = Instant::now();
            // A stalled server must not be met by a burst of all that fell due meanwhile: what a user could not be
            // sent is not owed. (Here the load matters, not the latency.)
            let mut due = messages.due(now);
            while due > 0 && self.flights.len() < self.in_flight {
                let calls = self.calls(now, due);
                if calls.is_empty() {
                    break;
                }
                due = due.saturating_sub(calls.len() as u64);
                self.send(calls);
            }
            self.repeat(now);
            for _ in 0..messages.due(now) {
                messages.take();
            }
            if self.broadcast_rate > 0.0 && broadcasts.due(now) > 0 {
                broadcasts.take();
                let call = self.callers.next_broadcast(self.clock.ns(now));
                call.into_iter().for_each(|call| self.send(vec![call]));
            }
            self.turn().await;
        }
    }

    /// Repeats what is open until it is accepted or refused; false if the deadline comes first.
    pub(super) async fn settle(&mut self, deadline: tokio::time::Instant) -> bool {
        while !self.callers.is_settled(self.flights.len()) {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            self.repeat(Instant::now());
            self.turn().await;
        }
        true
    }

    async fn turn(&mut self) {
        tokio::select! {
            Some(results) = self.flights.next() => self.note(results),
            () = tokio::time::sleep(TURN) => {}
        }
    }

    /// The next batch: first what is to be repeated, then at most `due` new messages.
    fn calls(&mut self, now: Instant, due: u64) -> Vec<Call> {
        let sent_ns = self.clock.ns(now);
        let most = self.batch.min(usize::try_from(due).unwrap_or(usize::MAX));
        std::iter::from_fn(|| self.callers.next(sent_ns)).take(most).collect()
    }

    /// Sends what is to be repeated, broadcasts each by itself.
    fn repeat(&mut self, now: Instant) {
        while self.flights.len() < self.in_flight {
            let mut batch = Vec::new();
            while batch.len() < self.batch {
                match self.callers.repeat(now) {
                    Some(call) if call.user == EVERYONE => self.send(vec![call]),
                    Some(call) => batch.push(call),
                    None => break,
                }
            }
            if batch.is_empty() {
                return;
            }
            self.send(batch);
        }
    }

    fn send(&mut self, calls: Vec<Call>) {
        let centers = self.centers.clone();
        let flight: Flight = match calls[..] {
            [call] if call.user == EVERYONE => {
                let request = self.broadcast(call);
                Box::pin(async move {
                    let answer = in_time(centers.broadcast(request)).await;
                    vec![(call, answer.map(|response| (response.id, response.repeated)))]
                })
            }
            _ => {
                let requests = calls.iter().map(|call| self.message(*call)).collect();
                Box::pin(async move {
                    match in_time(centers.push(requests)).await {
                        Ok(results) => {
                            let accepted = |response: v1::PushResponse| (response.id, response.repeated);
                            let results = results.into_iter().map(|result| result.map(accepted));
                            calls.into_iter().zip(results).collect()
                        }
                        Err(failure) => calls.into_iter().map(|call| (call, Err(failure.clone()))).collect(),
                    }
                })
            }
        };
        self.flights.push(flight);
    }

    fn note(&mut self, results: Results) {
        let now = Instant::now();
        for (call, result) in results {
            match result {
                Ok((id, repeated)) => {
                    self.callers.on_accepted(call, id, repeated);
                    self.accept.record_ns(self.clock.ns(now).saturating_sub(call.sent_ns));
                }
                Err(failure) => {
                    self.callers.on_failed(call, &failure, now);
                    *self.failures.entry(failure.code).or_default() += 1;
                }
            }
        }
    }

    fn header(&self, call: Call) -> Header {
        Header { run: self.run, user: call.user, number: call.number, sent_ns: call.sent_ns }
    }

    fn message(&self, call: Call) -> v1::PushRequest {
        let header = self.header(call);
        v1::PushRequest {
            app: self.centers.app().to_owned(),
            uid: uid(&self.prefix, call.user),
            payload: header.payload(self.payload),
            ttl_s: None,
            transient: false,
            idempotency_key: key(&header),
            ..Default::default()
        }
    }

    fn broadcast(&self, call: Call) -> v1::BroadcastRequest {
        let header = self.header(call);
        v1::BroadcastRequest {
            app: self.centers.app().to_owned(),
            payload: header.payload(self.payload),
            ttl_s: None,
            audience: String::new(),
            idempotency_key: key(&header),
            ..Default::default()
        }
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || Failure::unanswered("no answer in time");
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(late()))
}
