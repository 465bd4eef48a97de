//! Apps and their keys.

use std::time::Duration;

use jsonwebtoken::DecodingKey;
use peers::PeerError;
use proto::{
    internal::{self, Durability},
    v1,
};
use rand::distr::{Alphanumeric, SampleString as _};
use wire::id::AppKey;

use super::{Caller, Ops, fields};
use crate::{
    First,
    auth::{self, Scope, Scopes},
    config::NewApps,
    error::{Error, Result},
};

/// Letters of a secret after its prefix: 62³² is more than 2¹⁹⁰.
const SECRET_LETTERS: usize = 32;

/// A change that others overtake is tried again so often: each time one of them was done.
const CHANGES: usize = 32;

/// An inbox larger than this would take minutes to load on a phone.
const INBOX_CAP_MAX: u32 = 100_000;

/// More than a center can take in: in effect no limit.
const PUSHES_PER_SECOND_MAX: u32 = 10_000_000;

/// Longest webhook address, bytes.
const URL_MAX: usize = 2_048;

/// A text that nobody can guess; the prefix tells a reader (and a scanner of leaked files) what it is.
pub(crate) fn new_secret(prefix: &str) -> String {
    format!("{prefix}_{}", Alphanumeric.sample_string(&mut rand::rng(), SECRET_LETTERS))
}

/// The text of a new API key.
pub(crate) fn new_api_key() -> String {
    new_secret("lwk")
}

/// An app with new secrets and default limits, to be created. Its token secret is text, so that it can be pasted
/// into any JWT library as it is.
pub(crate) fn new_app(key: &AppKey, defaults: &NewApps) -> internal::App {
    internal::App {
        id: 0,
        key: key.as_str().to_owned(),
        token_secret: new_secret("lws").into(),
        webhook_secret: new_secret("lww"),
        default_ttl_s: defaults.default_ttl_s,
        inbox_cap: defaults.inbox_cap,
        pushes_per_second: defaults.pushes_per_second,
        ..internal::App::default()
    }
}

impl Ops {
    /// Creates the first app and key if they are not there; see [`crate::bootstrap`].
    pub async fn bootstrap(&self, first: &First) -> Result<internal::App> {
        let app = crate::bootstrap(&self.peers.savers, first).await?;
        self.learn().await;
        Ok(app)
    }

    /// Creates an app with its secrets and a first API key.
    pub async fn create_app(
        &self,
        caller: &Caller,
        request: v1::CreateAppRequest,
    ) -> Result<v1::CreateAppResponse> {
        caller.grant.needs(Scope::Admin)?;
        let key = AppKey::new(&request.app).map_err(|e| Error::invalid("app", e.to_string()))?;
        let mut app = new_app(&key, &self.config().new_apps);
        let changes = v1::UpdateAppRequest {
            app: request.app,
            upstream_url: Some(request.upstream_url),
            state_url: Some(request.state_url),
            public_key_pem: Some(request.public_key_pem),
            default_ttl_s: request.default_ttl_s,
            inbox_cap: request.inbox_cap,
            pushes_per_second: request.pushes_per_second,
            durability: Some(request.durability),
        };
        self.change(&mut app, changes)?;
        if self.peers.apps.find_by_key(&key).await?.is_some() {
            return Err(Error::AppExists { app: key.as_str().to_owned() });
        }
        let created = self.peers.savers.put_app(app).await?;
        self.learn().await;
        let scopes = Scopes::default().with(Scope::Push).with(Scope::Read);
        let api_key = self.put_new_key(created.id, scopes).await?;
        let secret = String::from_utf8_lossy(&created.token_secret).into_owned();
        let webhook_secret = created.webhook_secret.clone();
        Ok(v1::CreateAppResponse { info: Some(info(created)), key: api_key, secret, webhook_secret })
    }

    /// Changes an app; what is absent stays as it is.
    pub async fn update_app(&self, caller: &Caller, request: v1::UpdateAppRequest) -> Result<v1::AppInfo> {
        caller.grant.needs(Scope::Admin)?;
        for _ in 0..CHANGES {
            let mut app = self.stored_app(&request.app).await?;
            self.change(&mut app, request.clone())?;
            match self.peers.savers.put_app(app).await {
                // Another change came in between, and this one is not to undo it.
                Err(PeerError::Refused(refusal)) if refusal.code == peers::APP_CHANGED => {}
                changed => {
                    let changed = changed?;
                    self.learn().await;
                    return Ok(info(changed));
                }
            }
        }
        Err(Error::Full("changes of the app at once"))
    }

    /// One app.
    pub async fn show_app(&self, caller: &Caller, request: v1::GetAppRequest) -> Result<v1::AppInfo> {
        caller.grant.needs(Scope::Admin)?;
        self.stored_app(&request.app).await.map(info)
    }

    /// All apps, by name.
    pub async fn list_apps(&self, caller: &Caller) -> Result<v1::ListAppsResponse> {
        caller.grant.needs(Scope::Admin)?;
        let mut apps: Vec<_> = self.peers.savers.apps(0).await?.apps.into_iter().map(info).collect();
        apps.sort_unstable_by(|a, b| a.app.cmp(&b.app));
        Ok(v1::ListAppsResponse { apps })
    }

    /// Creates an API key for an app.
    pub async fn create_key(
        &self,
        caller: &Caller,
        request: v1::CreateKeyRequest,
    ) -> Result<v1::CreateKeyResponse> {
        caller.grant.needs(Scope::Admin)?;
        let scopes = parse_scopes(&request.scopes)?;
        let app = self.known_app(&request.app).await?;
        Ok(v1::CreateKeyResponse { key: self.put_new_key(app.id, scopes).await? })
    }

    /// Has the directory read what was just written, so that the very next call here sees it.
    async fn learn(&self) {
        if let Err(error) = self.peers.apps.refresh().await {
            // It polls anyway.
            tracing::debug!(%error, "the app directory could not be refreshed");
        }
    }

    async fn put_new_key(&self, app: u32, scopes: Scopes) -> Result<String> {
        let key = new_api_key();
        self.peers.savers.put_key(key_request(app, auth::hash_key(&key), scopes)).await?;
        Ok(key)
    }

    /// The app as it is stored now: what the directory has may be two seconds old, and a change must not undo another.
    async fn stored_app(&self, name: &str) -> Result<internal::App> {
        let all = self.peers.savers.apps(0).await?.apps;
        all.into_iter()
            .find(|app| app.key == name)
            .ok_or_else(|| Error::UnknownApp { app: super::shortened(name) })
    }

    fn change(&self, app: &mut internal::App, changes: v1::UpdateAppRequest) -> Result<()> {
        if let Some(url) = changes.upstream_url {
            app.upstream_url = webhook("upstream_url", url)?;
        }
        if let Some(url) = changes.state_url {
            app.state_url = webhook("state_url", url)?;
        }
        if let Some(pem) = changes.public_key_pem {
            app.public_key_pem = public_key(pem)?;
        }
        if let Some(ttl_s) = changes.default_ttl_s {
            fields::within("default_ttl_s", Duration::from_secs(ttl_s.into()), self.config().ttl_max)?;
            app.default_ttl_s = ttl_s;
        }
        if let Some(cap) = changes.inbox_cap {
            app.inbox_cap = number("inbox_cap", cap, INBOX_CAP_MAX)?;
        }
        if let Some(rate) = changes.pushes_per_second {
            app.pushes_per_second = number("pushes_per_second", rate, PUSHES_PER_SECOND_MAX)?;
        }
        if let Some(word) = changes.durability {
            app.set_durability(durability(&word)?);
        }
        Ok(())
    }
}

/// A key to be stored.
pub(crate) fn key_request(app: u32, hash: auth::KeyHash, scopes: Scopes) -> internal::PutKeyRequest {
    let names = Scope::ALL.into_iter().filter(|scope| scopes.has(*scope));
    internal::PutKeyRequest {
        app,
        hash: hash.to_vec().into(),
        scopes: names.map(|scope| scope.name().to_owned()).collect(),
        created_ms: cluster::now_ms(),
    }
}

/// A set of scopes out of their names.
pub(crate) fn parse_scopes(names: &[String]) -> Result<Scopes> {
    if names.is_empty() {
        return Err(Error::invalid("scopes", "name at least one of push, read, admin"));
    }
    names.iter().try_fold(Scopes::default(), |scopes, name| match Scope::parse(name) {
        Some(scope) => Ok(scopes.with(scope)),
        None => Err(Error::invalid("scopes", format!("{name:?} is none of push, read, admin"))),
    })
}

fn info(app: internal::App) -> v1::AppInfo {
    let durability = match app.durability() {
        Durability::Unspecified => "",
        Durability::Fast => "fast",
        Durability::Safe => "safe",
    }
    .to_owned();
    v1::AppInfo {
        id: app.id,
        app: app.key,
        upstream_url: app.upstream_url,
        state_url: app.state_url,
        public_key_pem: app.public_key_pem,
        default_ttl_s: app.default_ttl_s,
        inbox_cap: app.inbox_cap,
        pushes_per_second: app.pushes_per_second,
        durability,
    }
}

/// A class of durability by its word.
fn durability(word: &str) -> Result<Durability> {
    match word {
        "" => Ok(Durability::Unspecified),
        "fast" => Ok(Durability::Fast),
        "safe" => Ok(Durability::Safe),
        other => Err(Error::invalid("durability", format!("is {other:?}; it must be fast or safe"))),
    }
}

fn number(field: &'static str, asked: u32, max: u32) -> Result<u32> {
    if (1..=max).contains(&asked) {
        return Ok(asked);
    }
    Err(Error::invalid(field, format!("is {asked}; it must be 1 to {max}")))
}

/// An address that webhooks can be sent to, or nothing.
fn webhook(field: &'static str, url: String) -> Result<String> {
    if url.is_empty() {
        return Ok(url);
    }
    if url.len() > URL_MAX {
        return Err(Error::invalid(field, format!("has {} bytes; at most {URL_MAX} are taken", url.len())));
    }
    let uri: http::Uri = url.parse().map_err(|e| Error::invalid(field, format!("is no URL: {e}")))?;
    let web = matches!(uri.scheme_str(), Some("http" | "https"));
    if web && uri.host().is_some_and(|host| !host.is_empty()) {
        return Ok(url);
    }
    Err(Error::invalid(field, "must begin with http:// or https:// and name a host"))
}

fn public_key(pem: String) -> Result<String> {
    if !pem.is_empty() {
        DecodingKey::from_ed_pem(pem.as_bytes()).map_err(|e| {
            Error::invalid("public_key_pem", format!("is no PEM of an Ed25519 public key: {e}"))
        })?;
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_look_like_keys_and_differ() {
        let (a, b) = (new_api_key(), new_api_key());
        assert_ne!(a, b);
        assert!(a.starts_with("lwk_") && a.len() == 36);
        assert!(a[4..].bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn webhooks_are_web_addresses() {
        for good in ["", "http://127.0.0.1:9/x", "https://example.com"] {
            assert!(webhook("state_url", good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["example.com", "/x", "ftp://x/", "http://", "not a url", "file:///etc/passwd"] {
            assert_eq!(webhook("state_url", bad.to_owned()).unwrap_err().field(), Some("state_url"), "{bad}");
        }
    }

    #[test]
    fn public_keys_are_ed25519() {
        let good = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        assert!(public_key(good.to_owned()).is_ok());
        assert!(public_key(String::new()).is_ok());
        assert_eq!(public_key("x".to_owned()).unwrap_err().field(), Some("public_key_pem"));
    }

    #[test]
    fn scopes_have_to_be_known() {
        assert!(parse_scopes(&["push".to_owned(), "read".to_owned()]).is_ok());
        assert!(parse_scopes(&[]).is_err());
        assert!(parse_scopes(&["root".to_owned()]).unwrap_err().to_string().contains("\"root\""));
    }
}
