//! A node's way into the cluster: waits for etcd, and for an id that is taken.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{
    Holder, Wanted,
    backoff::Backoff,
    claim::{Claim, Unclaimed, claim, is_empty},
    link::Link,
};
use crate::DiscoveryError;

/// A taken id is asked for again for so many leases: whoever died with it is gone by then.
const LEASES_TO_WAIT: u32 = 3;
/// While nobody answers there is time; with the first answer there must be an end to it soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Claims an id, however long etcd is away.
pub(crate) async fn enter(
    link: &Link,
    wanted: Wanted,
    holder: &Holder,
    floor: u64,
) -> Result<Claim, DiscoveryError> {
    let lease = link.options().lease;
    let mut backoff = Backoff::new(Duration::from_millis(100), LONGEST_PAUSE);
    let (mut told_away, mut told_taken) = (false, false);
    let mut taken_since: Option<Instant> = None;
    // A node that has lived before, in an etcd where nobody has: those who run will tell how far the numbers were.
    let mut patience = (floor > 0).then_some(lease);
    loop {
        if let Some(wait) = patience
            && let Ok(empty) = is_empty(link).await
        {
            patience = None;
            if empty {
                info!("etcd knows no cluster of this name; waiting whether others do");
                sleep(wait).await;
            }
        }
        match claim(link, wanted, holder, floor).await {
            Ok(claim) => return Ok(claim),
            Err(Unclaimed::Exhausted) => return Err(DiscoveryError::NoFreeId),
            Err(Unclaimed::Taken { id, by }) => {
                let since = *taken_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= lease * LEASES_TO_WAIT {
                    return Err(DiscoveryError::Held { id, by: Box::new(by) });
                }
                if !std::mem::replace(&mut told_taken, true) {
                    warn!(node = %id, role = %by.role, host = by.host, process = by.process,
                        "the node id is taken; waiting for its lease to end");
                }
                sleep(lease / 4).await;
            }
            Err(Unclaimed::Etcd(error)) => {
                if !std::mem::replace(&mut told_away, true) {
                    warn!(%error, "waiting for etcd");
                }
                sleep(backoff.next()).await;
            }
        }
    }
}
