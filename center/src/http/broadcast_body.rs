//! The JSON of broadcasts that comes in.

use proto::v1;
use serde::Deserialize;
use utoipa::ToSchema;

use super::sending::{PriorityWord, WhenBody, payload};
use crate::error::Result;

/// One payload to all users of the app, or to those that an audience names. Each of `audience`, `zones`, `networks`,
/// `version_from`, `version_below` and `percent` narrows it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"payload": "hello", "audience": "ios and (beta or not eu)", "users_per_second": 5000}))]
pub(super) struct BroadcastBody {
    /// The app's name; absent = the app of the API key.
    #[serde(default)]
    app: String,
    /// The payload as text. Either this or `payload_base64`.
    payload: Option<String>,
    /// The payload as bytes in base64.
    payload_base64: Option<String>,
    /// Seconds until the message expires, from its start on; absent = the app's default.
    ttl_s: Option<u32>,
    /// Tag expression, e.g. `ios and (beta or not eu)`; absent = everyone.
    #[serde(default)]
    audience: String,
    /// Only devices on rooms of these zones; absent = all.
    #[serde(default)]
    zones: Vec<String>,
    /// Only devices on these networks: wired, wifi, 2g, 3g, 4g, 5g, unknown; absent = all.
    #[serde(default)]
    networks: Vec<String>,
    /// Only versions of the app from this one on. Devices that did not tell theirs are left out if either bound is set.
    #[serde(default)]
    version_from: String,
    /// Only versions of the app below this one.
    #[serde(default)]
    version_below: String,
    /// Share of the users, chosen by a hash of their names: over 0 to 100; absent = all. Of two broadcasts, that with the greater
    /// share reaches all that the other does.
    percent: Option<f64>,
    /// Online users a second, over the whole cluster; absent or 0 = as fast as the rooms can.
    #[serde(default)]
    users_per_second: u32,
    /// When to begin; absent = now.
    start: Option<WhenBody>,
    /// `normal` or `urgent`.
    #[serde(default)]
    priority: PriorityWord,
    /// Slows or pauses a paced broadcast by itself; absent = never.
    feedback: Option<FeedbackBody>,
}

/// Bounds of a paced broadcast that its devices' answers must keep. It is slowed while one is broken, and paused when slowing
/// does not help.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FeedbackBody {
    /// Least share of those sent to more than ten seconds ago that have acked, over 0 to 1; absent = no bound.
    #[serde(default)]
    min_ack_ratio: f64,
    /// Largest time from sending to ack that 95 of 100 may take, ms; absent = no bound.
    #[serde(default)]
    max_latency_ms: u32,
}

impl BroadcastBody {
    pub(super) fn into_request(self, idempotency_key: String) -> Result<v1::BroadcastRequest> {
        let feedback = |f: FeedbackBody| v1::Feedback {
            min_ack_ratio: f.min_ack_ratio,
            max_latency_ms: f.max_latency_ms,
        };
        Ok(v1::BroadcastRequest {
            app: self.app,
            payload: payload(self.payload, self.payload_base64)?,
            ttl_s: self.ttl_s,
            audience: self.audience,
            idempotency_key,
            zones: self.zones,
            networks: self.networks,
            version_from: self.version_from,
            version_below: self.version_below,
            percent: self.percent,
            users_per_second: self.users_per_second,
            start: self.start.map(Into::into),
            priority: self.priority.into(),
            feedback: self.feedback.map(feedback),
        })
    }
}

/// What is to become of a broadcast.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"users_per_second": 1000}))]
pub(super) struct BroadcastPatch {
    /// `pause`, `resume` or `cancel`; absent = only another speed.
    #[serde(default)]
    pub(super) action: String,
    /// Online users a second; 0 = as fast as the rooms can; absent = as it is.
    pub(super) users_per_second: Option<u32>,
}

/// A page of the list of broadcasts.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BroadcastsQuery {
    /// The app's name; absent = the app of the API key.
    #[serde(default)]
    #[param(required = false)]
    pub(super) app: String,
    /// Only those older than the one with this id; absent = from the newest.
    #[serde(default)]
    #[param(required = false, value_type = Option<String>)]
    pub(super) before: Option<wire::id::MessageId>,
    /// 1 to 1,000; absent = 100.
    #[serde(default)]
    #[param(required = false)]
    pub(super) limit: Option<u32>,
}
