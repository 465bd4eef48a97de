//! Writes a group.

use proto::internal::App;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId};

use super::{bulk, credits, directory, jobs, log, newcomers, schedule, shared, statement::execute};
use crate::archive::{ApiKey, AppRefused, Committed, Forget, Group, Reservation, Reserved};

/// Rows that a clean-up statement without a list of its own removes at most: some milliseconds of the transaction.
const FORGET_STEP: i64 = 1000;

pub(super) async fn write(c: &mut SqliteConnection, group: &Group) -> Result<Committed, sqlx::Error> {
    let mut done = Committed::default();
    if group.unseen {
        shared::note_unseen(c).await?;
    }
    credits::pass(c, &group.passed).await?;
    execute(c, bulk::pieces(group)?, false).await?;
    done.newcomers = newcomers::begin(c, &group.newcomers).await?;
    for reservation in &group.reservations {
        done.reservations.push(reserve(c, reservation, group.now_ms).await?);
    }
    for broadcast in &group.broadcasts {
        done.broadcasts.push(log::append(c, broadcast).await?);
    }
    for (app, id) in &group.broadcast_recalls {
        done.broadcast_recalls.push(log::recall(c, *app, *id, group.now_ms).await?);
    }
    for job in &group.jobs {
        done.jobs.push(jobs::write(c, job, group.now_ms).await?);
    }
    for part in &group.scheduled {
        done.scheduled.push(schedule::put(c, part).await?);
    }
    for (app, id, part) in &group.unscheduled {
        done.unscheduled.push(schedule::remove(c, *app, *id, *part).await?);
    }
    for app in &group.apps {
        done.apps.push(put_app(c, app).await?);
    }
    for key in &group.keys {
        done.keys.push(put_key(c, key).await?);
    }
    done.forgotten = forget(c, &group.forget).await?;
    Ok(done)
}

async fn reserve(c: &mut SqliteConnection, r: &Reservation, now_ms: u64) -> Result<Reserved, sqlx::Error> {
    let known =
        sqlx::query("SELECT id, fingerprint FROM reservation WHERE app = ? AND word = ? AND expires > ?")
            .bind(i64::from(r.app.0))
            .bind(&r.word)
            .bind(now_ms.cast_signed())
            .fetch_optional(&mut *c)
            .await?;
    if let Some(row) = known {
        let id = MessageId(row.try_get::<i64, _>(0)?.cast_unsigned());
        return Ok(Reserved { id, repeated: true, mismatch: row.try_get::<Vec<u8>, _>(1)? != r.fingerprint });
    }
    sqlx::query(
        "INSERT OR REPLACE INTO reservation (app, word, id, fingerprint, expires) VALUES (?,?,?,?,?)",
    )
    .bind(i64::from(r.app.0))
    .bind(&r.word)
    .bind(signed(r.id))
    .bind(r.fingerprint.to_vec())
    .bind(r.expires_ms.cast_signed())
    .execute(c)
    .await?;
    Ok(Reserved { id: r.id, repeated: false, mismatch: false })
}

/// Lands what the shared store has tied. What is there stays unless it ends sooner.
pub(super) async fn land_reservation(c: &mut SqliteConnection, r: &Reservation) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO reservation (app, word, id, fingerprint, expires) VALUES (?,?,?,?,?) \
         ON CONFLICT (app, word) DO UPDATE SET id = excluded.id, fingerprint = excluded.fingerprint, \
         expires = excluded.expires WHERE expires < excluded.expires",
    )
    .bind(i64::from(r.app.0))
    .bind(&r.word)
    .bind(signed(r.id))
    .bind(r.fingerprint.to_vec())
    .bind(r.expires_ms.cast_signed())
    .execute(c)
    .await
    .map(drop)
}

async fn put_app(c: &mut SqliteConnection, app: &App) -> Result<Result<App, AppRefused>, sqlx::Error> {
    let taken: Option<i64> =
        sqlx::query_scalar("SELECT id FROM app WHERE key = ?").bind(&app.key).fetch_optional(&mut *c).await?;
    if taken.is_some_and(|id| id != i64::from(app.id)) {
        return Ok(Err(AppRefused::KeyTaken));
    }
    directory::put_app(c, app).await
}

async fn put_key(c: &mut SqliteConnection, key: &ApiKey) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO api_key (hash, app, scopes, created) SELECT ?, id, ?, ? FROM app WHERE id = ? \
         ON CONFLICT DO UPDATE SET scopes = excluded.scopes",
    );
    let query = query
        .bind(key.hash.to_vec())
        .bind(key.scopes.join(" "))
        .bind(key.created_ms.cast_signed())
        .bind(i64::from(key.app.0));
    Ok(query.execute(c).await?.rows_affected() > 0)
}

async fn forget(c: &mut SqliteConnection, forget: &Forget) -> Result<u64, sqlx::Error> {
    shared::note_forgotten(c, forget).await?;
    let (deliveries, payloads) = bulk::forget(&forget.unicast)?;
    let mut gone = execute(c, deliveries, false).await?;
    execute(c, payloads, false).await?;
    for id in &forget.multicast {
        let rows = "DELETE FROM delivery WHERE id IN \
                    (SELECT id FROM delivery WHERE message = ? AND state != 0 LIMIT ?)";
        gone += sqlx::query(rows).bind(signed(*id)).bind(FORGET_STEP).execute(&mut *c).await?.rows_affected();
        let body = "DELETE FROM message WHERE id = ? \
                    AND NOT EXISTS (SELECT 1 FROM delivery WHERE message = ?)";
        sqlx::query(body).bind(signed(*id)).bind(signed(*id)).execute(&mut *c).await?;
    }
    if let Some(before) = forget.reservations_before_ms {
        let sql = "DELETE FROM reservation WHERE rowid IN (SELECT rowid FROM reservation WHERE expires < ? LIMIT ?)";
        let query = sqlx::query(sql).bind(before.cast_signed()).bind(FORGET_STEP);
        gone += query.execute(&mut *c).await?.rows_affected();
    }
    if let Some(before) = forget.broadcasts_before_ms {
        gone += log::forget(c, before, FORGET_STEP).await?;
    }
    Ok(gone)
}

/// A cursor in two columns from `first` on.
pub(super) fn cursor(row: &SqliteRow, first: usize) -> Result<Cursor, sqlx::Error> {
    let epoch: i64 = row.try_get(first)?;
    let bseq: i64 = row.try_get(first + 1)?;
    Ok(Cursor { epoch: Epoch(epoch.cast_unsigned()), bseq: Bseq(bseq.cast_unsigned()) })
}

pub(super) fn signed(id: MessageId) -> i64 {
    id.0.cast_signed()
}

/// An app's number as stored.
pub(super) fn app_id(number: i64) -> AppId {
    // Written from a `u32`.
    AppId(u32::try_from(number).unwrap_or_default())
}
