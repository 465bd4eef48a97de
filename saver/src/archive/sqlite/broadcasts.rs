//! Reads broadcast logs and cursors.

use futures::TryStreamExt as _;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId};

use super::{
    SqliteArchive,
    commit::{cursor, signed},
    deliveries::unsigned,
    error::classify,
    statement::{Shape, Values, parts},
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
const PAGE: &str = "SELECT bseq, id, payload, audience, accepted, expires, recalled FROM broadcast \
     WHERE app = ? AND bseq > ? AND bseq <= ? AND recalled = 0 AND expires > ? ORDER BY bseq";
const ONE: &str = "SELECT b.bseq, b.id, b.payload, b.audience, b.accepted, b.expires, b.recalled, l.epoch \
     FROM broadcast b JOIN broadcast_log l ON l.app = b.app WHERE b.id = ? AND b.app = ?";

impl SqliteArchive {
    pub(super) async fn read_cursors(&self, keys: &[InboxKey]) -> ArchiveResult<Vec<Option<Cursor>>> {
        let mut c = self.reader().await?;
        let mut found = vec![None; keys.len()];
        let numbered: Vec<(usize, &InboxKey)> = keys.iter().enumerate().collect();
        for (power, part) in parts(&numbered) {
            let mut values = Values::default();
            for (n, key) in part {
                values.int(*n as i64).int(key.app().0.into()).text(key.text());
            }
            let query = sqlx::query_with(CURSORS.sql(power), values.finish().map_err(classify)?);
            for row in query.fetch_all(&mut *c).await.map_err(classify)? {
                let n: i64 = row.try_get(0).map_err(classify)?;
                if let Some(place) = usize::try_from(n).ok().and_then(|n| found.get_mut(n)) {
                    *place = Some(cursor(&row, 1).map_err(classify)?);
                }
            }
        }
        Ok(found)
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
        let head = heads(&mut c, &[app]).await.map_err(classify)?;
        let head = head.first().map_or_else(Cursor::default, |(_, head)| *head);
        let mut page = BroadcastPage { through: head.bseq, head, ..BroadcastPage::default() };
        // One more broadcast may be committed after the head was read; it belongs to the next page.
        let mut rows = sqlx::query(PAGE)
            .bind(app.0)
            .bind(after.0.cast_signed())
            .bind(head.bseq.0.cast_signed())
            .bind(now_ms.cast_signed())
            .fetch(&mut *c);
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await.map_err(classify)? {
            let one = logged(&row, head.epoch).map_err(classify)?;
            bytes += one.payload.len();
            let full = page.broadcasts.len() >= max_messages.max(1)
                || (bytes > max_bytes && !page.broadcasts.is_empty());
            if full {
                page.more = true;
                page.through = page.broadcasts.last().map_or(after, |b| b.place.bseq);
                break;
            }
            page.broadcasts.push(one);
        }
        Ok(page)
    }

    pub(super) async fn read_broadcast(
        &self,
        app: AppId,
        id: MessageId,
    ) -> ArchiveResult<Option<LoggedBroadcast>> {
        let mut c = self.reader().await?;
        let query = sqlx::query(ONE).bind(signed(id)).bind(app.0);
        let row = query.fetch_optional(&mut *c).await.map_err(classify)?;
        let one = row.map(|row| logged(&row, Epoch(unsigned(&row, 7)?)));
        one.transpose().map_err(classify)
    }
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

fn logged(row: &SqliteRow, epoch: Epoch) -> Result<LoggedBroadcast, sqlx::Error> {
    Ok(LoggedBroadcast {
        place: Cursor { epoch, bseq: Bseq(unsigned(row, 0)?) },
        id: MessageId(unsigned(row, 1)?),
        payload: row.try_get::<Vec<u8>, _>(2)?.into(),
        audience: row.try_get(3)?,
        accepted_ms: unsigned(row, 4)?,
        expires_ms: unsigned(row, 5)?,
        recalled: row.try_get(6)?,
    })
}
