//! The demo app and its key, so that a newcomer can push at once.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use center::{
    Center, First,
    config::{Bootstrap, NewApps},
};
use service::StartError;

use crate::credentials;

/// The archive is in this process: it answers in milliseconds or it is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// The demo app.
#[derive(Clone, Debug)]
pub struct Demo {
    /// Its name.
    pub app: String,
    /// Its API key, with all scopes.
    pub key: String,
    /// Where the key is kept for the command line.
    pub key_file: PathBuf,
}

impl Demo {
    /// Makes what is not there yet; a second start finds the same.
    pub(super) async fn ensure(data: &Path, center: &Center) -> Result<Self, StartError> {
        let app = "demo".to_owned();
        let key_file = credentials::key_file(data, &app);
        let fail =
            |e| StartError::other(format!("cannot keep the demo app's key in {}: {e}", key_file.display()));
        let key = match credentials::read(data, &app).map_err(fail)? {
            Some(key) => key,
            None => {
                let key = center::new_api_key();
                // Kept before the cluster knows it: a kill in between leaves a key that the next start enters.
                credentials::write(data, &app, &key).map_err(fail)?;
                key
            }
        };
        let section = Bootstrap {
            app: app.clone(),
            key_sha256: None,
            key_file: Some(key_file.clone()),
            scopes: vec!["push".to_owned(), "read".to_owned(), "admin".to_owned()],
        };
        let first = First::read(&section, &NewApps::default()).map_err(StartError::other)?;
        let made = tokio::time::timeout(PATIENCE, center.ops().bootstrap(&first)).await;
        made.map_err(|_| StartError::other("cannot make the demo app: the archive does not answer"))?
            .map_err(|e| StartError::other(format!("cannot make the demo app: {e}")))?;
        Ok(Self { app, key, key_file })
    }
}
