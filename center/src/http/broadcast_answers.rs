//! The JSON of broadcasts that goes out.

use std::collections::BTreeMap;

use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;
use wire::id::MessageId;

/// A broadcast is durable; rooms send it now, or centers release it in its time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Broadcasted {
    /// The message's id.
    #[schema(value_type = String, example = "247812345678901248")]
    id: MessageId,
    /// Place in the app's broadcast log; 0 if it has none yet, or several: it is scheduled, or paced.
    bseq: u64,
    /// An earlier call with the same idempotency key did the work.
    repeated: bool,
    /// `scheduled`, `running` or, when all of its audience has been released to, `done`.
    state: String,
}

impl From<v1::BroadcastResponse> for Broadcasted {
    fn from(r: v1::BroadcastResponse) -> Self {
        Self { id: MessageId(r.id), bseq: r.bseq, repeated: r.repeated, state: r.state }
    }
}

/// How far a broadcast has come: targets = acked + stored + expired + the sum of dropped + recalled_users.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BroadcastProgress {
    /// The message's id.
    #[schema(value_type = String, example = "247812345678901248")]
    id: MessageId,
    app: String,
    /// Place in the app's broadcast log; 0 if it has none or several.
    bseq: u64,
    /// Tag expression; empty = everyone.
    audience: String,
    /// When it was accepted, ms since 1970.
    accepted_ms: u64,
    /// When it expires, ms since 1970; of a local time, for those whose clocks show it last.
    expires_ms: u64,
    /// It was taken back.
    recalled: bool,
    /// Users bound so far whom it is meant for.
    targets: u64,
    /// Frames written to connections.
    sent: u64,
    /// Of the targets: acknowledged.
    acked: u64,
    /// Of the targets: connected, and not acked yet.
    stored: u64,
    /// Of the targets: it expired before they acked it.
    expired: u64,
    /// Of the targets: who will not get it, by reason.
    dropped: BTreeMap<String, u64>,
    /// Of the targets: it was taken back before they acked it.
    recalled_users: u64,
    /// Rooms that did not answer; their users are missing here.
    rooms_missed: u32,
    /// `scheduled`, `running`, `paused`, `done` (all of its audience has been released to), `cancelled` or `recalled`.
    state: String,
    /// Why it is paused or slowed, when it did so by itself.
    why: String,
    /// Speed now, online users a second; 0 = as fast as the rooms can.
    users_per_second: u32,
    /// Speed as it was asked for.
    users_per_second_asked: u32,
    /// When it begins or began, ms since 1970.
    starts_ms: u64,
    /// When all of its audience had been released to, or it was ended, ms since 1970; 0 = not yet.
    ended_ms: u64,
    /// Share of the audience that it has been released to, 0 to 1.
    released: f64,
    /// Time from sending to ack of half of those that acked lately, ms; 0 = not known.
    latency_p50_ms: u32,
    /// The same of 95 of 100.
    latency_p95_ms: u32,
}

impl From<v1::BroadcastState> for BroadcastProgress {
    fn from(b: v1::BroadcastState) -> Self {
        Self {
            id: MessageId(b.id),
            app: b.app,
            bseq: b.bseq,
            audience: b.audience,
            accepted_ms: b.accepted_ms,
            expires_ms: b.expires_ms,
            recalled: b.recalled,
            targets: b.targets,
            sent: b.sent,
            acked: b.acked,
            stored: b.stored,
            expired: b.expired,
            dropped: b.dropped.into_iter().collect(),
            recalled_users: b.recalled_users,
            rooms_missed: b.rooms_missed,
            state: b.state,
            why: b.why,
            users_per_second: b.users_per_second,
            users_per_second_asked: b.users_per_second_asked,
            starts_ms: b.starts_ms,
            ended_ms: b.ended_ms,
            released: b.released,
            latency_p50_ms: b.latency_p50_ms,
            latency_p95_ms: b.latency_p95_ms,
        }
    }
}

/// A page of broadcasts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Broadcasts {
    pub(super) broadcasts: Vec<BroadcastProgress>,
}

/// What a broadcast would reach and cost now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Preview {
    /// Users online whom it would reach.
    users: u64,
    /// The same by zone of their rooms.
    zones: Vec<ZoneUsers>,
    /// Bytes of frames to all of them.
    bytes: u64,
    /// At the given speed; without one, at the speed that rooms are assumed to have.
    duration_ms: u64,
    /// Rooms that did not answer; their users are missing here.
    rooms_missed: u32,
}

/// Users online in one zone.
#[derive(Debug, Serialize, ToSchema)]
struct ZoneUsers {
    zone: String,
    users: u64,
}

impl From<v1::BroadcastPreview> for Preview {
    fn from(p: v1::BroadcastPreview) -> Self {
        let zone = |zone: v1::broadcast_preview::Zone| ZoneUsers { zone: zone.zone, users: zone.users };
        Self {
            users: p.users,
            zones: p.zones.into_iter().map(zone).collect(),
            bytes: p.bytes,
            duration_ms: p.duration_ms,
            rooms_missed: p.rooms_missed,
        }
    }
}
