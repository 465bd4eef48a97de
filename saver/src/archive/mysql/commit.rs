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
    archive::{Committed, Forget, Group, Newcomer},
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

/// The users' cursors; users without one get one. Their logs are made if need be.
async fn newcomers(c: &mut MySqlConnection, list: &[Newcomer]) -> Result<Vec<Cursor>, sqlx::Error> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let mut apps: Vec<AppId> = list.iter().map(|newcomer| newcomer.key.app()).collect();
    apps.sort_unstable();
    apps.dedup();
    let mut heads: HashMap<AppId, Cursor> = broadcasts::heads(c, &apps).await?.into_iter().collect();
    for app in apps.iter().filter(|app| !heads.contains_key(app)).copied().collect::<Vec<_>>() {
        directory::ensure_log(c, app).await?;
        heads.extend(broadcasts::heads(c, &[app]).await?);
    }
    let begins: Vec<(&InboxKey, Cursor)> = list
        .iter()
        .map(|newcomer| {
            let head = heads.get(&newcomer.key.app()).copied().unwrap_or_default();
            (&newcomer.key, newcomer.begins(head))
        })
        .collect();
    let bind = |v: &mut Values, (key, place): &(&InboxKey, Cursor)| {
        v.int(key.app().0.into()).bytes(key.uid().as_str().as_bytes());
        v.uint(place.epoch.0).uint(place.bseq.0);
    };
    if NEWCOMERS.execute_all(c, &begins, |_| 0, bind).await? == list.len() as u64 {
        return Ok(begins.into_iter().map(|(_, place)| place).collect());
    }
    // Some have one: of another saver, or because they are here twice.
    let keys: Vec<InboxKey> = list.iter().map(|newcomer| newcomer.key.clone()).collect();
    let cursors = broadcasts::cursors(c, &keys).await?;
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
