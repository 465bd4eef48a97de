//! Writes a group.

use proto::internal::App;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId};

use super::{directory, statement::Shape};
use crate::{
    archive::{ApiKey, AppRefused, Committed, Forget, Group, NewBroadcast, Numbered, Reservation, Reserved},
    model::{InboxKey, Row, State},
};

static BODIES: Shape =
    Shape::new("INSERT INTO message (id, payload) VALUES", "(?,?)", "ON CONFLICT DO NOTHING");
static DELIVERIES: Shape = Shape::new(
    "INSERT INTO delivery (id, message, app, uid, seq, epoch, state, accepted, expires, bytes) VALUES",
    "(?,?,?,?,?,?,0,?,?,?)",
    "",
);
static CURSORS: Shape = Shape::new(
    "INSERT INTO cursor (app, uid, epoch, bseq) VALUES",
    "(?,?,?,?)",
    "ON CONFLICT DO UPDATE SET epoch = excluded.epoch, bseq = excluded.bseq \
     WHERE (excluded.epoch, excluded.bseq) > (cursor.epoch, cursor.bseq)",
);
static ACKED: Shape = Shape::new("UPDATE delivery SET state = 1 WHERE state = 0 AND id IN (", "?", ")");
static EXPIRED: Shape = Shape::new("UPDATE delivery SET state = 2 WHERE state = 0 AND id IN (", "?", ")");
static INBOX_FULL: Shape = Shape::new("UPDATE delivery SET state = 3 WHERE state = 0 AND id IN (", "?", ")");
static MAX_LOADS: Shape = Shape::new("UPDATE delivery SET state = 4 WHERE state = 0 AND id IN (", "?", ")");
static RECALLED: Shape = Shape::new("UPDATE delivery SET state = 5 WHERE state = 0 AND id IN (", "?", ")");
static FREE_BODIES: Shape = Shape::new("DELETE FROM message WHERE id IN (", "?", ")");
static FORGET_ROWS: Shape = Shape::new("DELETE FROM delivery WHERE state != 0 AND id IN (", "?", ")");

/// Rows that a clean-up statement without a list of its own removes at most: some milliseconds of the transaction.
const FORGET_STEP: i64 = 1000;

/// The statement that gives a delivery its final state.
fn finishing(state: State) -> Option<&'static Shape> {
    match state {
        State::Stored => None,
        State::Acked => Some(&ACKED),
        State::Expired => Some(&EXPIRED),
        State::InboxFull => Some(&INBOX_FULL),
        State::MaxLoads => Some(&MAX_LOADS),
        State::Recalled => Some(&RECALLED),
    }
}

pub(super) async fn write(c: &mut SqliteConnection, group: &Group) -> Result<Committed, sqlx::Error> {
    let mut done = Committed::default();
    BODIES
        .execute(c, &group.bodies, |v, b| {
            v.uint(b.id.0).blob(&b.payload);
        })
        .await?;
    DELIVERIES
        .execute(c, &group.deliveries, |v, d| {
            v.int(d.row.0);
            if d.row.is_multicast() {
                v.uint(d.id.0)
            } else {
                v.null()
            };
            v.int(d.key.app().0.into()).text(d.key.text());
            v.uint(d.position.seq.0).uint(d.position.epoch.0);
            v.uint(d.accepted_ms).uint(d.expires_ms).int(d.payload_bytes.into());
        })
        .await?;
    finish(c, &group.finished).await?;
    CURSORS
        .execute(c, &group.cursors, |v, (key, cursor)| {
            v.int(key.app().0.into()).text(key.text()).uint(cursor.epoch.0).uint(cursor.bseq.0);
        })
        .await?;
    for key in &group.newcomers {
        done.newcomers.push(newcomer(c, key).await?);
    }
    for reservation in &group.reservations {
        done.reservations.push(reserve(c, reservation, group.now_ms).await?);
    }
    for broadcast in &group.broadcasts {
        done.broadcasts.push(append_broadcast(c, broadcast).await?);
    }
    for (app, id) in &group.broadcast_recalls {
        let sql = "UPDATE broadcast SET recalled = 1 \
                   WHERE id = ? AND app = ? AND recalled = 0 AND expires > ?";
        let query =
            sqlx::query(sql).bind(signed(*id)).bind(i64::from(app.0)).bind(group.now_ms.cast_signed());
        done.broadcast_recalls.push(query.execute(&mut *c).await?.rows_affected() > 0);
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

async fn finish(c: &mut SqliteConnection, finished: &[(Row, State)]) -> Result<(), sqlx::Error> {
    for state in State::FINAL {
        let rows: Vec<Row> = finished.iter().filter(|(_, s)| *s == state).map(|(row, _)| *row).collect();
        let Some(shape) = finishing(state).filter(|_| !rows.is_empty()) else { continue };
        shape.execute_in(c, &rows).await?;
        if state.frees_payload() {
            let unicast: Vec<Row> = rows.into_iter().filter(|row| !row.is_multicast()).collect();
            FREE_BODIES.execute_in(c, &unicast).await?;
        }
    }
    Ok(())
}

/// The user's cursor; a user without one gets one at the head of the log, which is made if need be.
async fn newcomer(c: &mut SqliteConnection, key: &InboxKey) -> Result<Cursor, sqlx::Error> {
    let app = i64::from(key.app().0);
    let uid = key.text();
    directory::ensure_log(c, app).await?;
    sqlx::query(
        "INSERT INTO cursor (app, uid, epoch, bseq) SELECT app, ?, epoch, head FROM broadcast_log WHERE app = ? \
         ON CONFLICT DO NOTHING",
    )
    .bind(uid.clone())
    .bind(app)
    .execute(&mut *c)
    .await?;
    let row = sqlx::query("SELECT epoch, bseq FROM cursor WHERE app = ? AND uid = ?")
        .bind(app)
        .bind(uid)
        .fetch_one(c)
        .await?;
    cursor(&row, 0)
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

async fn append_broadcast(c: &mut SqliteConnection, b: &NewBroadcast) -> Result<Numbered, sqlx::Error> {
    let app = i64::from(b.app.0);
    directory::ensure_log(c, app).await?;
    let known = sqlx::query(
        "SELECT l.epoch, b.bseq FROM broadcast b JOIN broadcast_log l ON l.app = b.app WHERE b.id = ? AND b.app = ?",
    )
    .bind(signed(b.id))
    .bind(app)
    .fetch_optional(&mut *c)
    .await?;
    if let Some(row) = known {
        return Ok(Numbered { place: cursor(&row, 0)?, repeated: true });
    }
    let row = sqlx::query("UPDATE broadcast_log SET head = head + 1 WHERE app = ? RETURNING epoch, head")
        .bind(app)
        .fetch_one(&mut *c)
        .await?;
    let place = cursor(&row, 0)?;
    sqlx::query(
        "INSERT INTO broadcast (id, app, bseq, accepted, expires, recalled, audience, payload) \
         VALUES (?,?,?,?,?,0,?,?)",
    )
    .bind(signed(b.id))
    .bind(app)
    .bind(place.bseq.0.cast_signed())
    .bind(b.accepted_ms.cast_signed())
    .bind(b.expires_ms.cast_signed())
    .bind(&b.audience)
    .bind(b.payload.to_vec())
    .execute(c)
    .await?;
    Ok(Numbered { place, repeated: false })
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
    let mut gone = FORGET_ROWS.execute_in(c, &forget.unicast).await?;
    // The payloads of dead letters.
    FREE_BODIES.execute_in(c, &forget.unicast).await?;
    for id in &forget.multicast {
        let rows = "DELETE FROM delivery WHERE id IN \
                    (SELECT id FROM delivery WHERE message = ? AND state != 0 LIMIT ?)";
        gone += sqlx::query(rows).bind(signed(*id)).bind(FORGET_STEP).execute(&mut *c).await?.rows_affected();
        let body = "DELETE FROM message WHERE id = ? \
                    AND NOT EXISTS (SELECT 1 FROM delivery WHERE message = ?)";
        sqlx::query(body).bind(signed(*id)).bind(signed(*id)).execute(&mut *c).await?;
    }
    let over = [
        (
            "DELETE FROM reservation WHERE rowid IN (SELECT rowid FROM reservation WHERE expires < ? LIMIT ?)",
            forget.reservations_before_ms,
        ),
        (
            "DELETE FROM broadcast WHERE id IN (SELECT id FROM broadcast WHERE expires < ? LIMIT ?)",
            forget.broadcasts_before_ms,
        ),
    ];
    for (sql, before) in over {
        if let Some(before) = before {
            let query = sqlx::query(sql).bind(before.cast_signed()).bind(FORGET_STEP);
            gone += query.execute(&mut *c).await?.rows_affected();
        }
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
