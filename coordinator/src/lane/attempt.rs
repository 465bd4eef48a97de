//! One try to deliver one event.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{Lane, NoTarget};
use crate::{breaker::Change, event::Event, metrics::Posted, webhook::Verdict};

/// How a try ended, as far as the event is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempted {
    Delivered,
    /// The backend does not want this event.
    Refused(String),
    /// The backend does not take anything, or not this. `counts` is false for a try that only found out that the
    /// backend is still away: the event cannot help that.
    Failed {
        why: String,
        counts: bool,
        retry_after: Option<Duration>,
    },
    /// The app does not want such events any more.
    NotWanted,
}

/// Waits for the breaker and makes the request. Dropping the future gives the try up.
pub(super) fn attempt(lane: &Arc<Lane>, event: &Event) -> BoxFuture<'static, Attempted> {
    let (lane, event) = (lane.clone(), event.clone());
    Box::pin(async move {
        let target = match lane.tools.targets.target(lane.key).await {
            Ok(target) => target,
            Err(NoTarget::NotWanted) => return Attempted::NotWanted,
            Err(error) => {
                return Attempted::Failed { why: error.to_string(), counts: false, retry_after: None };
            }
        };
        let body = event.body(&target.app);
        let pass = lane.breaker.pass().await;
        let probe = pass.is_probe();
        let begun = Instant::now();
        let verdict = lane.tools.webhooks.post(&target, event.id(), body).await;
        let change = pass.settle(!matches!(verdict, Verdict::Failed { .. }), Instant::now());
        let (posted, attempted) = match verdict {
            Verdict::Delivered => (Posted::Delivered, Attempted::Delivered),
            Verdict::Refused(status) => {
                (Posted::Refused, Attempted::Refused(format!("HTTP {}", status.as_u16())))
            }
            Verdict::Failed { why, retry_after } => {
                (Posted::Failed, Attempted::Failed { why, counts: !probe, retry_after })
            }
        };
        lane.tools.metrics.posted(lane.key.kind, posted, begun.elapsed());
        tell(&lane, &target.app, change, &attempted);
        attempted
    })
}

/// The breaker's changes are what an operator wants to know, not each failure.
fn tell(lane: &Lane, app: &str, change: Change, attempted: &Attempted) {
    let kind = lane.key.kind.as_str();
    match (change, attempted) {
        (Change::Opened, Attempted::Failed { why, .. }) => {
            lane.tools.metrics.breaker_opened.inc();
            tracing::warn!(app, kind, %why, "a backend keeps failing; its events wait in the spill queue");
        }
        (Change::Closed, _) => {
            lane.tools.metrics.breaker_closed.inc();
            tracing::info!(app, kind, "a backend is back");
        }
        _ => {}
    }
}
