//! The app directory. Any saver answers: they all read it from the archive.

use std::sync::Arc;

use proto::internal as rpc;

use super::{SaverLine, Savers, accepted};
use crate::{PeerError, call::Repeat};

impl Savers {
    /// The apps that changed after a revision.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn apps(&self, after_revision: u64) -> Result<rpc::AppsResponse, PeerError> {
        let request = rpc::AppsRequest { after_revision };
        let call = |line: Arc<SaverLine>| async move { line.control.call(line.client().apps(request)).await };
        self.links.call(self.links.spread(), Repeat::Harmless, call).await
    }

    /// Creates an app (id 0) or changes one. A creation whose answer is lost is not repeated: its key would be found
    /// taken by itself.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn put_app(&self, app: rpc::App) -> Result<rpc::App, PeerError> {
        let repeat = if app.id == 0 { Repeat::Harmful } else { Repeat::Harmless };
        let call = |line: Arc<SaverLine>| {
            let request = rpc::PutAppRequest { app: Some(app.clone()) };
            async move { line.control.call(line.client().put_app(request)).await }
        };
        let response = self.links.call(self.links.spread(), repeat, call).await?;
        accepted(response.refusal)?;
        Ok(response.app.unwrap_or(app))
    }

    /// Enters an API key, by its hash.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn put_key(&self, request: rpc::PutKeyRequest) -> Result<(), PeerError> {
        let call = |line: Arc<SaverLine>| {
            let request = request.clone();
            async move { line.control.call(line.client().put_key(request)).await }
        };
        accepted(self.links.call(self.links.spread(), Repeat::Harmless, call).await?.refusal)
    }

    /// Looks an API key up by the SHA-256 of its text.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn find_key(&self, hash: impl Into<bytes::Bytes>) -> Result<rpc::FindKeyResponse, PeerError> {
        let request = rpc::FindKeyRequest { hash: hash.into() };
        let call = |line: Arc<SaverLine>| {
            let request = request.clone();
            async move { line.find_key.call(request).await }
        };
        self.links.call(self.links.spread(), Repeat::Harmless, call).await
    }
}
