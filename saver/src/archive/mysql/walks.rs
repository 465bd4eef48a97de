//! Bounded steps over the archive, for clean-up and recovery.

use sqlx::{MySqlConnection, Row as _};
use wire::id::{AppId, MessageId, Seq};

use super::rows::{signed, text, uid, unsigned};
use crate::{
    archive::StoredPlace,
    model::{InboxKey, Row, State},
};

pub(super) const GREATEST_ID: &str = "SELECT GREATEST(COALESCE((SELECT MAX(id) FROM unicast), 0), \
     COALESCE((SELECT MAX(message) FROM multicast), 0), COALESCE((SELECT MAX(id) FROM broadcast_body), 0))";
pub(super) const RECENT_UNICAST: &str =
    "SELECT id, app, uid FROM inbox FORCE INDEX (PRIMARY) WHERE id > ? ORDER BY id LIMIT ?";
pub(super) const RECENT_MULTICAST: &str = "SELECT message, app, uid FROM multicast FORCE INDEX (receiver) \
     WHERE message > ? AND state = 0 ORDER BY message LIMIT ?";
/// The rest of the inbox, the rest of the app, and the other apps: each is one range of the index, in its order.
pub(super) const STORED: [&str; 3] = [
    "SELECT app, uid, seq, id, expires FROM inbox FORCE INDEX (place) \
     WHERE app = ? AND uid = ? AND seq > ? ORDER BY app, uid, seq LIMIT ?",
    "SELECT app, uid, seq, id, expires FROM inbox FORCE INDEX (place) \
     WHERE app = ? AND uid > ? ORDER BY app, uid, seq LIMIT ?",
    "SELECT app, uid, seq, id, expires FROM inbox FORCE INDEX (place) \
     WHERE app > ? ORDER BY app, uid, seq LIMIT ?",
];
pub(super) const UNICAST: &str = "SELECT id, state, accepted FROM unicast FORCE INDEX (PRIMARY) \
     WHERE id > ? AND id < ? ORDER BY id LIMIT ?";
/// The next multicast: a seek in the index for each, however many receivers the one before had.
pub(super) const NEXT_MULTICAST: &str = "SELECT message, accepted FROM multicast FORCE INDEX (receiver) \
     WHERE message > ? AND message < ? ORDER BY message LIMIT 1";

pub(super) async fn greatest_id(c: &mut MySqlConnection) -> Result<MessageId, sqlx::Error> {
    let id: i64 = sqlx::query_scalar(GREATEST_ID).fetch_one(c).await?;
    Ok(MessageId(id.cast_unsigned()))
}

pub(super) async fn recent(
    c: &mut MySqlConnection,
    after: MessageId,
    max: usize,
) -> Result<(Vec<InboxKey>, Option<MessageId>), sqlx::Error> {
    let mut found = Vec::new();
    for sql in [RECENT_UNICAST, RECENT_MULTICAST] {
        for row in sqlx::query(sql).bind(signed(after)).bind(limit(max)).fetch_all(&mut *c).await? {
            let key = InboxKey::new(AppId(row.try_get(1)?), uid(&row, 2)?);
            found.push((MessageId(unsigned(&row, 0)?), key));
        }
    }
    found.sort_by_key(|(id, _)| *id);
    found.truncate(max);
    // A multicast that the page cuts has more receivers under the same id: it is read again from its start. One
    // that has more receivers than a page is left there; the rest of them hear of it at their next bind.
    let next = found.last().map(|(id, _)| *id).filter(|_| found.len() >= max).map(|id| {
        let again = MessageId(id.0 - 1);
        if again > after { again } else { id }
    });
    Ok((found.into_iter().map(|(_, key)| key).collect(), next))
}

pub(super) async fn stored(
    c: &mut MySqlConnection,
    after: Option<StoredPlace>,
    now_ms: u64,
    max: usize,
) -> Result<(Vec<Row>, Option<StoredPlace>), sqlx::Error> {
    let (app, uid, seq) = after.map_or((-1, String::new(), 0), |(a, u, s)| (i64::from(a.0), u, s.0));
    let mut rows = Vec::new();
    for (n, sql) in STORED.into_iter().enumerate() {
        if rows.len() >= max || (app < 0 && n < 2) {
            continue;
        }
        let mut query = sqlx::query(sql).bind(app);
        if n < 2 {
            query = query.bind(uid.as_bytes());
        }
        if n < 1 {
            query = query.bind(seq.cast_signed());
        }
        rows.extend(query.bind(limit(max - rows.len())).fetch_all(&mut *c).await?);
    }
    let mut over = Vec::new();
    for row in &rows {
        if unsigned(row, 4)? <= now_ms {
            over.push(Row(row.try_get(3)?));
        }
    }
    let next = match rows.last().filter(|_| rows.len() >= max) {
        None => None,
        Some(row) => Some((AppId(row.try_get(0)?), text(row, 1)?, Seq(unsigned(row, 2)?))),
    };
    Ok((over, next))
}

pub(super) async fn unicast(
    c: &mut MySqlConnection,
    after: Row,
    before_ms: u64,
    max: usize,
) -> Result<(Vec<Row>, Option<Row>), sqlx::Error> {
    // Ids follow the clock, so whatever is old enough lies before this one.
    let end = signed(MessageId::from_parts(before_ms, 0, 0));
    let rows = sqlx::query(UNICAST).bind(after.0.max(0)).bind(end).bind(limit(max)).fetch_all(c).await?;
    let mut old = Vec::new();
    let mut last = None;
    for row in &rows {
        let name = Row(row.try_get(0)?);
        let state: u8 = row.try_get(1)?;
        if state != State::Stored as u8 && unsigned(row, 2)? < before_ms {
            old.push(name);
        }
        last = Some(name);
    }
    Ok((old, last.filter(|_| rows.len() >= max)))
}

pub(super) async fn multicasts(
    c: &mut MySqlConnection,
    after: MessageId,
    before_ms: u64,
    max: usize,
) -> Result<(Vec<MessageId>, Option<MessageId>), sqlx::Error> {
    let end = signed(MessageId::from_parts(before_ms, 0, 0));
    let (mut old, mut at) = (Vec::new(), after);
    for _ in 0..max {
        let query = sqlx::query(NEXT_MULTICAST).bind(signed(at)).bind(end);
        let Some(row) = query.fetch_optional(&mut *c).await? else {
            return Ok((old, None));
        };
        at = MessageId(unsigned(&row, 0)?);
        if unsigned(&row, 1)? < before_ms {
            old.push(at);
        }
    }
    Ok((old, Some(at)))
}

fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}
