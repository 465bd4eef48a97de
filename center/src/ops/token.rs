//! Tokens with which devices bind.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::v1;
use serde::Serialize;

use super::{Caller, Ops, fields};
use crate::{
    auth::Scope,
    error::{Error, Result},
};

/// Life of a token that asks for none: a device asks its backend for a new one about once a day.
const DEFAULT_TTL: Duration = Duration::from_secs(86_400);

#[derive(Serialize)]
struct Claims<'a> {
    app: &'a str,
    sub: &'a str,
    /// Seconds since 1970.
    exp: u64,
}

impl Ops {
    /// A token with which a device binds as that user.
    pub async fn issue_token(
        &self,
        caller: &Caller,
        request: v1::IssueTokenRequest,
    ) -> Result<v1::IssueTokenResponse> {
        let app = self.app(caller, Scope::Push, &request.app).await?;
        let uid = fields::uid(&request.uid)?;
        let asked = request.ttl_s.map_or(DEFAULT_TTL, |ttl_s| Duration::from_secs(ttl_s.into()));
        let ttl = fields::within("ttl_s", asked, self.config().token_ttl_max)?;
        let exp = (cluster::now_ms() / 1000).saturating_add(ttl.as_secs());
        let claims = Claims { app: &app.key, sub: uid.as_str(), exp };
        let key = EncodingKey::from_secret(&app.token_secret);
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(|error| {
            // The claims are two texts and a number: only a key that is none can fail.
            tracing::error!(app = %app.key, %error, "the app's token secret cannot sign");
            Error::Internal("the app's token secret cannot sign")
        })?;
        Ok(v1::IssueTokenResponse { token, expires_ms: exp.saturating_mul(1000) })
    }
}
