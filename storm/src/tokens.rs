//! Device tokens, signed here with the app's secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

/// A day: longer than any storm, so that a reconnect never meets an expired token by accident.
pub const LIFE: Duration = Duration::from_secs(86_400);

/// `{"typ":"JWT","alg":"HS256"}` and what divides it from the claims.
const HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.";

#[derive(Serialize)]
struct Claims<'a> {
    app: &'a str,
    sub: &'a str,
    exp: u64,
}

/// Signs tokens for the users of one app. Each device that connects needs one, so what they have in common is made once.
pub struct Minter {
    key: Hmac<Sha256>,
    app: String,
    exp: u64,
}

impl Minter {
    /// Signs with HS256 and the app's `secret`; all tokens expire `life` from now.
    #[must_use]
    pub fn new(app: &str, secret: &[u8], life: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let key = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self { key, app: app.to_owned(), exp: (now + life).as_secs() }
    }

    /// A token for one user.
    #[must_use]
    pub fn mint(&self, uid: &str) -> String {
        let claims = serde_json::to_vec(&Claims { app: &self.app, sub: uid, exp: self.exp });
        let claims = claims.expect("text and a number are JSON");
        let mut token = String::with_capacity(HEADER.len() + claims.len() * 4 / 3 + 48);
        token.push_str(HEADER);
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.key.clone().chain_update(&token).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    #[test]
    fn says_who_and_until_when() {
        let token = Minter::new("demo", b"secret", LIFE).mint("u-7");
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        let claims =
            decode::<serde_json::Value>(&token, &DecodingKey::from_secret(b"secret"), &validation).unwrap();
        assert_eq!(
            (claims.claims["app"].as_str(), claims.claims["sub"].as_str()),
            (Some("demo"), Some("u-7"))
        );
        assert!(
            decode::<serde_json::Value>(&token, &DecodingKey::from_secret(b"other"), &validation).is_err()
        );
    }
}
