//! Offers again what stayed unacked while its user is online: so a message whose center died between storing and
//! delivering is not left lying until the next bind.

use std::{future::Future, time::Duration};

use futures::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use wire::id::MessageId;

use crate::{
    archive::Archive,
    engine::Engine,
    error::Refused,
    inbox::{InboxStore, Waiting},
    model::InboxKey,
};

/// The sweeper works so often; the bound per second is spread over these.
const TICK: Duration = Duration::from_millis(500);
/// Inboxes that are read, and whose rooms are told, at a time: calls travel in batches, so a batch or two.
const WINDOW: usize = 256;
/// Messages accepted within so long before the newest are looked through at a start. A center that died earlier had
/// its messages swept by the saver's last life.
const RECOVER_MS: u64 = 120_000;
/// Stored messages looked at in a recovery step.
const RECOVER_STEP: usize = 1_000;

/// How the sweeper works.
#[derive(Clone, Copy, Debug)]
pub struct SweepSettings {
    /// An inbox with a message unacked for so long is looked up.
    pub after: Duration,
    /// Most inboxes looked up in a second.
    pub per_second: usize,
}

/// What came of a nudge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nudged {
    /// The user's room was told.
    Online,
    /// There is nobody to tell: the next bind loads the inbox.
    Offline,
    /// Not known just now.
    Unknown,
}

/// Tells a user's room that the inbox reaches to a place.
pub trait Nudge: Send + Sync + 'static {
    /// Which of these users are certainly offline, in their order.
    fn away(&self, keys: &[InboxKey]) -> impl Future<Output = Vec<bool>> + Send;

    /// Looks the user up and tells the room.
    fn nudge(&self, key: &InboxKey, waiting: Waiting) -> impl Future<Output = Nudged> + Send;
}

/// Sweeps until `cancel`.
pub async fn run<I: InboxStore, A: Archive, N: Nudge>(
    engine: Engine<I, A>,
    nudge: N,
    settings: impl Fn() -> SweepSettings,
    cancel: CancellationToken,
) {
    let sweep = async {
        loop {
            tokio::time::sleep(TICK).await;
            if let Err(e) = step(&engine, &nudge, settings()).await {
                debug!(error = %e, "a sweep was cut short");
            }
        }
    };
    cancel.run_until_cancelled(sweep).await;
}

/// One round: names overdue inboxes and nudges those whose users are online. Answers how many were nudged.
///
/// # Errors
/// When the inbox store fails.
pub async fn step<I: InboxStore, A: Archive, N: Nudge>(
    engine: &Engine<I, A>,
    nudge: &N,
    settings: SweepSettings,
) -> Result<usize, Refused> {
    let patience = u64::try_from(settings.after.as_millis()).unwrap_or(u64::MAX);
    let max = (settings.per_second / 2).max(1);
    let mut overdue = engine.inboxes().overdue(engine.now_ms(), patience, max).await?;
    // The picture may have changed since.
    overdue.retain(|key| engine.owns(key));
    let looked_up = overdue.len();
    // After a list to many, most of these are: they cost a place in a call, and nothing of the inbox store.
    let away = nudge.away(&overdue).await;
    let there = overdue.into_iter().zip(away).filter(|(_, away)| !away).map(|(key, _)| key);
    let one = |key: InboxKey| async move {
        let waiting = match engine.waiting_in(&key).await {
            Ok(Some(waiting)) => waiting,
            Ok(None) => return false,
            Err(e) => {
                debug!(error = %e, "an overdue inbox cannot be read");
                return false;
            }
        };
        let nudged = nudge.nudge(&key, waiting).await;
        if nudged != Nudged::Offline {
            // Until it is acked, or the user gone.
            let _ = engine.inboxes().watch(&key, engine.now_ms()).await;
        }
        nudged == Nudged::Online
    };
    let nudged = stream::iter(there).map(one).buffer_unordered(WINDOW).filter(|n| std::future::ready(*n));
    let nudged = nudged.count().await;
    engine.metrics().sweeps_looked_up.inc_by(looked_up as u64);
    engine.metrics().sweeps_nudged.inc_by(nudged as u64);
    Ok(nudged)
}

/// After a start no inbox is in memory, so none is on watch: puts those of `mine` there that a center may just have
/// written to.
pub(crate) async fn recover<I: InboxStore, A: Archive>(
    engine: &Engine<I, A>,
    settings: SweepSettings,
    mine: impl Fn(&InboxKey) -> bool,
) {
    let newest = match engine.archive().greatest_id().await {
        Ok(id) => id,
        Err(e) => return warn!(error = %e, "cannot look for messages to sweep"),
    };
    let mut after = MessageId::from_parts(newest.unix_ms().saturating_sub(RECOVER_MS), 0, 0);
    let pace = Duration::from_secs_f64(RECOVER_STEP as f64 / settings.per_second as f64);
    loop {
        let (mut keys, next) = match engine.archive().recently_stored(after, RECOVER_STEP).await {
            Ok(found) => found,
            Err(e) => return warn!(error = %e, "cannot look for messages to sweep"),
        };
        keys.retain(&mine);
        if let Err(e) = engine.watch(&keys).await {
            warn!(error = %e, "cannot watch inboxes");
        }
        match next {
            Some(next) => after = next,
            None => return,
        }
        tokio::time::sleep(pace).await;
    }
}
