//! Pushes for later, offsets from UTC, and the users of a message.

use proto::internal::ScheduledPush;
use sqlx::{MySqlConnection, Row as _, mysql::MySqlRow};
use wire::id::{AppId, MessageId};

use super::{
    broadcasts::by_app,
    deliveries::record,
    rows::{signed, text, uid, unsigned},
    statement::{Shape, Values, in_parts},
};
use crate::{
    archive::{
        NewPart, PartDue, PartHead, PartName, Recorded,
        schedule::{HEAD_BYTES, unpack, unpack_head},
    },
    model::InboxKey,
};

static OFFSETS: Shape = Shape::new(
    "SELECT uid, minutes FROM utc_offset FORCE INDEX (PRIMARY) WHERE app = ? AND uid IN (",
    "?",
    ")",
);
static KEEP_OFFSETS: Shape = Shape::new(
    "INSERT INTO utc_offset (app, uid, minutes) VALUES",
    "(?,?,?)",
    "ON DUPLICATE KEY UPDATE minutes = VALUES(minutes)",
);
// A comparison of rows is not looked up in an index by every server, so the first column's bound is there too.
const DUE: &str = "SELECT app, id, part, due, uid FROM scheduled FORCE INDEX (due) \
     WHERE due >= ? AND due <= ? AND (due > ? OR (app, id, part) > (?, ?, ?)) \
     ORDER BY due, app, id, part LIMIT ?";
const OF_APP: &str = "SELECT app, id, part, due, uid, users, SUBSTRING(body, 1, ?) FROM scheduled \
     FORCE INDEX (of_app) WHERE app = ? AND due >= ? AND (due > ? OR (id, part) > (?, ?)) \
     ORDER BY due, id, part LIMIT ?";
const BODY: &str = "SELECT body FROM scheduled WHERE app = ? AND id = ? AND part = ?";
const UNICAST: &str = "SELECT id, app, uid, seq, epoch, state, accepted, expires FROM unicast FORCE INDEX (PRIMARY) \
     WHERE id = ? AND app = ? AND uid > ?";
const MULTICAST: &str = "SELECT id, app, uid, seq, epoch, state, accepted, expires FROM multicast \
     FORCE INDEX (receiver) WHERE message = ? AND uid > ? AND app = ? ORDER BY uid LIMIT ?";

pub(super) async fn due(
    c: &mut MySqlConnection,
    now_ms: u64,
    after: Option<&PartDue>,
    max: usize,
) -> Result<Vec<PartDue>, sqlx::Error> {
    let (due, name) = place(after);
    let query = sqlx::query(DUE).bind(due).bind(now_ms.cast_signed()).bind(due);
    let query = query.bind(name.0).bind(name.1).bind(name.2).bind(max as i64);
    query.fetch_all(c).await?.iter().map(part_due).collect()
}

pub(super) async fn of_app(
    c: &mut MySqlConnection,
    app: AppId,
    after: Option<&PartDue>,
    max: usize,
) -> Result<Vec<PartHead>, sqlx::Error> {
    let (due, name) = place(after);
    let query = sqlx::query(OF_APP).bind(HEAD_BYTES as i64).bind(app.0).bind(due).bind(due);
    let query = query.bind(name.1).bind(name.2).bind(max as i64);
    let head = |row: &MySqlRow| {
        let push = unpack_head(&row.try_get::<Vec<u8>, _>(6)?, row.try_get(5)?);
        let push = push.ok_or_else(|| sqlx::Error::Decode("a scheduled push that cannot be read".into()))?;
        Ok(PartHead { uid: text(row, 4)?, push })
    };
    query.fetch_all(c).await?.iter().map(head).collect()
}

pub(super) async fn one(
    c: &mut MySqlConnection,
    name: PartName,
) -> Result<Option<ScheduledPush>, sqlx::Error> {
    let query = sqlx::query_scalar(BODY).bind(name.app.0).bind(signed(name.id)).bind(name.part);
    let body: Option<Vec<u8>> = query.fetch_optional(c).await?;
    Ok(body.as_deref().and_then(unpack))
}

/// Keeps parts; whether each was there before.
pub(super) async fn put(c: &mut MySqlConnection, parts: &[NewPart]) -> Result<Vec<bool>, sqlx::Error> {
    let mut repeated = Vec::with_capacity(parts.len());
    for part in parts {
        let PartDue { due_ms, name, uid } = &part.due;
        let sql =
            "INSERT IGNORE INTO scheduled (app, id, part, due, uid, users, body) VALUES (?,?,?,?,?,?,?)";
        let query = sqlx::query(sql).bind(name.app.0).bind(signed(name.id)).bind(name.part);
        let query = query.bind(due_ms.cast_signed()).bind(uid.as_bytes()).bind(part.users).bind(&*part.body);
        repeated.push(query.execute(&mut *c).await?.rows_affected() == 0);
    }
    Ok(repeated)
}

/// Removes a part, or all of a message; how many users they had.
pub(super) async fn remove(
    c: &mut MySqlConnection,
    app: AppId,
    id: MessageId,
    part: Option<u32>,
) -> Result<u64, sqlx::Error> {
    let (first, last) = part.map_or((0, u32::MAX), |part| (part, part));
    let sql = "SELECT users FROM scheduled FORCE INDEX (PRIMARY) WHERE app = ? AND id = ? AND part BETWEEN ? AND ? \
               FOR UPDATE";
    let query = sqlx::query_scalar::<_, u32>(sql).bind(app.0).bind(signed(id)).bind(first).bind(last);
    let users = query.fetch_all(&mut *c).await?;
    if users.is_empty() {
        return Ok(0);
    }
    let sql = "DELETE FROM scheduled WHERE app = ? AND id = ? AND part BETWEEN ? AND ?";
    sqlx::query(sql).bind(app.0).bind(signed(id)).bind(first).bind(last).execute(c).await?;
    Ok(users.into_iter().map(u64::from).sum())
}

pub(super) async fn offsets(
    c: &mut MySqlConnection,
    keys: &[InboxKey],
) -> Result<Vec<Option<i16>>, sqlx::Error> {
    let mut found = vec![None; keys.len()];
    for (app, places) in by_app(keys) {
        let uids: Vec<&str> = places.keys().copied().collect();
        for part in in_parts(&uids) {
            let mut values = Values::default();
            values.int(app.0.into());
            let power = values.list_of(part, |v, uid| _ = v.bytes(uid.as_bytes()));
            for row in OFFSETS.fetch(c, power, values).await? {
                let minutes = row.try_get(1)?;
                for n in places.get(uid(&row, 0)?.as_str()).into_iter().flatten() {
                    found[*n] = Some(minutes);
                }
            }
        }
    }
    Ok(found)
}

/// Keeps offsets. In the order of users, so that two that keep the same wait for each other.
pub(super) async fn keep_offsets(
    c: &mut MySqlConnection,
    offsets: &[(InboxKey, i16)],
) -> Result<(), sqlx::Error> {
    let mut sorted: Vec<&(InboxKey, i16)> = offsets.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| (a.app(), a.uid().as_str()).cmp(&(b.app(), b.uid().as_str())));
    let bind = |v: &mut Values, (key, minutes): &&(InboxKey, i16)| {
        v.int(key.app().0.into()).bytes(key.uid().as_str().as_bytes()).int((*minutes).into());
    };
    KEEP_OFFSETS.execute_all(c, &sorted, |_| 0, bind).await.map(drop)
}

pub(super) async fn targets(
    c: &mut MySqlConnection,
    app: AppId,
    id: MessageId,
    after_uid: &str,
    max: usize,
) -> Result<Vec<Recorded>, sqlx::Error> {
    let query = sqlx::query(UNICAST).bind(signed(id)).bind(app.0).bind(after_uid.as_bytes());
    let mut rows = query.fetch_all(&mut *c).await?;
    if rows.is_empty() {
        let query = sqlx::query(MULTICAST).bind(signed(id)).bind(after_uid.as_bytes());
        rows = query.bind(app.0).bind(max as i64).fetch_all(c).await?;
    }
    rows.iter().map(record).collect()
}

/// When, and (app, id, part); what comes after all of them is all there is for `None`.
fn place(after: Option<&PartDue>) -> (i64, (i64, i64, i64)) {
    after.map_or((0, (-1, -1, -1)), |after| {
        let name = &after.name;
        (after.due_ms.cast_signed(), (name.app.0.into(), signed(name.id), name.part.into()))
    })
}

fn part_due(row: &MySqlRow) -> Result<PartDue, sqlx::Error> {
    Ok(PartDue {
        due_ms: unsigned(row, 3)?,
        name: PartName {
            app: AppId(row.try_get(0)?),
            id: MessageId(unsigned(row, 1)?),
            part: row.try_get(2)?,
        },
        uid: text(row, 4)?,
    })
}
