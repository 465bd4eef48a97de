//! What is counted at a bind. A device that comes back may have more of the broadcasts than the saver knows: those in between are
//! counted as acked, by what the device tells of itself now. What comes right behind them and is over already is counted as over:
//! the room that the user comes from has passed it, too, and may be telling that just now. So no room counts among its own what
//! another one has the archive count.

use std::time::Duration;

use audience::Device;
use proto::internal as rpc;
use wire::id::{AppId, Cursor};

use super::{super::inboxes, read_page};
use crate::{
    backend::{Backend, Services},
    exchange::{BindAsk, Credit, Fate, LogEntry},
};

/// A bind waits so long for the archive to take them, and as long for the log of what may be over; what is not told then is told with
/// what comes next.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pages that one bind has read for that; who has been away for longer is counted from there.
const PAGES: usize = 100;
/// Numbers that are looked at in one go: others wait for the cache meanwhile, some ten microseconds.
const LOOKS: u64 = 1_024;
/// What a binding may owe; of more that it has only the newest are counted.
const OWED: usize = 1_024;

/// Places of a bind in its app's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    /// As the saver knows it.
    pub(crate) saved: Cursor,
    /// Where the device goes on.
    pub(crate) cursor: Cursor,
    /// The log's head.
    pub(crate) head: Cursor,
}

impl Stand {
    /// Whether the saver's place is one of this log; else nothing can be counted from there.
    fn is_of_log(&self) -> bool {
        self.cursor.epoch == self.saved.epoch && self.cursor.epoch == self.head.epoch
    }
}

/// Who binds, as broadcasts select by it.
struct Who<'a> {
    ask: &'a BindAsk,
    device: Device,
    zone: String,
}

impl<'a> Who<'a> {
    fn new<S>(backend: &Backend<S>, app: AppId, ask: &'a BindAsk) -> Self {
        let device = Device { place: audience::place(app.0, &ask.uid), ..ask.device };
        Self { ask, device, zone: backend.identity.info.borrow().zone.clone() }
    }

    fn is_meant(&self, entry: &LogEntry) -> bool {
        entry.slice.contains(self.device.place)
            && entry.meant.audience.matches(|tag| self.ask.tags.iter().any(|own| own == tag))
            && (entry.meant.filter.is_everyone() || entry.meant.filter.matches(&self.zone, &self.device))
    }
}

/// What is over, from a place on, up to the first that is not.
struct Over {
    now_ms: u64,
    credits: Vec<Credit>,
}

impl Over {
    fn new() -> Self {
        Self { now_ms: cluster::now_ms(), credits: Vec::new() }
    }

    /// `false`: here it ends.
    fn take(&mut self, who: &Who<'_>, entry: &LogEntry) -> bool {
        if !who.is_meant(entry) {
            return true;
        }
        let counts = entry.is_dead(self.now_ms) && self.credits.len() < OWED;
        if counts {
            let fate = if entry.recalled { Fate::Recalled } else { Fate::Expired };
            self.credits.push(Credit { bseq: entry.bseq, id: entry.id, fate });
        }
        counts
    }
}

/// Whether there may be something to count, as far as can be said at once.
pub(crate) fn has_to_settle<S>(backend: &Backend<S>, app: AppId, ask: &BindAsk, stand: &Stand) -> bool {
    let Stand { saved, cursor, head } = stand;
    if cursor.bseq > saved.bseq {
        return true;
    }
    if head.bseq <= cursor.bseq || !stand.is_of_log() {
        return false;
    }
    let (who, mut over) = (Who::new(backend, app, ask), Over::new());
    let span = (cursor.bseq.0, head.bseq.0);
    let mut goes_on = true;
    let through = look(backend, app, span, &mut goes_on, |entry| over.take(&who, entry));
    !over.credits.is_empty() || goes_on && through < head.bseq.0
}

/// Counts what is in (saved, cursor], as far as the log can be read, and what is over behind it. Gives how far the saver knows now,
/// where the device goes on, and what the saver still has to be told.
pub(crate) async fn settle<S: Services>(
    backend: &Backend<S>,
    app: AppId,
    ask: &BindAsk,
    stand: Stand,
) -> (Cursor, Cursor, Vec<Credit>) {
    let Stand { saved, cursor, head } = stand;
    if !stand.is_of_log() {
        return (saved, cursor, Vec::new());
    }
    let who = Who::new(backend, app, ask);
    let (mut credits, mut known) = (Vec::new(), saved.bseq.0);
    if cursor.bseq > saved.bseq {
        (credits, known) = had(backend, app, &who, (saved.bseq.0, cursor.bseq.0)).await;
    }
    let mut cursor = cursor;
    // No further: what could not be read would count for nobody. The thread goes over it.
    if known == cursor.bseq.0 {
        let mut over = Over::new();
        let walk = walk(backend, app, (known, head.bseq.0), |entry| over.take(&who, entry));
        // What has been found counts also if the rest takes too long.
        let _ = tokio::time::timeout(PATIENCE, walk).await;
        if let Some(last) = over.credits.last() {
            (known, cursor.bseq) = (last.bseq, last.bseq.into());
        }
        credits.append(&mut over.credits);
    }
    let known = Cursor { bseq: known.into(), ..cursor };
    if credits.is_empty() {
        return (known, cursor, credits);
    }
    let kept = inboxes::keep(backend, app, &ask.uid, known, &credits);
    match tokio::time::timeout(PATIENCE, kept).await {
        Ok(true) => (known, cursor, Vec::new()),
        _ => (saved, cursor, credits),
    }
}

/// What the device has in (after, to], and how far that is known.
async fn had<S: Services>(
    backend: &Backend<S>,
    app: AppId,
    who: &Who<'_>,
    span: (u64, u64),
) -> (Vec<Credit>, u64) {
    let mut credits = Vec::new();
    let through = walk(backend, app, span, |entry| {
        if who.is_meant(entry) {
            credits.push(Credit { bseq: entry.bseq, id: entry.id, fate: Fate::Acked });
        }
        true
    });
    let through = through.await;
    let surplus = credits.len().saturating_sub(OWED);
    credits.drain(..surplus);
    backend.metrics.credits_lost_at_binds.inc_by(surplus as u64);
    (credits, through)
}

/// Shows the entries in (after, to] as long as that goes on; gives how far it came.
async fn walk<S: Services>(
    backend: &Backend<S>,
    app: AppId,
    (mut after, to): (u64, u64),
    mut each: impl FnMut(&LogEntry) -> bool,
) -> u64 {
    let mut goes_on = true;
    for _ in 0..PAGES {
        after = look(backend, app, (after, to), &mut goes_on, &mut each);
        if !goes_on || after >= to {
            break;
        }
        match read_page(backend, app, after).await {
            Ok(run) if run.through > after => {
                let mut entries = run.entries.iter().take_while(|entry| entry.bseq <= to);
                goes_on = entries.all(|entry| each(entry));
                after = run.through.min(to);
            }
            // The log ends there, or cannot be read.
            _ => break,
        }
    }
    after
}

/// The same with what is at hand.
fn look<S>(
    backend: &Backend<S>,
    app: AppId,
    (mut after, to): (u64, u64),
    goes_on: &mut bool,
    mut each: impl FnMut(&LogEntry) -> bool,
) -> u64 {
    while *goes_on && after < to {
        let span = (after, to.min(after + LOOKS));
        let each = |entry: &LogEntry| *goes_on = *goes_on && each(entry);
        match backend.broadcasts.cache.visit(app, span, each) {
            Some(through) if through > after => after = through,
            _ => break,
        }
    }
    after
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
