//! The JSON of the API: what comes in, and what goes out. Ids are decimal strings, because JavaScript would
//! round the numbers.

use proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wire::id::MessageId;

/// For whom a device token is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"uid": "alice"}))]
pub(super) struct TokenBody {
    /// The app's name; absent = the app of the API key.
    #[serde(default)]
    app: String,
    /// The user, 1 to 128 bytes.
    uid: String,
    /// Seconds until the token expires; absent = one day.
    ttl_s: Option<u32>,
}

impl From<TokenBody> for v1::IssueTokenRequest {
    fn from(body: TokenBody) -> Self {
        Self { app: body.app, uid: body.uid, ttl_s: body.ttl_s }
    }
}

/// A new app. What is absent takes the center's default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"app": "news"}))]
pub(super) struct NewAppBody {
    /// Its name: 1 to 64 of a-z 0-9 - _ and dot.
    app: String,
    /// Webhook for what devices send; absent = none. Coordinators call whatever it names, addresses inside their own
    /// network too: see the coordinators' configuration.
    #[serde(default)]
    upstream_url: String,
    /// Webhook for online and offline events; absent = none. As above.
    #[serde(default)]
    state_url: String,
    /// PEM of an Ed25519 public key, for device tokens that the app signs itself; absent = none.
    #[serde(default)]
    public_key_pem: String,
    /// Time to live of a message that names none, seconds.
    default_ttl_s: Option<u32>,
    /// Messages that an inbox holds; the oldest goes when one more comes.
    inbox_cap: Option<u32>,
    /// Users that the app may push to in a second, at each center.
    pushes_per_second: Option<u32>,
    /// When a push is answered: `fast` (the inbox store has it) or `safe` (the archive has it too); absent = as the
    /// savers are configured.
    #[serde(default)]
    durability: String,
}

impl From<NewAppBody> for v1::CreateAppRequest {
    fn from(body: NewAppBody) -> Self {
        Self {
            app: body.app,
            upstream_url: body.upstream_url,
            state_url: body.state_url,
            public_key_pem: body.public_key_pem,
            default_ttl_s: body.default_ttl_s,
            inbox_cap: body.inbox_cap,
            pushes_per_second: body.pushes_per_second,
            durability: body.durability,
        }
    }
}

/// Changes of an app. What is absent stays as it is; an empty text removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"inbox_cap": 500}))]
pub(super) struct AppPatch {
    /// Webhook for what devices send.
    upstream_url: Option<String>,
    /// Webhook for online and offline events.
    state_url: Option<String>,
    /// PEM of an Ed25519 public key, for device tokens that the app signs itself.
    public_key_pem: Option<String>,
    /// Time to live of a message that names none, seconds.
    default_ttl_s: Option<u32>,
    /// Messages that an inbox holds; the oldest goes when one more comes.
    inbox_cap: Option<u32>,
    /// Users that the app may push to in a second, at each center.
    pushes_per_second: Option<u32>,
    /// `fast`, `safe`, or empty for the savers' default.
    durability: Option<String>,
}

impl AppPatch {
    pub(super) fn into_request(self, app: String) -> v1::UpdateAppRequest {
        v1::UpdateAppRequest {
            app,
            upstream_url: self.upstream_url,
            state_url: self.state_url,
            public_key_pem: self.public_key_pem,
            default_ttl_s: self.default_ttl_s,
            inbox_cap: self.inbox_cap,
            pushes_per_second: self.pushes_per_second,
            durability: self.durability,
        }
    }
}

/// A new API key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"scopes": ["push", "read"]}))]
pub(super) struct NewKeyBody {
    /// Any of push, read, admin.
    pub(super) scopes: Vec<String>,
}

/// Names the app, where no body does.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AppQuery {
    /// The app's name; absent = the app of the API key.
    #[serde(default)]
    #[param(required = false)]
    pub(super) app: String,
}

/// Every error has this form.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody<'a> {
    pub(super) error: ErrorFacts<'a>,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorFacts<'a> {
    /// Stable word, e.g. `unknown_app`.
    pub(super) code: &'a str,
    /// A sentence for people.
    pub(super) message: &'a str,
    /// The field to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<&'a str>,
    /// The same request may succeed after so long; absent = never as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after_ms: Option<u32>,
    /// How far a streamed list of users came before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) progress: Option<ErrorProgress>,
}

/// How far a streamed list of users came.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorProgress {
    /// The message's id.
    #[schema(value_type = String, example = "247812345678901248")]
    pub(super) id: MessageId,
    /// Users of the list that were tried, from its beginning.
    pub(super) targets: u64,
    /// Of them: those that have it.
    pub(super) accepted: u64,
}
