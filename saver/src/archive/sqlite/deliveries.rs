//! Reads deliveries and payloads.

use std::collections::HashMap;

use bytes::Bytes;
use futures::TryStreamExt as _;
use sqlx::{Row as _, sqlite::SqliteRow};
use wire::id::{AppId, Epoch, MessageId, Position, Seq, Uid};

use super::{
    SqliteArchive,
    broadcasts::wanted,
    commit::{app_id, signed},
    error::classify,
    statement::{Shape, Values, filled, parts},
};
use crate::{
    archive::{ArchiveResult, Recorded, Wanted},
    model::{CollapseKey, InboxKey, Row, State, Surviving},
};

// The unary plus keeps SQLite from thinking of another order than: for each key, seek in the index.
static SURVIVING: Shape = Shape::new(
    "WITH wanted (n, app, uid) AS (VALUES",
    "(?,?,?)",
    ") SELECT w.n, d.id, d.message, d.seq, d.epoch, d.accepted, d.expires, d.bytes, d.collapse \
     FROM wanted w CROSS JOIN delivery d INDEXED BY delivery_stored \
     ON d.app = w.app AND d.uid = w.uid AND d.state = 0 ORDER BY w.n, d.seq",
);
static UNICAST: Shape = Shape::new(
    "SELECT id, app, uid, seq, epoch, state, accepted, expires, id FROM delivery WHERE id IN (",
    "?",
    ")",
);
static MULTICAST: Shape = Shape::new(
    "WITH wanted (n, message, uid) AS (VALUES",
    "(?,?,?)",
    ") SELECT d.id, d.app, d.uid, d.seq, d.epoch, d.state, d.accepted, d.expires, w.n \
     FROM wanted w CROSS JOIN delivery d INDEXED BY delivery_multicast \
     ON d.message = w.message AND d.uid = w.uid",
);
static PAYLOADS: Shape = Shape::new("SELECT id, payload FROM message WHERE id IN (", "?", ")");
const OF_MESSAGE: &str = "SELECT id, app, uid, seq, epoch, state, accepted, expires FROM delivery \
     WHERE id = ?1 AND message IS NULL AND app = ?2 \
     UNION ALL SELECT id, app, uid, seq, epoch, state, accepted, expires FROM delivery \
     INDEXED BY delivery_multicast WHERE message = ?1 AND app = ?2";

impl SqliteArchive {
    pub(super) async fn read_surviving(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Vec<Surviving>>> {
        let mut c = self.reader().await?;
        let mut found = vec![Vec::new(); keys.len()];
        for (power, values) in filled(keys, 3, wanted) {
            let values = values.finish().map_err(classify)?;
            let mut rows = sqlx::query_with(SURVIVING.sql(power), values).fetch(&mut *c);
            while let Some(row) = rows.try_next().await.map_err(classify)? {
                let (n, one) = surviving(&row).map_err(classify)?;
                if let Some(list) = found.get_mut(n) {
                    list.push(one);
                }
            }
        }
        Ok(found)
    }

    pub(super) async fn read_recorded(&self, wanted: &[Wanted]) -> ArchiveResult<Vec<Option<Recorded>>> {
        let mut c = self.reader().await?;
        let mut found = vec![None; wanted.len()];
        let mut places: HashMap<i64, Vec<usize>> = HashMap::new();
        let mut many = Vec::new();
        for (n, one) in wanted.iter().enumerate() {
            if one.multicast {
                many.push((n, one));
            } else {
                places.entry(signed(one.id)).or_default().push(n);
            }
        }
        let ids: Vec<i64> = places.keys().copied().collect();
        for (power, part) in parts(&ids) {
            let mut values = Values::default();
            part.iter().for_each(|id| _ = values.int(*id));
            let query = sqlx::query_with(UNICAST.sql(power), values.finish().map_err(classify)?);
            for row in query.fetch_all(&mut *c).await.map_err(classify)? {
                let one = recorded(&row).map_err(classify)?;
                for n in places.get(&one.row.0).into_iter().flatten() {
                    found[*n] = Some(one.clone());
                }
            }
        }
        for (power, part) in parts(&many) {
            let mut values = Values::default();
            for (n, one) in part {
                values.int(*n as i64).uint(one.id.0).text(one.key.text());
            }
            let query = sqlx::query_with(MULTICAST.sql(power), values.finish().map_err(classify)?);
            for row in query.fetch_all(&mut *c).await.map_err(classify)? {
                let n: i64 = row.try_get(8).map_err(classify)?;
                let one = recorded(&row).map_err(classify)?;
                if let Some(place) = usize::try_from(n).ok().and_then(|n| found.get_mut(n)) {
                    *place = Some(one);
                }
            }
        }
        Ok(found)
    }

    pub(super) async fn read_deliveries(
        &self,
        app: AppId,
        id: MessageId,
    ) -> ArchiveResult<(Vec<Recorded>, bool)> {
        let mut c = self.reader().await?;
        let rows = sqlx::query(OF_MESSAGE).bind(signed(id)).bind(app.0).fetch_all(&mut *c).await;
        let rows = rows.map_err(classify)?;
        let found: Vec<Recorded> = rows.iter().map(recorded).collect::<Result<_, _>>().map_err(classify)?;
        let multicast = found.iter().any(|d| d.row.is_multicast());
        Ok((found, multicast))
    }

    pub(super) async fn read_payloads(&self, ids: &[MessageId]) -> ArchiveResult<HashMap<MessageId, Bytes>> {
        let mut c = self.reader().await?;
        let mut found = HashMap::with_capacity(ids.len());
        for (power, part) in parts(ids) {
            let mut values = Values::default();
            part.iter().for_each(|id| _ = values.uint(id.0));
            let query = sqlx::query_with(PAYLOADS.sql(power), values.finish().map_err(classify)?);
            for row in query.fetch_all(&mut *c).await.map_err(classify)? {
                let id: i64 = row.try_get(0).map_err(classify)?;
                let payload: Vec<u8> = row.try_get(1).map_err(classify)?;
                found.insert(MessageId(id.cast_unsigned()), payload.into());
            }
        }
        Ok(found)
    }
}

fn surviving(row: &SqliteRow) -> Result<(usize, Surviving), sqlx::Error> {
    let n: i64 = row.try_get(0)?;
    let name: i64 = row.try_get(1)?;
    let message: Option<i64> = row.try_get(2)?;
    let one = Surviving {
        row: Row(name),
        id: MessageId(message.unwrap_or(name).cast_unsigned()),
        birth: place(row, 3)?,
        accepted_ms: unsigned(row, 5)?,
        expires_ms: unsigned(row, 6)?,
        payload_bytes: row.try_get(7)?,
        collapse: row.try_get::<Option<&str>, _>(8)?.map(CollapseKey::from),
    };
    Ok((usize::try_from(n).unwrap_or(usize::MAX), one))
}

pub(super) fn recorded(row: &SqliteRow) -> Result<Recorded, sqlx::Error> {
    let broken = |what: &str| sqlx::Error::Decode(format!("delivery with a bad {what}").into());
    Ok(Recorded {
        row: Row(row.try_get(0)?),
        app: app_id(row.try_get(1)?),
        uid: Uid::new(row.try_get::<&str, _>(2)?).map_err(|_| broken("uid"))?,
        position: place(row, 3)?,
        state: State::from_number(row.try_get(5)?).ok_or_else(|| broken("state"))?,
        accepted_ms: unsigned(row, 6)?,
        expires_ms: unsigned(row, 7)?,
    })
}

/// Number and epoch, in two columns from `first` on.
fn place(row: &SqliteRow, first: usize) -> Result<Position, sqlx::Error> {
    Ok(Position { seq: Seq(unsigned(row, first)?), epoch: Epoch(unsigned(row, first + 1)?) })
}

pub(super) fn unsigned(row: &SqliteRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.cast_unsigned())
}
