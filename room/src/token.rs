//! Device tokens: JWTs that an app's backend signs, HS256 with the app's secret or EdDSA with its registered key.

mod usual;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, dangerous::insecure_decode_claims, decode_header, errors::ErrorKind,
};
use proto::internal::App;
use ring::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, UnparsedPublicKey};
use serde::Deserialize;
use wire::{frame::BindCode, id::Uid};

use usual::Secret;

/// What a token says.
#[derive(Debug, Deserialize)]
struct Claims {
    app: String,
    sub: String,
    /// Seconds since 1970. Some libraries write it as a fraction.
    exp: f64,
}

/// Why a token does not open the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// No JWT, or claims are missing or of the wrong type.
    #[error("the token is no JWT with the claims app, sub and exp")]
    Form,
    /// Neither HS256 nor EdDSA, or the app has no key for it.
    #[error("the token's algorithm is not one that the app uses")]
    Algorithm,
    /// Signed with another key, or changed.
    #[error("the token's signature is wrong")]
    Signature,
    /// `exp` is in the past.
    #[error("the token has expired")]
    Expired,
    /// `app` is another one.
    #[error("the token is for another app")]
    WrongApp,
    /// `sub` is another user.
    #[error("the token is for another user")]
    WrongUid,
}

impl BadToken {
    /// What the device is told.
    pub const fn code(self) -> BindCode {
        match self {
            Self::Form | Self::Algorithm | Self::Signature => BindCode::BadToken,
            Self::Expired => BindCode::TokenExpired,
            Self::WrongApp => BindCode::WrongApp,
            Self::WrongUid => BindCode::WrongUid,
        }
    }
}

/// The keys of one app, parsed.
pub struct Keys {
    secret: Option<Secret>,
    public: Option<UnparsedPublicKey<[u8; ED25519_PUBLIC_KEY_LEN]>>,
}

impl fmt::Debug for Keys {
    // Never the keys themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("secret", &self.secret.is_some())
            .field("public", &self.public.is_some())
            .finish()
    }
}

impl Keys {
    /// The keys that an app has. A public key that cannot be read counts as none.
    pub fn of(secret: &[u8], public_key_pem: &str) -> Self {
        Self {
            // An empty secret is one that everybody knows.
            secret: (!secret.is_empty()).then(|| Secret::new(secret)),
            public: public_key(public_key_pem),
        }
    }

    /// Checks a token for (app, uid) at `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// [`BadToken`]. The signature comes first: of a token that nobody signed nothing else is told.
    pub fn verify(&self, token: &str, app: &str, uid: &str, now_s: u64) -> Result<(), BadToken> {
        let usual = self.secret.as_ref().and_then(|secret| secret.verify(token, app, uid, now_s));
        usual.unwrap_or_else(|| self.verify_any(token, app, uid, now_s))
    }

    /// The same for tokens of every form.
    fn verify_any(&self, token: &str, app: &str, uid: &str, now_s: u64) -> Result<(), BadToken> {
        let header = decode_header(token).map_err(|error| match error.kind() {
            // `none`, or one that nobody knows.
            ErrorKind::InvalidAlgorithmName | ErrorKind::Json(_) => BadToken::Algorithm,
            _ => BadToken::Form,
        })?;
        let (signed, signature) = token.rsplit_once('.').ok_or(BadToken::Form)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadToken::Form);
        // The token only chooses between the two; which key goes with which is ours, or a public key could be passed off
        // as a secret.
        let genuine = match (header.alg, &self.secret, &self.public) {
            (Algorithm::HS256, Some(secret), _) => secret.signed(signed, &signature?),
            (Algorithm::EdDSA, _, Some(public)) => public.verify(signed.as_bytes(), &signature?).is_ok(),
            _ => return Err(BadToken::Algorithm),
        };
        if !genuine {
            return Err(BadToken::Signature);
        }
        // The signature has been checked; other claims, an audience or an issuer, are the app's own business.
        let claims: Claims = insecure_decode_claims(token).map_err(|_| BadToken::Form)?;
        judge((&claims.app, &claims.sub, claims.exp), app, uid, now_s)
    }
}

/// The Ed25519 key of a PEM.
fn public_key(pem: &str) -> Option<UnparsedPublicKey<[u8; ED25519_PUBLIC_KEY_LEN]>> {
    let key = DecodingKey::from_ed_pem(pem.as_bytes()).ok()?;
    let bytes = key.try_get_as_bytes().ok()?.try_into().ok()?;
    Some(UnparsedPublicKey::new(&ED25519, bytes))
}

/// Judges what a token says that is signed: app, user and until when.
fn judge((of, sub, exp): (&str, &str, f64), app: &str, uid: &str, now_s: u64) -> Result<(), BadToken> {
    if of != app {
        return Err(BadToken::WrongApp);
    }
    if sub != uid {
        return Err(BadToken::WrongUid);
    }
    // A `NaN` is not later than now either.
    if exp > now_s as f64 { Ok(()) } else { Err(BadToken::Expired) }
}

/// Parsed keys of all apps that have been bound here; an app that changes is parsed again.
#[derive(Debug, Default)]
pub struct Verifier {
    /// By app, with the revision that they were parsed from.
    keys: RwLock<HashMap<u32, (u64, Arc<Keys>)>>,
}

impl Verifier {
    /// Checks a token of a user of `app`.
    ///
    /// # Errors
    /// [`BadToken`].
    pub fn verify(&self, app: &App, token: &str, uid: &Uid, now_s: u64) -> Result<(), BadToken> {
        self.keys(app).verify(token, &app.key, uid, now_s)
    }

    fn keys(&self, app: &App) -> Arc<Keys> {
        let known = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, keys)) = known.get(&app.id).filter(|(revision, _)| *revision == app.revision) {
            return Arc::clone(keys);
        }
        drop(known);
        let keys = Arc::new(Keys::of(&app.token_secret, &app.public_key_pem));
        let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(app.id, (app.revision, Arc::clone(&keys)));
        keys
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, Validation, decode, encode};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const SECRET: &[u8] = b"the secret of demo";
    // Made for this test with `openssl genpkey -algorithm ed25519`.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

    fn claims() -> Value {
        json!({"app": "demo", "sub": "alice", "exp": NOW + 60})
    }

    fn sign(algorithm: Algorithm, claims: &Value, key: &EncodingKey) -> String {
        encode(&Header::new(algorithm), claims, key).unwrap()
    }

    fn hs256(claims: &Value) -> String {
        sign(Algorithm::HS256, claims, &EncodingKey::from_secret(SECRET))
    }

    fn verify(token: &str) -> Result<(), BadToken> {
        Keys::of(SECRET, PUBLIC).verify(token, "demo", "alice", NOW)
    }

    fn eddsa(claims: &Value) -> String {
        sign(Algorithm::EdDSA, claims, &EncodingKey::from_ed_pem(PRIVATE.as_bytes()).unwrap())
    }

    /// Whether a library with its own cryptography finds the token's form and signature good.
    fn a_library_agrees(token: &str) -> bool {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let hs256 = decode::<Claims>(token, &DecodingKey::from_secret(SECRET), &validation).is_ok();
        validation.algorithms = vec![Algorithm::EdDSA];
        let public = DecodingKey::from_ed_pem(PUBLIC.as_bytes()).unwrap();
        hs256 || decode::<Claims>(token, &public, &validation).is_ok()
    }

    #[test]
    fn both_algorithms_open() {
        assert_eq!(verify(&hs256(&claims())), Ok(()));
        assert_eq!(verify(&eddsa(&claims())), Ok(()));
    }

    #[test]
    fn each_fault_has_its_own_code() {
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            verify(&hs256(&claims)).map_err(BadToken::code)
        };
        assert_eq!(with("exp", json!(NOW)), Err(BindCode::TokenExpired));
        assert_eq!(with("app", json!("other")), Err(BindCode::WrongApp));
        assert_eq!(with("sub", json!("bob")), Err(BindCode::WrongUid));
        assert_eq!(with("exp", json!("tomorrow")), Err(BindCode::BadToken));
        assert_eq!(with("aud", json!("whoever")), Ok(()));
    }

    #[test]
    fn only_the_apps_own_keys_and_algorithms_open() {
        let other = sign(Algorithm::HS256, &claims(), &EncodingKey::from_secret(b"another"));
        assert_eq!(verify(&other), Err(BadToken::Signature));
        let longer = sign(Algorithm::HS512, &claims(), &EncodingKey::from_secret(SECRET));
        assert_eq!(verify(&longer), Err(BadToken::Algorithm));
        // {"alg":"none","typ":"JWT"}
        let body = hs256(&claims()).split('.').nth(1).unwrap().to_owned();
        assert_eq!(verify(&format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.")), Err(BadToken::Algorithm));
        // The public key passed off as a secret.
        let confused = sign(Algorithm::HS256, &claims(), &EncodingKey::from_secret(PUBLIC.as_bytes()));
        assert_eq!(verify(&confused), Err(BadToken::Signature));
        let nobody = sign(Algorithm::HS256, &claims(), &EncodingKey::from_secret(b""));
        assert_eq!(Keys::of(b"", "").verify(&nobody, "demo", "alice", NOW), Err(BadToken::Algorithm));
        assert_eq!(verify("no token"), Err(BadToken::Form));
    }

    #[test]
    fn a_changed_app_has_its_new_keys() {
        let verifier = Verifier::default();
        let uid = Uid::new("alice").unwrap();
        let mut app =
            App { id: 1, key: "demo".into(), token_secret: SECRET.into(), revision: 1, ..App::default() };
        let token = hs256(&claims());
        assert_eq!(verifier.verify(&app, &token, &uid, NOW), Ok(()));
        app.token_secret = b"rotated".as_slice().into();
        app.revision = 2;
        assert_eq!(verifier.verify(&app, &token, &uid, NOW), Err(BadToken::Signature));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_panic(token in "[A-Za-z0-9_.=-]{0,200}") {
            prop_assert!(verify(&token).is_err());
        }

        /// A token of the usual form is judged like any other, whatever its claims are and whatever has happened to it.
        #[test]
        fn the_short_way_says_the_same(
            app in prop::sample::select(vec!["demo", "other", "d\u{e9}mo\"", ""]),
            sub in prop::sample::select(vec!["alice", "bob", "al\\ice\n", "alice "]),
            exp in prop::sample::select(vec![json!(NOW), json!(NOW + 1), json!(1.9e9), json!("x"), Value::Null]),
            more in prop::option::of("[a-z]{0,600}"),
            change in prop::option::of((0usize..900, 32u8..127)),
        ) {
            let mut claims = json!({"app": app, "sub": sub, "exp": exp});
            if let Some(more) = more {
                claims["more"] = more.into();
            }
            let mut token = hs256(&claims).into_bytes();
            if let Some((at, byte)) = change {
                let at = at % token.len();
                token[at] = byte;
            }
            let token = String::from_utf8(token).unwrap();
            let keys = Keys::of(SECRET, PUBLIC);
            let any = keys.verify_any(&token, app, sub, NOW);
            prop_assert_eq!(keys.verify(&token, app, sub, NOW), any);
            prop_assert_eq!(keys.verify(&token, "demo", "alice", NOW), keys.verify_any(&token, "demo", "alice", NOW));
        }

        /// Whatever has happened to a token, it opens only if others who know how to read tokens say so too.
        #[test]
        fn others_would_open_too(
            ours in any::<bool>(),
            aud in prop::sample::select(vec![Value::Null, json!("x"), json!(["x", 1]), json!({"x": 1})]),
            change in prop::option::of((0usize..900, 32u8..127)),
            cut in prop::option::of(0usize..300),
        ) {
            let mut claims = claims();
            claims["aud"] = aud;
            let mut token = if ours { hs256(&claims) } else { eddsa(&claims) }.into_bytes();
            if let Some((at, byte)) = change {
                let at = at % token.len();
                token[at] = byte;
            }
            token.truncate(cut.unwrap_or(token.len()));
            let token = String::from_utf8(token).unwrap();
            prop_assert_eq!(verify(&token).is_ok(), a_library_agrees(&token));
        }

        #[test]
        fn a_changed_token_never_opens(at in 0usize..200, byte in 0u8..128) {
            let token = hs256(&claims());
            let mut bytes = token.into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            // The last character of base64 carries bits that mean nothing.
            prop_assume!(at + 1 != bytes.len());
            let changed = String::from_utf8(bytes).unwrap();
            prop_assert!(verify(&changed).is_err());
        }
    }
}
