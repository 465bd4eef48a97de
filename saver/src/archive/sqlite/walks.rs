//! Bounded steps over the archive, for clean-up and recovery.

use sqlx::Row as _;
use wire::id::{MessageId, Seq, Uid};

use super::{
    SqliteArchive,
    commit::{app_id, signed},
    deliveries::unsigned,
    error::classify,
};
use crate::{
    archive::{ArchiveResult, StoredPlace},
    model::{InboxKey, Row, State},
};

const GREATEST_ID: &str = "SELECT max(coalesce((SELECT max(id) FROM delivery), 0), \
     coalesce((SELECT max(message) FROM delivery WHERE message IS NOT NULL), 0), coalesce((SELECT max(id) FROM broadcast_body), 0))";
const RECENTLY_STORED: &str = "SELECT id, app, uid FROM \
     (SELECT * FROM (SELECT id, app, uid FROM delivery WHERE id > ?1 AND state = 0 ORDER BY id LIMIT ?2) \
      UNION ALL \
      SELECT * FROM (SELECT message, app, uid FROM delivery INDEXED BY delivery_multicast \
                     WHERE message > ?1 AND state = 0 ORDER BY message LIMIT ?2)) \
     ORDER BY id LIMIT ?2";
const STORED: &str = "SELECT app, uid, seq, id, expires FROM delivery INDEXED BY delivery_stored \
     WHERE state = 0 AND (app, uid, seq) > (?, ?, ?) ORDER BY app, uid, seq LIMIT ?";
const UNICAST: &str = "SELECT id, state, accepted FROM delivery WHERE id > ? AND id < ? ORDER BY id LIMIT ?";
/// The next multicast: a seek in the index for each, however many receivers the one before had.
const NEXT_MULTICAST: &str = "SELECT message, accepted FROM delivery INDEXED BY delivery_multicast \
     WHERE message > ? AND message < ? ORDER BY message LIMIT 1";

impl SqliteArchive {
    pub(super) async fn read_greatest_id(&self) -> ArchiveResult<MessageId> {
        let mut c = self.reader().await?;
        let id: i64 = sqlx::query_scalar(GREATEST_ID).fetch_one(&mut *c).await.map_err(classify)?;
        Ok(MessageId(id.cast_unsigned()))
    }

    pub(super) async fn walk_recent(
        &self,
        after: MessageId,
        max: usize,
    ) -> ArchiveResult<(Vec<InboxKey>, Option<MessageId>)> {
        let mut c = self.reader().await?;
        let query = sqlx::query(RECENTLY_STORED).bind(signed(after)).bind(max as i64);
        let rows = query.fetch_all(&mut *c).await.map_err(classify)?;
        let mut keys = Vec::with_capacity(rows.len());
        let mut last = None;
        for row in &rows {
            last = Some(MessageId(unsigned(row, 0).map_err(classify)?));
            let app = app_id(row.try_get(1).map_err(classify)?);
            if let Ok(uid) = Uid::new(row.try_get::<&str, _>(2).map_err(classify)?) {
                keys.push(InboxKey::new(app, uid));
            }
        }
        // A multicast that the page cuts has more receivers under the same id: it is read again from its start. One
        // that has more receivers than a page is left there; the rest of them hear of it at their next bind.
        let next = last.filter(|_| rows.len() >= max).map(|id| {
            let again = MessageId(id.0 - 1);
            if again > after { again } else { id }
        });
        Ok((keys, next))
    }

    pub(super) async fn walk_stored(
        &self,
        after: Option<StoredPlace>,
        now_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<Row>, Option<StoredPlace>)> {
        let mut c = self.reader().await?;
        let (app, uid, seq) = after.map_or((-1, String::new(), 0), |(a, u, s)| (i64::from(a.0), u, s.0));
        let query = sqlx::query(STORED).bind(app).bind(uid).bind(seq.cast_signed()).bind(max as i64);
        let rows = query.fetch_all(&mut *c).await.map_err(classify)?;
        let mut over = Vec::new();
        for row in &rows {
            if unsigned(row, 4).map_err(classify)? <= now_ms {
                over.push(Row(row.try_get(3).map_err(classify)?));
            }
        }
        let next = match rows.last().filter(|_| rows.len() >= max) {
            None => None,
            Some(row) => Some((
                app_id(row.try_get(0).map_err(classify)?),
                row.try_get::<String, _>(1).map_err(classify)?,
                Seq(unsigned(row, 2).map_err(classify)?),
            )),
        };
        Ok((over, next))
    }

    pub(super) async fn walk_unicast(
        &self,
        after: Row,
        before_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<Row>, Option<Row>)> {
        let mut c = self.reader().await?;
        // Ids follow the clock, so whatever is old enough lies before this one.
        let end = signed(MessageId::from_parts(before_ms, 0, 0));
        let query = sqlx::query(UNICAST).bind(after.0.max(0)).bind(end).bind(max as i64);
        let rows = query.fetch_all(&mut *c).await.map_err(classify)?;
        let mut old = Vec::new();
        let mut last = None;
        for row in &rows {
            let name = Row(row.try_get(0).map_err(classify)?);
            let state: i64 = row.try_get(1).map_err(classify)?;
            if state != State::Stored as i64 && unsigned(row, 2).map_err(classify)? < before_ms {
                old.push(name);
            }
            last = Some(name);
        }
        Ok((old, last.filter(|_| rows.len() >= max)))
    }

    pub(super) async fn walk_multicasts(
        &self,
        after: MessageId,
        before_ms: u64,
        max: usize,
    ) -> ArchiveResult<(Vec<MessageId>, Option<MessageId>)> {
        let mut c = self.reader().await?;
        let end = signed(MessageId::from_parts(before_ms, 0, 0));
        let (mut old, mut at) = (Vec::new(), after);
        for _ in 0..max {
            let query = sqlx::query(NEXT_MULTICAST).bind(signed(at)).bind(end);
            let Some(row) = query.fetch_optional(&mut *c).await.map_err(classify)? else {
                return Ok((old, None));
            };
            at = MessageId(unsigned(&row, 0).map_err(classify)?);
            if unsigned(&row, 1).map_err(classify)? < before_ms {
                old.push(at);
            }
        }
        Ok((old, Some(at)))
    }
}
