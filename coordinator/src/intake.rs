//! Takes batches of events in: each event gets its own answer, and no lane holds up another's.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::oneshot;

use crate::{
    event::{Event, LaneKey},
    lane::{Answer, Lanes, NoTarget, Targets},
    metrics::{CoordinatorMetrics, Received},
};

/// The way in for events.
#[derive(Clone)]
pub(crate) struct Intake {
    pub(crate) lanes: Lanes,
    pub(crate) targets: Arc<dyn Targets>,
    pub(crate) metrics: CoordinatorMetrics,
}

enum Pending {
    Known(Received),
    Offered(oneshot::Receiver<Answer>),
}

impl Intake {
    /// What became of each event. Takes as long as the slowest, which the lanes bound.
    pub(crate) async fn take(&self, events: Vec<Event>) -> Vec<Received> {
        let kinds: Vec<_> = events.iter().map(|event| event.lane().kind).collect();
        let pending = self.offer(events).await;
        let mut received = Vec::with_capacity(pending.len());
        for (pending, kind) in pending.into_iter().zip(kinds) {
            let outcome = match pending {
                Pending::Known(known) => known,
                Pending::Offered(answer) => match answer.await {
                    Ok(Answer::Taken) => Received::Taken,
                    // A worker that ended without an answer has taken nothing.
                    Ok(Answer::Retry) | Err(_) => Received::Retry,
                },
            };
            self.metrics.received(kind, outcome);
            received.push(outcome);
        }
        received
    }

    async fn offer(&self, events: Vec<Event>) -> Vec<Pending> {
        let mut routes: HashMap<LaneKey, Option<Received>> = HashMap::new();
        // Lanes that shed an event of this batch shed the rest of it: a user's events are not torn apart.
        let mut pending = Vec::with_capacity(events.len());
        let mut directory_away = false;
        for event in events {
            let lane = event.lane();
            let known = match routes.get(&lane) {
                Some(known) => *known,
                None => {
                    // Of several apps that cannot be looked up only the first is waited for.
                    let known = match directory_away {
                        true => Some(Received::Retry),
                        false => self.route(lane).await,
                    };
                    directory_away |= known == Some(Received::Retry);
                    routes.insert(lane, known);
                    known
                }
            };
            pending.push(match known {
                Some(known) => Pending::Known(known),
                None => match self.lanes.offer(event) {
                    Ok(answer) => Pending::Offered(answer),
                    Err(_) => {
                        routes.insert(lane, Some(Received::Retry));
                        Pending::Known(Received::Retry)
                    }
                },
            });
        }
        pending
    }

    /// None if the lane has somewhere to go.
    async fn route(&self, lane: LaneKey) -> Option<Received> {
        match self.targets.target(lane).await {
            Ok(_) => None,
            Err(NoTarget::NotWanted) => Some(Received::NoRoute),
            Err(NoTarget::Unknown(reason)) => {
                tracing::debug!(app = lane.app, reason, "an app cannot be looked up");
                Some(Received::Retry)
            }
        }
    }
}
