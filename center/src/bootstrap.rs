//! The first app and key of a cluster, which no key could create.

use std::time::Duration;

use peers::{PeerError, Savers};
use proto::internal;
use tokio_util::sync::CancellationToken;
use wire::id::AppKey;

use crate::{
    auth::{self, KeyHash, Scopes},
    config::{Bootstrap, NewApps},
    error::{Error, Result},
    ops,
};

/// The text of a new API key: `lwk_` and 32 letters that nobody can guess.
pub fn new_api_key() -> String {
    ops::new_api_key()
}

/// What has to be there.
#[derive(Debug, Clone)]
pub struct First {
    /// The app's name.
    pub app: AppKey,
    /// SHA-256 of the API key's text, as [`crate::auth::hash_key`] makes it.
    pub key: KeyHash,
    /// Scopes of the key.
    pub scopes: Scopes,
    /// Limits of the app, if it has to be created.
    pub limits: NewApps,
}

impl First {
    /// Reads the section `[center.bootstrap]`. The error names the key at fault.
    pub fn read(section: &Bootstrap, limits: &NewApps) -> Result<First> {
        let app = AppKey::new(&section.app).map_err(|e| Error::invalid("app", e.to_string()))?;
        let key = match (&section.key_sha256, &section.key_file) {
            (Some(text), None) => {
                let mut hash = KeyHash::default();
                hex::decode_to_slice(text, &mut hash)
                    .map_err(|_| Error::invalid("key_sha256", "must be the 64 hex digits of a SHA-256"))?;
                hash
            }
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|e| {
                    Error::invalid("key_file", format!("cannot read {}: {e}", file.display()))
                })?;
                match text.trim() {
                    "" => return Err(Error::invalid("key_file", format!("{} is empty", file.display()))),
                    key => auth::hash_key(key),
                }
            }
            _ => return Err(Error::invalid("key_sha256", "give key_sha256 or key_file, and not both")),
        };
        Ok(First { app, key, scopes: ops::parse_scopes(&section.scopes)?, limits: limits.clone() })
    }
}

/// Creates the app and the key if they are not there, and answers the app. Two centers that do so at the same time
/// end up with one app: its name is taken only once.
pub async fn bootstrap(savers: &Savers, first: &First) -> Result<internal::App> {
    let app = match find(savers, &first.app).await? {
        Some(app) => app,
        None => match savers.put_app(ops::new_app(&first.app, &first.limits)).await {
            Ok(app) => {
                tracing::info!(app = %first.app, "created");
                app
            }
            // Somebody else was faster.
            Err(error @ PeerError::Refused(_)) => find(savers, &first.app).await?.ok_or(error)?,
            Err(error) => return Err(error.into()),
        },
    };
    if !savers.find_key(first.key.to_vec()).await?.found {
        savers.put_key(ops::key_request(app.id, first.key, first.scopes)).await?;
    }
    Ok(app)
}

async fn find(savers: &Savers, name: &AppKey) -> Result<Option<internal::App>> {
    Ok(savers.apps(0).await?.apps.into_iter().find(|app| app.key == name.as_str()))
}

/// Between two tries at the start of a cluster, when the savers are not there yet.
const PAUSE: Duration = Duration::from_millis(500);

/// Tries until it is done or `cancel` fires.
pub(crate) async fn bootstrap_patiently(savers: Savers, first: First, cancel: CancellationToken) {
    let tries = async {
        let mut told = false;
        // Boxed: the calls' state is large, and this runs once.
        while let Err(error) = Box::pin(bootstrap(&savers, &first)).await {
            if !std::mem::replace(&mut told, true) {
                tracing::info!(%error, app = %first.app, "cannot create the first app yet; trying on");
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    cancel.run_until_cancelled(tries).await;
}
