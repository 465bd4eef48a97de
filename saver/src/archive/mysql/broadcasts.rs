//! Broadcast logs and cursors.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt as _;
use sqlx::{MySqlConnection, Row as _, mysql::MySqlRow};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId};

use super::{
    directory,
    rows::{cursor, signed, text, uid, unsigned},
    statement::{Shape, Values, in_parts},
};
use crate::{
    archive::{BroadcastPage, LoggedBroadcast, NewBroadcast, Numbered},
    model::InboxKey,
};

static CURSORS: Shape = Shape::new(
    "SELECT epoch, bseq, uid FROM broadcast_cursor FORCE INDEX (PRIMARY) WHERE app = ? AND uid IN (",
    "?",
    ")",
);
static HEADS: Shape = Shape::new("SELECT epoch, head, app FROM broadcast_log WHERE app IN (", "?", ")");
const PAGE: &str = "SELECT bseq, id, payload, audience, accepted, expires, recalled FROM broadcast \
     FORCE INDEX (place) WHERE app = ? AND bseq > ? AND bseq <= ? AND recalled = 0 AND expires > ? ORDER BY bseq \
     LIMIT ?";
const ONE: &str = "SELECT b.bseq, b.id, b.payload, b.audience, b.accepted, b.expires, b.recalled, l.epoch \
     FROM broadcast b JOIN broadcast_log l ON l.app = b.app WHERE b.id = ? AND b.app = ?";

/// Keys by app, each uid with its places in the list: what statements over many users ask for.
pub(super) fn by_app(keys: &[InboxKey]) -> BTreeMap<AppId, HashMap<&str, Vec<usize>>> {
    let mut apps: BTreeMap<AppId, HashMap<&str, Vec<usize>>> = BTreeMap::new();
    for (n, key) in keys.iter().enumerate() {
        apps.entry(key.app()).or_default().entry(key.uid().as_str()).or_default().push(n);
    }
    apps
}

pub(super) async fn cursors(
    c: &mut MySqlConnection,
    keys: &[InboxKey],
) -> Result<Vec<Option<Cursor>>, sqlx::Error> {
    let mut found = vec![None; keys.len()];
    for (app, places) in by_app(keys) {
        let uids: Vec<&str> = places.keys().copied().collect();
        for part in in_parts(&uids) {
            let mut values = Values::default();
            values.int(app.0.into());
            let power = values.list_of(part, |v, uid| _ = v.bytes(uid.as_bytes()));
            for row in CURSORS.fetch(c, power, values).await? {
                let place = cursor(&row, 0)?;
                for n in places.get(uid(&row, 2)?.as_str()).into_iter().flatten() {
                    found[*n] = Some(place);
                }
            }
        }
    }
    Ok(found)
}

pub(super) async fn heads(
    c: &mut MySqlConnection,
    apps: &[AppId],
) -> Result<Vec<(AppId, Cursor)>, sqlx::Error> {
    let apps: Vec<i64> = apps.iter().map(|app| app.0.into()).collect();
    let rows = HEADS.fetch_in(c, &apps).await?;
    rows.iter().map(|row| Ok((AppId(row.try_get(2)?), cursor(row, 0)?))).collect()
}

pub(super) async fn page(
    c: &mut MySqlConnection,
    app: AppId,
    after: Bseq,
    max_messages: usize,
    max_bytes: usize,
    now_ms: u64,
) -> Result<BroadcastPage, sqlx::Error> {
    let head = heads(c, &[app]).await?;
    let head = head.first().map_or_else(Cursor::default, |(_, head)| *head);
    let mut page = BroadcastPage { through: head.bseq, head, ..BroadcastPage::default() };
    let most = max_messages.max(1);
    // One more broadcast may be committed after the head was read; it belongs to the next page. One more than is
    // wanted is read: it says that there is more.
    let mut rows = sqlx::query(PAGE)
        .bind(app.0)
        .bind(after.0.cast_signed())
        .bind(head.bseq.0.cast_signed())
        .bind(now_ms.cast_signed())
        .bind(i64::try_from(most + 1).unwrap_or(i64::MAX))
        .fetch(&mut *c);
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        if page.more {
            // Read to the end, so that the connection is at rest.
            continue;
        }
        let one = logged(&row, head.epoch)?;
        bytes += one.payload.len();
        if page.broadcasts.len() >= most || (bytes > max_bytes && !page.broadcasts.is_empty()) {
            page.more = true;
            page.through = page.broadcasts.last().map_or(after, |b| b.place.bseq);
        } else {
            page.broadcasts.push(one);
        }
    }
    Ok(page)
}

pub(super) async fn one(
    c: &mut MySqlConnection,
    app: AppId,
    id: MessageId,
) -> Result<Option<LoggedBroadcast>, sqlx::Error> {
    let row = sqlx::query(ONE).bind(signed(id)).bind(app.0).fetch_optional(c).await?;
    row.map(|row| logged(&row, Epoch(unsigned(&row, 7)?))).transpose()
}

/// Appends a broadcast. The log's row is locked until the end, so numbers are committed in their order.
pub(super) async fn append(c: &mut MySqlConnection, b: &NewBroadcast) -> Result<Numbered, sqlx::Error> {
    directory::ensure_log(c, b.app).await?;
    let head = sqlx::query("SELECT epoch, head FROM broadcast_log WHERE app = ? FOR UPDATE")
        .bind(b.app.0)
        .fetch_one(&mut *c)
        .await?;
    let head = cursor(&head, 0)?;
    let known: Option<i64> = sqlx::query_scalar("SELECT bseq FROM broadcast WHERE id = ? AND app = ?")
        .bind(signed(b.id))
        .bind(b.app.0)
        .fetch_optional(&mut *c)
        .await?;
    if let Some(bseq) = known {
        let place = Cursor { bseq: Bseq(bseq.cast_unsigned()), ..head };
        return Ok(Numbered { place, repeated: true });
    }
    let place = Cursor { bseq: Bseq(head.bseq.0 + 1), ..head };
    sqlx::query("UPDATE broadcast_log SET head = ? WHERE app = ?")
        .bind(place.bseq.0.cast_signed())
        .bind(b.app.0)
        .execute(&mut *c)
        .await?;
    sqlx::query(
        "INSERT INTO broadcast (id, app, bseq, accepted, expires, recalled, audience, payload) \
         VALUES (?,?,?,?,?,0,?,?)",
    )
    .bind(signed(b.id))
    .bind(b.app.0)
    .bind(place.bseq.0.cast_signed())
    .bind(b.accepted_ms.cast_signed())
    .bind(b.expires_ms.cast_signed())
    .bind(b.audience.as_bytes())
    .bind(&*b.payload)
    .execute(c)
    .await?;
    Ok(Numbered { place, repeated: false })
}

fn logged(row: &MySqlRow, epoch: Epoch) -> Result<LoggedBroadcast, sqlx::Error> {
    Ok(LoggedBroadcast {
        place: Cursor { epoch, bseq: Bseq(unsigned(row, 0)?) },
        id: MessageId(unsigned(row, 1)?),
        payload: row.try_get::<Vec<u8>, _>(2)?.into(),
        audience: text(row, 3)?,
        accepted_ms: unsigned(row, 4)?,
        expires_ms: unsigned(row, 5)?,
        recalled: row.try_get::<u8, _>(6)? != 0,
    })
}
