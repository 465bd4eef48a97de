//! The JSON that goes out when an operation was done.

use std::collections::BTreeMap;

use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;
use wire::id::MessageId;

/// What became of a push.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Pushed {
    /// The message's id.
    #[schema(value_type = String, example = "247812345678901248")]
    id: MessageId,
    /// `stored`: durable, delivery follows. `scheduled`: durable, to be sent at its time. `sent`, `offline`: of a transient
    /// message.
    #[schema(value_type = String, example = "stored")]
    outcome: &'static str,
    /// Place in the user's inbox; 0 for a transient message, or when a repeat finds it gone.
    seq: u64,
    /// An earlier call with the same idempotency key did the work.
    repeated: bool,
}

impl From<v1::PushResponse> for Pushed {
    fn from(r: v1::PushResponse) -> Self {
        let outcome = match r.outcome() {
            v1::Outcome::Stored | v1::Outcome::Unspecified => "stored",
            v1::Outcome::Sent => "sent",
            v1::Outcome::Offline => "offline",
            v1::Outcome::Scheduled => "scheduled",
        };
        Self { id: MessageId(r.id), outcome, seq: r.seq, repeated: r.repeated }
    }
}

/// What became of a multicast.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Multicasted {
    /// The message's id, the same for all users.
    #[schema(value_type = String, example = "247812345678901248")]
    id: MessageId,
    /// Different users of the list.
    targets: u64,
    /// Users that it was stored for, or sent to if transient.
    accepted: u64,
    /// Users that it could not be stored for, the first thousand; a repeat with the same idempotency key tries them again.
    failed: Vec<FailedUser>,
    /// How many failed.
    failures: u64,
    /// It is kept until its time, for those that were accepted.
    scheduled: bool,
    /// An earlier call with the same idempotency key did the work.
    repeated: bool,
}

/// A user that a multicast did not reach.
#[derive(Debug, Serialize, ToSchema)]
struct FailedUser {
    uid: String,
    error: UserError,
}

/// Why.
#[derive(Debug, Serialize, ToSchema)]
struct UserError {
    code: String,
    message: String,
    #[serde(skip_serializing_if = "is_zero")]
    retry_after_ms: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl From<v1::MulticastResponse> for Multicasted {
    fn from(r: v1::MulticastResponse) -> Self {
        let failed = |f: v1::UserFailure| {
            let e = f.error.unwrap_or_default();
            let error = UserError { code: e.code, message: e.message, retry_after_ms: e.retry_after_ms };
            FailedUser { uid: f.uid, error }
        };
        Self {
            id: MessageId(r.id),
            targets: r.targets,
            accepted: r.accepted,
            failed: r.failed.into_iter().map(failed).collect(),
            failures: r.failures,
            scheduled: r.scheduled,
            repeated: r.repeated,
        }
    }
}

/// What waits for its time, soonest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScheduledList {
    scheduled: Vec<Scheduled>,
}

/// A message that waits for its time.
#[derive(Debug, Serialize, ToSchema)]
struct Scheduled {
    /// The message's id.
    #[schema(value_type = String, example = "247812345678901248")]
    id: MessageId,
    /// `unicast` or `multicast`.
    kind: String,
    /// When it is due, ms since 1970; of a local time on the device the earliest that it can be.
    due_ms: u64,
    /// Users that it still waits for.
    targets: u64,
}

impl From<v1::ListScheduledResponse> for ScheduledList {
    fn from(r: v1::ListScheduledResponse) -> Self {
        let one = |s: v1::Scheduled| Scheduled {
            id: MessageId(s.id),
            kind: s.kind,
            due_ms: s.due_ms,
            targets: s.targets,
        };
        Self { scheduled: r.scheduled.into_iter().map(one).collect() }
    }
}

/// What was taken back before its time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cancelled {
    /// Users who will not get it for this.
    pub(super) cancelled: u64,
}

/// The ledger of a message: targets = acked + stored + expired + the sum of dropped + recalled.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ledger {
    /// The message's id.
    #[schema(value_type = String, example = "247812345678901248")]
    id: MessageId,
    app: String,
    /// `unicast`, `multicast` or `broadcast`.
    kind: String,
    /// When it was accepted, ms since 1970.
    accepted_ms: u64,
    /// When it expires, ms since 1970.
    expires_ms: u64,
    targets: u64,
    acked: u64,
    stored: u64,
    expired: u64,
    /// By reason: `inbox_full`, `max_loads`.
    dropped: BTreeMap<String, u64>,
    recalled: u64,
}

impl From<v1::MessageLedger> for Ledger {
    fn from(l: v1::MessageLedger) -> Self {
        Self {
            id: MessageId(l.id),
            app: l.app,
            kind: l.kind,
            accepted_ms: l.accepted_ms,
            expires_ms: l.expires_ms,
            targets: l.targets,
            acked: l.acked,
            stored: l.stored,
            expired: l.expired,
            dropped: l.dropped.into_iter().collect(),
            recalled: l.recalled,
        }
    }
}

/// What a recall did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recalled {
    /// Inboxes that it was taken out of; of a broadcast: 1 if it was still in the log.
    recalled: u64,
    /// Users online who may have it, and were told.
    notified: u64,
}

impl From<v1::RecallResponse> for Recalled {
    fn from(r: v1::RecallResponse) -> Self {
        Self { recalled: r.recalled, notified: r.notified }
    }
}

/// Where a user is and what waits for it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct User {
    app: String,
    uid: String,
    online: bool,
    /// Number of the room; absent when offline.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<u32>,
    /// Name of the connection; absent when offline.
    #[serde(skip_serializing_if = "Option::is_none")]
    conn: Option<String>,
    /// Since when it is online, ms since 1970; absent when offline.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ms: Option<u64>,
    /// Messages that wait for it.
    inbox_depth: u64,
    /// The register is being rebuilt and cannot know yet whether the user is online.
    rebuilding: bool,
}

impl From<v1::UserState> for User {
    fn from(u: v1::UserState) -> Self {
        let online = u.online;
        Self {
            app: u.app,
            uid: u.uid,
            online,
            room: online.then_some(u.room),
            conn: online.then(|| u.conn.to_string()),
            since_ms: online.then_some(u.since_ms),
            inbox_depth: u.inbox_depth,
            rebuilding: u.rebuilding,
        }
    }
}

/// What a kick did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kicked {
    /// The user was online, and its binding ends.
    pub(super) was_online: bool,
}

/// A device token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Token {
    /// JWT, HS256.
    pub(super) token: String,
    /// When it expires, ms since 1970.
    pub(super) expires_ms: u64,
}

/// An app, without its secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct App {
    id: u32,
    app: String,
    upstream_url: String,
    state_url: String,
    public_key_pem: String,
    default_ttl_s: u32,
    inbox_cap: u32,
    pushes_per_second: u32,
    durability: String,
}

impl From<v1::AppInfo> for App {
    fn from(a: v1::AppInfo) -> Self {
        Self {
            id: a.id,
            app: a.app,
            upstream_url: a.upstream_url,
            state_url: a.state_url,
            public_key_pem: a.public_key_pem,
            default_ttl_s: a.default_ttl_s,
            inbox_cap: a.inbox_cap,
            pushes_per_second: a.pushes_per_second,
            durability: a.durability,
        }
    }
}

/// All apps.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Apps {
    pub(super) apps: Vec<App>,
}

/// A new app with its secrets, which are shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewApp {
    #[serde(flatten)]
    info: App,
    /// API key with the scopes push and read.
    key: String,
    /// Signs device tokens (HS256).
    secret: String,
    /// Signs webhooks.
    webhook_secret: String,
}

impl From<v1::CreateAppResponse> for NewApp {
    fn from(r: v1::CreateAppResponse) -> Self {
        Self {
            info: r.info.unwrap_or_default().into(),
            key: r.key,
            secret: r.secret,
            webhook_secret: r.webhook_secret,
        }
    }
}

/// A new API key, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewKey {
    pub(super) key: String,
}
