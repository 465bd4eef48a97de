//! Broadcast logs and cursors.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use futures::TryStreamExt as _;
use sqlx::{MySqlConnection, Row as _, mysql::MySqlRow};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId};

use super::{
    log,
    rows::{cursor, signed, text, uid, unsigned},
    statement::{Shape, Values, in_parts},
};
use crate::{
    archive::{BroadcastPage, LoggedBroadcast},
    model::InboxKey,
};

static CURSORS: Shape = Shape::new(
    "SELECT epoch, bseq, uid FROM broadcast_cursor FORCE INDEX (PRIMARY) WHERE app = ? AND uid IN (",
    "?",
    ")",
);
static HEADS: Shape = Shape::new("SELECT epoch, head, app FROM broadcast_log WHERE app IN (", "?", ")");
static AUDIENCES: Shape =
    Shape::new("SELECT id, audience, x'' FROM broadcast_body FORCE INDEX (PRIMARY) WHERE id IN (", "?", ")");
static BODIES: Shape = Shape::new(
    "SELECT id, audience, payload FROM broadcast_body FORCE INDEX (PRIMARY) WHERE id IN (",
    "?",
    ")",
);
const PAGE: &str = "SELECT STRAIGHT_JOIN e.bseq, e.id, e.accepted, e.expires, e.recalled, e.filter, \
     CAST(IF(e.recalled = 0 AND e.expires > ?, LENGTH(b.payload), 0) AS SIGNED) \
     FROM broadcast_entry e FORCE INDEX (PRIMARY) JOIN broadcast_body b ON b.id = e.id \
     WHERE e.app = ? AND e.bseq > ? AND e.bseq <= ? ORDER BY e.bseq LIMIT ?";
const ONE: &str = "SELECT e.bseq, e.id, e.accepted, (SELECT MAX(expires) FROM broadcast_entry WHERE id = e.id), \
     (SELECT MAX(recalled) FROM broadcast_entry WHERE id = e.id), e.filter, 0, l.epoch \
     FROM broadcast_entry e JOIN broadcast_log l ON l.app = e.app WHERE e.id = ? AND e.app = ? \
     ORDER BY e.bseq LIMIT 1";

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
        .bind(now_ms.cast_signed())
        .bind(app.0)
        .bind(after.0.cast_signed())
        .bind(head.bseq.0.cast_signed())
        .bind(i64::try_from(most + 1).unwrap_or(i64::MAX))
        .fetch(&mut *c);
    let mut sizes = HashSet::new();
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        if page.more {
            // Read to the end, so that the connection is at rest.
            continue;
        }
        let one = logged(&row, head.epoch)?;
        // Entries of one broadcast share its payload.
        if one.is_alive(now_ms) && sizes.insert(one.id) {
            bytes += usize::try_from(unsigned(&row, 6)?).unwrap_or(usize::MAX);
        }
        if page.broadcasts.len() >= most || (bytes > max_bytes && !page.broadcasts.is_empty()) {
            page.more = true;
            page.through = page.broadcasts.last().map_or(after, |b| b.place.bseq);
        } else {
            page.broadcasts.push(one);
        }
    }
    drop(rows);
    fill(c, &mut page.broadcasts, |entry| entry.is_alive(now_ms)).await?;
    Ok(page)
}

/// Gives entries what their broadcasts share; payloads only to those that need them. One that was forgotten since its
/// entry was read is over: it is empty.
async fn fill(
    c: &mut MySqlConnection,
    entries: &mut [LoggedBroadcast],
    needs: impl Fn(&LoggedBroadcast) -> bool,
) -> Result<(), sqlx::Error> {
    let mut needed: BTreeMap<MessageId, bool> = BTreeMap::new();
    entries.iter().for_each(|e| *needed.entry(e.id).or_default() |= needs(e));
    let ids = |wanted| {
        needed
            .iter()
            .filter(move |(_, needed)| **needed == wanted)
            .map(|(id, _)| signed(*id))
            .collect::<Vec<_>>()
    };
    let mut bodies: HashMap<MessageId, (String, Bytes)> = HashMap::new();
    for (shape, ids) in [(&BODIES, ids(true)), (&AUDIENCES, ids(false))] {
        for row in shape.fetch_in(c, &ids).await? {
            let body = (text(&row, 1)?, row.try_get::<Vec<u8>, _>(2)?.into());
            bodies.insert(MessageId(unsigned(&row, 0)?), body);
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

pub(super) async fn one(
    c: &mut MySqlConnection,
    app: AppId,
    id: MessageId,
) -> Result<Option<LoggedBroadcast>, sqlx::Error> {
    let row = sqlx::query(ONE).bind(signed(id)).bind(app.0).fetch_optional(&mut *c).await?;
    let Some(row) = row else { return Ok(None) };
    let mut one = [logged(&row, Epoch(unsigned(&row, 7)?))?];
    fill(c, &mut one, |_| true).await?;
    Ok(one.into_iter().next())
}

/// An entry without what its broadcast shares.
fn logged(row: &MySqlRow, epoch: Epoch) -> Result<LoggedBroadcast, sqlx::Error> {
    Ok(LoggedBroadcast {
        place: Cursor { epoch, bseq: Bseq(unsigned(row, 0)?) },
        id: MessageId(unsigned(row, 1)?),
        payload: Bytes::new(),
        audience: String::new(),
        filter: log::filter(row.try_get(5)?)?,
        accepted_ms: unsigned(row, 2)?,
        expires_ms: unsigned(row, 3)?,
        recalled: row.try_get::<u8, _>(4)? != 0,
    })
}
