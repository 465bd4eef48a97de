//! Device tokens, signed here with the app's secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

/// A day: longer than any storm, so that a reconnect never meets an expired token by accident.
pub const LIFE: Duration = Duration::from_secs(86_400);

#[derive(Serialize)]
struct Claims<'a> {
    app: &'a str,
    sub: &'a str,
    exp: u64,
}

/// Signs tokens for the users of one app.
pub struct Minter {
    key: EncodingKey,
    app: String,
    exp: u64,
}

impl Minter {
    /// Signs with HS256 and the app's `secret`; all tokens expire `life` from now.
    #[must_use]
    pub fn new(app: &str, secret: &[u8], life: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { key: EncodingKey::from_secret(secret), app: app.to_owned(), exp: (now + life).as_secs() }
    }

    /// A token for one user.
    #[must_use]
    pub fn mint(&self, uid: &str) -> String {
        let claims = Claims { app: &self.app, sub: uid, exp: self.exp };
        encode(&Header::new(Algorithm::HS256), &claims, &self.key)
            .expect("an HMAC key signs any claims that are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation, decode};

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
