//! Writes broadcast logs.
//!
//! Locks are taken in one order: a job, the head of its log, an entry, what entries share.

use std::collections::BTreeMap;

use prost::Message as _;
use proto::internal::{Filter, ReleaseJobRequest};
use sqlx::{MySqlConnection, Row as _};
use wire::id::{AppId, Bseq, Cursor, MessageId};

use super::{
    directory, jobs,
    rows::{cursor, signed, unsigned},
    statement::Shape,
};
use crate::archive::{
    NewBroadcast, Numbered,
    entries::{LoggedSlice, NewEntry},
};

static FORGET: Shape = Shape::new(
    "DELETE e FROM broadcast_entry e FORCE INDEX (PRIMARY) WHERE e.app = ? AND e.bseq IN (",
    "?",
    ")",
);

/// Appends a broadcast that is one entry.
pub(super) async fn append(c: &mut MySqlConnection, b: &NewBroadcast) -> Result<Numbered, sqlx::Error> {
    let head = lock(c, b.app).await?;
    let known = "SELECT bseq FROM broadcast_entry FORCE INDEX (message) WHERE id = ? AND app = ? ORDER BY bseq LIMIT 1";
    let known: Option<i64> =
        sqlx::query_scalar(known).bind(signed(b.id)).bind(b.app.0).fetch_optional(&mut *c).await?;
    if let Some(bseq) = known {
        let place = Cursor { bseq: Bseq(bseq.cast_unsigned()), ..head };
        return Ok(Numbered { place, repeated: true });
    }
    put_body(c, b.app, b.id, &b.audience, &b.payload).await?;
    Ok(Numbered { place: push(c, &NewEntry::whole(b), head).await?, repeated: false })
}

/// The head of a log, which is made if need be. It is locked until the end, so numbers are committed in their order.
pub(super) async fn lock(c: &mut MySqlConnection, app: AppId) -> Result<Cursor, sqlx::Error> {
    directory::ensure_log(c, app).await?;
    let head = "SELECT epoch, head FROM broadcast_log WHERE app = ? FOR UPDATE";
    cursor(&sqlx::query(head).bind(app.0).fetch_one(c).await?, 0)
}

/// What the entries of a broadcast share, and its counts.
pub(super) async fn put_body(
    c: &mut MySqlConnection,
    app: AppId,
    id: MessageId,
    audience: &str,
    payload: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT IGNORE INTO broadcast_body (id, app, audience, payload) VALUES (?,?,?,?)")
        .bind(signed(id))
        .bind(app.0)
        .bind(audience.as_bytes())
        .bind(payload)
        .execute(&mut *c)
        .await?;
    let counts = "INSERT IGNORE INTO broadcast_count (id, app, acked, expired, recalled, dropped) \
                  VALUES (?,?,0,0,0,0)";
    sqlx::query(counts).bind(signed(id)).bind(app.0).execute(c).await.map(drop)
}

/// Puts an entry at the end of its log, whose head is locked.
pub(super) async fn push(
    c: &mut MySqlConnection,
    entry: &NewEntry<'_>,
    head: Cursor,
) -> Result<Cursor, sqlx::Error> {
    let place = Cursor { bseq: Bseq(head.bseq.0 + 1), ..head };
    sqlx::query("UPDATE broadcast_log SET head = ? WHERE app = ?")
        .bind(place.bseq.0.cast_signed())
        .bind(entry.app.0)
        .execute(&mut *c)
        .await?;
    sqlx::query(
        "INSERT INTO broadcast_entry (app, bseq, id, accepted, expires, recalled, slice_from, slice_to, filter) \
         VALUES (?,?,?,?,?,0,?,?,?)",
    )
    .bind(entry.app.0)
    .bind(place.bseq.0.cast_signed())
    .bind(signed(entry.id))
    .bind(entry.accepted_ms.cast_signed())
    .bind(entry.expires_ms.cast_signed())
    .bind(entry.slice.map(|(from, _)| from.cast_signed()))
    .bind(entry.slice.map(|(_, to)| to.cast_signed()))
    .bind(entry.filter.map(prost::Message::encode_to_vec))
    .execute(c)
    .await?;
    Ok(place)
}

/// The entry that is this part of a job. Nobody else appends it while the job is locked.
pub(super) async fn slice(
    c: &mut MySqlConnection,
    r: &ReleaseJobRequest,
) -> Result<Option<LoggedSlice>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT l.epoch, e.bseq, e.accepted, e.expires, e.recalled FROM broadcast_entry e FORCE INDEX (message) \
         JOIN broadcast_log l ON l.app = e.app WHERE e.id = ? AND e.slice_from = ? AND e.slice_to = ? AND e.app = ?",
    )
    .bind(r.id.cast_signed())
    .bind(r.from.cast_signed())
    .bind(r.to.cast_signed())
    .bind(r.app)
    .fetch_optional(c)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(LoggedSlice {
        place: cursor(&row, 0)?,
        accepted_ms: unsigned(&row, 2)?,
        expires_ms: unsigned(&row, 3)?,
        recalled: row.try_get::<u8, _>(4)? != 0,
    }))
}

/// Takes a broadcast back: all that is left of it in the log, and what its job would release.
pub(super) async fn recall(
    c: &mut MySqlConnection,
    app: AppId,
    id: MessageId,
    now_ms: u64,
) -> Result<bool, sqlx::Error> {
    let job = jobs::lock(c, app, id).await?;
    let left = recall_entries(c, app, id, now_ms).await?;
    let mut stopped = false;
    if let Some(mut job) = job {
        stopped = crate::archive::jobs::recall(&mut job, left, now_ms);
        if stopped {
            jobs::save(c, &job).await?;
        }
    }
    Ok(left || stopped)
}

pub(super) async fn recall_entries(
    c: &mut MySqlConnection,
    app: AppId,
    id: MessageId,
    now_ms: u64,
) -> Result<bool, sqlx::Error> {
    let sql = "UPDATE broadcast_entry FORCE INDEX (message) SET recalled = 1 \
               WHERE id = ? AND app = ? AND recalled = 0 AND expires > ?";
    let query = sqlx::query(sql).bind(signed(id)).bind(app.0).bind(now_ms.cast_signed());
    Ok(query.execute(c).await?.rows_affected() > 0)
}

/// Forgets up to `max` entries that were over before a time, and as many jobs that had ended and have no entry left;
/// what entries share goes with the last of them. Answers how many of both are gone.
pub(super) async fn forget(c: &mut MySqlConnection, before_ms: u64, max: i64) -> Result<u64, sqlx::Error> {
    let before = before_ms.cast_signed();
    let ended = "SELECT id FROM job FORCE INDEX (ended) WHERE ended > 0 AND ended < ? AND NOT EXISTS \
                 (SELECT 1 FROM broadcast_entry e WHERE e.id = job.id) ORDER BY ended LIMIT ?";
    let mut ids: Vec<i64> = sqlx::query_scalar(ended).bind(before).bind(max).fetch_all(&mut *c).await?;
    ids.sort_unstable();
    let mut gone = 0;
    for id in &ids {
        // Nothing is released of a job that has ended.
        gone += sqlx::query("DELETE FROM job WHERE id = ?").bind(id).execute(&mut *c).await?.rows_affected();
    }
    let over = "SELECT app, bseq, id FROM broadcast_entry FORCE INDEX (expiry) WHERE expires < ? \
                ORDER BY expires LIMIT ?";
    let rows = sqlx::query(over).bind(before).bind(max).fetch_all(&mut *c).await?;
    let mut apps: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    for row in &rows {
        apps.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
        ids.push(row.try_get(2)?);
    }
    for (app, mut bseqs) in apps {
        bseqs.sort_unstable();
        gone += FORGET.execute_in(c, Some(app.into()), &bseqs).await?;
    }
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let used = "SELECT 1 FROM broadcast_entry FORCE INDEX (message) WHERE id = ? LIMIT 1";
        let planned = "SELECT 1 FROM job WHERE id = ?";
        if sqlx::query(planned).bind(id).fetch_optional(&mut *c).await?.is_some()
            || sqlx::query(used).bind(id).fetch_optional(&mut *c).await?.is_some()
        {
            continue;
        }
        for sql in [
            "DELETE FROM broadcast_body WHERE id = ?",
            "DELETE FROM broadcast_count WHERE id = ?",
            "DELETE FROM broadcast_part WHERE id = ?",
        ] {
            sqlx::query(sql).bind(id).execute(&mut *c).await?;
        }
    }
    Ok(gone)
}

/// A filter as stored.
pub(super) fn filter(bytes: Option<&[u8]>) -> Result<Option<Filter>, sqlx::Error> {
    bytes.map(|bytes| Filter::decode(bytes).map_err(|e| sqlx::Error::Decode(e.into()))).transpose()
}
