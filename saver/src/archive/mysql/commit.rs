//! Writes a group.

use std::collections::HashMap;

use sqlx::MySqlConnection;
use wire::id::{AppId, Cursor};

use super::{
    broadcasts, bulk, credits, directory, jobs, log, reservations,
    rows::signed,
    schedule, shared,
    statement::{Shape, Values},
};
use crate::{
    archive::{Committed, Forget, Group},
    model::InboxKey,
};

/// Rows that a clean-up statement without a list of its own removes at most: some milliseconds of the transaction.
const FORGET_STEP: i64 = 1000;

static NEWCOMERS: Shape =
    Shape::new("INSERT IGNORE INTO broadcast_cursor (app, uid, epoch, bseq) VALUES", "(?,?,?,?)", "");
static FREE_BODIES: Shape =
    Shape::new("DELETE m FROM message m FORCE INDEX (PRIMARY) WHERE m.id IN (", "?", ")");

pub(super) async fn write(c: &mut MySqlConnection, group: &Group) -> Result<Committed, sqlx::Error> {
    let mut done = Committed::default();
    // First, as landings take their locks.
    if group.unseen {
        shared::note_unseen(c).await?;
    }
    let passing = credits::pass(c, &group.passed).await?;
    bulk::write(c, group).await?;
    done.newcomers = newcomers(c, &group.newcomers).await?;
    done.reservations = reservations::tie(c, &group.reservations, group.now_ms).await?;
    for broadcast in &group.broadcasts {
        done.broadcasts.push(log::append(c, broadcast).await?);
    }
    for (app, id) in &group.broadcast_recalls {
        done.broadcast_recalls.push(log::recall(c, *app, *id, group.now_ms).await?);
    }
    for job in &group.jobs {
        done.jobs.push(jobs::write(c, job, group.now_ms).await?);
    }
    schedule::keep_offsets(c, &group.offsets).await?;
    done.scheduled = schedule::put(c, &group.scheduled).await?;
    for (app, id, part) in &group.unscheduled {
        done.unscheduled.push(schedule::remove(c, *app, *id, *part).await?);
    }
    for app in &group.apps {
        done.apps.push(directory::put_app(c, app).await?);
    }
    for key in &group.keys {
        done.keys.push(directory::put_key(c, key).await?);
    }
    done.forgotten = forget(c, &group.forget).await?;
    credits::count(c, passing).await?;
    Ok(done)
}

/// The users' cursors; users without one get one at the head of their log, which is made if need be.
async fn newcomers(c: &mut MySqlConnection, keys: &[InboxKey]) -> Result<Vec<Cursor>, sqlx::Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut apps: Vec<AppId> = keys.iter().map(InboxKey::app).collect();
    apps.sort_unstable();
    apps.dedup();
    for app in &apps {
        directory::ensure_log(c, *app).await?;
    }
    let heads: HashMap<AppId, Cursor> = broadcasts::heads(c, &apps).await?.into_iter().collect();
    let bind = |v: &mut Values, key: &InboxKey| {
        let head = heads.get(&key.app()).copied().unwrap_or_default();
        v.int(key.app().0.into()).bytes(key.uid().as_str().as_bytes());
        v.uint(head.epoch.0).uint(head.bseq.0);
    };
    NEWCOMERS.execute_all(c, keys, |_| 0, bind).await?;
    let cursors = broadcasts::cursors(c, keys).await?;
    Ok(cursors.into_iter().map(Option::unwrap_or_default).collect())
}

async fn forget(c: &mut MySqlConnection, forget: &Forget) -> Result<u64, sqlx::Error> {
    // First, because it locks out landings that must know.
    shared::note_forgotten(c, forget).await?;
    let mut rows: Vec<i64> = forget.unicast.iter().map(|row| row.0).collect();
    rows.sort_unstable();
    let mut gone = bulk::UNICAST.forget.execute_in(c, None, &rows).await?;
    FREE_BODIES.execute_in(c, None, &rows).await?;
    for id in &forget.multicast {
        let some = "SELECT id FROM multicast FORCE INDEX (receiver) WHERE message = ? AND state <> 0 LIMIT ?";
        let query = sqlx::query_scalar(some).bind(signed(*id)).bind(FORGET_STEP);
        let rows: Vec<i64> = query.fetch_all(&mut *c).await?;
        gone += bulk::MULTICAST.forget.execute_in(c, None, &rows).await?;
        let rest = "SELECT 1 FROM multicast FORCE INDEX (receiver) WHERE message = ? LIMIT 1 FOR UPDATE";
        if sqlx::query(rest).bind(signed(*id)).fetch_optional(&mut *c).await?.is_none() {
            FREE_BODIES.execute_in(c, None, &[signed(*id)]).await?;
        }
    }
    if let Some(before) = forget.reservations_before_ms {
        let sql = "DELETE FROM reservation WHERE expires < ? ORDER BY expires LIMIT ?";
        let query = sqlx::query(sql).bind(before.cast_signed()).bind(FORGET_STEP);
        gone += query.execute(&mut *c).await?.rows_affected();
    }
    if let Some(before) = forget.broadcasts_before_ms {
        gone += log::forget(c, before, FORGET_STEP).await?;
    }
    Ok(gone)
}
