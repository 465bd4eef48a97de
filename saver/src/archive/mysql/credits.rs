//! Counts what becomes of broadcasts.

use std::collections::{BTreeMap, HashMap};

use sqlx::{MySqlConnection, Row as _};
use wire::id::{AppId, Cursor, MessageId};

use super::{
    broadcasts::by_app,
    bulk,
    rows::{cursor, signed, uid, unsigned},
    statement::{Shape, Values, in_parts},
};
use crate::{
    archive::{Counts, Passed, credits::Tally},
    model::InboxKey,
};

/// Cursors, locked in the order of their index.
static KEPT: Shape = Shape::new(
    "SELECT epoch, bseq, uid FROM broadcast_cursor FORCE INDEX (PRIMARY) WHERE app = ? AND uid IN (",
    "?",
    ") ORDER BY app, uid FOR UPDATE",
);
/// A place before all others, for a user who has none: whoever else makes it waits for this.
static FIRST: Shape =
    Shape::new("INSERT IGNORE INTO broadcast_cursor (app, uid, epoch, bseq) VALUES", "(?,?,0,0)", "");
static COUNTS: Shape = Shape::new(
    "SELECT c.id, c.app, c.acked, c.expired, c.recalled, c.dropped, \
     CAST(COALESCE((SELECT SUM(p.sent) FROM broadcast_part p WHERE p.id = c.id), 0) AS SIGNED) \
     FROM broadcast_count c FORCE INDEX (PRIMARY) WHERE c.id IN (",
    "?",
    ")",
);
const ADD: &str = "UPDATE broadcast_count SET acked = acked + ?, expired = expired + ?, recalled = recalled + ?, \
     dropped = dropped + ? WHERE id = ? AND app = ?";

/// What a group counts: to be added when its cursors have moved, because all who count the same broadcast wait for
/// each other from there to the end of the transaction.
#[derive(Default)]
pub(super) struct Passing(BTreeMap<(MessageId, AppId), [u64; 4]>);

/// Moves cursors, and adds up what they pass.
pub(super) async fn pass(c: &mut MySqlConnection, passed: &[Passed]) -> Result<Passing, sqlx::Error> {
    if passed.is_empty() {
        return Ok(Passing::default());
    }
    let mut keys: Vec<InboxKey> = passed.iter().map(|p| p.key.clone()).collect();
    keys.sort_unstable_by(|a, b| name(a).cmp(&name(b)));
    keys.dedup();
    let mut kept = lock(c, &keys).await?;
    let strangers: Vec<InboxKey> = keys.iter().filter(|key| !kept.contains_key(*key)).cloned().collect();
    if !strangers.is_empty() {
        let bind = |v: &mut Values, key: &InboxKey| {
            v.int(key.app().0.into()).bytes(key.uid().as_str().as_bytes());
        };
        FIRST.execute_all(c, &strangers, |_| 0, bind).await?;
        // Another saver may have given them one meanwhile.
        kept.extend(lock(c, &strangers).await?);
    }
    let tally = Tally::of(passed, kept);
    bulk::move_cursors(c, &tally.cursors).await?;
    Ok(Passing(tally.counts))
}

/// Adds what was passed to the counts.
pub(super) async fn count(c: &mut MySqlConnection, passing: Passing) -> Result<(), sqlx::Error> {
    for ((id, app), counts) in passing.0 {
        let mut query = sqlx::query(ADD);
        for count in counts {
            query = query.bind(count.cast_signed());
        }
        query.bind(signed(id)).bind(app.0).execute(&mut *c).await?;
    }
    Ok(())
}

async fn lock(c: &mut MySqlConnection, keys: &[InboxKey]) -> Result<HashMap<InboxKey, Cursor>, sqlx::Error> {
    let mut found = HashMap::with_capacity(keys.len());
    for (app, places) in by_app(keys) {
        let mut uids: Vec<&str> = places.keys().copied().collect();
        uids.sort_unstable();
        for part in in_parts(&uids) {
            let mut values = Values::default();
            values.int(app.0.into());
            let power = values.list_of(part, |v, uid| _ = v.bytes(uid.as_bytes()));
            for row in KEPT.fetch(c, power, values).await? {
                found.insert(InboxKey::new(app, uid(&row, 2)?), cursor(&row, 0)?);
            }
        }
    }
    Ok(found)
}

pub(super) async fn counts(
    c: &mut MySqlConnection,
    app: AppId,
    ids: &[MessageId],
) -> Result<Vec<Option<Counts>>, sqlx::Error> {
    let wanted: Vec<i64> = ids.iter().map(|id| signed(*id)).collect();
    let mut found = HashMap::with_capacity(ids.len());
    for row in COUNTS.fetch_in(c, &wanted).await? {
        if row.try_get::<u32, _>(1)? == app.0 {
            let counts = Counts {
                acked: unsigned(&row, 2)?,
                expired: unsigned(&row, 3)?,
                recalled: unsigned(&row, 4)?,
                dropped: unsigned(&row, 5)?,
                sent: unsigned(&row, 6)?,
            };
            found.insert(MessageId(unsigned(&row, 0)?), counts);
        }
    }
    Ok(ids.iter().map(|id| found.get(id).copied()).collect())
}

fn name(key: &InboxKey) -> (AppId, &str) {
    (key.app(), key.uid().as_str())
}
