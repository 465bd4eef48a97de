//! Reads broadcast logs and cursors.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::TryStreamExt as _;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId};

use super::{
    SqliteArchive,
    commit::{cursor, signed},
    deliveries::unsigned,
    error::classify,
    log,
    statement::{Shape, Values, filled, parts},
};
use crate::{
    archive::{ArchiveResult, BroadcastPage, LoggedBroadcast},
    model::InboxKey,
};

static CURSORS: Shape = Shape::new(
    "WITH wanted (n, app, uid) AS (VALUES",
    "(?,?,?)",
    ") SELECT w.n, c.epoch, c.bseq FROM wanted w CROSS JOIN cursor c ON c.app = w.app AND c.uid = w.uid",
);
static HEADS: Shape = Shape::new("SELECT app, epoch, head FROM broadcast_log WHERE app IN (", "?", ")");
static AUDIENCES: Shape = Shape::new("SELECT id, audience, x'' FROM broadcast_body WHERE id IN (", "?", ")");
static BODIES: Shape = Shape::new("SELECT id, audience, payload FROM broadcast_body WHERE id IN (", "?", ")");
// The order of the join is that of the words: one look-up for each entry. A payload's length is read without it.
const PAGE: &str = "SELECT e.bseq, e.id, e.accepted, e.expires, e.recalled, e.filter, \
     CASE WHEN e.recalled = 0 AND e.expires > ? THEN length(b.payload) ELSE 0 END \
     FROM broadcast_entry e CROSS JOIN broadcast_body b ON b.id = e.id \
     WHERE e.app = ? AND e.bseq > ? AND e.bseq <= ? ORDER BY e.bseq LIMIT ?";
const ONE: &str = "SELECT e.bseq, e.id, e.accepted, (SELECT max(expires) FROM broadcast_entry WHERE id = e.id), \
     (SELECT max(recalled) FROM broadcast_entry WHERE id = e.id), e.filter, 0, l.epoch \
     FROM broadcast_entry e JOIN broadcast_log l ON l.app = e.app WHERE e.id = ? AND e.app = ? \
     ORDER BY e.bseq LIMIT 1";

impl SqliteArchive {
    pub(super) async fn read_cursors(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Option<Cursor>>> {
        let mut c = self.reader().await?;
        cursors(&mut c, keys).await.map_err(classify)
    }

    pub(super) async fn read_heads(&self, apps: &[AppId]) -> ArchiveResult<Vec<(AppId, Cursor)>> {
        let mut c = self.reader().await?;
        heads(&mut c, apps).await.map_err(classify)
    }

    pub(super) async fn read_broadcasts(
        &self,
        app: AppId,
        after: Bseq,
        max_messages: usize,
        max_bytes: usize,
        now_ms: u64,
    ) -> ArchiveResult<BroadcastPage> {
        let mut c = self.reader().await?;
        page(&mut c, app, after, (max_messages.max(1), max_bytes), now_ms).await.map_err(classify)
    }

    pub(super) async fn read_broadcast(
        &self,
        app: AppId,
        id: MessageId,
    ) -> ArchiveResult<Option<LoggedBroadcast>> {
        let mut c = self.reader().await?;
        let read = async {
            let query = sqlx::query(ONE).bind(signed(id)).bind(app.0);
            let Some(row) = query.fetch_optional(&mut *c).await? else { return Ok(None) };
            let mut one = [logged(&row, Epoch(unsigned(&row, 7)?))?];
            fill(&mut c, &mut one, |_| true).await?;
            Ok(one.into_iter().next())
        };
        read.await.map_err(classify)
    }
}

async fn page(
    c: &mut SqliteConnection,
    app: AppId,
    after: Bseq,
    (max_messages, max_bytes): (usize, usize),
    now_ms: u64,
) -> Result<BroadcastPage, sqlx::Error> {
    let head = heads(c, &[app]).await?;
    let head = head.first().map_or_else(Cursor::default, |(_, head)| *head);
    let mut page = BroadcastPage { through: head.bseq, head, ..BroadcastPage::default() };
    // One more broadcast may be committed after the head was read; it belongs to the next page. One more than is
    // wanted is read: it says that there is more.
    let mut rows = sqlx::query(PAGE)
        .bind(now_ms.cast_signed())
        .bind(app.0)
        .bind(after.0.cast_signed())
        .bind(head.bseq.0.cast_signed())
        .bind(i64::try_from(max_messages.saturating_add(1)).unwrap_or(i64::MAX))
        .fetch(&mut *c);
    let mut sizes = HashSet::new();
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let one = logged(&row, head.epoch)?;
        // Entries of one broadcast share its payload.
        if one.is_alive(now_ms) && sizes.insert(one.id) {
            bytes += usize::try_from(unsigned(&row, 6)?).unwrap_or(usize::MAX);
        }
        let full =
            page.broadcasts.len() >= max_messages || (bytes > max_bytes && !page.broadcasts.is_empty());
        if full {
            page.more = true;
            page.through = page.broadcasts.last().map_or(after, |b| b.place.bseq);
            break;
        }
        page.broadcasts.push(one);
    }
    drop(rows);
    fill(c, &mut page.broadcasts, |entry| entry.is_alive(now_ms)).await?;
    Ok(page)
}

/// Gives entries what their broadcasts share; payloads only to those that need them. One that was forgotten since its
/// entry was read is over: it is empty.
async fn fill(
    c: &mut SqliteConnection,
    entries: &mut [LoggedBroadcast],
    needs: impl Fn(&LoggedBroadcast) -> bool,
) -> Result<(), sqlx::Error> {
    let mut needed: HashMap<MessageId, bool> = HashMap::new();
    entries.iter().for_each(|e| *needed.entry(e.id).or_default() |= needs(e));
    let (whole, light): (Vec<_>, Vec<_>) = needed.into_iter().partition(|(_, needed)| *needed);
    let mut bodies: HashMap<MessageId, (String, Bytes)> = HashMap::new();
    for (shape, ids) in [(&BODIES, whole), (&AUDIENCES, light)] {
        for (power, part) in parts(&ids) {
            let mut values = Values::default();
            part.iter().for_each(|(id, _)| _ = values.uint(id.0));
            for row in sqlx::query_with(shape.sql(power), values.finish()?).fetch_all(&mut *c).await? {
                let body = (row.try_get(1)?, row.try_get::<Vec<u8>, _>(2)?.into());
                bodies.insert(MessageId(unsigned(&row, 0)?), body);
            }
        }
    }
    for entry in entries {
        if let Some((audience, payload)) = bodies.get(&entry.id) {
            entry.audience.clone_from(audience);
            if needs(entry) {
                entry.payload = payload.clone();
            }
        }
    }
    Ok(())
}

pub(super) async fn cursors(
    c: &mut SqliteConnection,
    keys: &[InboxKey],
) -> Result<Vec<Option<Cursor>>, sqlx::Error> {
    let mut found = vec![None; keys.len()];
    for (power, values) in filled(keys, 3, wanted) {
        for row in sqlx::query_with(CURSORS.sql(power), values.finish()?).fetch_all(&mut *c).await? {
            let n: i64 = row.try_get(0)?;
            if let Some(place) = usize::try_from(n).ok().and_then(|n| found.get_mut(n)) {
                *place = Some(cursor(&row, 1)?);
            }
        }
    }
    Ok(found)
}

/// A row of users that are looked up.
pub(super) fn wanted(values: &mut Values, n: usize, key: &InboxKey) {
    values.int(n as i64).int(key.app().0.into()).text(key.text());
}

async fn heads(c: &mut SqliteConnection, apps: &[AppId]) -> Result<Vec<(AppId, Cursor)>, sqlx::Error> {
    let mut found = Vec::with_capacity(apps.len());
    for (power, part) in parts(apps) {
        let mut values = Values::default();
        part.iter().for_each(|app| _ = values.int(app.0.into()));
        for row in sqlx::query_with(HEADS.sql(power), values.finish()?).fetch_all(&mut *c).await? {
            found.push((AppId(row.try_get(0)?), cursor(&row, 1)?));
        }
    }
    Ok(found)
}

/// An entry without what its broadcast shares.
fn logged(row: &SqliteRow, epoch: Epoch) -> Result<LoggedBroadcast, sqlx::Error> {
    Ok(LoggedBroadcast {
        place: Cursor { epoch, bseq: Bseq(unsigned(row, 0)?) },
        id: MessageId(unsigned(row, 1)?),
        payload: Bytes::new(),
        audience: String::new(),
        filter: log::filter(row.try_get(5)?)?,
        accepted_ms: unsigned(row, 2)?,
        expires_ms: unsigned(row, 3)?,
        recalled: row.try_get(4)?,
    })
}
