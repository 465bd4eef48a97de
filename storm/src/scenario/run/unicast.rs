//! A phase of pushes to single users.

use std::{sync::Arc, time::Duration};

use super::work::{Ground, Outcome, Part};
use crate::{
    load::{PushPlan, Pusher},
    report::Sent,
    scenario::script::Unicast,
};

/// The phase ends by its cancel token; this only has to be longer than any storm.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// How often what was sent is told to the runner.
const TELL: Duration = Duration::from_millis(100);

/// How long a phase waits, at most, for what it sent last.
const TAIL: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

/// Most pushes outstanding, unless a phase says otherwise: what `storm push` has.
const WINDOW: u64 = 1000;

pub(super) async fn run(ground: Ground, unicast: Unicast, part: Part) -> anyhow::Result<Outcome> {
    let plan = PushPlan {
        rate: unicast.rate,
        window: unicast.window.unwrap_or(if unicast.rate.is_some() { u64::MAX } else { WINDOW }),
        batch: unicast.batch.max(1),
        in_flight: unicast.in_flight.max(1),
        payload: unicast.payload,
        users: ground.spec.count,
        uid_prefix: ground.spec.uid_prefix.clone(),
        ttl_s: unicast.ttl,
        transient: unicast.transient,
        keys: unicast.keys,
        run: ground.spec.run,
    };
    let mut pusher = Pusher::new(ground.centers()?.clone(), plan);
    let live = pusher.live();
    let counts = ground.counts.clone();
    let came = || {
        let counts = counts.counts();
        counts.messages + counts.transients
    };
    // What other phases sent before is not of this window. Of two windows at once neither is exact.
    let before = came();
    let cancel = part.cancel.clone();
    {
        let returned = || came().saturating_sub(before);
        let running = pusher.run(FOREVER, &cancel, &returned);
        tokio::pin!(running);
        loop {
            tokio::select! {
                () = &mut running => break,
                () = tokio::time::sleep(TELL) => part.tell(sent(&live)),
            }
        }
    }
    part.tell(sent(&live));
    // What is under way still belongs to this phase and its latencies; what takes longer shows in the whole run's.
    let owed = sent(&live).owed();
    let until = tokio::time::Instant::now() + TAIL;
    while came().saturating_sub(before) < owed && tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
    for (code, count) in &pusher.report.reasons {
        ground.totals.failed(code, *count);
    }
    Ok(Outcome { accept: pusher.report.accept.clone(), ..Outcome::default() })
}

fn sent(live: &Arc<crate::load::Live>) -> Sent {
    let (pushes, accepted, offline, failed) = live.load();
    Sent { pushes, accepted, offline, failed, broadcasts: 0 }
}
