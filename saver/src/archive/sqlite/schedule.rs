//! Pushes for later, offsets from UTC, and the users of a message.

use proto::internal::ScheduledPush;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use wire::id::{AppId, MessageId};

use super::{
    SqliteArchive,
    commit::{app_id, signed},
    deliveries::{recorded, unsigned},
    error::classify,
    statement::{Shape, Values, parts},
};
use crate::{
    archive::{
        ArchiveResult, NewPart, PartDue, PartHead, PartName, Recorded,
        schedule::{HEAD_BYTES, unpack, unpack_head},
    },
    model::InboxKey,
};

static OFFSETS: Shape = Shape::new(
    "WITH wanted (n, app, uid) AS (VALUES",
    "(?,?,?)",
    ") SELECT w.n, o.minutes FROM wanted w CROSS JOIN utc_offset o ON o.app = w.app AND o.uid = w.uid",
);
const DUE: &str = "SELECT app, id, part, due, uid FROM scheduled INDEXED BY scheduled_due \
     WHERE due <= ?1 AND (due, app, id, part) > (?2, ?3, ?4, ?5) AND due >= ?2 \
     ORDER BY due, app, id, part LIMIT ?6";
const OF_APP: &str = "SELECT app, id, part, due, uid, users, substr(body, 1, ?6) FROM scheduled \
     INDEXED BY scheduled_app WHERE app = ?1 AND due >= ?2 AND (due, id, part) > (?2, ?3, ?4) \
     ORDER BY due, id, part LIMIT ?5";
const BODY: &str = "SELECT body FROM scheduled WHERE app = ? AND id = ? AND part = ?";
const UNICAST: &str = "SELECT id, app, uid, seq, epoch, state, accepted, expires FROM delivery \
     WHERE id = ?1 AND message IS NULL AND app = ?2 AND uid > ?3";
const MULTICAST: &str = "SELECT id, app, uid, seq, epoch, state, accepted, expires FROM delivery \
     INDEXED BY delivery_multicast WHERE message = ?1 AND app = ?2 AND uid > ?3 ORDER BY uid LIMIT ?4";

impl SqliteArchive {
    pub(super) async fn read_due(
        &self,
        now_ms: u64,
        after: Option<&PartDue>,
        max: usize,
    ) -> ArchiveResult<Vec<PartDue>> {
        let mut c = self.reader().await?;
        let (due, name) = place(after);
        let query = sqlx::query(DUE).bind(now_ms.cast_signed()).bind(due);
        let query = query.bind(name.0).bind(name.1).bind(name.2).bind(max as i64);
        let rows = query.fetch_all(&mut *c).await.map_err(classify)?;
        rows.iter().map(part_due).collect::<Result<_, _>>().map_err(classify)
    }

    pub(super) async fn read_scheduled_of(
        &self,
        app: AppId,
        after: Option<&PartDue>,
        max: usize,
    ) -> ArchiveResult<Vec<PartHead>> {
        let mut c = self.reader().await?;
        let (due, name) = place(after);
        let query = sqlx::query(OF_APP).bind(app.0).bind(due).bind(name.1).bind(name.2);
        let query = query.bind(max as i64).bind(HEAD_BYTES as i64);
        let rows = query.fetch_all(&mut *c).await.map_err(classify)?;
        let head = |row: &SqliteRow| {
            let push = unpack_head(row.try_get(6)?, row.try_get(5)?);
            let push =
                push.ok_or_else(|| sqlx::Error::Decode("a scheduled push that cannot be read".into()))?;
            Ok(PartHead { uid: row.try_get(4)?, push })
        };
        rows.iter().map(head).collect::<Result<_, _>>().map_err(classify)
    }

    pub(super) async fn read_scheduled(&self, name: PartName) -> ArchiveResult<Option<ScheduledPush>> {
        let mut c = self.reader().await?;
        let query = sqlx::query_scalar(BODY).bind(name.app.0).bind(signed(name.id)).bind(name.part);
        let body: Option<Vec<u8>> = query.fetch_optional(&mut *c).await.map_err(classify)?;
        Ok(body.as_deref().and_then(unpack))
    }

    pub(super) async fn read_offsets(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Option<i16>>> {
        let mut c = self.reader().await?;
        let mut found = vec![None; keys.len()];
        let numbered: Vec<(usize, &InboxKey)> = keys.iter().enumerate().collect();
        for (power, part) in parts(&numbered) {
            let mut values = Values::default();
            for (n, key) in part {
                values.int(*n as i64).int(key.app().0.into()).text(key.text());
            }
            let query = sqlx::query_with(OFFSETS.sql(power), values.finish().map_err(classify)?);
            for row in query.fetch_all(&mut *c).await.map_err(classify)? {
                let n: i64 = row.try_get(0).map_err(classify)?;
                if let Some(place) = usize::try_from(n).ok().and_then(|n| found.get_mut(n)) {
                    *place = Some(row.try_get(1).map_err(classify)?);
                }
            }
        }
        Ok(found)
    }

    pub(super) async fn read_targets(
        &self,
        app: AppId,
        id: MessageId,
        after_uid: &str,
        max: usize,
    ) -> ArchiveResult<Vec<Recorded>> {
        let mut c = self.reader().await?;
        let query = sqlx::query(UNICAST).bind(signed(id)).bind(app.0).bind(after_uid);
        let mut rows = query.fetch_all(&mut *c).await.map_err(classify)?;
        if rows.is_empty() {
            let query = sqlx::query(MULTICAST).bind(signed(id)).bind(app.0).bind(after_uid).bind(max as i64);
            rows = query.fetch_all(&mut *c).await.map_err(classify)?;
        }
        rows.iter().map(recorded).collect::<Result<_, _>>().map_err(classify)
    }
}

/// Keeps a part; whether it was there before.
pub(super) async fn put(c: &mut SqliteConnection, part: &NewPart) -> Result<bool, sqlx::Error> {
    let PartDue { due_ms, name, uid } = &part.due;
    let sql = "INSERT INTO scheduled (app, id, part, due, uid, users, body) VALUES (?,?,?,?,?,?,?) \
               ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql).bind(name.app.0).bind(signed(name.id)).bind(name.part);
    let query = query.bind(due_ms.cast_signed()).bind(uid).bind(part.users).bind(part.body.to_vec());
    Ok(query.execute(c).await?.rows_affected() == 0)
}

/// Removes a part, or all of a message; how many users they had.
pub(super) async fn remove(
    c: &mut SqliteConnection,
    app: AppId,
    id: MessageId,
    part: Option<u32>,
) -> Result<u64, sqlx::Error> {
    let sql =
        "DELETE FROM scheduled WHERE app = ?1 AND id = ?2 AND (?3 IS NULL OR part = ?3) RETURNING users";
    let query = sqlx::query_scalar::<_, i64>(sql).bind(app.0).bind(signed(id)).bind(part);
    Ok(query.fetch_all(c).await?.into_iter().map(i64::cast_unsigned).sum())
}

/// When, and (app, id, part); what comes after all of them is all there is for `None`.
fn place(after: Option<&PartDue>) -> (i64, (i64, i64, i64)) {
    after.map_or((0, (-1, -1, -1)), |after| {
        let name = &after.name;
        (after.due_ms.cast_signed(), (name.app.0.into(), signed(name.id), name.part.into()))
    })
}

fn part_due(row: &SqliteRow) -> Result<PartDue, sqlx::Error> {
    Ok(PartDue {
        due_ms: unsigned(row, 3)?,
        name: PartName {
            app: app_id(row.try_get(0)?),
            id: MessageId(unsigned(row, 1)?),
            part: row.try_get(2)?,
        },
        uid: row.try_get(4)?,
    })
}
