//! A device that comes back may have more of the broadcasts than the saver knows: those in between are counted as acked, by what
//! the device tells of itself now.

use std::time::Duration;

use audience::Device;
use proto::internal as rpc;
use wire::id::{AppId, Cursor};

use super::{super::inboxes, read_page};
use crate::{
    backend::{Backend, Services},
    exchange::{BindAsk, Credit, Fate, LogEntry},
};

/// A bind waits so long for the archive to take them; then they are told with what comes next.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pages that one bind has read for that; who has been away for longer is counted from there.
const PAGES: usize = 100;
/// What a binding may owe; of more only the newest are counted.
const OWED: usize = 1_024;

/// Counts what is in (saved, own], as far as the log can be read. Gives how far the saver knows now, and what it still has to
/// be told.
pub(crate) async fn settle<S: Services>(
    backend: &Backend<S>,
    app: AppId,
    ask: &BindAsk,
    saved: Cursor,
    own: Cursor,
) -> (Cursor, Vec<Credit>) {
    if own.bseq <= saved.bseq || own.epoch != saved.epoch {
        return (saved, Vec::new());
    }
    let (credits, through) = between(backend, app, ask, saved, own).await;
    // No further: what could not be read would count for nobody. The thread goes over it.
    let known = Cursor { bseq: through.into(), ..own };
    if credits.is_empty() {
        return (known, credits);
    }
    let kept = inboxes::keep(backend, app, &ask.uid, known, &credits);
    match tokio::time::timeout(PATIENCE, kept).await {
        Ok(true) => (known, Vec::new()),
        _ => (saved, credits),
    }
}

/// What is meant for the device in (saved, own], and how far that is known.
async fn between<S: Services>(
    backend: &Backend<S>,
    app: AppId,
    ask: &BindAsk,
    saved: Cursor,
    own: Cursor,
) -> (Vec<Credit>, u64) {
    let zone = backend.identity.info.borrow().zone.clone();
    let device = Device { place: audience::place(app.0, &ask.uid), ..ask.device };
    let is_meant = |entry: &LogEntry| {
        entry.slice.contains(device.place)
            && entry.meant.audience.matches(|tag| ask.tags.iter().any(|own| own == tag))
            && (entry.meant.filter.is_everyone() || entry.meant.filter.matches(&zone, &device))
    };
    let mut credits = Vec::new();
    let mut credit = |entry: &LogEntry| {
        if is_meant(entry) {
            credits.push(Credit { bseq: entry.bseq, id: entry.id, fate: Fate::Acked });
        }
    };
    let (mut after, own) = (saved.bseq.0, own.bseq.0);
    for _ in 0..PAGES {
        after = backend.broadcasts.cache.visit(app, (after, own), &mut credit).unwrap_or(after);
        if after >= own {
            break;
        }
        match read_page(backend, app, after).await {
            Ok(run) if run.through > after => {
                let entries = run.entries.iter().take_while(|entry| entry.bseq <= own);
                entries.for_each(|entry| credit(entry));
                after = run.through.min(own);
            }
            // The log ends there, or cannot be read.
            _ => break,
        }
    }
    let surplus = credits.len().saturating_sub(OWED);
    credits.drain(..surplus);
    backend.metrics.credits_lost_at_binds.inc_by(surplus as u64);
    (credits, after)
}

pub(crate) fn told(credits: &[Credit]) -> Vec<rpc::Credit> {
    let kind = |fate| match fate {
        Fate::Acked => rpc::CreditKind::Acked,
        Fate::Expired => rpc::CreditKind::Expired,
        Fate::Recalled => rpc::CreditKind::Recalled,
    };
    let told =
        |credit: &Credit| rpc::Credit { bseq: credit.bseq, id: credit.id.0, kind: kind(credit.fate).into() };
    credits.iter().map(told).collect()
}
