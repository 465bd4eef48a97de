//! Reads deliveries and payloads.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use sqlx::{MySqlConnection, Row as _, mysql::MySqlRow};
use wire::id::{AppId, MessageId};

use super::{
    broadcasts::by_app,
    rows::{collapse, place, signed, state, uid, unsigned},
    statement::{Shape, Values, in_parts},
};
use crate::{
    archive::{Recorded, Wanted},
    model::{InboxKey, Row, Surviving},
};

// The index gives the order; the hints keep the server from thinking of another way while a table is small.
pub(super) static SURVIVING: Shape = Shape::new(
    "SELECT uid, id, message, seq, epoch, accepted, expires, bytes, collapse FROM inbox FORCE INDEX (place) \
     WHERE app = ? AND uid IN (",
    "?",
    ") ORDER BY uid, seq",
);
pub(super) static UNICAST: Shape = Shape::new(
    "SELECT id, app, uid, seq, epoch, state, accepted, expires FROM unicast FORCE INDEX (PRIMARY) WHERE id IN (",
    "?",
    ")",
);
static MULTICAST: Shape = Shape::new(
    "SELECT id, app, uid, seq, epoch, state, accepted, expires FROM multicast FORCE INDEX (receiver) \
     WHERE message = ? AND uid IN (",
    "?",
    ")",
);
pub(super) static OWN_PAYLOADS: Shape = Shape::new(
    "SELECT id, payload FROM inbox FORCE INDEX (PRIMARY) WHERE payload IS NOT NULL AND id IN (",
    "?",
    ")",
);
static SHARED_PAYLOADS: Shape =
    Shape::new("SELECT id, payload FROM message FORCE INDEX (PRIMARY) WHERE id IN (", "?", ")");
const OF_UNICAST: &str =
    "SELECT id, app, uid, seq, epoch, state, accepted, expires FROM unicast WHERE id = ? AND app = ?";
const OF_MULTICAST: &str = "SELECT id, app, uid, seq, epoch, state, accepted, expires FROM multicast \
     FORCE INDEX (receiver) WHERE message = ? AND app = ?";

pub(super) async fn surviving(
    c: &mut MySqlConnection,
    keys: &[InboxKey],
) -> Result<Vec<Vec<Surviving>>, sqlx::Error> {
    let mut found = vec![Vec::new(); keys.len()];
    for (app, places) in by_app(keys) {
        let uids: Vec<&str> = places.keys().copied().collect();
        for part in in_parts(&uids) {
            let mut values = Values::default();
            values.int(app.0.into());
            let power = values.list_of(part, |v, uid| _ = v.bytes(uid.as_bytes()));
            for row in SURVIVING.fetch(c, power, values).await? {
                for n in places.get(uid(&row, 0)?.as_str()).into_iter().flatten() {
                    found[*n].push(survivor(&row)?);
                }
            }
        }
    }
    Ok(found)
}

pub(super) async fn recorded(
    c: &mut MySqlConnection,
    wanted: &[Wanted],
) -> Result<Vec<Option<Recorded>>, sqlx::Error> {
    let mut found = vec![None; wanted.len()];
    let mut unicast: HashMap<i64, Vec<usize>> = HashMap::new();
    let mut multicast: BTreeMap<MessageId, HashMap<&str, Vec<usize>>> = BTreeMap::new();
    for (n, one) in wanted.iter().enumerate() {
        if one.multicast {
            let message = multicast.entry(one.id).or_default();
            message.entry(one.key.uid().as_str()).or_default().push(n);
        } else {
            unicast.entry(signed(one.id)).or_default().push(n);
        }
    }
    let ids: Vec<i64> = unicast.keys().copied().collect();
    for row in UNICAST.fetch_in(c, &ids).await? {
        let one = record(&row)?;
        for n in unicast.get(&one.row.0).into_iter().flatten() {
            found[*n] = Some(one.clone());
        }
    }
    for (message, places) in multicast {
        let uids: Vec<&str> = places.keys().copied().collect();
        for part in in_parts(&uids) {
            let mut values = Values::default();
            values.int(signed(message));
            let power = values.list_of(part, |v, uid| _ = v.bytes(uid.as_bytes()));
            for row in MULTICAST.fetch(c, power, values).await? {
                let one = record(&row)?;
                for n in places.get(one.uid.as_str()).into_iter().flatten() {
                    found[*n] = Some(one.clone());
                }
            }
        }
    }
    Ok(found)
}

pub(super) async fn of_message(
    c: &mut MySqlConnection,
    app: AppId,
    id: MessageId,
) -> Result<(Vec<Recorded>, bool), sqlx::Error> {
    let mut rows = sqlx::query(OF_UNICAST).bind(signed(id)).bind(app.0).fetch_all(&mut *c).await?;
    rows.extend(sqlx::query(OF_MULTICAST).bind(signed(id)).bind(app.0).fetch_all(c).await?);
    let found: Vec<Recorded> = rows.iter().map(record).collect::<Result<_, _>>()?;
    let multicast = found.iter().any(|d| d.row.is_multicast());
    Ok((found, multicast))
}

pub(super) async fn payloads(
    c: &mut MySqlConnection,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, Bytes>, sqlx::Error> {
    let mut found = HashMap::with_capacity(ids.len());
    let mut missing: Vec<i64> = ids.iter().map(|id| signed(*id)).collect();
    for shape in [&OWN_PAYLOADS, &SHARED_PAYLOADS] {
        for row in shape.fetch_in(c, &missing).await? {
            let payload: Vec<u8> = row.try_get(1)?;
            found.insert(MessageId(unsigned(&row, 0)?), payload.into());
        }
        missing.retain(|id| !found.contains_key(&MessageId(id.cast_unsigned())));
    }
    Ok(found)
}

fn survivor(row: &MySqlRow) -> Result<Surviving, sqlx::Error> {
    Ok(Surviving {
        row: Row(row.try_get(1)?),
        id: MessageId(unsigned(row, 2)?),
        birth: place(row, 3)?,
        accepted_ms: unsigned(row, 5)?,
        expires_ms: unsigned(row, 6)?,
        payload_bytes: row.try_get(7)?,
        collapse: collapse(row, 8)?,
    })
}

pub(super) fn record(row: &MySqlRow) -> Result<Recorded, sqlx::Error> {
    Ok(Recorded {
        row: Row(row.try_get(0)?),
        app: AppId(row.try_get(1)?),
        uid: uid(row, 2)?,
        position: place(row, 3)?,
        state: state(row, 5)?,
        accepted_ms: unsigned(row, 6)?,
        expires_ms: unsigned(row, 7)?,
    })
}
