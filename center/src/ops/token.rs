//! Tokens with which devices bind.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proto::v1;
use serde::Serialize;
use sha2::Sha256;

use super::{Caller, Ops, fields};
use crate::{auth::Scope, error::Result};

/// Life of a token that asks for none: a device asks its backend for a new one about once a day.
const DEFAULT_TTL: Duration = Duration::from_secs(86_400);

/// `{"typ":"JWT","alg":"HS256"}` and what divides it from the claims.
const HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.";

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
        let token = sign(&claims, &app.token_secret);
        Ok(v1::IssueTokenResponse { token, expires_ms: exp.saturating_mul(1000) })
    }
}

/// A token of the form that rooms check fastest: HS256.
fn sign(claims: &Claims<'_>, secret: &[u8]) -> String {
    let claims = serde_json::to_vec(claims).expect("two texts and a number are JSON");
    let mut token = HEADER.to_owned();
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let key: Hmac<Sha256> = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
    let signature = key.chain_update(&token).finalize().into_bytes();
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}
