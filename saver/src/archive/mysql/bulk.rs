//! The part of a group that comes in thousands of rows: payloads, deliveries, final states and cursors.

use std::collections::HashMap;

use sqlx::MySqlConnection;
use wire::id::{Cursor, MessageId};

use super::statement::{Shape, Values};
use crate::{
    archive::{Body, Group, NewDelivery},
    model::{InboxKey, Row, State},
};

static BODIES: Shape = Shape::new("INSERT IGNORE INTO message (id, payload) VALUES", "(?,?)", "");
static STORED: Shape = Shape::new(
    "INSERT IGNORE INTO inbox (id, message, app, uid, seq, epoch, accepted, expires, bytes, payload, collapse) VALUES",
    "(?,?,?,?,?,?,?,?,?,?,?)",
    "",
);
/// Copies of rows that the ledger has got just now: an eleventh of the values, and less for the server to read.
pub(super) static STORED_MANY: Shape = Shape::new(
    "INSERT IGNORE INTO inbox (id, message, app, uid, seq, epoch, accepted, expires, bytes) \
     SELECT id, message, app, uid, seq, epoch, accepted, expires, bytes FROM multicast FORCE INDEX (PRIMARY) \
     WHERE state = 0 AND id IN (",
    "?",
    ")",
);
static CURSORS: Shape = Shape::new(
    "INSERT INTO broadcast_cursor (app, uid, epoch, bseq) VALUES",
    "(?,?,?,?)",
    "ON DUPLICATE KEY UPDATE bseq = IF(VALUES(epoch) > epoch OR (VALUES(epoch) = epoch AND VALUES(bseq) > bseq), \
     VALUES(bseq), bseq), epoch = GREATEST(epoch, VALUES(epoch))",
);
/// A dead letter keeps its payload, though it leaves its inbox.
static KEEP_PAYLOAD: Shape = Shape::new(
    "INSERT IGNORE INTO message (id, payload) SELECT id, payload FROM inbox FORCE INDEX (PRIMARY) \
     WHERE payload IS NOT NULL AND id IN (",
    "?",
    ")",
);
// The hint keeps the server from reading a whole table when it is small: that would meet the locks of others.
pub(super) static LEAVE: Shape =
    Shape::new("DELETE i FROM inbox i FORCE INDEX (PRIMARY) WHERE i.id IN (", "?", ")");

/// One of the two ledgers.
pub(super) struct Ledger {
    /// Stores deliveries that must be new.
    insert: Shape,
    /// Stores those that are new.
    pub(super) insert_new: Shape,
    pub(super) finish: Shape,
    /// Their states, locked.
    pub(super) states: Shape,
    pub(super) forget: Shape,
}

const UNICAST_ROW: &str = "(?,?,?,?,?,?,?,?,?)";
const MULTICAST_ROW: &str = "(?,?,?,?,?,?,?,?,?,?)";

macro_rules! ledger {
    ($table:literal, $columns:literal, $row:ident) => {
        Ledger {
            insert: Shape::new(concat!("INSERT INTO ", $table, $columns), $row, ""),
            insert_new: Shape::new(concat!("INSERT IGNORE INTO ", $table, $columns), $row, ""),
            finish: Shape::new(
                concat!(
                    "UPDATE ",
                    $table,
                    " FORCE INDEX (PRIMARY) SET state = ? WHERE state = 0 AND id IN ("
                ),
                "?",
                ")",
            ),
            states: Shape::new(
                concat!("SELECT id, state FROM ", $table, " FORCE INDEX (PRIMARY) WHERE id IN ("),
                "?",
                ") FOR UPDATE",
            ),
            forget: Shape::new(
                concat!(
                    "DELETE t FROM ",
                    $table,
                    " t FORCE INDEX (PRIMARY) WHERE t.state <> 0 AND t.id IN ("
                ),
                "?",
                ")",
            ),
        }
    };
}

pub(super) static UNICAST: Ledger =
    ledger!("unicast", " (id, app, uid, seq, epoch, state, accepted, expires, bytes) VALUES", UNICAST_ROW);
pub(super) static MULTICAST: Ledger = ledger!(
    "multicast",
    " (id, app, uid, seq, epoch, state, accepted, expires, bytes, message) VALUES",
    MULTICAST_ROW
);

/// Writes this part of a group.
pub(super) async fn write(c: &mut MySqlConnection, group: &Group) -> Result<(), sqlx::Error> {
    store(c, group).await?;
    finish(c, &group.finished).await?;
    move_cursors(c, &group.cursors).await
}

async fn store(c: &mut MySqlConnection, group: &Group) -> Result<(), sqlx::Error> {
    let deliveries: Vec<(&NewDelivery, State)> =
        group.deliveries.iter().map(|d| (d, State::Stored)).collect();
    let payloads = Payloads::of(&group.bodies);
    let (unicast, multicast): (Vec<_>, Vec<_>) =
        deliveries.iter().copied().partition(|(d, _)| !d.row.is_multicast());
    // A payload without its one receiver, or for many.
    let inboxes: std::collections::HashSet<MessageId> = unicast.iter().map(|(d, _)| d.id).collect();
    let shared: Vec<&Body> = group.bodies.iter().filter(|b| !inboxes.contains(&b.id)).collect();
    insert_bodies(c, &shared).await?;
    UNICAST.insert.execute_all(c, &unicast, weigh_row, bind_ledger).await?;
    MULTICAST.insert.execute_all(c, &multicast, weigh_row, bind_ledger).await?;
    insert_stored(c, &deliveries.iter().map(|(d, _)| *d).collect::<Vec<_>>(), &payloads).await
}

/// Payloads by message.
pub(super) struct Payloads<'a>(HashMap<MessageId, &'a Body>);

impl<'a> Payloads<'a> {
    pub(super) fn of(bodies: &'a [Body]) -> Self {
        Self(bodies.iter().map(|b| (b.id, b)).collect())
    }

    pub(super) fn get(&self, id: MessageId) -> Option<&'a Body> {
        self.0.get(&id).copied()
    }

    /// What goes into the row of a delivery.
    fn own(&self, d: &NewDelivery) -> Option<&'a Body> {
        if d.row.is_multicast() { None } else { self.get(d.id) }
    }
}

pub(super) async fn insert_bodies(c: &mut MySqlConnection, bodies: &[&Body]) -> Result<(), sqlx::Error> {
    let bind = |v: &mut Values, b: &&Body| _ = v.uint(b.id.0).bytes(&b.payload);
    BODIES.execute_all(c, bodies, |b| b.payload.len(), bind).await.map(drop)
}

/// Puts deliveries into their inboxes; those that are there stay. The ledgers have them already.
pub(super) async fn insert_stored(
    c: &mut MySqlConnection,
    deliveries: &[&NewDelivery],
    payloads: &Payloads<'_>,
) -> Result<(), sqlx::Error> {
    let copied = |d: &&NewDelivery| d.row.is_multicast() && d.collapse.is_none();
    let (copied, told): (Vec<&NewDelivery>, Vec<&NewDelivery>) = deliveries.iter().copied().partition(copied);
    let mut rows: Vec<i64> = copied.iter().map(|d| d.row.0).collect();
    rows.sort_unstable();
    STORED_MANY.execute_in(c, None, &rows).await?;
    let weigh = |d: &&NewDelivery| payloads.own(d).map_or(0, |b| b.payload.len());
    let bind = |v: &mut Values, d: &&NewDelivery| {
        v.int(d.row.0).uint(d.id.0).int(d.key.app().0.into()).bytes(d.key.uid().as_str().as_bytes());
        v.uint(d.position.seq.0).uint(d.position.epoch.0).uint(d.accepted_ms).uint(d.expires_ms);
        v.int(d.payload_bytes.into()).bytes_or_null(payloads.own(d).map(|b| &*b.payload));
        v.bytes_or_null(d.collapse.as_ref().map(|key| key.as_bytes()));
    };
    STORED.execute_all(c, &told, weigh, bind).await.map(drop)
}

/// A ledger row is small enough that 512 of them need no weighing.
pub(super) fn weigh_row(_: &(&NewDelivery, State)) -> usize {
    0
}

pub(super) fn bind_ledger(v: &mut Values, (d, state): &(&NewDelivery, State)) {
    v.int(d.row.0).int(d.key.app().0.into()).bytes(d.key.uid().as_str().as_bytes());
    v.uint(d.position.seq.0).uint(d.position.epoch.0).int(*state as i64);
    v.uint(d.accepted_ms).uint(d.expires_ms).int(d.payload_bytes.into());
    if d.row.is_multicast() {
        v.uint(d.id.0);
    }
}

/// Gives deliveries their final states. Ledger first, in the order of rows: so two that finish the same rows wait for
/// each other, and do not lock each other out.
pub(super) async fn finish(c: &mut MySqlConnection, finished: &[(Row, State)]) -> Result<(), sqlx::Error> {
    for state in State::FINAL {
        let mut rows: Vec<i64> = finished.iter().filter(|(_, s)| *s == state).map(|(r, _)| r.0).collect();
        if rows.is_empty() {
            continue;
        }
        rows.sort_unstable();
        let (multicast, unicast) = rows.split_at(rows.partition_point(|row| *row < 0));
        UNICAST.finish.execute_in(c, Some(state as i64), unicast).await?;
        MULTICAST.finish.execute_in(c, Some(state as i64), multicast).await?;
        if !state.frees_payload() {
            KEEP_PAYLOAD.execute_in(c, None, unicast).await?;
        }
        LEAVE.execute_in(c, None, &rows).await?;
    }
    Ok(())
}

pub(super) async fn move_cursors(
    c: &mut MySqlConnection,
    cursors: &[(InboxKey, Cursor)],
) -> Result<(), sqlx::Error> {
    let bind = |v: &mut Values, (key, cursor): &(InboxKey, Cursor)| {
        v.int(key.app().0.into()).bytes(key.uid().as_str().as_bytes());
        v.uint(cursor.epoch.0).uint(cursor.bseq.0);
    };
    CURSORS.execute_all(c, cursors, |_| 0, bind).await.map(drop)
}
